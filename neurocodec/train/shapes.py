"""A made-up set of small clips with classes: a shape that does something, or a camera's pan.

A clip depends on its class and number alone. Classes look alike in a mirror, because training clips
are mirrored at random.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

SHAPES = ("disc", "square", "triangle")
ACTIONS = ("rise", "fall", "across", "grow", "shrink")
PHOTO = "photo"
CLASSES = (*(f"{shape}-{action}" for shape in SHAPES for action in ACTIONS), PHOTO)
HELD_OUT = 100_000  # clips of this number and later ones are not trained on
_PHOTOS = ("astronaut", "cat", "coffee", "rocket", "immunohistochemistry", "retina")
_HUES = (
    (230, 60, 50), (60, 190, 70), (60, 110, 235), (240, 200, 50), (200, 80, 220), (70, 205, 215),
)  # fmt: skip
_GROUNDS = ((30, 30, 38), (92, 86, 80), (205, 200, 190))
_EDGE = 1.0  # pixels over which an edge fades

Rgb = NDArray[np.uint8]


def render(name: str, number: int, frames: int = 12, side: int = 64) -> Rgb:
    """Clip ``number`` of a class: (frames, side, side, 3) uint8 RGB."""
    rng = np.random.default_rng((CLASSES.index(name), number))
    if name == PHOTO:
        return _pan(rng, frames, side)
    shape, action = name.split("-")
    return _moving(shape, action, rng, frames, side)


def _moving(shape: str, action: str, rng: np.random.Generator, frames: int, side: int) -> Rgb:
    ground, colour = _GROUNDS[rng.integers(len(_GROUNDS))], _HUES[rng.integers(len(_HUES))]
    y, x = np.mgrid[:side, :side] + 0.5
    shade = 1 + 0.25 * (y / side - 0.5) * rng.choice([-1, 1])
    radius, speed = side * rng.uniform(0.13, 0.2), side * rng.uniform(0.025, 0.045)
    centre = side * rng.uniform(0.35, 0.65, size=2)
    velocity = np.zeros(2)  # of y and x, pixels a frame
    growth = 0.0
    if action in ("rise", "fall"):
        velocity[0] = -speed if action == "rise" else speed
    elif action == "across":
        velocity[1] = speed * rng.choice([-1, 1])
    else:
        growth = speed * 0.45 * (1 if action == "grow" else -1)
    out = np.empty((frames, side, side, 3), np.uint8)
    for t in range(frames):
        at = t - (frames - 1) / 2
        cy, cx = centre + velocity * at
        inside = _inside(shape, y - cy, x - cx, max(2.0, radius + growth * at))[..., None]
        picture = np.array(ground) * shade[..., None] * (1 - inside) + np.array(colour) * inside
        out[t] = picture.clip(0, 255).round()
    return out


def _inside(
    shape: str, y: NDArray[np.float64], x: NDArray[np.float64], r: float
) -> NDArray[np.float64]:
    """How much of a pixel a shape of radius r covers, about; 0 to 1."""
    if shape == "disc":
        distance = np.hypot(y, x) - r
    elif shape == "square":
        distance = np.maximum(abs(y), abs(x)) - 0.88 * r
    else:  # a triangle on its base
        slope = abs(x) * math.cos(math.pi / 6) - (y + 1.1 * r) * math.sin(math.pi / 6)
        distance = np.maximum(slope, y - 0.75 * r)
    return np.clip(0.5 - distance / _EDGE, 0, 1)


@cache
def _photo(name: str) -> Image.Image:
    """One of scikit-image's own pictures, reduced."""
    picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    scale = 160 / min(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)))


def _pan(rng: np.random.Generator, frames: int, side: int) -> Rgb:
    """The camera moves slowly over a photograph."""
    picture = _photo(_PHOTOS[rng.integers(len(_PHOTOS))])
    half = side * rng.uniform(0.5, 0.9)  # of the part that is seen
    speed = rng.uniform(-1.2, 1.2, size=2)
    margin = half + abs(speed) * frames / 2
    cx, cy = (rng.uniform(m, s - m) for m, s in zip(margin, picture.size, strict=True))
    out = []
    for t in range(frames):
        x, y = cx + speed[0] * (t - (frames - 1) / 2), cy + speed[1] * (t - (frames - 1) / 2)
        box = (x - half, y - half, x + half, y + half)
        out.append(np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box)))
    return np.stack(out)


_RGB_TO_YUV = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)


def planes_from_rgb(clip: Rgb) -> Tensor:
    """RGB (T, H, W, 3) -> planes (6, T, H/2, W/2) float32 in 0..1, BT.601 full range."""
    rgb = torch.from_numpy(clip).float() / 255
    yuv = torch.einsum("kc,thwc->tkhw", _RGB_TO_YUV, rgb)
    y = torch.nn.functional.pixel_unshuffle(yuv[:, :1], 2)
    uv = torch.nn.functional.avg_pool2d(yuv[:, 1:], 2) + 0.5
    return torch.cat([y, uv], 1).transpose(0, 1).clamp(0, 1)
