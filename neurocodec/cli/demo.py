from __future__ import annotations

from pathlib import Path

import click

from ..errors import OutputError
from . import options


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("neurocodec-demo"),
    show_default=True,
    help="Folder for the files.",
)
@click.option("-q", "--quality", type=click.IntRange(0, 100), default=50, show_default=True)
@options.device
@options.talk
def command(out: Path, quality: int, device: str, quiet: bool) -> None:
    """Make a short clip, compress it, decode it, show the result."""
    from ..demo import run_demo

    try:
        result = run_demo(out, quality, device)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}") from None
    if quiet:
        return
    e, d = result.encode, result.decode
    click.echo(
        f"clip        {e.frames} frames of {e.width}x{e.height}, {e.duration:.1f} s, with sound"
    )
    click.echo(f"source      {result.source.stat().st_size} bytes (H.264 and AAC)")
    click.echo(f"compressed  {e.bytes} bytes: video {e.video_bytes}, sound {e.audio_bytes}")
    video_bpp = 8 * e.video_bytes / (e.frames * e.width * e.height)
    click.echo(f"rate        {video_bpp:.4f} bits per pixel (video)")
    click.echo(
        f"PSNR        {result.quality.psnr:.2f} dB YUV (6:1:1), {result.quality.psnr_y:.2f} dB Y"
    )
    click.echo(f"speed       {e.fps:.1f} frames per second in, {d.fps:.1f} out")
    for path in (result.source, result.compressed, result.decoded, result.picture):
        click.echo(f"file        {path}")
