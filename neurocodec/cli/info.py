from __future__ import annotations

import click

from . import options, print_json


@click.command()
@click.argument("file")
@options.as_json
def command(file: str, as_json: bool) -> None:
    """Say what is in the .nc FILE, without decoding it."""
    from ..bitstream.describe import describe
    from ..bitstream.reader import Reader
    from ..models import printable

    with Reader(file) as reader:
        facts = describe(reader)
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        if isinstance(value, list):
            value = "; ".join(", ".join(f"{k} {v}" for k, v in item.items()) for item in value)
        elif isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        click.echo(f"{key.replace('_', ' '):18} {printable(str(value))}")
