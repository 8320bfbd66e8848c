"""The command line: parsing and printing, no logic. One file a command."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

import click

from .. import __version__
from ..errors import Error

INTERRUPTED = 130
_COMMANDS = {
    "compress": "Compress a video or picture into a .nc file.",
    "decompress": "Decode a .nc file into an ordinary media file.",
    "info": "Say what is in a .nc file.",
    "verify": "Check that a .nc file is undamaged and decodes.",
    "models": "List and show model bundles.",
    "demo": "Make a short clip, compress it, decode it, show the result.",
    "train": "Train tokenizers and generators.",
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
        text = record.getMessage()
        return f"neurocodec: {text}" if record.levelno >= logging.WARNING else text


def set_up_logging(verbose: bool, quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logger = logging.getLogger("neurocodec")
    logger.handlers = [handler]
    logger.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    logging.getLogger("libav").setLevel(logging.CRITICAL)


def print_json(values: dict[str, Any]) -> None:
    click.echo(json.dumps(values, indent=2, ensure_ascii=True))


def fail(message: str, status: int) -> None:
    from ..models import printable

    print("neurocodec: error:", printable(message), file=sys.stderr)
    sys.exit(status)


def run() -> None:
    """Entry point: errors become one line on stderr and an exit status, see ``errors.py``."""
    try:
        sys.exit(main.main(standalone_mode=False) or 0)
    except Error as error:
        fail(str(error), error.exit_status)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("neurocodec: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        fail(error.format_message().replace("\n", " "), 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail("standard output was closed by its reader", 4)
    except MemoryError:
        fail("out of memory", 1)
