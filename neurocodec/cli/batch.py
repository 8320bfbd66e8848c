from __future__ import annotations

from pathlib import Path

import click

from ..errors import Error, UsageError
from . import options, print_json, printable

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("src_dir", type=_FOLDER)
@click.argument("dst_dir", type=_FOLDER)
@click.argument("compress_options", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--jobs", type=click.IntRange(1), help="Files at once: 1, or what a cluster has room for."
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Ray cluster that does it, or 'local' for one here: pip install 'neurocodec[ray]'.",
)
@options.as_json
@options.talk
def command(
    src_dir: Path,
    dst_dir: Path,
    compress_options: tuple[str, ...],
    jobs: int | None,
    ray: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compress all videos below SRC_DIR into DST_DIR, as NAME.mp4.nc. Options that are not listed
    here are those of 'compress'.

    What is in DST_DIR already, and not older than its source, stays: after an interrupt, give the
    same command to go on."""
    from ..codec.batch import batch

    if str(src_dir).startswith("-"):
        raise UsageError(f"{src_dir}: give SRC_DIR and DST_DIR before the options of compress")

    def say(path: str, failure: str) -> None:
        if failure:
            click.echo(f"neurocodec: {printable(path)}: {printable(failure)}", err=True)
        elif not quiet and not as_json:
            click.echo(printable(path))

    report = batch(src_dir, dst_dir, compress_options, jobs, say, ray)
    if as_json:
        print_json(report.to_dict())
    elif not quiet:
        click.echo(f"{len(report.done)} compressed, {len(report.there)} there already")
    if report.failed:
        count = len(report.failed) + len(report.done) + len(report.there)
        raise Error(f"{len(report.failed)} of {count} files failed")
