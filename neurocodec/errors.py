"""Every error a user can cause, and the exit status of the command line for each.

    Error                       1
    ├── UsageError              2   a bad option or combination of options
    ├── InputError              3   the input is missing or is not a video we can read
    │   └── DataError           3   a training folder without usable files
    ├── OutputError             4   the output exists, or cannot be written
    ├── FormatError             5   not a .nc file, or a damaged one
    │   └── VersionError        6   a .nc file of a newer format version
    ├── DivergenceError         1   a training run whose loss is not finite any more
    ├── ModelError              7   an unknown model, or a bundle that cannot be read
    │   └── ModelMismatchError  8   the file was made with another model bundle
    └── DamageError             9   decoded, but parts of the file were damaged

An interrupted command exits with 130.
"""

from __future__ import annotations


class Error(Exception):
    """Base of all errors raised on purpose. The message is one line, fit for a user."""

    exit_status = 1


class UsageError(Error):
    exit_status = 2


class InputError(Error):
    exit_status = 3


class DataError(InputError):
    pass


class OutputError(Error):
    exit_status = 4


class FormatError(Error):
    exit_status = 5


class VersionError(FormatError):
    exit_status = 6


class ModelError(Error):
    exit_status = 7


class ModelMismatchError(ModelError):
    exit_status = 8


class DivergenceError(Error):
    pass


class DamageError(Error):
    exit_status = 9


def printable(text: str) -> str:
    """Text from a file or a file name, fit for one line of a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
