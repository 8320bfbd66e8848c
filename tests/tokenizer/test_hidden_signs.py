"""Levels are changed so that they tell their hidden signs, as little as can be."""

import itertools
import math

import numpy as np
import pytest
import torch

from neurocodec.entropy.signs import hidden_signs
from neurocodec.tokenizer.hidden_signs import _BIT, hide
from neurocodec.tokenizer.levels import LEVEL_BITS, MAX_LEVEL, LevelLFQ

SHRINK = np.linspace(0, 0.1, 6, dtype=np.float32)


def hidden(values: np.ndarray, levels: np.ndarray, depth: list[int], every: int) -> np.ndarray:
    out = levels.copy()
    hide(out, values, np.array(depth), SHRINK, LEVEL_BITS, every, MAX_LEVEL)
    return out


def tells(row: np.ndarray, every: int) -> bool:
    signs = hidden_signs(
        row.astype(np.int16)[None, None], np.array([0]), 0, np.abs(row)[None], every
    )
    return bool((signs[0] * row >= 0).all())


def cost(value: np.ndarray, row: np.ndarray, every: int) -> float:
    total = 0.0
    for v, level, shrink in zip(value, row, SHRINK, strict=True):
        m = abs(int(level))
        bits = LEVEL_BITS[1] + LEVEL_BITS[2] * math.log2(m) if m else LEVEL_BITS[0]
        total += (abs(float(v)) - (m - float(shrink) if m else 0)) ** 2 + _BIT * bits
    return total - _BIT * (np.count_nonzero(row) // every)


@pytest.mark.parametrize("every", [1, 2, 4])
def test_nothing_within_one_of_the_levels_costs_less(every: int) -> None:
    rng = np.random.default_rng(every)
    values = rng.laplace(0, 1.2, (12, 6)).astype(np.float32)
    levels = (np.sign(values) * np.floor(np.abs(values) + 0.35)).astype(np.int64)
    found = hidden(values, levels, [6] * 12, every)
    assert (found != levels).any()
    for value, before, row in zip(values, levels, found, strict=True):
        assert tells(row, every)
        sizes = (range(max(0, abs(n) - 1), abs(n) + 2) for n in before)
        others = (np.sign(value).astype(int) * np.array(m) for m in itertools.product(*sizes))
        least = min(cost(value, other, every) for other in others if tells(other, every))
        assert cost(value, row, every) == pytest.approx(least)


def test_levels_beyond_the_depth_stay() -> None:
    values = np.full((2, 6), 1.4, np.float32)
    levels = np.ones((2, 6), np.int64)
    found = hidden(values, levels, [4, 0], 3)
    assert (found[0, 4:] == 1).all()
    assert (found[1] == 1).all()
    assert (found[0, :4] != 1).any()  # odd sums would be negative


def test_no_level_becomes_too_large() -> None:
    values = np.full((1, 6), 1e6, np.float32)
    found = hidden(values, np.full((1, 6), MAX_LEVEL), [6], 1)
    assert (found == MAX_LEVEL - 1).all()  # even: they are positive


def test_a_quantizer_that_hides_signs() -> None:
    torch.manual_seed(0)
    lfq, z = LevelLFQ(16, 4, 4), torch.randn(300, 16) * torch.linspace(1, 0.05, 16)
    plain, depth = lfq.quantize(z, 0, torch.tensor(0.2))
    tokens, changed = lfq.quantize(z, 0, torch.tensor(0.2), hidden=3)
    assert (tokens != plain).any()
    assert (tokens - plain).abs().max() == 1
    assert (changed <= depth).all()
    assert all(tells(row, 3) for row in tokens.flatten(1).numpy())
    assert not all(tells(row, 3) for row in plain.flatten(1).numpy())
    some = changed > 0
    last = tokens[torch.arange(len(z)), changed.clamp(min=1) - 1]
    assert (last[some] != 0).any(1).all()
    assert (tokens[torch.arange(4) >= changed[:, None]] == 0).all()
