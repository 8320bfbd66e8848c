from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import Error
from . import options, print_json

_FOLDER = click.Path(path_type=Path, file_okay=False)
_ffmpeg = click.option("--ffmpeg", metavar="PATH", help="Instead of the one of imageio-ffmpeg.")


@click.group(short_help="Compare with other codecs, and measure speed.")
def command() -> None:
    """Rate-distortion curves against H.264, HEVC, VVC and AV1, and speed."""


@command.command()
@click.argument("suite", type=click.Path(path_type=Path))
@click.option("--out", type=_FOLDER, required=True, help="Folder of the results.")
@click.option(
    "--codecs",
    metavar="NAMES",
    multiple=True,
    help="Only these of the suite, by comma or given again; else all.",
)
@click.option("--root", type=_FOLDER, help="Folder of the clips, instead of the suite's.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Codecs and clips at once; times are then not those of a codec alone.",
)
@_ffmpeg
@options.talk
def run(
    suite: Path,
    out: Path,
    codecs: tuple[str, ...],
    root: Path | None,
    jobs: int,
    ffmpeg: str | None,
    quiet: bool,
) -> None:
    """Run SUITE.toml. What is in the folder already is not run again: after an interrupt, give the
    same command to go on."""
    from ..bench.run import failures, run_suite
    from ..bench.suite import read_suite

    results = run_suite(
        read_suite(suite, root), out, only=codecs, jobs=jobs, ffmpeg=ffmpeg,
        notify=(lambda line: None) if quiet else click.echo,
    )  # fmt: skip
    failed = failures(results)
    if failed:
        more = f" (and {len(failed) - 1} more, see {out / 'run.json'})" if len(failed) > 1 else ""
        raise Error(f"{failed[0]}{more}")


@command.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--pictures",
    type=click.FloatRange(0),
    default=6.0,
    show_default=True,
    metavar="MB",
    help="Most that decoded frames may add to the page.",
)
@options.talk
def report(folder: Path, pictures: float, quiet: bool) -> None:
    """Tables, curves and a page for a browser from the results in FOLDER, written there."""
    from ..bench.report import write_report

    for path in write_report(folder, round(pictures * 1e6)):
        if not quiet:
            click.echo(path)


@command.command()
@click.option(
    "--sizes",
    default="320x180,640x360,1280x720",
    show_default=True,
    metavar="WxH,...",
    help="Of the made-up clip.",
)
@click.option("--frames", type=click.IntRange(2), default=33, show_default=True)
@click.option("-q", "--quality", type=click.IntRange(0, 100), default=50, show_default=True)
@options.model
@_ffmpeg
@options.as_json
@options.talk
def speed(
    sizes: str,
    frames: int,
    quality: int,
    model: str | None,
    ffmpeg: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Frames per second, memory and start-up of encoding and decoding, beside x265, VVenC and,
    where it is installed, a model of CompressAI; time by stage; and how near the networks come to
    what the machine can do."""
    from ..bench.speed import markdown, measure_speed, parse_sizes

    found = measure_speed(
        parse_sizes(sizes), frames, quality=quality, model=model, ffmpeg=ffmpeg,
        notify=lambda line: None if quiet else click.echo(line, err=True),
    )  # fmt: skip
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(markdown(found))


@command.command()
@options.model
@click.option("--each", type=click.IntRange(2), default=16, show_default=True,
              help="Clips of each class.")  # fmt: skip
@click.option("--data", type=_FOLDER, help="Real clips, in a folder for each class.")
@options.sampling(guidance=1.0)
@options.machine
@options.as_json
@options.talk
def generation(
    model: str | None,
    each: int,
    data: Path | None,
    device: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    **how: Any,
) -> None:
    """Generated clips against real ones: Frechet distance, precision and recall, whether classes
    are recognised, use of the codes. Needs pip install 'neurocodec[train]'."""
    from ..bench.generation import markdown, measure_generation
    from ..generate import start

    found = measure_generation(
        start(model, device, threads), each, data,
        lambda line: None if quiet else click.echo(line, err=True), **how,
    )  # fmt: skip
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(markdown(found))
