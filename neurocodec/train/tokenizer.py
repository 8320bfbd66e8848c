"""Training of the tokenizer: squared error plus lambda times rate, over all qualities at once.

Loss of a clip at quantizer step t, with lambda = LAMBDA_PER_STEP2 * t^2: D / lambda + R in bits a
pixel, weighted by (t / 0.1)^0.7 so that coarse and fine steps pull about equally.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..device import autocast, channels_last
from ..errors import DataError
from ..tokenizer.config import SIZES, TokenizerConfig, step_of_quality
from ..tokenizer.lfq import LAMBDA_PER_STEP2, entropy_penalty
from ..tokenizer.model import Tokenizer, TrainingOutput
from ..tokenizer.patch import psnr, weighted_error
from .data import Batches, load_sources, validation_clips
from .picture import comparison
from .run import Run

logger = logging.getLogger(__name__)

STEP_RANGE = (0.027, 0.95)  # of the quantizer, a little wider than qualities 100 to 0
VALIDATION_QUALITIES = (10, 50, 90)


@dataclass
class TrainConfig:
    size: str = "small"
    steps: int = 10000
    batch: int = 4
    frames: int = 17
    crop: int = 128
    learning_rate: float = 6e-4
    warm_up: int = 200
    ema: float = 0.999
    clip_norm: float = 1.0
    commitment: float = 0.25  # quantizer "signs" only, as the next two
    entropy: float = 0.1
    diversity: float = 0.1
    seed: int = 0
    save_every: int = 250
    validate_every: int = 1000


def loss_of(config: TrainConfig, out: TrainingOutput, planes: Tensor, step: Tensor) -> Tensor:
    """The training loss of a batch; planes (B, 6, T, H/2, W/2), step (B,)."""
    pixels = planes[0, 0].numel() * 4
    distortion = weighted_error(out.planes, planes)
    cost = (distortion / (LAMBDA_PER_STEP2 * step**2) + out.bits) / pixels
    loss = (cost * (step / 0.1) ** 0.7).mean()
    if out.projections:
        loss = loss + config.commitment * out.commitment
        stages = [u for us in out.projections for u in us if u.shape[0] > 1]
        for u in stages:
            sharp, diverse = entropy_penalty(u)
            penalty = config.entropy * sharp - config.diversity * diverse
            loss = loss + penalty / (len(stages) * u.shape[1])
    return loss


class Trainer(Run):
    """A run of the ``magvit2`` family."""

    config: TrainConfig
    model: Tokenizer
    shape: TokenizerConfig

    def __init__(self, config: TrainConfig, out: Path, device: str = "auto") -> None:
        torch.manual_seed(config.seed)
        shape = SIZES[config.size]
        model = Tokenizer(shape)
        channels_last(model)
        super().__init__(config, shape, model, out, device)

    def train_step(self, planes: Tensor) -> dict[str, float]:
        """One optimizer step. Raises FloatingPointError when the loss is not finite."""
        self.start_step()
        rng = np.random.default_rng((self.config.seed, self.done, 1))
        low, high = np.log(STEP_RANGE)
        # stratified: every batch sees coarse and fine
        places = (np.arange(len(planes)) + rng.random(len(planes))) / len(planes)
        step = torch.tensor(np.exp(low + (high - low) * places), dtype=torch.float32)
        planes, step = planes.to(self.device), step.to(self.device)
        with autocast(self.device):
            out = self.model(planes, step)
        loss = loss_of(self.config, out, planes, step)
        self.backward(loss, {"planes": planes, "step": step})
        norm = self.finish_step()
        pixels = planes[0, 0].numel() * 4 * len(planes)
        return {
            "loss": loss.item(),
            "norm": norm,
            "bpp": out.bits.sum().item() / pixels,
            "mse": (out.planes - planes).square().mean().item(),
        }

    def run(self, batches: Batches, validation: dict[str, Tensor], progress: bool) -> None:
        logger.info(
            "training %s on %s, steps %d to %d",
            self.config.size,
            self.device,
            self.done,
            self.config.steps,
        )
        if self.done == 0:
            start = torch.cat([batches.batch(-1 - i) for i in range(4)])
            self.model.init_stages(start.to(self.device), STEP_RANGE)
            self.average = {k: v.detach().clone() for k, v in self.model.named_parameters()}
            self.validate(validation)
        self.loop(
            batches.iterate(self.done),
            self.train_step,
            lambda: self.validate(validation),
            progress,
        )

    # -- validation ---------------------------------------------------------------------------

    def validate(self, clips: dict[str, Tensor]) -> None:
        """PSNR-YUV (6:1:1) and estimated bits per pixel of the averaged weights, one picture."""
        with self.averaged():
            self._validate(clips)

    def _validate(self, clips: dict[str, Tensor]) -> None:
        rows = []
        for quality in VALIDATION_QUALITIES:
            step = torch.tensor([step_of_quality(quality)], device=self.device)
            figures = []
            for name, clip in clips.items():
                planes = clip[None].to(self.device).float() / 255
                with autocast(self.device):
                    out = self.model(planes, step)
                decoded = (out.planes.clamp(0, 1) * 255).round() / 255
                bpp = out.bits.item() / (planes[0, 0].numel() * 4)
                figures.append((psnr(planes[0], decoded[0])[3], bpp))
                self.log(
                    {
                        "val": name,
                        "step": self.done,
                        "q": quality,
                        "psnr": figures[-1][0],
                        "bpp": bpp,
                    }
                )
                if name == next(iter(clips)):
                    rows.append(
                        (planes[0, :, -1], decoded[0, :, -1], out.depth[0, -1] / self.shape.stages)
                    )
            mean = np.mean(figures, 0)
            self.log(
                {"val": "mean", "step": self.done, "q": quality, "psnr": mean[0], "bpp": mean[1]}
            )
        comparison(rows).save(self.out / f"validation-{self.done:06d}.png")


def train_tokenizer(
    data: Path,
    out: Path,
    config: TrainConfig,
    validation: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: bool = False,
) -> None:
    """Train in ``out`` on the videos and photographs under ``data``.

    Without a validation folder every 40th video is held out. Raises DataError, InputError.
    """
    trainer = Trainer(config, out, device)
    if resume:
        trainer.resume()
    elif trainer.checkpoint.exists():
        raise DataError(f"{out}: holds a run already; give --resume or another folder")
    sources = load_sources(data, config.frames, config.crop)
    if validation is not None:
        held_out = load_sources(validation, config.frames, 32, halve=False)
    else:
        held_out = sources.hold_out(40)
    out.mkdir(parents=True, exist_ok=True)
    logger.info(
        "%d videos, %d photographs, %d files skipped, %d videos held out",
        len(sources.videos),
        len(sources.photos),
        sources.skipped,
        len(held_out.videos),
    )
    batches = Batches(sources, config.batch, config.frames, config.crop, config.seed)
    trainer.run(batches, validation_clips(held_out, config.frames), progress)
