"""Kill, starve and crowd the program, and look at what it leaves.

    python -m scripts.interrupt kill [--count 100] kill -9 when a random share is written
    python -m scripts.interrupt full                    a disk that fills up (a tmpfs; as root)
    python -m scripts.interrupt crowd                   eight processes, one folder; two, one target

Works with a tiny model and a clip that are made on the spot. Prints what happened; exit status 1
where a file of a final name is not whole, an error is not one line, or something is left over.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

import neurocodec
from neurocodec import models
from tests.conftest import tiny_motion_tokenizer
from tests.media.clips import Sound, write_clip

RUN = [sys.executable, "-m", "neurocodec"]
FRAMES, GOP = 24, 3


class Bench:
    """A folder with a clip, a model, and the file that an undisturbed compression gives."""

    def __init__(self, folder: Path, frames: int = FRAMES) -> None:
        self.folder, self.model = folder, folder / "tiny.safetensors"
        tokenizer = tiny_motion_tokenizer()
        shapes = models.prior_shapes(tokenizer.config)
        prior: models.Prior = {name: np.zeros(shape, np.uint8) for name, shape in shapes.items()}
        models.write_bundle(self.model, "tiny", tokenizer, prior, {})
        self.clip = write_clip(folder / "clip.mkv", frames, sounds=[Sound("aac", frames / 25)])
        self.whole = folder / "whole.nc"
        neurocodec.compress(self.clip, self.whole, model=str(self.model), gop=GOP, effort="fast")
        self.bytes = self.whole.read_bytes()
        self.out = folder / "out"
        self.out.mkdir()

    def compress(self, target: Path, *options: str) -> list[str]:
        arguments = [str(self.clip), str(target), "--model", str(self.model), "--gop", str(GOP)]
        arguments += ["--effort", "fast"]
        return [*RUN, "compress", *arguments, *options]

    def decompress(self, target: Path, *options: str) -> list[str]:
        arguments = [str(self.whole), str(target), "--model", str(self.model)]
        return [*RUN, "decompress", *arguments, *options]

    def left(self) -> list[str]:
        return sorted(path.name for path in self.out.iterdir())


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def kill_at(process: subprocess.Popen[str], folder: Path, least: int) -> None:
    """kill -9 as soon as what it writes in a folder has so many bytes, if it has not ended."""
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
            if any(entry.stat().st_size >= least for entry in os.scandir(folder)):
                process.kill()
        time.sleep(0.001)


def kill(bench: Bench, count: int, seed: int) -> list[str]:
    """So many times, in turn, compress, compress --resume and decompress (to .y4m, which grows as
    it is decoded) are killed when their file has a random share of its bytes, now and then as soon
    as it is there. What has the final name must be whole; the next run, undisturbed, has to give
    what one without a break gives, and leave nothing else."""
    dice, wrong, seen = random.Random(seed), [], Counter[str]()
    out = bench.out
    tasks = [
        ("compress", bench.compress(out / "a.nc")),
        ("compress --resume", bench.compress(out / "a.nc", "--resume", "-v")),
        ("decompress", bench.decompress(out / "a.y4m")),
    ]
    expected: dict[str, bytes] = {}
    for name, arguments in tasks:
        subprocess.run(arguments, check=True, capture_output=True)
        (target,) = out.iterdir()
        expected[name] = target.read_bytes()
        target.unlink()
    for number in range(count):
        name, arguments = tasks[number % len(tasks)]
        whole = expected[name]
        process = start(arguments)
        kill_at(process, out, int(max(0, dice.uniform(-0.1, 1)) * len(whole)))
        process.communicate()
        parts = [path.stat().st_size for path in out.iterdir() if path.suffix == ".part"]
        done = len(parts) < len(bench.left())
        if done and any(p.read_bytes() != whole for p in out.iterdir() if p.suffix != ".part"):
            wrong.append(f"{name}: not whole")
        seen[f"{name}: {'done' if done else 'half-written' if any(parts) else 'begun'}"] += 1
        again = subprocess.run([*arguments, "-y"], capture_output=True, text=True)
        found = [path for path in out.iterdir() if path.suffix != ".part"]
        if again.returncode or bench.left() != [p.name for p in found] or len(found) != 1:
            wrong.append(f"{name}: {again.stderr.strip()} {bench.left()}")
        elif found[0].read_bytes() != whole:
            wrong.append(f"{name}: {found[0].name} differs")
        seen[f"{name}: gone on with"] += "going on after" in again.stderr
        for path in out.iterdir():
            path.unlink()
    print(dict(sorted((what, times) for what, times in seen.items() if times)))
    return wrong


def full(bench: Bench) -> list[str]:
    """A tmpfs with room for so many KiB is the target's disk."""
    wrong = []
    disk = bench.folder / "disk"
    disk.mkdir()
    for room in (4, 12):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={room}k", "tmpfs", str(disk)]
        subprocess.run(mount, check=True)
        try:
            for arguments in (
                bench.compress(disk / "a.nc"), bench.decompress(disk / "a.mkv"),
                bench.decompress(disk / "a.mp4"), bench.decompress(disk / "a.webm"),
                bench.decompress(disk / "a.y4m"), bench.decompress(disk / "a.png"),
                [*RUN, "repair", str(bench.whole), str(disk / "a.nc")],
            ):  # fmt: skip
                ended = subprocess.run(arguments, capture_output=True, text=True)
                fits = ended.returncode == 0
                lines = [line for line in ended.stderr.splitlines() if "error" in line]
                told = len(lines) == 1 and "no space left" in lines[0].lower()
                one = ended.returncode == 4 and told
                names = [path.name for path in disk.iterdir()]
                print(f"{room:3} KiB: {arguments[3]} {Path(arguments[5]).suffix}: "
                      f"{ended.returncode} {ended.stderr.strip()}")  # fmt: skip
                if not (fits or one) or bool(names) != fits:
                    wrong.append(f"{room} KiB: {arguments[3:6]}: {ended.stderr} {names}")
                for path in disk.iterdir():
                    path.unlink()
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return wrong


def crowd(bench: Bench, several: int = 8) -> list[str]:
    """several processes with a target each, then two with the same, without and with -y."""
    wrong = []
    running = [start(bench.compress(bench.out / f"{i}.nc")) for i in range(several)]
    for i, process in enumerate(running):
        _, errors = process.communicate()
        if process.returncode or (bench.out / f"{i}.nc").read_bytes() != bench.bytes:
            wrong.append(f"process {i} of {several}: {process.returncode} {errors}")
    print(f"{several} processes in one folder: {several - len(wrong)} whole files")
    expected = [f"{i}.nc" for i in range(several)]
    for options in ((), ("-y",), ("--resume",)):
        target = bench.out / "one.nc"
        target.unlink(missing_ok=True)
        both = [start(bench.compress(target, *options)) for _ in range(2)]
        ended = [(process.communicate()[1].strip(), process.returncode) for process in both]
        statuses = sorted(status for _, status in ended)
        print(f"two on one target {' '.join(options)}: {sorted(ended, key=lambda e: e[1])}")
        whole = target.read_bytes() == bench.bytes
        if not whole or statuses not in ([0, 4], [0, 0] if options == ("-y",) else []):
            wrong.append(f"two on one target {options}: {ended}")
    if bench.left() != [*expected, "one.nc"]:
        wrong.append(f"left: {bench.left()}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["kill", "full", "crowd"])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tests: dict[str, Callable[[Bench], list[str]]] = {
        "kill": lambda bench: kill(bench, options.count, options.seed),
        "full": full,
        "crowd": crowd,
    }
    with tempfile.TemporaryDirectory() as folder:
        wrong = tests[options.what](Bench(Path(folder)))
    print(*wrong or ["nothing wrong"], sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
