from __future__ import annotations

from typing import Any

import click

from ..errors import DamageError
from . import options, print_json, printable


@click.command()
@click.argument("file")
@options.as_json
def command(file: str, as_json: bool) -> None:
    """Say what is in the .nc FILE, without decoding it."""
    from ..bitstream.describe import describe
    from ..bitstream.reader import Reader

    with Reader(file) as reader:
        facts = describe(reader)
        damage = reader.damage
    if as_json:
        print_json(facts)
    else:
        for key, value in facts.items():
            click.echo(f"{key.replace('_', ' '):18} {printable(_line(value))}")
    if damage:
        raise DamageError(f"{file}: damaged: {damage[0]}")


def _line(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_line(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)
