"""4:2:0 planes to RGB, for the metric and the pages that look at colour pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..bitstream.payloads import Colour
from ..media.frame import Planes

# ITU-T H.273 matrix coefficients -> (Kr, Kb)
_BT709, _BT601 = (0.2126, 0.0722), (0.299, 0.114)
_WEIGHTS = {1: _BT709, 5: _BT601, 6: _BT601, 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
_HD_LINES = 720  # from here on players take an unlabelled clip for BT.709


@dataclass(frozen=True)
class ToRgb:
    """Planes -> (H, W, 3) uint8, by the clip's colour description."""

    colour: Colour

    def __call__(self, planes: Planes) -> NDArray[np.uint8]:
        height, width = planes[0].shape
        by_size = _BT709 if height >= _HD_LINES else _BT601
        kr, kb = _WEIGHTS.get(self.colour.matrix, by_size)
        u, v = (
            np.asarray(
                Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR),
                np.float32,
            )
            - 128
            for plane in planes[1:]
        )
        y = planes[0].astype(np.float32)
        if not self.colour.full_range:
            y, u, v = (y - 16) * (255 / 219), u * (255 / 224), v * (255 / 224)
        r, b = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
        g = (y - kr * r - kb * b) / (1 - kr - kb)
        return np.stack([r, g, b], -1).clip(0, 255).round().astype(np.uint8)
