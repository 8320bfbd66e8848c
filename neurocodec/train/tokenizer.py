"""Training runs of the ``magvit2`` tokenizer, all qualities at once; see ``objective.py``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..device import autocast, channels_last
from ..errors import InputError, UsageError
from ..models import Bundle
from ..tokenizer.causal import ResBlock
from ..tokenizer.config import SIZES, TokenizerConfig, step_of_quality
from ..tokenizer.inflate import inflate
from ..tokenizer.model import Tokenizer
from ..tokenizer.patch import psnr
from .data import Batches, Sources, load_footage, load_sources, validation_clips
from .features import SMALLEST_SIDE, load_features
from .listing import list_media
from .objective import Objective, TrainConfig, check_range
from .picture import comparison
from .ranks import not_syncing, parallel
from .run import Run, load_checkpoint, refuse_folder_of_a_run
from .stream import StreamBatches, hold_out

logger = logging.getLogger(__name__)

STEP_RANGE = (0.027, 0.95)  # of the quantizer, a little wider than qualities 100 to 0
START_CLIPS = 16  # that stages of a "signs" quantizer start from
HOLD_OUT_EVERY = 40  # so many videos, one is held out
VALIDATION_QUALITIES = (10, 50, 90)


class Trainer(Run):
    """A run of the ``magvit2`` family."""

    config: TrainConfig
    model: Tokenizer
    shape: TokenizerConfig

    def __init__(self, config: TrainConfig, out: Path, device: str = "auto") -> None:
        """Raises UsageError for a configuration that does not fit together."""
        _check(config)
        torch.manual_seed(config.seed)
        shape = SIZES[config.size]
        model = Tokenizer(shape)
        channels_last(model)
        if config.learns == "decoder":
            model.requires_grad_(False).decoder.requires_grad_(True)
        super().__init__(config, shape, model, out, device, (config.beta1, 0.99))
        if config.batch % (self.ranks.size * config.accumulate):
            raise UsageError(
                f"batch {config.batch}: give a multiple of {self.ranks.size * config.accumulate},"
                f" ranks times micro-batches"
            )
        for block in model.modules():
            if isinstance(block, ResBlock):
                block.recompute = config.recompute
        # quantizer "signs" has stages that a batch may not reach
        self.net: nn.Module = parallel(self.model, self.device, shape.quantizer != "levels")
        if config.compile:
            self.net = torch.compile(self.net)  # type: ignore[assignment]
        features = load_features(config.features, self.device) if config.perceptual else None
        self.started = False  # from other weights
        self.objective = Objective(
            config, shape.stages, shape.bits, self.device, self.ranks, features
        )

    # -- checkpoints --------------------------------------------------------------------------

    def more_state(self) -> dict[str, Any]:
        adversary = self.objective.discriminator
        if adversary is None:
            return {}
        return {
            "discriminator": adversary.state_dict(),
            "discriminator_optimizer": self.objective.optimizer.state_dict(),
        }

    def load_more_state(self, state: dict[str, Any]) -> None:
        adversary = self.objective.discriminator
        if adversary is None or "discriminator" not in state:  # none there, or none before
            return
        try:
            adversary.load_state_dict(state["discriminator"])
        except RuntimeError:
            raise InputError(f"{self.checkpoint}: made with another discriminator") from None
        self.objective.optimizer.load_state_dict(state["discriminator_optimizer"])

    def start_from(self, other: Path) -> None:
        """Take the averaged weights of a run over single frames, see ``inflate``. Raises
        InputError."""
        state = load_checkpoint(other)
        if state["tokenizer"] != self.shape.to_dict():
            raise InputError(f"{other}: made with another tokenizer configuration")
        self.model.load_state_dict(state["model"])
        self.model.load_state_dict(state["average"], strict=False)
        inflate(self.model)
        self.forget_average()
        self.started = True

    def start_from_bundle(self, bundle: Bundle) -> None:
        super().start_from_bundle(bundle)
        self.started = True

    # -- training -----------------------------------------------------------------------------

    def train_step(self, planes: Tensor) -> dict[str, float]:
        """One optimizer step over this rank's clips of a batch (B, 6, T, H/2, W/2) in 0..1.

        Raises DivergenceError when the loss or its gradient is not finite.
        """
        check_range(planes)
        self.start_step()
        objective = self.objective
        plays = objective.plays(self.done)
        if plays:
            rate = self.config.adversary_rate * self.learning_rate(self.done)
            for group in objective.optimizer.param_groups:
                group["lr"] = rate
            objective.optimizer.zero_grad(set_to_none=True)
        parts = self.config.accumulate
        figures: dict[str, list[Tensor]] = {}
        step = self._steps(len(planes))
        for i, (x, t) in enumerate(zip(planes.chunk(parts), step.chunk(parts), strict=True), 1):
            x, t = x.to(self.device), t.to(self.device)
            with not_syncing(self.net, i < parts):
                with autocast(self.device):
                    out = self.net(x, t)
                loss, found = objective.loss(out, x, t, self.done)
                self.backward(loss / parts, {"planes": x, "step": t})
            if plays:
                found |= objective.learn(x, out.planes, self.done, i == parts, parts)
            found["loss"] = loss.detach()
            found["bpp"] = out.bits.detach().mean() / (x[0, 0].numel() * 4)
            found["mse"] = (out.planes.detach() - x).square().mean()
            for name, value in found.items():
                figures.setdefault(name, []).append(value)
        if plays:
            self.finish_adversary()
        norm = self.finish_step()
        return {name: torch.stack(v).mean().item() for name, v in figures.items()} | {"norm": norm}

    def _steps(self, count: int) -> Tensor:
        """Quantizer steps (count,) of this rank's clips. Stratified: every batch, of all ranks,
        sees coarse and fine."""
        total = count * self.ranks.size
        rng = np.random.default_rng((self.config.seed, self.done, 1))
        low, high = np.log(STEP_RANGE)
        places = (np.arange(total) + rng.random(total)) / total
        steps = torch.tensor(np.exp(low + (high - low) * places), dtype=torch.float32)
        return steps[self.ranks.share(total)]

    def finish_adversary(self) -> None:
        """Raises DivergenceError."""
        adversary = self.objective.discriminator
        assert adversary is not None
        norm = nn.utils.clip_grad_norm_(adversary.parameters(), self.config.clip_norm)
        self.check_finite(float(norm), "gradient of the discriminator")
        self.objective.optimizer.step()

    def run(self, batches: Batches, validation: dict[str, Tensor], progress: bool) -> None:
        logger.info(
            "training %s on %s, steps %d to %d",
            self.config.size,
            self.device,
            self.done,
            self.config.steps,
        )
        if self.done == 0:
            self._start_stages(batches)
            if self.ranks.first:
                self.validate(validation)
        self.loop(
            batches.iterate(self.done, self.ranks.share(self.config.batch)),
            self.train_step,
            lambda: self.validate(validation),
            progress,
        )

    def _start_stages(self, batches: Batches) -> None:
        """Start the stages of a "signs" quantizer, unless they have weights to go on from."""
        if self.started:
            return
        clips = batches.clips(-1, range(START_CLIPS))
        self.model.init_stages(clips.to(self.device), STEP_RANGE)
        self.forget_average()

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
        self.show(comparison(rows))


def train_tokenizer(
    data: Path,
    out: Path,
    config: TrainConfig,
    validation: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: bool = False,
    images: Path | None = None,
    start: Bundle | None = None,
    footage: bool = False,
) -> None:
    """Train in ``out`` on the videos and photographs of ``data``, see ``list_media``.

    Without a validation folder every 40th video is held out. images: run over single frames to
    start from; start: bundle to start from. footage: data is one's own, see ``load_footage``.
    Raises DataError, InputError, UsageError.
    """
    trainer = Trainer(config, out, device)
    if not resume:
        refuse_folder_of_a_run(out)
    if resume:
        trainer.resume()
    elif images is not None:
        trainer.start_from(images)
    elif start is not None:
        trainer.start_from_bundle(start)
    batches, held_out = _open(data, config, validation, footage)
    out.mkdir(parents=True, exist_ok=True)
    trainer.run(batches, validation_clips(held_out, config.frames), progress)


def _open(
    data: Path, config: TrainConfig, validation: Path | None, footage: bool
) -> tuple[Batches, Sources]:
    """Training batches and validation videos. Raises DataError."""
    size = (config.batch, config.frames, config.crop, config.seed)
    given = None
    if validation is not None:
        given = load_sources(validation, config.frames, 32, halve=False)
    if config.workers:
        entries = list_media(data)
        held_out = given or hold_out(entries, HOLD_OUT_EVERY, config.frames, config.crop)
        logger.info("%d files to decode, %d videos held out", len(entries), len(held_out.videos))
        return StreamBatches(entries, *size, config.workers), held_out
    load = load_footage if footage else load_sources
    sources = load(data, config.frames, config.crop)
    held_out = given or sources.hold_out(HOLD_OUT_EVERY)
    logger.info(
        "%d videos, %d photographs, %d files skipped, %d videos held out",
        len(sources.videos),
        len(sources.photos),
        sources.skipped,
        len(held_out.videos),
    )
    return Batches(sources, *size, config.photo_odds), held_out


def _check(config: TrainConfig) -> None:
    """Raises UsageError for settings that do not go together."""
    if config.size not in SIZES:
        raise UsageError(f"size {config.size!r}: give one of {', '.join(SIZES)}")
    if config.learns not in ("all", "decoder"):
        raise UsageError(f"learns {config.learns!r}: give all or decoder")
    if config.frames % 4 != 1:
        raise UsageError(f"{config.frames} frames: give one more than a multiple of 4")
    if config.crop % 16:
        raise UsageError(f"crop {config.crop}: give a multiple of 16")
    if config.perceptual and config.crop < SMALLEST_SIDE:
        raise UsageError(f"crop {config.crop}: the perceptual loss needs {SMALLEST_SIDE} or more")
    try:
        config.widths()
    except ValueError:
        raise UsageError(f"discriminator {config.discriminator!r}: give widths: 64,128") from None
    if min(config.batch, config.accumulate, config.r1_every) < 1:
        raise UsageError("batch, accumulate and r1_every: give 1 or more")
