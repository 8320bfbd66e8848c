"""Decode the tokens of .nc files under many settings of the machine, and compare their hashes.

    python scripts/exactness.py FILE.nc... [--model BUNDLE] [--python OTHER_PYTHON]... [--short]

Settings: instruction sets that OpenBLAS (numpy's matrix products), oneDNN and torch may use, and
numbers of threads. --python: also with the interpreter of another environment, with other versions
of the libraries. Prints a table; exit status 1 if any two hashes differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

SETTINGS: list[dict[str, str]] = [
    {},
    {"OPENBLAS_CORETYPE": "Prescott"},
    {"OPENBLAS_CORETYPE": "Haswell"},
    {"OPENBLAS_CORETYPE": "SkylakeX"},
    {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX"},
    {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
]
SHORT = (0, 1, 4, 9)


def tokens(python: str, file: Path, model: str | None, setting: dict[str, str]) -> str:
    """Hashes of the tokens of all GOPs, or what went wrong."""
    command = [python, "-m", "neurocodec", "verify", "--tokens", "--json", str(file)]
    command += ["--model", model] if model else []
    done = subprocess.run(command, env=os.environ | setting, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip() or f"exit status {done.returncode}"
    return " ".join(json.loads(done.stdout)["tokens"].values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--short", action="store_true", help="fewer settings")
    options = parser.parse_args()
    settings = [SETTINGS[i] for i in SHORT] if options.short else SETTINGS
    runs = [(sys.executable, setting) for setting in settings]
    runs += [(python, {}) for python in options.python]
    failed = False
    for file in options.files:
        print(f"\n{file.name}\n\n| setting | tokens |\n|---|---|")
        first: str | None = None
        for python, setting in runs:
            found = tokens(python, file, options.model, setting)
            first = first or found
            failed |= found != first
            name = " ".join(f"{k}={v}" for k, v in setting.items())
            if not name:
                name = "as it is" if python == sys.executable else "another environment"
            mark = "" if found == first else " **differs**"
            print(f"| {name} | {found[:32]}{mark} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
