"""Find the compiled functions that a codec calls, for ``neurocodec/codec/kernels.txt``:

    python -m scripts.list_kernels > kernels.txt && mv kernels.txt neurocodec/codec/kernels.txt

Compresses and decompresses a short clip and a picture with the default model in every way that
calls other functions, with nothing compiled before, and prints each function with the types of its
arguments, what takes longest to compile first.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

EFFORTS = ("fast", "medium", "slow")


def types_as_text(types: tuple[Any, ...]) -> str:
    """As numba reads them."""
    text = re.sub(r"\bbool\b", "boolean", str(types))

    def array(found: re.Match[str]) -> str:
        kind, sides, layout = found.groups()
        return f"{kind}[{':, ' * (int(sides) - 1)}{'::1' if layout == 'C' else ':'}]"

    return re.sub(r"Array\((\w+), (\d), '([CA])', False, aligned=True\)", array, text)


def clip(frames: int) -> Iterator[Any]:
    """What moves, turns and flickers a little, so that nothing is left out."""
    import numpy as np
    from skimage import data, transform

    picture = transform.resize(data.astronaut(), (160, 208)) * 255
    noise = np.random.default_rng(0)
    for t in range(frames):
        moved = transform.rotate(
            np.roll(picture, 3 * t, 1), t / 2, mode="edge", preserve_range=True
        )
        moved = (moved + noise.normal(0, 2, moved.shape)).clip(0, 255).astype(np.uint8)
        half = moved[::2, ::2]
        yield moved[..., 0], half[..., 1].copy(), half[..., 2].copy()


def work(folder: Path, efforts: tuple[str, ...]) -> None:
    import neurocodec
    from neurocodec.bench.y4m import write_y4m
    from neurocodec.codec import plan

    plan.ENTROPY_PAYS = sys.maxsize  # all of it in this process, where it is seen

    write_y4m(folder / "clip.y4m", clip(19), Fraction(25))
    write_y4m(folder / "one.y4m", clip(1), Fraction(25))
    for effort in efforts:
        for name in ("clip", "one"):
            neurocodec.compress(
                folder / f"{name}.y4m", folder / "a.nc", effort=effort, device="cpu", overwrite=True
            )
            neurocodec.decompress(folder / "a.nc", folder / "a.y4m", device="cpu", overwrite=True)


def called() -> Iterator[str]:
    """Functions with types that this process has found in the cache: those that others call are
    parts of them there."""
    from numba.core.dispatcher import Dispatcher

    for name, module in list(sys.modules.items()):
        if name.startswith("neurocodec."):
            for key, value in vars(module).items():
                if isinstance(value, Dispatcher) and value.__module__ == name:
                    for types in value.stats.cache_hits:
                        yield f"{name.removeprefix('neurocodec.')}.{key} {types_as_text(types)}"


def seconds_of() -> dict[str, float]:
    """What it takes from now on to compile functions, by name; filled as they are."""
    from numba.core import event

    class Recorder(event.Listener):
        began: ClassVar[list[float]] = []

        def on_start(self, of: Any) -> None:
            self.began.append(time.perf_counter())

        def on_end(self, of: Any) -> None:
            function = of.data["dispatcher"].py_func
            name = f"{function.__module__}.{function.__qualname__}".removeprefix("neurocodec.")
            seconds[name] = seconds.get(name, 0) + time.perf_counter() - self.began.pop()

    seconds: dict[str, float] = {}
    event.register("numba:compile", Recorder())
    return seconds


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if arguments:  # what is found where all has been compiled
            work(Path(folder), tuple(arguments))
            print("\n".join(called()))
            return
        os.environ["NUMBA_CACHE_DIR"] = folder  # before numba is loaded
        from neurocodec.codec import kernels

        seconds, kernels._MOST = seconds_of(), 0
        work(Path(folder), EFFORTS)
        again = [sys.executable, "-m", "scripts.list_kernels", *EFFORTS]
        lines = subprocess.run(again, capture_output=True, text=True, check=True).stdout.split("\n")
    print("\n".join(sorted(filter(None, lines), key=lambda x: -seconds.get(x.split()[0], 0))))


if __name__ == "__main__":
    main(sys.argv[1:])
