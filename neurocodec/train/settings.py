"""Configurations of runs as TOML, and the environment they ran in."""

from __future__ import annotations

import dataclasses
import platform
import tomllib
from importlib import metadata, resources
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
import torch

from .. import __version__
from ..errors import InputError, UsageError
from .ranks import current

T = TypeVar("T")
_RECIPES = resources.files(__package__) / "recipes"
_LIBRARIES = ("torch", "numpy", "av", "opencv-python-headless")


def to_toml(config: Any) -> str:
    """A configuration, a dataclass of plain values, as TOML."""
    return tomli_w.dumps(dataclasses.asdict(config))


def recipes() -> list[str]:
    """Names of those that come with the package."""
    return sorted(p.name.removesuffix(".toml") for p in _RECIPES.iterdir()
                  if p.name.endswith(".toml"))  # fmt: skip


def read_recipe(name: str) -> dict[str, Any]:
    """What a TOML file says, or a recipe of the package by its name. Raises InputError."""
    try:
        if name.endswith(".toml"):
            text = Path(name).read_text(encoding="utf-8")
        elif name in recipes():
            text = (_RECIPES / f"{name}.toml").read_text(encoding="utf-8")
        else:
            raise InputError(f"recipe {name!r}: give a .toml file or one of {', '.join(recipes())}")
        return tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: not TOML: {error}") from None


def parse_assignments(assignments: tuple[str, ...]) -> dict[str, Any]:
    """Settings as on the command line, ``name=value``, the value as in TOML or a bare word. Raises
    UsageError."""
    found = {}
    for text in assignments:
        name, sign, value = text.partition("=")
        if not (sign and name.strip()):
            raise UsageError(f"--set {text}: give NAME=VALUE")
        try:
            found[name.strip()] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            found[name.strip()] = value.strip()
    return found


def build(kind: type[T], values: dict[str, Any]) -> T:
    """A configuration, from what a recipe and the command line give. Whole numbers may stand for
    others. Raises UsageError for an unknown name or a value of another type."""
    fields = {f.name: type(f.default) for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in fields:
            raise UsageError(f"{name}: no such setting; there are {', '.join(fields)}")
        fits = type(value) is fields[name] or (fields[name] is float and type(value) is int)
        if not fits:
            raise UsageError(f"{name} = {value!r}: give a value of type {fields[name].__name__}")
    return kind(**{k: float(v) if fields[k] is float else v for k, v in values.items()})


def environment(device: torch.device) -> dict[str, Any]:
    """What a run depends on beside its configuration: versions, machine, processes."""
    return {
        "neurocodec": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "ranks": current().size,
        **{name: metadata.version(name) for name in _LIBRARIES},
    }


def _processor() -> str:
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
