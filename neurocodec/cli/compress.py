from __future__ import annotations

from typing import Any

import click

from ..files import STDOUT
from . import options, print_json, printable


@click.command()
@click.argument("src", metavar="IN")
@click.argument("dst", metavar="OUT")
@click.option(
    "-q",
    "--quality",
    type=click.IntRange(0, 100),
    default=50,
    show_default=True,
    help="Larger is better and bigger.",
)
@click.option("--bitrate", type=float, metavar="KBPS", help="Of the pictures, instead of -q.")
@click.option(
    "--target-size",
    type=options.SIZE,
    metavar="BYTES",
    help="Of the file, as 800k or 25M, instead of -q.",
)
@click.option("--psnr", type=float, metavar="DB", help="(6 Y + U + V) / 8, instead of -q.")
@options.model
@click.option(
    "--gop",
    type=int,
    metavar="N",
    help="Frames between points where decoding can begin, at most; best is 8 n + 1.  "
    "[default: about 4 seconds]",
)
@click.option(
    "--effort",
    type=click.Choice(["fast", "medium", "slow"]),
    default="medium",
    show_default=True,
    help="How hard to look for motion; slow also tries the lengths of mini-GOPs.",
)
@click.option(
    "--tune",
    type=click.Choice(["psnr", "balanced", "ms-ssim", "grain"]),
    help="How much more error restless regions may hide than still ones: none, a little, or what "
    "MS-SSIM likes best, with a model made for it; or a little, and noise kept that could be "
    "averaged away.  [default: balanced]",
)
@click.option(
    "--entropy",
    type=click.Choice(["generator", "adaptive"]),
    help="What codes the tokens.  [default: the model's generator, if it has one]",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 16),
    help="Of the generator's schedule: more are slower and, up to 8, a little smaller.  "
    "[default: 4]",
)
@click.option(
    "--audio",
    default="copy",
    show_default=True,
    metavar="copy|opus[:KBPS]|none",
    help="What becomes of the sound.",
)
@options.cut
@click.option(
    "--resume",
    is_flag=True,
    help="Go on where the same command stopped; keep what is done if this one stops.",
)
@options.machine
@options.jobs
@options.overwrite
@options.as_json
@options.talk
def command(src: str, dst: str, as_json: bool, quiet: bool, **chosen: Any) -> None:
    """Compress the video or picture IN into OUT, a .nc file ("-" for standard output)."""
    from ..codec.compress import compress

    with options.progress_bar(quiet) as progress:
        stats = compress(src, dst, progress=progress, **chosen)
    if as_json:
        print_json(stats.to_dict(), to_stderr=dst == STDOUT)
    elif not quiet and dst != STDOUT:
        click.echo(
            f"{printable(dst)}: {stats.frames} frames of {stats.width}x{stats.height}, "
            f"{stats.bytes} bytes, {stats.bits_per_pixel:.4f} bits per pixel, "
            f"{stats.fps:.1f} frames per second"
        )
