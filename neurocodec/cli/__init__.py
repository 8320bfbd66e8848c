"""The command line: parsing and printing, no logic. One file a command."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
from typing import Any, NoReturn

import click

from .. import __version__
from ..errors import Error, OutputError, UsageError
from ..errors import printable as printable
from ..threads import quieten

INTERRUPTED = 130
_COMMANDS = {
    "compress": "Compress a video or picture into a .nc file.",
    "decompress": "Decode a .nc file into an ordinary media file.",
    "batch": "Compress all videos of a folder.",
    "info": "Say what is in a .nc file.",
    "verify": "Check that a .nc file is undamaged and decodes.",
    "repair": "Copy what is whole of a damaged .nc file, with a new index.",
    "models": "List, show and export model bundles.",
    "demo": "Make a short clip, compress it, decode it, show the result.",
    "train": "Train tokenizers and generators.",
    "bench": "Compare with other codecs, and measure speed.",
    "compare": "Compare two videos, frame by frame.",
    "generate": "Make up clips from nothing.",
    "predict": "Imagine how a video goes on, or a part of it.",
    "features": "Tokens of a video, and what the generator makes of them.",
}


class Lazy(click.Group):
    """Imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        from importlib import import_module

        module = import_module(f".{cmd_name}", __name__)
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="neurocodec")
def main() -> None:
    """A neural video codec: ordinary video in, a small file out, and back.

    \b
    neurocodec compress in.mp4 out.nc
    neurocodec decompress out.nc back.mp4
    """


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = printable(record.getMessage())
        return f"neurocodec: {text}" if record.levelno >= logging.WARNING else text


def set_up_logging(verbose: bool, quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logger = logging.getLogger("neurocodec")
    logger.handlers = [handler]
    logger.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    logging.getLogger("libav").setLevel(logging.CRITICAL)


def print_json(values: dict[str, Any], to_stderr: bool = False) -> None:
    click.echo(json.dumps(values, indent=2, ensure_ascii=True), err=to_stderr)


def fail(message: str, status: int) -> NoReturn:
    print("neurocodec: error:", printable(message), file=sys.stderr)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Exit, and let nothing more be said about a standard output that nobody reads."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not status:
            print("neurocodec: error: standard output cannot be written to", file=sys.stderr)
            status = OutputError.exit_status
    gc.freeze()  # looking at all that torch has loaded once more would take 0.4 s
    sys.exit(status)


def _say_interrupted() -> NoReturn:
    print("neurocodec: interrupted", file=sys.stderr)
    _leave(INTERRUPTED)


def run() -> None:
    """Entry point: errors become one line on stderr and an exit status, see ``errors.py``."""
    quieten()
    interrupted = False

    def interrupt(*_: object) -> NoReturn:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):  # nothing half-written is to be left by either
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        status = main.main(standalone_mode=False) or 0
    except (Error, click.ClickException) as error:
        fail(*_told(error))
    except click.exceptions.Exit as error:
        _leave(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _say_interrupted()
    except SystemExit:  # click's answer to a closed pipe
        fail("standard output: closed by its reader", OutputError.exit_status)
    except OSError as error:  # those of files are dealt with where they happen
        fail(f"standard output: {error.strerror or error}", OutputError.exit_status)
    except Exception as error:
        if interrupted:  # libraries being imported may turn it into an error of their own
            _say_interrupted()
        if logging.getLogger("neurocodec").isEnabledFor(logging.INFO):
            raise
        fail(*_told(error))
    _leave(status)


def call(arguments: list[str]) -> tuple[int, str]:
    """A command within this process: its exit status, and the line that says why it failed."""
    try:
        return main.main(arguments, standalone_mode=False) or 0, ""
    except click.exceptions.Exit as error:
        return error.exit_code, ""
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    except Exception as error:
        line, status = _told(error)
        return status, printable(line)


def _told(error: Exception) -> tuple[str, int]:
    """What is said of an exception, and the exit status."""
    if isinstance(error, Error):
        return str(error), error.exit_status
    if isinstance(error, click.ClickException):
        return error.format_message(), UsageError.exit_status
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return "out of memory", Error.exit_status
    return f"a fault of the program: {text} (-v shows where)", Error.exit_status
