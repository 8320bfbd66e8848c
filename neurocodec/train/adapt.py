"""Fine-tuning of a bundle to one's own footage: its weights are where a short run starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import models
from ..errors import UsageError
from ..tokenizer.config import MOTION_SIZES, SIZES, size_of
from .export import gathered_prior, load_tokenizer
from .motion import train_motion
from .motion_run import MotionTrainConfig
from .objective import TrainConfig
from .run import load_checkpoint
from .tokenizer import train_tokenizer

STEPS = 2000
LEARNING_RATE = 1e-4
WINDOWS = 400  # of a tokenizer with motion
PRIOR_CLIPS = 60  # whose counts the entropy model starts from
PRIOR_FRAMES = 9
PRIOR_CROP = 128  # pixels, at most
RESULT = "adapted.safetensors"


def configuration(bundle: models.Bundle, steps: int) -> TrainConfig | MotionTrainConfig:
    """Of a run that goes on from a bundle. Raises UsageError where its shape is no known size."""
    sizes = MOTION_SIZES if bundle.is_motion else SIZES
    size = size_of(bundle.config, sizes)
    if size is None:
        raise UsageError(f"{bundle.name}: not of a size that can be trained on")
    kind = MotionTrainConfig if bundle.is_motion else TrainConfig
    config = kind(size=size, steps=steps, learning_rate=LEARNING_RATE, warm_up=min(100, steps))
    if isinstance(config, MotionTrainConfig) and bundle.tune is not None:
        config.distortion = bundle.tune
    return config


def adapt(
    bundle: models.Bundle,
    data: Path,
    out: Path,
    steps: int = STEPS,
    validation: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: bool = False,
    count: int = WINDOWS,
    clips: int = PRIOR_CLIPS,
    **changes: Any,
) -> Path:
    """Train in ``out`` on the videos of ``data`` from the weights of a bundle on, and write
    ``out/adapted.safetensors``: the new weights, first counts gathered on the same videos, and the
    bundle's own generator. Returns its path.

    count: windows to make, for a tokenizer with motion. clips: to gather first counts on. changes:
    other settings of the run. Raises DataError, InputError, UsageError, ModelError.
    """
    config = replace(configuration(bundle, steps), **changes)
    generator = models.generator_parts(bundle)
    if isinstance(config, MotionTrainConfig):
        train_motion(
            data, out, config, validation, count=count, resume=resume, device=device,
            progress=progress, start=bundle, footage=True,
        )  # fmt: skip
    else:
        train_tokenizer(
            data, out, config, validation, resume, device, progress, start=bundle, footage=True
        )
    tokenizer = load_tokenizer(load_checkpoint(out))
    card = {**bundle.card, "adapted": {"from": bundle.hash.hex(), "steps": steps}}
    crop = min(config.crop, PRIOR_CROP)
    prior = gathered_prior(tokenizer, data, clips, PRIOR_FRAMES, crop, True, bundle.tune)
    target = out / RESULT
    models.write_bundle(target, f"{bundle.name}-adapted", tokenizer, prior, card, generator)
    return target
