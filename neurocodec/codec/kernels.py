"""Compiled functions made side by side, before the first of them is called on a machine.

numba compiles a function when it is called, one after the other, which takes most of a minute.
``kernels.txt`` has those of a codec, with the types of their arguments, what takes longest first
(``scripts/list_kernels.py`` finds them): processes compile a share of them each, and whoever calls
them finds them in numba's cache. A function that is not in it is compiled when it is called.

    python -m neurocodec.codec.kernels SHARE SHARES
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding
from numba.core.sigutils import normalize_signature

from ..compiled import notice
from ..files import locked
from ..threads import free_memory, processors
from ..vectors import product
from .child import environment

LIST = Path(__file__).with_suffix(".txt")
_PACKAGE = LIST.parents[1]
_BYTES, _MOST = 400 << 20, 8  # of memory of a process; processes


def listed() -> list[tuple[str, str]]:
    """Functions, as ``tokenizer.winograd._convolve``, and types of their arguments."""
    lines = LIST.read_text(encoding="ascii").splitlines()
    return [(name, types) for name, _, types in (line.partition(" ") for line in lines)]


@contextlib.contextmanager
def made_ready() -> Iterator[None]:
    """When this is left, all that are listed are in the cache, if there are processors to compile
    them side by side, and a folder to keep them. Others who ask for them meanwhile wait."""
    shares = min(processors(), free_memory() // 2 // _BYTES, _MOST)
    folder = folder_of_cache()
    if shares < 2 or folder is None or (mark := folder / f"kernels-{_state()}").exists():
        yield
        return
    with locked(folder / "kernels.lock"):
        children = []
        if not mark.exists():
            notice.give()
            children = [_start(share, shares) for share in range(shares)]
        try:
            yield
            if min((child.wait() for child in children), default=0) >= 0:  # none was killed
                with contextlib.suppress(OSError):
                    mark.touch()
        finally:
            for child in children:
                child.kill()
                child.wait()


def folder_of_cache() -> Path | None:
    """One where numba keeps what it has compiled; None where there is none."""
    folder: str | None = product.stats.cache_path  # type: ignore[attr-defined]
    return None if folder is None else Path(folder)


def _state() -> str:
    """Names what compiled functions depend on: their sources, compiler and processor."""
    modules = sorted({name.rpartition(".")[0].replace(".", "/") for name, _ in listed()})
    sources = [LIST, *(_PACKAGE / f"{module}.py" for module in (*modules, "compiled", "vectors"))]
    stamps = [(path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    machine = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    text = repr((numba.__version__, sys.version, machine, stamps))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _start(share: int, shares: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(share), str(shares)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment(), start_new_session=True,
    )  # fmt: skip


def share_of(share: int, shares: int) -> list[tuple[str, str]]:
    """Those of a process: first of the shares in turn, then last, so that they take as long."""
    turns = (share, 2 * shares - 1 - share)
    return [line for i, line in enumerate(listed()) if i % (2 * shares) in turns]


def types_of(text: str) -> tuple[Any, ...]:
    """As numba has them. In its cache a text of them would be something else."""
    arguments, _ = normalize_signature(text)
    return tuple(arguments)


def make(name: str, types: str) -> None:
    module, _, function = name.rpartition(".")
    getattr(import_module(f"neurocodec.{module}"), function).compile(types_of(types))


if __name__ == "__main__":
    for line in share_of(int(sys.argv[1]), int(sys.argv[2])):
        make(*line)
    os._exit(0)  # what has been loaded need not be taken apart
