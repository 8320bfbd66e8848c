"""Hostile files through the reader, or through all of the decoder.

    python -m scripts.fuzz read --count 200000
    python -m scripts.fuzz decode --count 2000 [--keep FOLDER]
    python -m scripts.fuzz bundle --count 2000

Mutates the golden files, or the bundles that they are decoded with (tests/mutations.py), by a seed:
case number N of a seed is always the same file. A finding is an exception other than the program's
own, more than SECONDS of CPU for a file, or a resident set that reaches MEMORY; its file goes to
the folder of --keep. Prints counts of how the cases ended, and the largest figures. Exit status 1
if there was a finding.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import hashlib
import logging
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from neurocodec.bitstream.describe import describe
from neurocodec.bitstream.reader import Reader
from neurocodec.errors import Error
from neurocodec.models import read_bundle
from tests.mutations import assemble, mutate, mutate_bundle, pieces_of

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
SECONDS = 10.0
MEMORY = 1 << 30  # bytes
HANG = 120.0  # seconds by the clock after which the process ends itself, and says where it was
TARGETS = (".y4m", ".mkv", ".mp4", ".png", ".jpg", ".webm")
# what a file may claim here, so that the time that a case takes is bounded
MAX_PIXELS, MAX_FRAMES = 1 << 18, 100


def read(path: Path) -> str:
    """All that can be known of a file without a decoder."""
    with Reader(path) as reader:
        describe(reader)
        for gop in reader.gops:
            for _ in reader.audio_sections(gop):
                pass
            reader.read_gop(gop)
        return "damaged" if reader.damage else "whole"


def decode(path: Path, bundle: Path, suffix: str) -> str:
    from neurocodec.codec.decompress import decompress

    stats = decompress(
        path, path.with_suffix(suffix), model=str(bundle), device="cpu", overwrite=True,
        max_pixels=MAX_PIXELS, max_frames=MAX_FRAMES,
    )  # fmt: skip
    return "damaged" if stats.damage else "whole"


def decode_with(path: Path, bundle: Path, suffix: str) -> str:
    """Decode a whole file with a hostile bundle, by whose hash it asks for it."""
    header, *others = pieces_of(path.read_bytes())
    digest = hashlib.sha256(bundle.read_bytes()).digest()
    path.write_bytes(assemble([replace(header, payload=digest + header.payload[32:]), *others]))
    read_bundle(bundle).tokenizer()
    return decode(path, bundle, suffix)


def bundle_of(path: Path) -> Path:
    own = path.with_suffix(".safetensors")
    return own if own.exists() else path.parent / "tiny.safetensors"


def peak() -> int:
    """Bytes of the largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass
class Outcome:
    """ended: how many cases ended how. slowest: seconds of CPU of a case."""

    ended: collections.Counter[str]
    findings: list[str]
    slowest: float = 0.0


def run(what: str, cases: Iterable[int], seed: str, keep: Path | None = None) -> Outcome:
    """what: "read", "decode" or "bundle". keep: folder for the files of findings."""
    files = sorted(path for path in GOLDEN.rglob("*.nc") if bundle_of(path).exists())
    data = {path: path.read_bytes() for path in files}
    out = Outcome(collections.Counter(), [])
    with tempfile.TemporaryDirectory() as folder:
        path, bundle = Path(folder) / "case.nc", Path(folder) / "case.safetensors"
        for number in cases:
            generator = random.Random(f"{seed}/{number}")
            source, suffix = generator.choice(files), generator.choice(TARGETS)
            if what == "bundle":
                case = mutate_bundle(bundle_of(source).read_bytes(), generator)
                bundle.write_bytes(case)
                path.write_bytes(data[source])
            else:
                case = mutate(data[source], list(data.values()), generator)
                path.write_bytes(case)
            before, start = peak(), time.process_time()
            found = ""
            try:
                if what == "bundle":
                    end = decode_with(path, bundle, suffix)
                elif what == "decode":
                    end = decode(path, bundle_of(source), suffix)
                else:
                    end = read(path)
            except Error as error:
                end = type(error).__name__
            except Exception:
                end, found = "traceback", traceback.format_exc()
            took = time.process_time() - start
            out.slowest = max(out.slowest, took)
            if took > SECONDS:
                found += f"{took:.1f} s"
            if before < MEMORY <= peak():
                found += f"{peak() >> 20} MiB"
            out.ended[end] += 1
            if found:
                out.findings.append(f"case {number}, of {source.name} to {suffix}: {found}")
                print(out.findings[-1], flush=True)
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    kept = bundle.suffix if what == "bundle" else f"{suffix}.nc"
                    (keep / f"{what}-{seed}-{number}{kept}").write_bytes(case)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["read", "decode", "bundle"])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--keep", type=Path, help="folder for the files of findings")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    cases = range(options.first, options.first + options.count)
    out = run(options.what, watched(cases), options.seed, options.keep)
    print(f"{options.count} files in {time.monotonic() - began:.0f} s: {dict(out.ended)}; "
          f"slowest {out.slowest:.2f} s, memory at most {peak() >> 20} MiB")  # fmt: skip
    return int(bool(out.findings))


def watched(cases: Iterable[int]) -> Iterator[int]:
    """Ends the process, and says where it was, if a case takes longer than HANG."""
    for case in cases:
        faulthandler.dump_traceback_later(HANG, exit=True)
        yield case
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    sys.exit(main())
