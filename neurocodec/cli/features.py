from __future__ import annotations

import click

from ..errors import printable
from ..files import check_output
from . import options


@click.command()
@click.argument("src", metavar="IN")
@click.option("-o", "--out", "dst", metavar="OUT.npz", required=True, help="File to write.")
@options.model
@click.option("--frames", type=click.IntRange(1), help="At most so many; all by default.")
@options.machine
@options.overwrite
@options.talk
def command(
    src: str,
    dst: str,
    model: str | None,
    frames: int | None,
    device: str,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Tokens of the video IN and what the generator makes of them, for each cell, into OUT.npz.

    Arrays, window after window: tokens (W, T, h, w); embeddings and features (W, T, h, w, D).
    """
    from ..generate import clips, start
    from ..generate.features import features, save

    check_output(dst, overwrite)
    imaginer = start(model, device, threads)
    clip, _ = clips.read_clip(src, imaginer.size, frames)
    found = features(imaginer, clip)
    save(found, dst, overwrite)
    if not quiet:
        windows, t, h, w = found.tokens.shape
        click.echo(f"{printable(dst)}: {windows} windows of {t}x{h}x{w} cells")
