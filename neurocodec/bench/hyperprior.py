"""A learned codec of pictures, for comparing speeds: the scale hyperprior of Balle et al. (ICLR
2018) as CompressAI has it, with random weights, frame by frame.

    python -m neurocodec.bench.hyperprior encode|decode IN OUT

What it writes is of no use, and takes other bits than trained weights would; the networks take as
long.
"""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Iterator
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .anchors import PYTHON, Codec, Dial
from .y4m import Planes, open_y4m, write_y4m

_UNIT = 64  # pixels: sides of pictures that the networks take
_QUALITY = 3  # of CompressAI's eight: 128 and 192 channels


class Hyperprior(Codec):
    dial = Dial("quality", 1, 8, (_QUALITY, _QUALITY))
    suffix = ".cai"

    def missing(self) -> str | None:
        found = importlib.util.find_spec("compressai")
        return None if found else "compressai is not installed"

    def encode(self, source: Path, value: float, stream: Path) -> list[str]:
        return [*PYTHON, __name__, "encode", str(source), str(stream)]

    def decode(self, stream: Path, target: Path) -> list[str]:
        return [*PYTHON, __name__, "decode", str(stream), str(target)]

    def identity(self) -> dict[str, str]:
        return {"compressai": metadata.version("compressai")}


def _model() -> Any:
    from compressai.zoo import bmshj2018_hyperprior

    model = bmshj2018_hyperprior(_QUALITY, "mse", pretrained=False).eval()
    model.update(force=True)
    return model


def main(direction: str, source: Path, target: Path) -> None:
    import torch

    torch.manual_seed(0)
    model = _model()

    def encoded() -> Iterator[Any]:
        for planes in clip:
            y, u, v = planes
            chroma = [p.repeat(2, 0).repeat(2, 1)[: y.shape[0], : y.shape[1]] for p in (u, v)]
            x = torch.from_numpy(np.stack([y, *chroma])).float()[None] / 255
            wide = [0, -x.shape[3] % _UNIT, 0, -x.shape[2] % _UNIT]
            yield model.compress(torch.nn.functional.pad(x, wide, mode="replicate"))

    def decoded() -> Iterator[Planes]:
        for code in codes:
            x = model.decompress(code["strings"], code["shape"])["x_hat"]
            x = x[0, :, : size[0], : size[1]].clamp(0, 1).mul(255).round().byte().numpy()
            yield x[0], x[1, ::2, ::2], x[2, ::2, ::2]

    with torch.inference_mode():
        if direction == "encode":
            clip = open_y4m(source)
            found = (clip.height, clip.width), str(clip.rate), list(encoded())
            target.write_bytes(pickle.dumps(found))
        else:
            size, rate, codes = pickle.loads(source.read_bytes())
            write_y4m(target, decoded(), Fraction(rate))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
