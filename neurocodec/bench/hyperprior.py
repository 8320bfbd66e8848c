"""A learned codec of pictures, for comparing speeds: the scale hyperprior of Balle et al. (ICLR
2018) as CompressAI has it (pip install compressai), with random weights, frame by frame.

    python -m neurocodec.bench.hyperprior encode|decode IN OUT

What it writes is of no use, and takes other bits than trained weights would; the networks take as
long.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..media.frame import Planes
from .anchors import PYTHON, Codec
from .y4m import open_y4m, with_whole_chroma, write_y4m

_UNIT = 64  # pixels: sides of pictures that the networks take
_QUALITY = 3  # of CompressAI's eight: 128 and 192 channels


class Hyperprior(Codec):
    suffix = ".json"

    def missing(self) -> str | None:
        found = importlib.util.find_spec("compressai")
        return None if found else "compressai is not installed"

    def encode(self, source: Path, value: float, stream: Path) -> list[str]:
        return [*PYTHON, __name__, "encode", str(source), str(stream)]

    def decode(self, stream: Path, target: Path) -> list[str]:
        return [*PYTHON, __name__, "decode", str(stream), str(target)]

    def identity(self) -> dict[str, str]:
        return {"compressai": metadata.version("compressai")}


def _encode(model: Any, source: Path, target: Path) -> None:
    import torch

    clip = open_y4m(source)
    codes = []
    for planes in clip:
        x = torch.from_numpy(np.stack(with_whole_chroma(planes))).float()[None] / 255
        wide = [0, -x.shape[3] % _UNIT, 0, -x.shape[2] % _UNIT]
        code = model.compress(torch.nn.functional.pad(x, wide, mode="replicate"))
        texts = [[base64.b64encode(s).decode() for s in part] for part in code["strings"]]
        codes.append({"strings": texts, "shape": list(code["shape"])})
    size = [clip.height, clip.width]
    target.write_text(json.dumps({"size": size, "rate": str(clip.rate), "codes": codes}))


def _decode(model: Any, source: Path, target: Path) -> None:
    found = json.loads(source.read_text())
    height, width = found["size"]

    def frames() -> Iterator[Planes]:
        for code in found["codes"]:
            strings = [[base64.b64decode(s) for s in part] for part in code["strings"]]
            x = model.decompress(strings, code["shape"])["x_hat"][0, :, :height, :width]
            y, u, v = x.clamp(0, 1).mul(255).round().byte().numpy()
            yield y, u[::2, ::2], v[::2, ::2]

    write_y4m(target, frames(), Fraction(found["rate"]))


def main(direction: str, source: Path, target: Path) -> None:
    import torch
    from compressai.zoo import bmshj2018_hyperprior

    torch.manual_seed(0)
    model = bmshj2018_hyperprior(_QUALITY, "mse", pretrained=False).eval()
    model.update(force=True)
    with torch.inference_mode():
        (_encode if direction == "encode" else _decode)(model, source, target)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
