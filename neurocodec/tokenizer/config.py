"""Tokenizer sizes: one dial, ``tiny`` to ``paper``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

TEMPORAL_STRIDE = 4  # frames in one latent frame, after the first
SPATIAL_STRIDE = 8  # luma pixels along one side of a cell
PATCH_CHANNELS = 96  # samples of one 8x8 cell of one 4:2:0 frame: 64 Y, 16 U, 16 V

# kinds of pictures of the family "motion": an intra picture's base's base, its base, itself; one
# with earlier references alone, and one with a later reference
COARSEST, COARSE, INTRA, INTER, BETWEEN = range(5)
KINDS = 5
BASE_SCALE = 4  # of an intra picture to its base


STEP_LIMITS = (0.004, 4.0)  # of quantizer steps that an encoder chooses
QUANTIZERS = ("levels", "signs", "codes")
CODES_STEP = 0.8  # at which networks of the quantizer "codes", which has one quality, always run


def step_of_quality(quality: float) -> float:
    """Quality 0..100 -> quantizer step, in units of the sample range (0..1). Finer is larger."""
    return float(0.8 * 25.0 ** (-quality / 100))


@dataclass(frozen=True)
class TokenizerConfig:
    """Shape of a tokenizer.

    channels: width of each spatial level, finest first; the last level is at 1/8 resolution.
    latent_dim: D, dimensions of a cell's latent.
    quantizer: "signs" (residual LFQ), "levels" (integers as lookup-free bits) or "codes" (LFQ as in
    the paper: each cell has all stages, and nothing is predicted).
    bits: K, channels of one stage's token.
    stages: S, largest depth of a cell.
    full_kernels: 3x3x3 kernels in the residual blocks, as published, instead of 1x3x3 and 3x1x1.
    """

    family: str = "magvit2"
    channels: tuple[int, ...] = (128,)
    frame_blocks_encoder: int = 1  # residual blocks per spatial level, at full frame rate
    latent_blocks_encoder: int = 2  # residual blocks after the temporal stride
    latent_blocks_decoder: int = 3
    frame_blocks_decoder: int = 2
    refine_channels: int = 24  # width of the last convolutions, at half resolution
    quantizer: str = "levels"
    latent_dim: int = 384
    bits: int = 8
    stages: int = 48
    full_kernels: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TokenizerConfig:
        """Raises TypeError for an unknown field."""
        values = dict(values)
        values["channels"] = tuple(values["channels"])
        return cls(**values)


SIZES: dict[str, TokenizerConfig] = {
    # for tests: runs in milliseconds
    "tiny": TokenizerConfig(
        channels=(16,),
        latent_blocks_encoder=1,
        latent_blocks_decoder=1,
        frame_blocks_decoder=1,
        refine_channels=8,
        latent_dim=96,
        stages=12,
    ),
    # shipped: runs on a laptop CPU
    "small": TokenizerConfig(),
    "base": TokenizerConfig(
        channels=(128, 256),
        frame_blocks_encoder=2,
        latent_blocks_encoder=3,
        latent_blocks_decoder=4,
        refine_channels=48,
    ),
    # for generation: small pictures on a laptop CPU, one token of 12 bits for each cell
    "codes": TokenizerConfig(
        channels=(32, 96),
        latent_blocks_encoder=1,
        latent_blocks_decoder=2,
        frame_blocks_decoder=1,
        refine_channels=16,
        latent_dim=96,
        quantizer="codes",
        bits=12,
        stages=1,
    ),
    # widths and depths of MAGVIT-v2 (arXiv 2310.05737, appendix A.1)
    "paper": TokenizerConfig(
        channels=(256, 256, 512),
        frame_blocks_encoder=4,
        frame_blocks_decoder=4,
        latent_blocks_encoder=4,
        latent_blocks_decoder=4,
        refine_channels=128,
        quantizer="signs",
        bits=18,
        stages=20,
        full_kernels=True,
    ),
}


# beginnings of fields that are not written where they are 0
ABSENT = ("inter_", "transform_", "loop_")


@dataclass(frozen=True)
class MotionConfig:
    """Shape of a tokenizer of the ``motion`` family: one picture at a time, predicted from others.

    context: channels of the networks at 1/4 resolution, which see the prediction. width: channels
    at 1/8 resolution, of the cells. decoder_blocks: residual blocks there. inter_*: the same of
    inter pictures, where inter_context is not 0. transform_kinds: of so many kinds, from 0 on, each
    cell has one of four transforms, see ``patch.block_transforms``. loop_filter: 1 if decoded
    pictures are smoothed where the encoder says so, see ``codec/loop_filter.py``.
    bits, stages: K and S of the quantizer "levels"; K S, at most the 96 samples of a cell.
    """

    family: str = "motion"
    context: int = 48
    context_blocks: int = 1
    width: int = 128
    decoder_blocks: int = 2
    quantizer: str = "levels"
    bits: int = 8
    stages: int = 12
    inter_context: int = 0
    inter_context_blocks: int = 0
    inter_width: int = 0
    inter_decoder_blocks: int = 0
    transform_kinds: int = 0
    loop_filter: int = 0

    @property
    def latent_dim(self) -> int:
        return self.bits * self.stages

    @property
    def inter(self) -> MotionConfig:
        """The configuration as it is for the networks of inter pictures."""
        if not self.inter_context:
            return self
        return replace(
            self, context=self.inter_context, context_blocks=self.inter_context_blocks,
            width=self.inter_width, decoder_blocks=self.inter_decoder_blocks,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Without what has its default of 0, so that bundles from before have the same."""
        return {k: v for k, v in asdict(self).items() if v or not k.startswith(ABSENT)}


MOTION_SIZES: dict[str, MotionConfig] = {
    "tiny": MotionConfig(context=8, width=16, decoder_blocks=1, transform_kinds=3, loop_filter=1),
    # Intra pictures have the same networks in all that are shipped; those of inter pictures, most
    # of the work of a decoder without bf16, have 4091, 7342 and 21024 MACs a pixel
    "fast": MotionConfig(
        inter_context=24, inter_width=48, inter_decoder_blocks=1, transform_kinds=3, loop_filter=1
    ),
    "small": MotionConfig(
        inter_context=32, inter_context_blocks=1, inter_width=64, inter_decoder_blocks=1,
        transform_kinds=3, loop_filter=1,
    ),
    "base": MotionConfig(transform_kinds=3, loop_filter=1),
    "plain": MotionConfig(loop_filter=1),  # base, and each cell has the same transform
}  # fmt: skip


def size_of(config: TokenizerConfig | MotionConfig, sizes: Mapping[str, Any]) -> str | None:
    """The name that a configuration has among these; None where it is none of them."""
    return next((name for name, shape in sizes.items() if shape == config), None)


def config_from_dict(values: dict[str, Any]) -> TokenizerConfig | MotionConfig:
    """Raises TypeError for an unknown field, ValueError for an unknown family."""
    family = values.get("family")
    if family == "magvit2":
        return TokenizerConfig.from_dict(values)
    if family == "motion":
        return MotionConfig(**values)
    raise ValueError(f"unknown family {family!r}")
