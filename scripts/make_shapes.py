"""Write the made-up set of clips with classes, a folder for each class.

usage: python scripts/make_shapes.py FOLDER [COUNT [FIRST]]

COUNT clips a class, 150 by default, from number FIRST on: those from 100000 on are held out.
"""

import sys
from pathlib import Path

import av

from neurocodec.train.shapes import CLASSES, render


def main(folder: str, count: str = "150", first: str = "0") -> None:
    for name in CLASSES:
        place = Path(folder) / name
        place.mkdir(parents=True, exist_ok=True)
        for number in range(int(first), int(first) + int(count)):
            with av.open(str(place / f"{number:06}.mkv"), "w") as container:
                stream = container.add_stream("ffv1", rate=12)
                stream.width = stream.height = 64
                stream.pix_fmt = "yuv420p"
                stream.codec_context.color_range = 2
                for picture in render(name, number):
                    frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                    frame = frame.reformat(format="yuv420p", dst_colorspace=5, dst_color_range=2)
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))


if __name__ == "__main__":
    main(*sys.argv[1:])
