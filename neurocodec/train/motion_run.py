"""Training of the ``motion`` tokenizer: whole windows in coding order, in closed loop.

Every picture of a window is coded with the decoded ones before it as references, as the codec will,
and adds D / lambda + R to the loss; gradients stop between pictures. Intra and inter networks share
no weights, so that each may be trained by a process of its own: ``part`` says which, and the
other's weights are taken from ``other``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..codec.loop_filter import choose
from ..codec.tokens import DEFAULT_SCALES, SCALE_ONE
from ..device import autocast, channels_last
from ..entropy.structure import regular
from ..errors import InputError, UsageError
from ..models import Bundle
from ..tokenizer.config import (
    BETWEEN,
    COARSE,
    COARSEST,
    INTER,
    INTRA,
    MOTION_SIZES,
    MotionConfig,
    config_from_dict,
)
from ..tokenizer.lfq import LAMBDA_PER_STEP2
from ..tokenizer.motion import FIRST, SECOND, Reference, aligned, predict
from ..tokenizer.motion_model import (
    CodedPicture,
    MotionTokenizer,
    base_of,
    enlarged,
    enlarged_cells,
    grey,
    spread,
)
from ..tokenizer.patch import weighted_error
from .chains import ChainBatch
from .motion_validation import validate
from .ms_ssim import LUMA_ERROR, MASKING, dissimilarity, shape_steps
from .run import Run, load_checkpoint
from .windows import FRAMES, WindowBatch

# quantizer steps relative to the GOP's: of an intra picture's base and of the base's base, and by
# level of the picture
BASE_STEPS = tuple(scale / SCALE_ONE for scale in DEFAULT_SCALES[1::-1])
LEVEL_STEPS = tuple(scale / SCALE_ONE for scale in DEFAULT_SCALES[2:])
JITTER = 0.3  # of the log of a picture's step
MOST_MASKING = 0.5  # of a batch, see ``cell_steps``
DECAY_PART = 0.3  # of the run, at its end, in which the learning rate falls
PARTS = ("both", "intra", "inter")
DISTORTIONS = ("mse", "ms-ssim")


@dataclass
class MotionTrainConfig:
    size: str = "small"
    part: str = "both"
    distortion: str = "mse"  # or "ms-ssim", of luma
    steps: int = 20000
    batch: int = 3
    crop: int = 192  # of intra pictures: a multiple of 32
    learning_rate: float = 5e-4
    warm_up: int = 300
    ema: float = 0.998
    clip_norm: float = 1.0
    seed: int = 0
    save_every: int = 200
    validate_every: int = 2000
    refresh_every: int = 500  # steps between looks at the other part's weights
    pictures_per_step: int = 4  # of a window: more than one optimizer step a window


@dataclass
class Coded:
    """A coded picture of each clip: planes (B, 6, H/2, W/2) in 8 bits, levels (B, h, w, D), depth
    (B, h, w); means of loss and bits per pixel."""

    planes: Tensor
    levels: Tensor
    depth: Tensor
    loss: float
    bpp: float


def cost_of(planes: Tensor, coded: CodedPicture, step: Tensor, similarity: bool = False) -> Tensor:
    """D / lambda + R in bits a pixel, weighted so that all steps pull about equally; scalar.

    D is squared error or, with ``similarity``, mostly 1 - MS-SSIM of luma."""
    wide = spread(coded.steps, planes.shape[2] // coded.depth.shape[1])
    error = weighted_error(planes / wide, coded.planes / wide, LUMA_ERROR if similarity else 1.0)
    cost = (error / LAMBDA_PER_STEP2 + coded.bits) / (planes[0, 0].numel() * 4)
    if similarity:
        cost = cost + dissimilarity(planes, coded, step)
    return (cost * (step / 0.1) ** 0.7).mean()


def rounded(planes: Tensor) -> Tensor:
    """What a decoder keeps of a picture: 8 bits."""
    return (planes.detach().clamp(0, 1) * 255).round() / 255


@torch.no_grad()
def filtered(planes: Tensor, x: Tensor, step: Tensor, intra: bool = False) -> Tensor:
    """What the loop filter adds to decoded pictures (B, 6, H/2, W/2) of x. It has no gradient: what
    networks are to learn is what it leaves."""
    decoded, out = rounded(planes.float()), []
    for one, source, t in zip(decoded.split(1), x.split(1), step.tolist(), strict=True):
        _, smooth = choose(one, source, t, LAMBDA_PER_STEP2 * t**2, None, intra)
        out.append(smooth - one)
    return torch.cat(out)


class MotionRun(Run):
    config: MotionTrainConfig
    model: MotionTokenizer
    shape: MotionConfig

    def __init__(
        self, config: MotionTrainConfig, out: Path, device: str = "auto", other: Path | None = None
    ) -> None:
        if config.part not in PARTS:
            raise UsageError(f"part {config.part!r}: give one of {', '.join(PARTS)}")
        if config.distortion not in DISTORTIONS:
            raise UsageError(f"distortion {config.distortion!r}: give {' or '.join(DISTORTIONS)}")
        torch.manual_seed(config.seed)
        shape = MOTION_SIZES[config.size]
        model = MotionTokenizer(shape)
        channels_last(model)
        self.similarity = config.distortion == "ms-ssim"
        if self.similarity:
            shape_steps(model.lfq)
        if config.part != "both":
            frozen = model.inter if config.part == "intra" else model.intra
            frozen.requires_grad_(False)
        super().__init__(config, shape, model, out, device)
        self.other = other
        self.validation: dict[str, list[WindowBatch]] = {}  # of each clip, one a quality

    def resume(self) -> None:
        part = load_checkpoint(self.out)["config"]["part"]
        if part != self.config.part:
            raise InputError(f"{self.checkpoint}: trains part {part}, not {self.config.part}")
        super().resume()

    def start_from_bundle(self, bundle: Bundle) -> None:
        """Take a bundle's weights: of part inter where its networks have other sizes, those of
        intra pictures alone. Raises InputError."""
        if self.config.part != "inter" or bundle.config.to_dict() == self.shape.to_dict():
            super().start_from_bundle(bundle)
        elif not isinstance(bundle.config, MotionConfig) or intra_of(bundle.config) != intra_of(
            self.shape
        ):
            raise InputError(f"{bundle.path}: of another tokenizer configuration")
        else:
            state = bundle.tokenizer().state_dict()
            kept = {k: v for k, v in state.items() if not k.startswith("inter.")}
            self.model.load_state_dict(kept, strict=False)
        if self.similarity:
            shape_steps(self.model.lfq)
        self.forget_average()

    def learning_rate(self, index: int) -> float:
        """Constant, then a linear fall: a longer run goes on from before the fall."""
        c = self.config
        left = (c.steps - index) / max(1.0, DECAY_PART * c.steps)
        return float(c.learning_rate * min(1.0, (index + 1) / c.warm_up) * min(1.0, 0.02 + left))

    def refresh(self) -> None:
        """Take the other part's averaged weights, where there are any. Raises InputError."""
        if self.other is None or not (self.other / "checkpoint.pt").exists():
            return
        state = load_checkpoint(self.other)
        check_intra(self.other, state, self.shape)
        merge(self.model, state["average"], "intra" if self.config.part == "inter" else "inter")
        for name, p in self.model.named_parameters():
            if not p.requires_grad:
                self.average[name].copy_(p.detach())

    # -- pictures -------------------------------------------------------------------------------

    def draw_masking(self, rng: np.random.Generator) -> float:
        """Of a batch: often none."""
        if self.similarity:
            return float(rng.uniform(*MASKING))
        return max(0.0, float(rng.uniform(-MOST_MASKING / 2, MOST_MASKING)))

    def code(
        self, x: Tensor, predictions: tuple[Tensor, Tensor], kind: int, step: Tensor,
        before: Tensor, learn: bool, weight: float = 1.0, masking: float = 0.0,
    ) -> Coded:  # fmt: skip
        """Code one picture of each clip, and learn from it. weight: of the loss."""
        with torch.set_grad_enabled(learn), autocast(self.device):
            out = self.model(x, predictions, kind, step, before, masking)
        if self.shape.loop_filter and kind >= INTRA:
            out = replace(out, planes=out.planes + filtered(out.planes, x, step, kind == INTRA))
        loss = cost_of(x, out, step, self.similarity and kind not in (COARSEST, COARSE))
        if learn:
            self.backward(weight * loss, {"x": x, "step": step})
        bpp = out.bits.sum().item() / (x[:, 0].numel() * 4)
        return Coded(rounded(out.planes), out.levels.detach(), out.depth, loss.item(), bpp)

    def code_intra(
        self, x: Tensor, step: Tensor, rng: np.random.Generator | None, learn: bool,
        masking: float = 0.0,
    ) -> tuple[Coded, dict[str, float]]:  # fmt: skip
        """step: of the picture itself; its bases have finer ones. rng: varies them."""
        base = base_of(x)
        pictures = [(base_of(base), COARSEST), (base, COARSE), (x, INTRA)]
        steps = [step * BASE_STEPS[1] / LEVEL_STEPS[0], step * BASE_STEPS[0] / LEVEL_STEPS[0], step]
        prediction = grey(pictures[0][0])
        before = x.new_zeros(
            len(x), *(side // 4 for side in prediction.shape[2:]), self.shape.latent_dim
        )
        figures: dict[str, float] = {}
        total = 0.0
        coded: Coded | None = None
        for (picture, kind), own in zip(pictures, steps, strict=True):
            if coded is not None:
                size = (picture.shape[2], picture.shape[3])
                prediction = enlarged(coded.planes, size)
                before = enlarged_cells(coded.levels, (size[0] // 4, size[1] // 4))
            share = picture[0, 0].numel() / x[0, 0].numel()
            coded = self.code(
                picture, (prediction, prediction), kind, jitter(own, rng), before, learn, share,
                masking,
            )  # fmt: skip
            total += coded.bpp * share
            figures[f"loss{kind}"] = coded.loss
        assert coded is not None
        figures["bpp_intra"] = total
        figures["mse_intra"] = (coded.planes - x).square().mean().item()
        return replace(coded, bpp=total), figures

    def code_inter(
        self, batch: WindowBatch, x: Tensor, first: Coded, step: Tensor,
        rng: np.random.Generator | None, learn: bool, masking: float = 0.0,
    ) -> Iterator[tuple[int, Coded]]:  # fmt: skip
        """Code the pictures of windows after the first, in coding order, and say which each is.

        x: of the batch, step: of the windows (B,), both on the device."""
        pictures = {0: (Reference(first.planes), first.levels)}
        for i, picture in enumerate(regular([batch.length], FRAMES)[1:]):
            a, b = picture.refs
            mode, fields = batch.mode[:, i].to(self.device), batch.fields[:, i].to(self.device)
            with torch.no_grad():
                predictions = predict((pictures[a][0], pictures[b][0]), mode, fields)
            before = levels_before(mode, fields, pictures[a][1], pictures[b][1])
            kind = BETWEEN if b > picture.display else INTER
            own = jitter(step * LEVEL_STEPS[min(picture.level, 4)], rng)
            coded = self.code(
                x[:, picture.display], predictions, kind, own, before, learn, masking=masking
            )
            pictures[picture.display] = (Reference(coded.planes), coded.levels)
            yield picture.display, coded

    def window_step(self, batch: WindowBatch) -> dict[str, float]:
        """Optimizer steps over a batch of windows, one for every few pictures."""
        if self.config.part == "inter" and self.done % self.config.refresh_every == 0:
            self.refresh()
        norm = 0.0
        self.start_step()
        rng = np.random.default_rng((self.config.seed, self.done, 1))
        x = batch.x.to(self.device)
        spread = rng.uniform(-0.4, 0.4, len(x))
        step = (batch.step * torch.tensor(np.exp(spread), dtype=torch.float32)).to(self.device)
        masking = self.draw_masking(rng)
        first, figures = self.code_intra(
            x[:, 0], step * LEVEL_STEPS[0], rng, self.config.part == "both", masking
        )
        sums = {"loss": 0.0, "bpp": 0.0, "mse": 0.0}
        pictures = self.code_inter(batch, x, first, step, rng, True, masking)
        for i, (t, coded) in enumerate(pictures, 1):
            sums["loss"] += coded.loss / (FRAMES - 1)
            sums["bpp"] += coded.bpp / (FRAMES - 1)
            sums["mse"] += (coded.planes - x[:, t]).square().mean().item() / (FRAMES - 1)
            if i % self.config.pictures_per_step == 0:
                norm = self.finish_step()
                self.start_step()
        return {**sums, **figures, "norm": norm}

    def chain_step(self, batch: ChainBatch) -> dict[str, float]:
        """One optimizer step over pictures from far inside GOPs."""
        self.start_step()
        x, step, before = (t.to(self.device) for t in (batch.planes, batch.step, batch.before))
        first, second = (p.to(self.device) for p in batch.predictions)
        rng = np.random.default_rng((self.config.seed, self.done, 1))
        coded = self.code(
            x, (first, second), batch.kind, jitter(step, rng), before, True, masking=batch.masking
        )
        mse = (coded.planes - x).square().mean().item()
        blank = ((first + second) / 2 - x).square().mean().item()
        figures = {"loss": coded.loss, "bpp": coded.bpp, "mse": mse, "mse_predicted": blank}
        return {**figures, "norm": self.finish_step()}

    def intra_step(self, planes: Tensor) -> dict[str, float]:
        """One optimizer step over single pictures (B, 6, H/2, W/2)."""
        self.start_step()
        rng = np.random.default_rng((self.config.seed, self.done, 2))
        places = (np.arange(len(planes)) + rng.random(len(planes))) / len(planes)
        low, high = np.log((0.02, 0.5))
        step = torch.tensor(np.exp(low + (high - low) * places), dtype=torch.float32)
        planes, step = planes.to(self.device), step.to(self.device)
        _, figures = self.code_intra(planes, step, rng, True, self.draw_masking(rng))
        return {**figures, "norm": self.finish_step()}

    # -- validation -----------------------------------------------------------------------------

    def code_window(self, window: WindowBatch) -> list[Coded]:
        """Code a window without learning; pictures in order of time, of part intra the first."""
        torch.manual_seed(0)  # of the noise in the estimate of bits
        x, step = window.x.to(self.device), window.step.to(self.device)
        masking = sum(MASKING) / 2 if self.similarity else 0.0
        first, _ = self.code_intra(x[:, 0], step * LEVEL_STEPS[0], None, False, masking)
        coded = {0: first}
        if self.config.part != "intra":
            coded |= self.code_inter(window, x, first, step, None, False, masking)
        return [coded[t] for t in sorted(coded)]

    def validate(self) -> None:
        if self.validation:
            validate(self, self.validation)


def intra_of(config: MotionConfig) -> MotionConfig:
    """A configuration without what it says of inter pictures alone."""
    return replace(config, inter_context=0, inter_context_blocks=0, inter_width=0,
                   inter_decoder_blocks=0)  # fmt: skip


def check_intra(run: Path, state: dict[str, Any], config: MotionConfig) -> None:
    """Raises InputError: the checkpoint of a run whose intra networks are not those of config."""
    theirs = config_from_dict(state["tokenizer"])
    if not isinstance(theirs, MotionConfig) or intra_of(theirs) != intra_of(config):
        raise InputError(f"{run}: made with another tokenizer configuration")


def jitter(step: Tensor, rng: np.random.Generator | None) -> Tensor:
    """Steps (B,) varied at random, where there is a generator."""
    if rng is None:
        return step
    return step * torch.tensor(np.exp(rng.uniform(-JITTER, JITTER, len(step)))).to(step)


def levels_before(mode: Tensor, fields: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Magnitudes of the tokens a picture's prediction comes from, (B, h, w, D): of the reference
    used, the larger of two."""
    a = aligned(first, fields[:, 0]).abs()
    b = aligned(second, fields[:, 1]).abs()
    both = torch.where((mode == SECOND)[..., None], b, torch.maximum(a, b))
    return torch.where((mode == FIRST)[..., None], a, both)


def merge(model: MotionTokenizer, weights: dict[str, Tensor], part: str) -> None:
    """Take the weights of a part ("intra" or "inter") from another run's."""
    own = dict(model.named_parameters())
    kinds = slice(0, INTRA + 1) if part == "intra" else slice(INTER, None)
    with torch.no_grad():
        for name, value in weights.items():
            if name.startswith(part):
                own[name].copy_(value)
            elif name.startswith("lfq."):
                own[name][kinds].copy_(value[kinds])
