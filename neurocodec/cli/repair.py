from __future__ import annotations

import click

from ..errors import DamageError
from ..files import STDOUT
from . import options, print_json, printable


@click.command()
@click.argument("src", metavar="IN")
@click.argument("dst", metavar="OUT")
@options.overwrite
@options.as_json
@options.talk
def command(src: str, dst: str, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Copy what is whole of the .nc file IN to OUT ("-" for standard output), with a new index."""
    from ..bitstream.repair import repair
    from ..files import same_file, writing

    if same_file(src, dst):
        raise click.UsageError(f"{src}: input and output are the same file")
    with writing(dst, overwrite) as file:
        done = repair(src, file)
    if as_json:
        print_json(done.to_dict(), to_stderr=dst == STDOUT)
    elif not quiet:
        for line in done.damage:
            click.echo(printable(line), err=dst == STDOUT)
        click.echo(
            f"{printable(dst)}: {done.gops} GOPs, {done.frames} frames, {done.bytes} bytes",
            err=dst == STDOUT,
        )
    if done.lost:
        raise DamageError(f"{src}: parts were lost: {done.damage[-1]}; the rest was copied")
