"""Options that several commands share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import click

from . import set_up_logging

Command = Callable[..., Any]


def _configure(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    flags = ctx.ensure_object(dict)
    flags[param.name] = value
    set_up_logging(flags.get("verbose", False), flags.get("quiet", False))
    return value


def talk(command: Command) -> Command:
    """-v and --quiet; the command is given ``quiet``."""
    command = click.option(
        "-v", "--verbose", is_flag=True, callback=_configure, expose_value=False, help="Say more."
    )(command)
    return click.option(
        "--quiet", is_flag=True, callback=_configure, help="Say nothing but errors."
    )(command)


class _Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, with k, M or G for powers of 1000."""

    name = "size"
    _UNITS: ClassVar = {"k": 1e3, "m": 1e6, "g": 1e9}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number, unit = (value[:-1], value[-1].lower()) if value[-1:].isalpha() else (value, "")
        try:
            return round(float(number) * (self._UNITS[unit] if unit else 1))
        except (KeyError, ValueError, OverflowError):
            self.fail(f"{value!r} is not a size, such as 250000, 800k or 25M", param, ctx)


SIZE = _Size()
device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the networks run.",
)


def machine(command: Command) -> Command:
    """--device and --threads."""
    threads = click.option(
        "--threads", type=click.IntRange(1), help="Processor threads of the networks."
    )
    return device(threads(command))


def sampling(guidance: float) -> Callable[[Command], Command]:
    """--steps, --guidance, --temperature and --seed, of ``generate.sample``."""

    def add(command: Command) -> Command:
        for option in (
            click.option("--seed", type=click.IntRange(0, 2**32), default=0, show_default=True,
                         help="The same gives the same tokens on any machine."),
            click.option("--temperature", type=click.FloatRange(0, 100), default=1.0,
                         show_default=True, help="Of what is settled first; falls to none."),
            click.option("--guidance", metavar="W", type=click.FloatRange(0, 100),
                         default=guidance, show_default=True,
                         help="Towards what sets the class apart."),
            click.option("--steps", type=click.IntRange(1, 1000), default=12, show_default=True,
                         help="In which the tokens are settled."),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


jobs = click.option(
    "--jobs",
    type=click.IntRange(1),
    help="GOPs at once, each in a process and wholly in memory.  [default: as many as pay]",
)


def cut(command: Command) -> Command:
    """--start and --duration, seconds."""
    command = click.option(
        "--duration", type=float, metavar="SECONDS", help="Length of the part to take."
    )(command)
    return click.option("--start", type=float, default=0.0, metavar="SECONDS", help="Begin there.")(
        command
    )


model = click.option(
    "--model",
    metavar="NAME|PATH",
    help="Model bundle, or fast, default or best; see 'models list'.",
)
overwrite = click.option("-y", "--overwrite", is_flag=True, help="Overwrite the output.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """A tqdm bar of frames on a terminal; None elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    logger = logging.getLogger("neurocodec")
    with (
        tqdm(unit=" frames", file=sys.stderr, dynamic_ncols=True) as bar,
        logging_redirect_tqdm([logger]),  # notices above the bar
    ):

        def update(done: int, expected: int | None) -> None:
            bar.total = max(expected, done) if expected else None
            bar.update(done - bar.n)

        yield update
