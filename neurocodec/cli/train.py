from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from ..tokenizer.config import MOTION_SIZES, SIZES, size_of
from . import options

_FOLDER = click.Path(path_type=Path)
_SIZES: dict[str, dict[str, Any]] = {"magvit2": SIZES, "motion": MOTION_SIZES}
# options of one configuration alone, or of some of its parts
_OF_MAGVIT2 = ("frames", "images", "dry_run")
_OF_MOTION = ("part", "distortion", "other", "windows", "chains", "count")
_OF_WINDOWS = ("windows", "chains", "count")
_OF_INTER = ("other", "chains")

_resume = click.option(
    "--resume",
    type=click.Choice(["always", "auto"]),
    is_flag=False,
    flag_value="always",
    help="Go on where the run in --out stopped; 'auto': start one if there is none.",
)


def _resumes(resume: str | None, out: Path) -> bool:
    return resume == "always" or (resume == "auto" and (out / "checkpoint.pt").exists())


@click.group(short_help="Train tokenizers and generators.")
def command() -> None:
    """Train the networks on folders of videos and photographs.

    Several processes train a tokenizer of config magvit2, or a transformer, under torchrun:
    torchrun --nproc-per-node 8 -m neurocodec train tokenizer ...
    """


@command.command()
@click.option("--config", type=click.Choice(list(_SIZES)), default="magvit2", show_default=True)
@click.option("--data", type=_FOLDER, help="Folder to learn from.")
@click.option("--out", type=_FOLDER, help="Folder of the run.")
@click.option(
    "--recipe", metavar="NAME|FILE", help="Settings: a .toml file, as runs leave it, or a name."
)
@click.option("--set", "assignments", metavar="NAME=VALUE", multiple=True, help="One setting.")
@click.option(
    "--size", type=click.Choice(list({**SIZES, **MOTION_SIZES})), help="small, or that of --from."
)
@click.option("--val", type=_FOLDER, help="Folder of validation clips.")
@click.option("--steps", type=click.IntRange(1), help="10000; motion: 20000.")
@click.option("--batch", type=click.IntRange(1), help="Clips a step, of all ranks: 4; motion: 3.")
@click.option("--crop", type=click.IntRange(32), help="Pixels: 128; motion, part intra: 192.")
@click.option("--frames", type=click.IntRange(1), help="1 + 4 n, 17 by default; magvit2 alone.")
@click.option("--learning-rate", type=float, help="6e-4; motion: 5e-4.")
@click.option("--seed", type=int, help="0 by default.")
@click.option("--validate-every", type=click.IntRange(1), help="Steps: 1000; motion: 2000.")
@click.option(
    "--from",
    "start",
    metavar="NAME|PATH",
    help="Bundle whose weights to start from, unless --resume goes on.",
)
@click.option("--images", type=_FOLDER, help="magvit2: run over single frames to start from.")
@click.option(
    "--part",
    type=click.Choice(["both", "intra", "inter"]),
    help="motion: networks to train, of intra pictures, of others, or both (the default).",
)
@click.option(
    "--distortion",
    type=click.Choice(["mse", "ms-ssim"]),
    help="motion: what to lose little of; squared error by default.",
)
@click.option("--other", type=_FOLDER, help="motion, part inter: run of part intra to learn with.")
@click.option(
    "--windows",
    type=_FOLDER,
    help="motion: file of training windows, made if there is none; in --out by default.",
)
@click.option(
    "--chains",
    type=_FOLDER,
    help="motion, part inter, instead of windows: file of pictures from far inside GOPs, made with"
    " the bundle of --from if there is none.",
)
@click.option(
    "--count",
    type=click.IntRange(1),
    help="motion: windows to make, 2000 by default, or clips to code for --chains: 100.",
)
@click.option("--dry-run", is_flag=True, help="magvit2: say what a step takes, and end.")
@_resume
@options.machine
@options.talk
def tokenizer(
    config: str,
    data: Path | None,
    out: Path | None,
    recipe: str | None,
    assignments: tuple[str, ...],
    val: Path | None,
    start: str | None,
    resume: str | None,
    device: str,
    threads: int | None,
    quiet: bool,
    **given: Any,
) -> None:
    """Train a tokenizer: squared error plus lambda times rate, all qualities at once, or what a
    recipe says.

    OUT gets checkpoint.pt, config.toml, log.jsonl, tensorboard and validation pictures (source,
    decoded, depth map).
    """
    from ..train.settings import build, parse_assignments, read_recipe

    settings = read_recipe(recipe) if recipe else {}
    settings |= parse_assignments(assignments)
    settings |= {name: value for name, value in given.items() if value not in (None, False)}
    _check(config, settings)

    import torch

    from .. import models

    if threads is not None:
        torch.set_num_threads(threads)
    progress = not quiet and sys.stderr.isatty()
    bundle = models.find(start) if start else None
    size = size_of(bundle.config, _SIZES[config]) if bundle is not None else None
    if size is not None:
        settings.setdefault("size", size)
    dry_run, images = settings.pop("dry_run", False), settings.pop("images", None)
    if bundle is not None and images is not None:
        raise UsageError("give --from or --images")
    if config == "motion":
        from ..train.motion import train_motion
        from ..train.motion_run import MotionTrainConfig

        _refuse_several("train tokenizer --config motion")
        names = ("windows", "chains", "count", "other")
        inputs = {k: settings.pop(k) for k in names if k in settings}
        data, out = _places(data, out)
        train_motion(
            data, out, build(MotionTrainConfig, settings), val,
            resume=_resumes(resume, out), device=device, progress=progress, start=bundle,
            **inputs,
        )  # fmt: skip
        return
    from ..train.objective import TrainConfig
    from ..train.ranks import joined
    from ..train.tokenizer import train_tokenizer

    built = build(TrainConfig, settings)
    if dry_run:
        _estimate(built)
        return
    data, out = _places(data, out)
    with joined(device):
        train_tokenizer(
            data, out, built, val, _resumes(resume, out), device, progress, images=images,
            start=bundle,
        )  # fmt: skip


def _places(data: Path | None, out: Path | None) -> tuple[Path, Path]:
    """Raises UsageError."""
    if data is None or out is None:
        raise UsageError("give --data and --out")
    return data, out


def _refuse_several(what: str) -> None:
    from ..train.ranks import refuse_several

    refuse_several(what)


def _estimate(config: Any) -> None:
    from ..train.cost import estimate

    for name, value in estimate(config).items():
        click.echo(f"{name:32} {value:>22,}")


def _check(config: str, settings: dict[str, Any]) -> None:
    """Raises UsageError for options that say nothing to this configuration."""
    size = settings.get("size", "small")
    if size not in _SIZES[config]:
        sizes = ", ".join(_SIZES[config])
        raise UsageError(f"--size {size}: config {config} has {sizes}")
    for name in _OF_MAGVIT2 if config == "motion" else _OF_MOTION:
        if name in settings:
            option = name.replace("_", "-")
            raise UsageError(f"--{option}: not an option of config {config}")
    if config != "motion":
        return
    part = settings.get("part", "both")
    for name in _OF_WINDOWS if part == "intra" else ("crop",):
        if name in settings:
            raise UsageError(f"--{name}: not an option of part {part}")
    if "windows" in settings and "chains" in settings:
        raise UsageError("give --windows or --chains")
    for name in _OF_INTER:
        if part != "inter" and name in settings:
            raise UsageError(f"--{name}: not an option of part {part}")


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
    "--photos", type=click.IntRange(0), default=400, show_default=True,
    help="Photographs, one picture of each, at most.",
)  # fmt: skip
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
@click.option("--from", "start", metavar="NAME|PATH", help="Bundle whose generator goes on.")
@_resume
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
    photos: int,
    effort: str,
    start: str | None,
    resume: str | None,
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

    _refuse_several("train generator")
    if threads is not None:
        torch.set_num_threads(threads)
    config = GeneratorTrainConfig(**{k: v for k, v in given.items() if v is not None})
    train_generator(
        models.find(model), data, out, config, tokens, clips, frames, crop, effort,
        _resumes(resume, out), device, not quiet and sys.stderr.isatty(),
        photos, models.find(start) if start else None,
    )  # fmt: skip


@command.command()
@click.option("--tokenizer", "model", metavar="NAME|PATH", required=True, help="Model bundle.")
@click.option("--data", type=_FOLDER, required=True, help="Videos, in a folder for each class.")
@click.option("--out", type=_FOLDER, required=True, help="Folder of the run.")
@click.option("--size", type=click.Choice(["tiny", "small", "B", "L"]), help="B by default.")
@click.option("--recipe", metavar="FILE", help="Settings: a .toml file, as runs leave it.")
@click.option("--set", "assignments", metavar="NAME=VALUE", multiple=True, help="One setting.")
@click.option("--steps", type=click.IntRange(1), help="100000 by default.")
@click.option("--from", "start", metavar="NAME|PATH", help="Bundle whose transformer goes on.")
@click.option("--clips", type=click.IntRange(1), help="To make tokens of: 10000.")
@_resume
@options.machine
@options.talk
def transformer(
    model: str,
    data: Path,
    out: Path,
    recipe: str | None,
    assignments: tuple[str, ...],
    start: str | None,
    resume: str | None,
    device: str,
    threads: int | None,
    quiet: bool,
    **given: Any,
) -> None:
    """Train a masked transformer, for generation, on the tokens of a bundle of quantizer "codes" or
    "signs".

    OUT gets transformer.safetensors beside what every run leaves.
    """
    import torch

    from .. import models
    from ..train.masked import MaskedConfig, train_transformer
    from ..train.ranks import joined
    from ..train.settings import build, parse_assignments, read_recipe

    if threads is not None:
        torch.set_num_threads(threads)
    settings = (read_recipe(recipe) if recipe else {}) | parse_assignments(assignments)
    settings |= {name: value for name, value in given.items() if value is not None}
    with joined(device):
        train_transformer(
            models.find(model), data, out, build(MaskedConfig, settings), _resumes(resume, out),
            device, not quiet and sys.stderr.isatty(), models.find(start) if start else None,
        )  # fmt: skip


@command.command()
@click.option("--from", "model", metavar="NAME|PATH", default="default", show_default=True)
@click.option("--data", type=_FOLDER, required=True, help="Your videos.")
@click.option("--out", type=_FOLDER, required=True, help="Folder of the run.")
@click.option("--val", type=_FOLDER, help="Folder of validation clips.")
@click.option("--steps", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--count", type=click.IntRange(1), default=400, show_default=True,
              help="Windows to make, for a model of the family motion.")  # fmt: skip
@click.option(
    "--clips",
    type=click.IntRange(1),
    default=60,
    show_default=True,
    help="Whose counts the entropy model starts from.",
)
@_resume
@options.machine
@options.talk
def adapt(
    model: str,
    data: Path,
    out: Path,
    val: Path | None,
    steps: int,
    count: int,
    clips: int,
    resume: str | None,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Fine-tune a bundle to your own footage: OUT/adapted.safetensors, for 'compress --model'."""
    import torch

    from .. import models
    from ..train.adapt import adapt as run

    _refuse_several("train adapt")
    if threads is not None:
        torch.set_num_threads(threads)
    target = run(
        models.find(None if model == "default" else model), data, out, steps, val,
        _resumes(resume, out), device, not quiet and sys.stderr.isatty(), count,
        clips,
    )  # fmt: skip
    if not quiet:
        click.echo(f"{target}: {target.stat().st_size} bytes")
