"""Hostile files through the reader, guided by what code they reach (atheris, which is libFuzzer).

    pip install atheris
    python -m scripts.fuzz_coverage CORPUS [-max_total_time=300] [other options of libFuzzer]

Starts from the golden files and what is in the folder CORPUS, where it puts those that reach new
code. Half of its mutations are those of scripts/fuzz.py, which keep checksums and index right. An
exception other than the program's own ends it and leaves the file in the working folder.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["neurocodec.bitstream"]):
    import neurocodec.bitstream.describe
    import neurocodec.bitstream.reader  # noqa: F401

from neurocodec.errors import Error
from scripts.fuzz import GOLDEN, read
from tests.mutations import mutate

WHOLE = [path.read_bytes() for path in sorted(GOLDEN.rglob("*.nc"))]
MAX_BYTES = 1 << 16


def main() -> None:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.nc"

        def one(data: bytes) -> None:
            path.write_bytes(data)
            with contextlib.suppress(Error):
                read(path)

        def mutation(data: bytes, size: int, seed: int) -> bytes:
            random = Random(seed)
            if random.random() < 0.5:
                return atheris.Mutate(data, size)
            return mutate(data, WHOLE, random)[:size]

        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        for number, data in enumerate(WHOLE):
            (seeds / f"{number}.nc").write_bytes(data)
        options = [f"-max_len={MAX_BYTES}", "-timeout=10", "-rss_limit_mb=1024", str(seeds)]
        atheris.Setup([*sys.argv, *options], one, custom_mutator=mutation)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
