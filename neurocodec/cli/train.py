from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from ..tokenizer.config import MOTION_SIZES, SIZES
from . import options

_FOLDER = click.Path(path_type=Path)
_SIZES: dict[str, dict[str, Any]] = {"magvit2": SIZES, "motion": MOTION_SIZES}
# options of one configuration alone, or of some of its parts
_OF_MAGVIT2 = ("frames",)
_OF_MOTION = ("part", "other", "windows", "count")
_OF_WINDOWS = ("windows", "count")


@click.group(short_help="Train tokenizers and generators.")
def command() -> None:
    """Train the networks on folders of videos and photographs."""


@command.command()
@click.option("--config", type=click.Choice(list(_SIZES)), default="magvit2", show_default=True)
@click.option("--data", type=_FOLDER, required=True, help="Folder to learn from.")
@click.option("--out", type=_FOLDER, required=True, help="Folder of the run.")
@click.option(
    "--size", type=click.Choice(list({**SIZES, **MOTION_SIZES})), default="small", show_default=True
)
@click.option("--val", type=_FOLDER, help="Folder of validation clips.")
@click.option("--steps", type=click.IntRange(1), help="10000; motion: 20000.")
@click.option("--batch", type=click.IntRange(1), help="Clips a step: 4; motion: 3.")
@click.option("--crop", type=click.IntRange(32), help="Pixels: 128; motion, part intra: 192.")
@click.option("--frames", type=click.IntRange(1), help="1 + 4 n, 17 by default; magvit2 alone.")
@click.option("--learning-rate", type=float, help="6e-4; motion: 5e-4.")
@click.option("--seed", type=int, help="0 by default.")
@click.option("--validate-every", type=click.IntRange(1), help="Steps: 1000; motion: 2000.")
@click.option(
    "--part",
    type=click.Choice(["both", "intra", "inter"]),
    help="motion: networks to train, of intra pictures, of others, or both (the default).",
)
@click.option("--other", type=_FOLDER, help="motion, part inter: run of part intra to learn with.")
@click.option(
    "--windows",
    type=_FOLDER,
    help="motion: file of training windows, made if there is none; in --out by default.",
)
@click.option("--count", type=click.IntRange(1), help="motion: windows to make, 2000 by default.")
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped.")
@options.machine
@options.talk
def tokenizer(
    config: str,
    data: Path,
    out: Path,
    val: Path | None,
    resume: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    **given: Any,
) -> None:
    """Train a tokenizer: squared error plus lambda times rate, all qualities at once.

    OUT gets checkpoint.pt, log.jsonl and validation pictures (source, decoded, depth map).
    """
    settings = {name: value for name, value in given.items() if value is not None}
    _check(config, settings)

    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    progress = not quiet and sys.stderr.isatty()
    if config == "motion":
        from ..train.motion import MotionTrainConfig, train_motion

        inputs = {k: settings.pop(k) for k in ("windows", "count", "other") if k in settings}
        train_motion(
            data, out, MotionTrainConfig(**settings), val,
            resume=resume, device=device, progress=progress, **inputs,
        )  # fmt: skip
        return
    from ..train.tokenizer import TrainConfig, train_tokenizer

    train_tokenizer(data, out, TrainConfig(**settings), val, resume, device, progress)


def _check(config: str, settings: dict[str, Any]) -> None:
    """Raises UsageError for options that say nothing to this configuration."""
    if settings["size"] not in _SIZES[config]:
        sizes = ", ".join(_SIZES[config])
        raise UsageError(f"--size {settings['size']}: config {config} has {sizes}")
    for name in _OF_MAGVIT2 if config == "motion" else _OF_MOTION:
        if name in settings:
            raise UsageError(f"--{name}: not an option of config {config}")
    if config != "motion":
        return
    part = settings.get("part", "both")
    for name in _OF_WINDOWS if part == "intra" else ("crop",):
        if name in settings:
            raise UsageError(f"--{name}: not an option of part {part}")
    if part != "inter" and "other" in settings:
        raise UsageError(f"--other: not an option of part {part}")


@command.command()
@click.option("--tokenizer", "model", metavar="NAME|PATH", required=True, help="Model bundle.")
@click.option("--data", type=_FOLDER, required=True, help="Folder of videos to learn from.")
@click.option("--out", type=_FOLDER, required=True, help="Folder of the run.")
@click.option(
    "--tokens", type=_FOLDER, help="File of tokens, made if there is none; in --out by default."
)
@click.option("--clips", type=click.IntRange(1), default=400, show_default=True, help="To make.")
@click.option("--frames", type=click.IntRange(1), default=17, show_default=True, help="Of a clip.")
@click.option("--crop", type=click.IntRange(32), default=224, show_default=True, help="Pixels.")
@click.option(
    "--effort", type=click.Choice(["fast", "medium", "slow"]), default="medium", show_default=True
)
@click.option("--channels", type=click.IntRange(1), help="64 by default.")
@click.option("--hidden", type=click.IntRange(1), help="Of each stage's head: 32.")
@click.option("--blocks", type=click.IntRange(0), help="Of the trunk: 1.")
@click.option("--motion", type=click.IntRange(1), help="Channels of the networks for motion: 96.")
@click.option("--steps", type=click.IntRange(1), help="20000 by default.")
@click.option("--learning-rate", type=float, help="2e-3 by default.")
@click.option("--seed", type=int, help="0 by default.")
@click.option("--validate-every", type=click.IntRange(1), help="Steps: 2000.")
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped.")
@options.machine
@options.talk
def generator(
    model: str,
    data: Path,
    out: Path,
    tokens: Path | None,
    clips: int,
    frames: int,
    crop: int,
    effort: str,
    resume: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    **given: Any,
) -> None:
    """Train a generator, the entropy model, for the tokenizer of a bundle.

    The log says, every few steps and for held-out clips, what it takes for tokens and depths as a
    part of what the adaptive model takes.
    """
    if crop % 8:
        raise UsageError(f"--crop {crop}: give a multiple of 8")

    import torch

    from .. import models
    from ..train.generator import GeneratorTrainConfig, train_generator

    if threads is not None:
        torch.set_num_threads(threads)
    config = GeneratorTrainConfig(**{k: v for k, v in given.items() if v is not None})
    train_generator(
        models.find(model), data, out, config, tokens, clips, frames, crop, effort, resume, device,
        not quiet and sys.stderr.isatty(),
    )  # fmt: skip
