"""Networks of a bundle's tokenizer as ONNX files, checked against torch before they are written.

Of the family ``magvit2``: ``encoder``, ``predictor`` and ``decoder``, for whole clips of 4 n + 1
frames. Of ``motion``: ``context``, ``encoder`` and ``decoder`` of ``intra`` pictures and of
``inter`` pictures. Of both: ``dequantizer``, of cells. All compute in float32 and take one clip or
picture, of any size in whole cells. What is no network is not among them: motion, bases, the loop
filter and the integers of the entropy model.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from ..errors import Error, OutputError, UsageError
from ..files import check_output, writing
from ..tokenizer.config import BETWEEN, INTRA, KINDS, SPATIAL_STRIDE
from ..tokenizer.model import Tokenizer
from ..tokenizer.motion_model import MotionTokenizer, PictureCodec, spread
from . import Bundle

OPSET = 18
TOLERANCE = 1e-4  # largest difference from torch, relative to the largest value there, at least 1
CLIP_GRIDS = ((3, 4, 6), (1, 1, 2), (2, 5, 1))  # latent frames and cells; the first is traced
PICTURE_GRIDS = ((4, 6), (1, 2), (5, 1))
_HALF = SPATIAL_STRIDE // 2
_T, _H, _W, _N = (Dim(name, min=1, max=1 << 20) for name in ("t", "h", "w", "n"))
_PLANES = {3: _HALF * _H, 4: _HALF * _W}
_PICTURE = {2: _HALF * _H, 3: _HALF * _W}


@dataclass(frozen=True)
class Network:
    """A network to export.

    inputs: names and which of their dimensions are free. examples: inputs to trace it with, then
    others to check it with.
    """

    name: str
    module: nn.Module
    inputs: dict[str, dict[int, Any] | None]
    outputs: tuple[str, ...]
    examples: Sequence[tuple[Tensor, ...]]


class Dequantizer(nn.Module):
    """Tokens (N, S, K) int64, kind int64 and steps (N, 1) -> what they stand for, (N, D).

    kind: of a latent frame of ``magvit2`` 0 for the first and 1 for others; else of the picture.
    """

    def __init__(self, lfq: nn.Module) -> None:
        super().__init__()
        self.lfq = lfq

    def forward(self, tokens: Tensor, kind: Tensor, steps: Tensor) -> Tensor:
        q: Tensor = self.lfq.dequantize(tokens, None, kind, steps)  # type: ignore[operator]
        return q


class TransformDequantizer(Dequantizer):
    """The same with transforms (N,) int64, which are 0 in kinds that have none."""

    def forward(  # type: ignore[override]
        self, tokens: Tensor, transform: Tensor, kind: Tensor, steps: Tensor
    ) -> Tensor:
        q = super().forward(tokens, kind, steps)
        found: Tensor = self.lfq.transformed(q, transform, back=True)  # type: ignore[operator]
        return found


class PictureContext(nn.Module):
    """Predictions (1, 6, H/2, W/2) twice, kind int64, steps of cells (1, 1, h, w) -> a better
    prediction, and features for the decoder (1, C, H/4, W/4)."""

    def __init__(self, codec: PictureCodec) -> None:
        super().__init__()
        self.context = codec.context

    def forward(
        self, first: Tensor, second: Tensor, kind: Tensor, steps: Tensor
    ) -> tuple[Tensor, Tensor]:
        prediction, features = self.context(first, second, _condition(kind, steps))
        return prediction, features


class PictureDecoder(nn.Module):
    """Quantized latent (1, D, h, w), what :class:`PictureContext` gave and was given -> planes."""

    def __init__(self, codec: PictureCodec) -> None:
        super().__init__()
        self.decoder = codec.decoder

    def forward(
        self, latent: Tensor, prediction: Tensor, features: Tensor, kind: Tensor, steps: Tensor
    ) -> Tensor:
        out: Tensor = self.decoder(latent, prediction, features, _condition(kind, steps), steps)
        return out


def _condition(kind: Tensor, steps: Tensor) -> Tensor:
    """As ``MotionTokenizer.condition``, of a kind that is known only when it runs."""
    log = spread(steps.log() / 2 + 1, 2)
    one = (torch.arange(KINDS) == kind).to(log.dtype).view(1, -1, 1, 1)
    return torch.cat([log, one.expand(-1, -1, *log.shape[2:])], 1)


def networks(tokenizer: Tokenizer | MotionTokenizer) -> Iterator[Network]:
    """What there is to export of a tokenizer."""
    random = torch.Generator().manual_seed(0)
    if isinstance(tokenizer, MotionTokenizer):
        yield from _picture_networks("intra", tokenizer.intra, INTRA, random)
        yield from _picture_networks("inter", tokenizer.inter, BETWEEN, random)
    else:
        yield from _clip_networks(tokenizer, random)
    tokens = [
        (torch.randint(-3, 4, (n, tokenizer.config.stages, tokenizer.config.bits),
                       generator=random),
         torch.tensor(n % 2), torch.rand(n, 1, generator=random) + 0.01)
        for n in (6, 1, 9)
    ]  # fmt: skip
    inputs: dict[str, dict[int, Any] | None] = {"tokens": {0: _N}, "kind": None, "steps": {0: _N}}
    module, examples = Dequantizer(tokenizer.lfq), list[tuple[Tensor, ...]](tokens)
    if isinstance(tokenizer, MotionTokenizer) and tokenizer.config.transform_kinds:
        module = TransformDequantizer(tokenizer.lfq)
        inputs = {"tokens": {0: _N}, "transform": {0: _N}, **inputs}
        examples = [(levels, torch.arange(len(levels)) % 4, *rest) for levels, *rest in tokens]
    yield Network("dequantizer", module, inputs, ("latent",), examples)


def _clip_networks(tokenizer: Tokenizer, random: torch.Generator) -> Iterator[Network]:
    config, step = tokenizer.config, torch.tensor([0.1])
    planes, latents = [], []
    for t, h, w in CLIP_GRIDS:
        size = (4 * t - 3, _HALF * h, _HALF * w)
        planes.append((torch.rand(1, 6, *size, generator=random), step))
        latent = torch.randn(1, config.latent_dim, t, h, w, generator=random)
        depth = torch.randint(config.stages + 1, (1, t, h, w), generator=random)
        latents.append((latent, depth, step))
    yield Network(
        "encoder", tokenizer.encoder,
        {"planes": {2: 4 * _T + 1} | _PLANES, "step": None}, ("latent",), planes,
    )  # fmt: skip
    yield Network(
        "predictor", tokenizer.predictor, {"previous": {2: _H, 3: _W}}, ("prediction",),
        [(latent[:, :, 0],) for latent, _, _ in latents],
    )  # fmt: skip
    yield Network(
        "decoder", tokenizer.decoder,
        {"latent": {2: _T, 3: _H, 4: _W}, "depth": {1: _T, 2: _H, 3: _W}, "step": None},
        ("planes",), latents,
    )  # fmt: skip


def _picture_networks(
    part: str, codec: PictureCodec, kind: int, random: torch.Generator
) -> Iterator[Network]:
    contexts, encoders, decoders = [], [], []
    for h, w in PICTURE_GRIDS:
        size = (1, 6, _HALF * h, _HALF * w)
        first, second = (torch.rand(size, generator=random) for _ in range(2))
        steps = torch.rand(1, 1, h, w, generator=random) + 0.01
        latent = torch.randn(1, codec.config.latent_dim, h, w, generator=random)
        features = torch.randn(1, codec.config.context, 2 * h, 2 * w, generator=random)
        contexts.append((first, second, torch.tensor(kind), steps))
        encoders.append((first, second))
        decoders.append((latent, first, features, torch.tensor(kind), steps))
    cells, features_of = {2: _H, 3: _W}, {2: 2 * _H, 3: 2 * _W}
    yield Network(
        f"{part}-context", PictureContext(codec),
        {"first": _PICTURE, "second": _PICTURE, "kind": None, "steps": cells},
        ("prediction", "features"), contexts,
    )  # fmt: skip
    yield Network(
        f"{part}-encoder", codec.encoder,
        {"planes": _PICTURE, "prediction": _PICTURE}, ("latent",), encoders,
    )  # fmt: skip
    yield Network(
        f"{part}-decoder", PictureDecoder(codec),
        {"latent": cells, "prediction": _PICTURE, "features": features_of,
         "kind": None, "steps": cells},
        ("planes",), decoders,
    )  # fmt: skip


def export_onnx(bundle: Bundle, folder: Path, overwrite: bool = False) -> dict[Path, float]:
    """Write the networks of a bundle into ``folder``, which is made if need be.

    Returns of each file its largest difference from torch, see :data:`TOLERANCE`. Nothing is
    written where one differs by more. Raises UsageError without the extra ``onnx``, OutputError,
    ModelError, Error.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UsageError("models onnx needs: pip install 'neurocodec[onnx]'") from None
    found = list(networks(bundle.tokenizer()))
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}") from None
    targets = [folder / f"{network.name}.onnx" for network in found]
    for target in targets:
        check_output(target, overwrite)
    facts = {"model": bundle.name, "hash": bundle.hash.hex()}
    files = [exported(network, facts) for network in found]
    off = [check(network, data) for network, data in zip(found, files, strict=True)]
    for target, data in zip(targets, files, strict=True):
        with writing(target, overwrite) as file:
            file.write(data)
    return dict(zip(targets, off, strict=True))


def exported(network: Network, facts: dict[str, str]) -> bytes:
    """A network as an ONNX file. facts: kept in it as JSON, as metadata ``neurocodec``."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # that torchvision is missing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            program = torch.onnx.export(
                network.module.eval(), network.examples[0], dynamo=True, opset_version=OPSET,
                input_names=list(network.inputs), output_names=list(network.outputs),
                dynamic_shapes=tuple(network.inputs.values()), verbose=False,
            )  # fmt: skip
            assert program is not None
            program.model.metadata_props["neurocodec"] = json.dumps(facts, sort_keys=True)
            return program.model_proto.SerializeToString()
    finally:
        logger.setLevel(level)


@torch.inference_mode()
def check(network: Network, data: bytes) -> float:
    """Run an ONNX file and its network on the same inputs; the largest difference.

    Raises Error: they differ by more than TOLERANCE.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    worst = 0.0
    for inputs in network.examples:
        feed = {n: x.numpy() for n, x in zip(network.inputs, inputs, strict=True)}
        got: Sequence[Any] = session.run(list(network.outputs), feed)
        wanted = network.module(*inputs)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for one, other in zip(got, wanted, strict=True):
            if tuple(one.shape) != tuple(other.shape):
                raise Error(f"{network.name}: ONNX gives {one.shape}, torch {tuple(other.shape)}")
            scale = max(1.0, float(other.abs().max()))
            off = float((torch.from_numpy(one) - other).abs().max()) / scale
            if not off <= TOLERANCE:  # what is not a number, too
                raise Error(f"{network.name}: ONNX differs from torch by {off:.1e}; not written")
            worst = max(worst, off)
    return worst
