from __future__ import annotations

import click

from ..errors import DamageError
from . import options, print_json, printable


@click.command()
@click.argument("file")
@options.model
@click.option("--tokens", is_flag=True, help="Print a hash of the decoded tokens of each GOP.")
@options.as_json
@options.talk
def command(file: str, model: str | None, tokens: bool, as_json: bool, quiet: bool) -> None:
    """Check every section of the .nc FILE; with --tokens decode them and print their hashes."""
    from ..codec.verify import verify

    report = verify(file, model, tokens)
    if as_json:
        print_json(report.to_dict())
    elif not quiet:
        for number, digest in report.tokens.items():
            click.echo(f"GOP {number}: {digest}")
        if not report.damage:
            click.echo(f"{printable(file)}: {report.gops} GOPs, {report.frames} frames, undamaged")
    if report.damage:
        for line in report.damage[1:] if not quiet else []:
            click.echo(printable(line))
        raise DamageError(f"{file}: damaged: {report.damage[0]}")
