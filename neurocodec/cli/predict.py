from __future__ import annotations

from typing import Any

import click

from ..errors import UsageError, printable
from ..files import check_output
from . import options


@click.command()
@click.argument("src", metavar="IN")
@click.argument("dst", metavar="OUT")
@options.model
@click.option("--frames", type=click.IntRange(1, 1000), help="To imagine; the model's by default.")
@click.option("--given", type=click.IntRange(1), help="First frames that are seen, 1 + 4 n: 5.")
@click.option("--interpolate", is_flag=True, help="Between the first frame and the last four.")
@click.option("--inpaint", metavar="MASK.png|X,Y,W,H", help="A region of all frames.")
@click.option("--outpaint", is_flag=True, help="Around the clip, which shrinks to half its size.")
@click.option("--class", "name", metavar="NAME", help="Of the clip, if it is known.")
@options.sampling(guidance=0.0)
@options.machine
@options.overwrite
@options.talk
def command(
    src: str,
    dst: str,
    model: str | None,
    frames: int | None,
    given: int | None,
    interpolate: bool,
    inpaint: str | None,
    outpaint: bool,
    name: str | None,
    device: str,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
    **how: Any,
) -> None:
    """Imagine what follows the first frames of the video IN, or a part of it, into OUT.

    The video is reduced to the size that the model knows. What is not imagined is as in IN.
    """
    from ..generate import clips, start

    if sum((interpolate, inpaint is not None, outpaint)) > 1:
        raise UsageError("give one of --interpolate, --inpaint, --outpaint")
    inside = interpolate or inpaint is not None or outpaint
    if inside and (frames is not None or given is not None):
        raise UsageError("--frames and --given: only for what follows a clip")
    clips.check_output_of(dst)
    check_output(dst, overwrite)
    imaginer = start(model, device, threads)
    label = imaginer.label(name)
    given = given or imaginer.given
    region = None if inpaint is None else clips.read_region(inpaint, imaginer.size)
    clip, info = clips.read_clip(src, imaginer.size, imaginer.frames if inside else given)
    if interpolate:
        found = clips.interpolate(imaginer, clip, label, **how)
    elif region is not None:
        found = clips.inpaint(imaginer, clip, label, region, **how)
    elif outpaint:
        found = clips.outpaint(imaginer, clip, label, **how)
    else:
        frames = frames or imaginer.frames - given
        found = clips.predict(imaginer, clip, label, frames, given, **how)
    clips.write_clips(dst, [imaginer.frames_of(found.planes)], overwrite, info)
    if not quiet:
        first, last = found.imagined[0], found.imagined[-1]
        click.echo(
            f"{printable(dst)}: {found.planes.shape[1]} frames, {first} to {last} imagined"
            + (" in part" if region is not None or outpaint else "")
        )
