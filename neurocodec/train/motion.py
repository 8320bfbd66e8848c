"""Training of the ``motion`` tokenizer: whole windows in coding order, in closed loop.

Every picture of a window is coded with the decoded ones before it as references, as the codec will,
and adds D / lambda + R to the loss; gradients stop between pictures. Intra and inter networks share
no weights, so that each may be trained by a process of its own: ``part`` says which, and the
other's weights are taken from ``other``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..device import autocast
from ..entropy.structure import regular
from ..errors import UsageError
from ..tokenizer.config import (
    BETWEEN,
    COARSE,
    COARSEST,
    INTER,
    INTRA,
    MOTION_SIZES,
    MotionConfig,
)
from ..tokenizer.lfq import LAMBDA_PER_STEP2
from ..tokenizer.motion import FIRST, SECOND, Reference, aligned, predict
from ..tokenizer.motion_model import (
    MotionTokenizer,
    base_of,
    enlarged,
    enlarged_cells,
    grey,
)
from ..tokenizer.patch import CHROMA_WEIGHT
from .data import Batches
from .run import Run, load_checkpoint
from .windows import FRAMES, WindowBatch, WindowBatches

logger = logging.getLogger(__name__)

# quantizer steps relative to the GOP's, by level of the picture
LEVEL_STEPS = (0.7, 0.85, 1.1, 1.25, 1.4)
BASE_STEPS = (0.4, 0.25)  # of an intra picture's base, and of the base's base
JITTER = 0.3  # of the log of a picture's step
DECAY_PART = 0.3  # of the run, at its end, in which the learning rate falls
PARTS = ("both", "intra", "inter")


@dataclass
class MotionTrainConfig:
    size: str = "small"
    part: str = "both"
    steps: int = 20000
    batch: int = 3
    crop: int = 192  # of intra pictures: a multiple of 32
    learning_rate: float = 5e-4
    warm_up: int = 300
    ema: float = 0.998
    clip_norm: float = 1.0
    seed: int = 0
    save_every: int = 200
    validate_every: int = 100000
    refresh_every: int = 500  # steps between looks at the other part's weights
    pictures_per_step: int = 4  # of a window: more than one optimizer step a window


def cost_of(planes: Tensor, decoded: Tensor, bits: Tensor, step: Tensor) -> Tensor:
    """D / lambda + R in bits a pixel, weighted so that all steps pull about equally; scalar."""
    error = (decoded - planes).square().sum((2, 3))  # (B, 6)
    distortion = error[:, :4].sum(1) + CHROMA_WEIGHT * error[:, 4:].sum(1)
    cost = (distortion / (LAMBDA_PER_STEP2 * step**2) + bits) / (planes[0, 0].numel() * 4)
    return (cost * (step / 0.1) ** 0.7).mean()


def rounded(planes: Tensor) -> Tensor:
    """What a decoder keeps of a picture: 8 bits."""
    return (planes.detach().clamp(0, 1) * 255).round() / 255


class MotionRun(Run):
    config: MotionTrainConfig
    model: MotionTokenizer
    shape: MotionConfig

    def __init__(
        self, config: MotionTrainConfig, out: Path, device: str = "auto", other: Path | None = None
    ) -> None:
        if config.part not in PARTS:
            raise UsageError(f"part {config.part!r}: give one of {', '.join(PARTS)}")
        torch.manual_seed(config.seed)
        shape = MOTION_SIZES[config.size]
        model = MotionTokenizer(shape)
        for p in model.parameters():
            if p.dim() == 4:
                p.data = p.data.contiguous(memory_format=torch.channels_last)
        if config.part != "both":
            frozen = model.inter if config.part == "intra" else model.intra
            frozen.requires_grad_(False)
        super().__init__(config, shape, model, out, device)
        self.other = other
        self._other_time = 0.0

    def learning_rate(self, index: int) -> float:
        """Constant, then a linear fall: a longer run goes on from before the fall."""
        c = self.config
        left = (c.steps - index) / max(1.0, DECAY_PART * c.steps)
        return float(c.learning_rate * min(1.0, (index + 1) / c.warm_up) * min(1.0, 0.02 + left))

    def refresh(self) -> None:
        """Take the other part's averaged weights, where there are newer ones."""
        if self.other is None or not (self.other / "checkpoint.pt").exists():
            return
        written = (self.other / "checkpoint.pt").stat().st_mtime
        if written <= self._other_time:
            return
        self._other_time = written
        merge(self.model, load_checkpoint(self.other)["average"], self._other_part())
        for name, p in self.model.named_parameters():
            if not p.requires_grad:
                self.average[name].copy_(p.detach())

    def _other_part(self) -> str:
        return "intra" if self.config.part == "inter" else "inter"

    # -- pictures -------------------------------------------------------------------------------

    def code(
        self, x: Tensor, predictions: tuple[Tensor, Tensor], kind: int, step: Tensor,
        before: Tensor, learn: bool, weight: float = 1.0,
    ) -> tuple[Tensor, Tensor, float, float]:  # fmt: skip
        """Code one picture of each clip, and learn from it. weight: of the loss. Returns the
        rounded picture, levels, loss and bits per pixel."""
        with torch.set_grad_enabled(learn), autocast(self.device):
            out = self.model(x, predictions, kind, step, before)
        loss = cost_of(x, out.planes, out.bits, step)
        if learn:
            self.backward(weight * loss, {"x": x, "step": step})
        bpp = out.bits.sum().item() / (x[:, 0].numel() * 4)
        return rounded(out.planes), out.levels.detach(), loss.item(), bpp

    def code_intra(
        self, x: Tensor, step: Tensor, rng: np.random.Generator, learn: bool
    ) -> tuple[Tensor, Tensor, dict[str, float]]:
        """step: of the picture itself; its bases have finer ones."""
        base = base_of(x)
        pictures = [(base_of(base), COARSEST), (base, COARSE), (x, INTRA)]
        steps = [step * BASE_STEPS[1] / LEVEL_STEPS[0], step * BASE_STEPS[0] / LEVEL_STEPS[0], step]
        prediction = decoded = grey(pictures[0][0])
        before = levels = x.new_zeros(
            len(x), *(side // 4 for side in prediction.shape[2:]), self.shape.latent_dim
        )
        figures: dict[str, float] = {}
        total = 0.0
        for (picture, kind), own in zip(pictures, steps, strict=True):
            if kind != COARSEST:
                size = (picture.shape[2], picture.shape[3])
                prediction = enlarged(decoded, size)
                before = enlarged_cells(levels, (size[0] // 4, size[1] // 4))
            share = picture[0, 0].numel() / x[0, 0].numel()
            decoded, levels, loss, bpp = self.code(
                picture, (prediction, prediction), kind, jitter(own, rng), before, learn, share
            )
            total += bpp * share
            figures[f"loss{kind}"] = loss
        figures["bpp_intra"] = total
        figures["mse_intra"] = (decoded - x).square().mean().item()
        return decoded, levels, figures

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
        decoded, levels, figures = self.code_intra(
            x[:, 0], step * LEVEL_STEPS[0], rng, self.config.part == "both"
        )
        pictures = {0: (decoded, Reference(decoded), levels)}
        sums = {"loss": 0.0, "bpp": 0.0, "mse": 0.0}
        for i, picture in enumerate(regular([batch.length], FRAMES)[1:]):
            a, b = picture.refs
            mode, fields = batch.mode[:, i].to(self.device), batch.fields[:, i].to(self.device)
            with torch.no_grad():
                predictions = predict((pictures[a][1], pictures[b][1]), mode, fields)
            before = levels_before(mode, fields, pictures[a][2], pictures[b][2])
            kind = BETWEEN if b > picture.display else INTER
            own = jitter(step * LEVEL_STEPS[min(picture.level, 4)], rng)
            target = x[:, picture.display]
            decoded, levels, loss, bpp = self.code(target, predictions, kind, own, before, True)
            pictures[picture.display] = (decoded, Reference(decoded), levels)
            sums["loss"] += loss / (FRAMES - 1)
            sums["bpp"] += bpp / (FRAMES - 1)
            sums["mse"] += (decoded - target).square().mean().item() / (FRAMES - 1)
            if (i + 1) % self.config.pictures_per_step == 0:
                norm = self.finish_step()
                self.start_step()
        return {**sums, **figures, "norm": norm}

    def intra_step(self, planes: Tensor) -> dict[str, float]:
        """One optimizer step over single pictures (B, 6, H/2, W/2)."""
        self.start_step()
        rng = np.random.default_rng((self.config.seed, self.done, 2))
        places = (np.arange(len(planes)) + rng.random(len(planes))) / len(planes)
        low, high = np.log((0.02, 0.5))
        step = torch.tensor(np.exp(low + (high - low) * places), dtype=torch.float32)
        _, _, figures = self.code_intra(planes.to(self.device), step.to(self.device), rng, True)
        return {**figures, "norm": self.finish_step()}


def jitter(step: Tensor, rng: np.random.Generator) -> Tensor:
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


def train_windows(run: MotionRun, batches: WindowBatches, progress: bool = False) -> None:
    run.out.mkdir(parents=True, exist_ok=True)
    windows = run.done * run.config.pictures_per_step // (FRAMES - 1)
    run.loop(batches.iterate(windows), run.window_step, lambda: None, progress)


def train_intra(run: MotionRun, batches: Batches, progress: bool = False) -> None:
    """batches: of one-frame clips (B, 6, 1, H/2, W/2)."""
    pictures = (planes[:, :, 0] for planes in batches.iterate(run.done))
    run.out.mkdir(parents=True, exist_ok=True)
    run.loop(pictures, run.intra_step, lambda: None, progress)
