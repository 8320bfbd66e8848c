from __future__ import annotations

import sys
from pathlib import Path

import click

from ..tokenizer.config import SIZES
from . import options


@click.group(short_help="Train tokenizers and generators.")
def command() -> None:
    """Train the networks on folders of videos and photographs."""


@command.command()
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Folder to learn from."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--size", type=click.Choice(list(SIZES)), default="small", show_default=True)
@click.option("--val", type=click.Path(path_type=Path), help="Folder of validation clips.")
@click.option("--steps", type=click.IntRange(1), default=10000, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Clips a step.")
@click.option("--crop", type=click.IntRange(32), default=128, show_default=True, help="Pixels.")
@click.option("--frames", type=click.IntRange(1), default=17, show_default=True, help="1 + 4 n.")
@click.option("--learning-rate", type=float, default=6e-4, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--validate-every", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped.")
@options.machine
@options.talk
def tokenizer(
    data: Path,
    out: Path,
    val: Path | None,
    resume: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    **settings: int | float | str,
) -> None:
    """Train a tokenizer: squared error plus lambda times rate, all qualities at once.

    OUT gets checkpoint.pt, log.jsonl and validation pictures (source, decoded, depth map).
    """
    import torch

    from ..train.tokenizer import TrainConfig, train_tokenizer

    if threads is not None:
        torch.set_num_threads(threads)
    progress = not quiet and sys.stderr.isatty()
    config = TrainConfig(**settings)  # type: ignore[arg-type]
    train_tokenizer(data, out, config, val, resume, device, progress)
