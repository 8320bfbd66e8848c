"""Decode the tokens of .nc files under many settings of the machine, and compare their hashes.

    python scripts/exactness.py FILE.nc... [--model BUNDLE] [--python OTHER_PYTHON]... [--short]

Settings: instruction sets that compiled loops, OpenBLAS (numpy's matrix products), oneDNN and torch
may use, and numbers of threads; by our products and, where it makes a difference, by torch's.
--python: also with the interpreter of another environment, with other versions of the libraries.
Prints a table; exit status 1 if any two hashes differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

# what numpy may do without, by the names of its versions
_FEATURES = "X86_V4 X86_V3" if np.__version__ >= "2.4" else "AVX512_SKX AVX512F AVX2 FMA3"
SETTINGS: list[dict[str, str]] = [
    {},
    {"OPENBLAS_CORETYPE": "Prescott"},
    {"OPENBLAS_CORETYPE": "Haswell"},
    {"OPENBLAS_CORETYPE": "SkylakeX"},
    {"NPY_DISABLE_CPU_FEATURES": _FEATURES},
    {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
]
SHORT = (0, 1, 4, 6, 9, 11)
_BY_TORCH = (
    "from neurocodec.entropy.integer import use_torch; use_torch(); "
    "from neurocodec.cli import main; main()"
)


def uses_torch(setting: dict[str, str]) -> tuple[bool, ...]:
    """Whether torch multiplies: both ways, but for what numpy alone heeds."""
    return (False,) if any(k.startswith(("OPENBLAS_C", "NPY_")) for k in setting) else (False, True)


def tokens(
    python: str, file: Path, model: str | None, setting: dict[str, str], by_torch: bool
) -> tuple[bool, str]:
    """Whether it worked, and hashes of the tokens of all GOPs, or what went wrong.

    A setting that a library does not know, of which numpy warns, is one that went wrong."""
    run = ["-c", _BY_TORCH] if by_torch else ["-m", "neurocodec"]
    command = [python, "-W", "error::ImportWarning", *run, "verify", "--tokens"]
    command += ["--json", str(file)] + (["--model", model] if model else [])
    done = subprocess.run(command, env=os.environ | setting, capture_output=True, text=True)
    if done.returncode:
        return False, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    hashes = json.loads(done.stdout)["tokens"].values()
    return bool(hashes), " ".join(hashes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--short", action="store_true", help="fewer settings")
    options = parser.parse_args()
    settings = [SETTINGS[i] for i in SHORT] if options.short else SETTINGS
    runs = [(sys.executable, setting, way) for setting in settings for way in uses_torch(setting)]
    runs += [(python, {}, way) for python in options.python for way in (False, True)]
    failed = False
    for file in options.files:
        print(f"\n{file.name}\n\n| setting | tokens |\n|---|---|")
        first: str | None = None
        for python, setting, by_torch in runs:
            worked, found = tokens(python, file, options.model, setting, by_torch)
            if worked and first is None:
                first = found
            same = worked and found == first
            failed |= not same
            name = " ".join(f"{k}={v}" for k, v in setting.items())
            if not name:
                name = "as it is" if python == sys.executable else "another environment"
            name += ", by torch" * by_torch
            print(f"| {name} | {found[:32] if worked else found}{'' if same else ' **differs**'} |",
                  flush=True)  # fmt: skip
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
