"""Compress clips at several qualities and print bits per pixel and PSNR as Markdown.

    python scripts/quality_table.py FOLDER_OR_FILES... [--qualities 10,50,90] [--json OUT]

Bits per pixel are of the real file, written without sound. PSNR-YUV is (6 Y + U + V) / 8, the mean
over all frames, in the source's own 8-bit 4:2:0 samples.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import neurocodec
from neurocodec.codec.compare import compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="+", type=Path)
    parser.add_argument("--qualities", default="10,50,90")
    parser.add_argument("--gop", type=int, default=65)
    parser.add_argument("--model")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    qualities = [int(q) for q in options.qualities.split(",")]
    clips = [
        path
        for given in options.inputs
        for path in (sorted(given.iterdir()) if given.is_dir() else [given])
    ]
    heads = " | ".join(f"q {q}" for q in qualities)
    print(f"| clip | frames | {heads} |\n|---|---|{'---|' * len(qualities)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for clip in clips:
            cells = []
            for quality in qualities:
                out = Path(folder) / "clip.nc"
                stats = neurocodec.compress(
                    clip, out, quality=quality, audio="none", gop=options.gop,
                    model=options.model, overwrite=True,
                )  # fmt: skip
                began = time.monotonic()
                found = compare(clip, out, options.model)
                decode_fps = found.frames / (time.monotonic() - began)
                rows.append(
                    {
                        "clip": clip.stem, "quality": quality, "frames": stats.frames,
                        "bytes": stats.bytes, "bpp": stats.bits_per_pixel, "psnr": found.psnr,
                        "psnr_y": found.psnr_y, "psnr_u": found.psnr_u, "psnr_v": found.psnr_v,
                        "encode_fps": stats.fps, "decode_fps": decode_fps,
                    }
                )  # fmt: skip
                cells.append(f"{found.psnr:.2f} dB @ {stats.bits_per_pixel:.4f}")
            print(f"| {clip.stem} | {stats.frames} | {' | '.join(cells)} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
