from __future__ import annotations

import click

from . import options, print_json


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--ref", metavar="FILE", help="Measure both against this; else B against A.")
@click.option("--out", metavar="PAGE.html", help="Write a page with curves and a slider.")
@click.option("--metrics", metavar="NAMES", help="By comma, instead of all that can be computed.")
@options.model
@click.option("--ffmpeg", metavar="PATH", help="Instead of the one of imageio-ffmpeg.")
@options.overwrite
@options.as_json
@options.talk
def command(
    a: str,
    b: str,
    ref: str | None,
    out: str | None,
    metrics: str | None,
    model: str | None,
    ffmpeg: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare two videos of the same size and length, .nc files or any other, frame by frame."""
    from ..bench.compare import compare
    from ..bench.metrics import METRICS
    from ..bench.tables import TITLES

    names = tuple(name.strip() for name in metrics.split(",")) if metrics else tuple(METRICS)
    found = compare(
        a, b, ref, metrics=names, page=out, model=model, ffmpeg=ffmpeg, overwrite=overwrite
    )
    if as_json:
        print_json(found.to_dict())
        return
    if quiet:
        return
    for name, quality in zip(found.names, found.qualities, strict=True):
        click.echo(f"{name} against {found.reference}, {found.frames} frames")
        for title in TITLES:
            if title.key in quality.means:
                value = f"{quality.means[title.key]:.{title.digits}f}"
                click.echo(f"  {title.title:10} {value:>9} {title.unit}".rstrip())
        for metric, why in quality.missing.items():
            click.echo(f"  {metric}: {why}")
    if out:
        click.echo(out)
