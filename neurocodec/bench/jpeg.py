"""The first frame of a y4m file to a JPEG:  python -m neurocodec.bench.jpeg IN.y4m QUALITY OUT.jpg

Chroma is doubled for Pillow and averaged by libjpeg, which gives back the samples it had.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from .y4m import open_y4m, with_whole_chroma


def write_jpeg(source: Path, quality: int, target: Path) -> None:
    planes = with_whole_chroma(open_y4m(source).frame(0))
    picture = Image.merge("YCbCr", [Image.fromarray(plane) for plane in planes])
    picture.save(
        target, "JPEG", quality=quality, subsampling="4:2:0", optimize=True, progressive=True
    )


if __name__ == "__main__":
    write_jpeg(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
