"""The network against a plain NumPy one from the papers, and the properties of the distance."""

import sys

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from skimage import data

from neurocodec.bench import metrics, perceptual
from neurocodec.bench.metrics import Pair
from neurocodec.errors import UsageError

try:
    perceptual.weights_file()
except UsageError as error:
    pytest.skip(str(error), allow_module_level=True)


def astronaut(side: int = 64) -> np.ndarray:
    return data.astronaut()[90 : 90 + side, 190 : 190 + side]


class Reference:
    """ST-LPIPS as its papers describe it, one product at a time."""

    def __init__(self) -> None:
        self.weights = {k: v.double().numpy() for k, v in perceptual.load_weights().items()}

    def conv(self, x: np.ndarray, name: str, padding: int) -> np.ndarray:
        weight, bias = self.weights[f"net.{name}.weight"], self.weights[f"net.{name}.bias"]
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
        return np.stack(
            [sum(correlate2d(c, k, "valid") for c, k in zip(x, w, strict=True)) + b
             for w, b in zip(weight, bias, strict=True)]
        )  # fmt: skip

    def blur(self, x: np.ndarray) -> np.ndarray:
        kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16  # binomial; not taken from the weights
        x = np.pad(x, ((0, 0), (2, 2), (2, 2)), "reflect")
        return np.stack([correlate2d(c, kernel, "valid")[::2, ::2] for c in x])

    def pool(self, x: np.ndarray) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2)).max((-2, -1))

    def features(self, rgb: np.ndarray) -> list[np.ndarray]:
        shift, scale = np.array([-0.03, -0.088, -0.188]), np.array([0.458, 0.448, 0.45])
        x = ((rgb / 127.5 - 1 - shift) / scale).transpose(2, 0, 1)
        out = [np.maximum(self.blur(self.conv(x, "slice1.0", 2)), 0)]
        out.append(np.maximum(self.conv(self.blur(self.pool(out[-1])), "slice2.5", 2), 0))
        out.append(np.maximum(self.conv(self.blur(self.pool(out[-1])), "slice3.9", 1), 0))
        for name in ("slice4.11", "slice5.13"):
            out.append(np.maximum(self.conv(out[-1], name, 1), 0))
        return out

    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
        total = 0.0
        for i, (x, y) in enumerate(zip(self.features(a), self.features(b), strict=True)):
            x, y = (f / (np.sqrt((f**2).sum(0)) + 1e-10) for f in (x, y))
            weight = self.weights[f"lin{i}.model.1.weight"][0, :, 0, 0]
            total += float(((x - y) ** 2 * weight[:, None, None]).sum(0).mean())
        return total


def test_against_numpy() -> None:
    a = astronaut(34)
    b = np.random.default_rng(0).integers(0, 256, a.shape).astype(np.uint8)
    assert perceptual.distance(a, b) == pytest.approx(Reference().distance(a, b), rel=1e-4)


def test_the_weights_hold_what_the_papers_say() -> None:
    weights = perceptual.load_weights()
    shift, scale = weights["scaling_layer.shift"], weights["scaling_layer.scale"]
    assert shift.flatten().tolist() == pytest.approx([-0.03, -0.088, -0.188])
    assert scale.flatten().tolist() == pytest.approx([0.458, 0.448, 0.45])
    binomial = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    assert torch.equal(weights["net.slice2.4.filt"][5, 0], binomial)
    assert all((weights[f"lin{i}.model.1.weight"] >= 0).all() for i in range(5))


def test_properties() -> None:
    """Nothing for equal pictures, little for a shift, more for more noise, symmetric."""
    picture = astronaut(129)
    a, shifted = picture[:, :128], picture[:, 1:]
    rng = np.random.default_rng(1)
    noisy = [
        (a[:128] + rng.normal(0, s, a[:128].shape)).clip(0, 255).astype(np.uint8) for s in (5, 20)
    ]
    a, shifted = a[:128], shifted[:128]
    assert perceptual.distance(a, a) == 0
    by_noise = [perceptual.distance(a, n) for n in noisy]
    assert 3 * perceptual.distance(a, shifted) < by_noise[1]
    assert by_noise[0] < by_noise[1]
    assert perceptual.distance(noisy[1], a) == pytest.approx(by_noise[1], rel=1e-5)


def test_metric_looks_at_every_second_frame(pair: Pair) -> None:
    from dataclasses import replace

    values = metrics.st_lpips(replace(pair, every=2))["st_lpips"]
    assert [v is None for v in values] == [False, True, False]


def test_the_package_itself_is_not_imported() -> None:
    perceptual.load_weights()
    assert not any(name.startswith("stlpips") for name in sys.modules)
