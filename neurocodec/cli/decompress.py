from __future__ import annotations

from typing import Any

import click

from ..errors import DamageError, UsageError
from ..files import STDOUT
from . import options, print_json, printable


@click.command()
@click.argument("src", metavar="IN")
@click.argument("dst", metavar="OUT")
@options.model
@click.option("--lossless", is_flag=True, help="Write FFV1, to a .mkv.")
@click.option("--audio/--no-audio", default=True, help="Keep the sound.")
@click.option(
    "--conceal",
    type=click.Choice(["freeze", "grey", "generate"]),
    default="freeze",
    show_default=True,
    help="What is shown in place of lost frames.",
)
@click.option(
    "--imagine-with",
    metavar="NAME|PATH",
    help="Bundle for --conceal generate; tiny-gen by default.",
)
@click.option("--strict", is_flag=True, help="Refuse a damaged file instead of concealing.")
@click.option(
    "--max-pixels", type=click.IntRange(1), metavar="N", help="Refuse larger frames than that."
)
@click.option("--max-frames", type=click.IntRange(1), metavar="N", help="Refuse more frames.")
@options.cut
@options.machine
@options.jobs
@options.overwrite
@options.as_json
@options.talk
def command(
    src: str,
    dst: str,
    conceal: Any,
    imagine_with: str | None,
    as_json: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Decode the .nc file IN into OUT: .mp4 .mov .mkv .webm .y4m, .png or .jpg for one picture,
    or "-" for y4m on standard output, to pipe into a player."""
    from ..codec.decompress import decompress

    verb = {"freeze": "frozen", "grey": "grey", "generate": "imagined"}[conceal]
    if conceal == "generate":
        from ..generate import start
        from ..generate.conceal import Imagining

        conceal = Imagining(start(imagine_with, chosen["device"], chosen["threads"]))
    elif imagine_with is not None:
        raise UsageError("--imagine-with: only for --conceal generate")
    with options.progress_bar(quiet) as progress:
        stats = decompress(src, dst, conceal=conceal, progress=progress, **chosen)
    if as_json:
        print_json(stats.to_dict(), to_stderr=dst == STDOUT)
    elif not quiet and dst != STDOUT:
        click.echo(
            f"{printable(dst)}: {stats.frames} frames of {stats.width}x{stats.height}, "
            f"{stats.fps:.1f} frames per second"
        )
    if stats.damage:
        frozen = ""
        if stats.concealed:
            runs = ", ".join(f"{first} to {last}" for first, last in stats.concealed[:3])
            runs += ", ..." if len(stats.concealed) > 3 else ""
            frozen = f"; {stats.frozen_frames} frames are {verb}: {runs}"
        more = f" (and {len(stats.damage) - 1} more)" if len(stats.damage) > 1 else ""
        raise DamageError(f"{src}: damaged: {stats.damage[0]}{more}{frozen}; the rest was decoded")
