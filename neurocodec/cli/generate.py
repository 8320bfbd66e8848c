from __future__ import annotations

from typing import Any

import click

from ..errors import printable
from ..files import check_output
from . import options


@click.command()
@click.argument("dst", metavar="OUT")
@options.model
@click.option("--class", "name", metavar="NAME", help="Of all clips; else one class after another.")
@click.option("-n", "count", type=click.IntRange(1, 400), default=16, show_default=True,
              help="Clips.")  # fmt: skip
@click.option("--frames", type=click.IntRange(1, 1000), help="Of a clip; the model's by default.")
@options.sampling(guidance=1.0)
@options.machine
@options.overwrite
@options.talk
def command(
    dst: str,
    model: str | None,
    name: str | None,
    count: int,
    frames: int | None,
    device: str,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
    **how: Any,
) -> None:
    """Make up clips from nothing, into OUT: a video of all of them side by side, or a picture with
    a row for each."""
    from ..generate import clips, start

    clips.check_output_of(dst)
    check_output(dst, overwrite)
    imaginer = start(model, device, threads)
    names = [name] if name is not None else imaginer.classes
    labels = [imaginer.label(names[i % len(names)]) for i in range(count)]
    found = clips.generate(imaginer, labels, frames, **how)
    clips.write_clips(dst, [imaginer.frames_of(clip) for clip in found], overwrite)
    if not quiet:
        width, height = imaginer.size
        click.echo(
            f"{printable(dst)}: {count} clips of {found.shape[2]} frames of {width}x{height}"
        )
