import math
import platform
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from neurocodec.entropy import integer
from neurocodec.entropy.integer import (
    BUCKETS,
    MAX_ACTIVATION,
    MAX_BIAS,
    MAX_INPUTS,
    MAX_MULTIPLIER,
    MAX_WEIGHT,
    ONE,
    ROWS,
    SHIFT,
    Layer,
    added,
    bucket,
    distinct,
    layer,
    log2_sixteenths,
    log_activation,
    use_torch,
    windows,
)

UNIT = 1 << SHIFT  # a multiplier of 1


def arrays(outputs: int, inputs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(-MAX_WEIGHT, MAX_WEIGHT, (outputs, inputs), np.int8, endpoint=True),
        rng.integers(-MAX_BIAS, MAX_BIAS, outputs, np.int32, endpoint=True),
        rng.integers(0, MAX_MULTIPLIER, outputs, np.int32, endpoint=True),
    )


def simple(weight: list[list[int]], bias: int = 0, multiplier: int = UNIT) -> Layer:
    n = len(weight)
    return layer(
        np.array(weight, np.int8), np.full(n, bias, np.int32), np.full(n, multiplier, np.int32)
    )


def plain(weight: np.ndarray, bias: np.ndarray, multiplier: np.ndarray, x: list[int]) -> list[int]:
    """In Python's integers, which know no limits."""
    sums = [sum(int(w) * v for w, v in zip(row, x, strict=True)) for row in weight]
    scaled = [(t + int(b)) * int(m) for t, b, m in zip(sums, bias, multiplier, strict=True)]
    return [(v + 2 ** (SHIFT - 1)) // 2**SHIFT for v in scaled]


@pytest.mark.parametrize("inputs", [1, 7, 500, MAX_INPUTS])
def test_a_layer_is_exact(inputs: int) -> None:
    parts = arrays(9, inputs)
    x = np.random.default_rng(1).integers(-MAX_ACTIVATION, MAX_ACTIVATION, (5, inputs), np.int8)
    found = layer(*parts)(x)
    assert found.tolist() == [plain(*parts, row.tolist()) for row in x]


@pytest.fixture(autouse=True)
def by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer, "_torch", None)


@pytest.fixture
def by_torch(by_numpy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast it is here."""
    monkeypatch.setattr(integer, "_has_vnni", lambda: True)
    monkeypatch.setattr(integer, "_seconds", lambda run: 0.0)
    assert use_torch() == (platform.machine() in ("x86_64", "AMD64"))


@pytest.mark.usefixtures("by_torch")
@pytest.mark.parametrize("inputs", [1, 7, 500, MAX_INPUTS])
@pytest.mark.parametrize("divisor", [1, 100_000])
def test_a_layer_is_exact_by_torch(
    inputs: int, divisor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, bias, multiplier = arrays(9, inputs)
    weight[0], weight[1] = MAX_WEIGHT, -MAX_WEIGHT
    parts = weight, bias // divisor, multiplier // divisor
    x = np.random.default_rng(1).integers(-127, 128, (50, inputs)).astype(np.int8)
    x[0], x[1], x[2, ::2], x[2, 1::2] = 127, -127, 127, -127
    expected = np.array([plain(*parts, row.tolist()) for row in x])
    made = layer(*parts)
    used: list[int] = []
    product = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: used.append(len(a)) or product(a, b))
    np.testing.assert_array_equal(made(x), expected)
    np.testing.assert_array_equal(made.relu(x), np.clip(expected, 0, MAX_ACTIVATION))
    small = divisor > 1 and integer._torch is not None
    assert used == ([50, 50] if small else [])  # what float64 does not hold is done in integers


def test_products_that_saturate_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a processor that adds pairs in 16 bits, were weights larger."""
    product = torch._int_mm
    monkeypatch.setattr(integer, "_has_vnni", lambda: True)
    monkeypatch.setattr(integer, "_seconds", lambda run: 0.0)
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: product(a, b).clamp(max=127 * 63 * 2000))
    assert not use_torch()
    assert integer._torch is None


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="torch is not used")
@pytest.mark.parametrize("faster", [True, False])
def test_products_that_are_slower_are_not_used(
    faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of int8 are on a processor without VNNI."""
    monkeypatch.setattr(integer, "_has_vnni", lambda: True)
    seconds = iter([1.0, 2.0] if faster else [2.0, 1.0])  # torch's, then numpy's
    monkeypatch.setattr(integer, "_seconds", lambda run: next(seconds))
    assert use_torch() == faster


def test_torch_is_not_loaded_for_what_the_processor_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer, "_has_vnni", lambda: False)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it raises
    assert not use_torch()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("order", range(3))
def test_the_largest_sums_are_exact_in_any_order(sign: int, order: int) -> None:
    """The last product makes the sum odd: no bit of it may be lost."""
    weight = np.full((1, MAX_INPUTS), MAX_WEIGHT, np.int8)
    x = np.full(MAX_INPUTS, sign * MAX_ACTIVATION, np.int8)
    weight[0, -1] = 1
    at = np.random.default_rng(order).permutation(MAX_INPUTS)
    found = layer(weight[:, at], np.zeros(1, np.int32), np.full(1, UNIT, np.int32))(x[None])
    assert found.item() == sign * MAX_ACTIVATION * (MAX_WEIGHT * (MAX_INPUTS - 1) + 1)


def test_the_order_of_inputs_does_not_matter() -> None:
    weight, bias, multiplier = arrays(20, MAX_INPUTS)
    rng = np.random.default_rng(0)
    x = rng.choice(np.array([-MAX_ACTIVATION, MAX_ACTIVATION], np.int8), (4, MAX_INPUTS))
    first = layer(weight, bias, multiplier)(x)
    for _ in range(3):
        at = rng.permutation(MAX_INPUTS)
        np.testing.assert_array_equal(layer(weight[:, at], bias, multiplier)(x[:, at]), first)


def test_the_limits_are_within_float32() -> None:
    assert MAX_ACTIVATION * MAX_WEIGHT * MAX_INPUTS < 1 << 24
    assert (MAX_ACTIVATION * MAX_WEIGHT * MAX_INPUTS + MAX_BIAS) * MAX_MULTIPLIER < 1 << 62


def test_the_largest_bias_and_multiplier() -> None:
    for sign in (1, -1):
        found = simple([[0]], sign * MAX_BIAS, MAX_MULTIPLIER)(np.zeros((1, 1), np.int8))
        assert found.item() == (sign * MAX_BIAS * MAX_MULTIPLIER + UNIT // 2) // UNIT


def test_halves_are_rounded_up() -> None:
    half = simple([[1]], multiplier=UNIT // 2)
    x = np.array([[-3], [-2], [-1], [0], [1], [2], [3]], np.int8)
    assert half(x).ravel().tolist() == [-1, -1, 0, 0, 1, 1, 2]
    below = simple([[1]], multiplier=UNIT // 2 - 1)
    assert below(x).ravel().tolist() == [-1, -1, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("bad", ["weight", "-weight", "inputs", "bias", "-bias", "multiplier"])
def test_what_could_be_inexact_is_refused(bad: str) -> None:
    weight, bias, multiplier = arrays(3, MAX_INPUTS)
    layer(weight, bias, multiplier)
    if bad == "inputs":
        weight = np.zeros((3, MAX_INPUTS + 1), np.int8)
    elif bad == "multiplier":
        multiplier[1] = -1
    else:
        sign = -1 if bad.startswith("-") else 1
        if bad.endswith("weight"):
            weight[1, 5] = sign * (MAX_WEIGHT + 1)
        else:
            bias[2] = sign * (MAX_BIAS + 1)
    with pytest.raises(ValueError, match=r"too large|out of range"):
        layer(weight, bias, multiplier)


def test_the_smallest_int8_and_int32_are_refused() -> None:
    """Their absolute values do not fit their types."""
    weight, bias, multiplier = arrays(1, 1)
    with pytest.raises(ValueError, match="too large"):
        layer(np.full_like(weight, -128), bias, multiplier)
    with pytest.raises(ValueError, match="out of range"):
        layer(weight, np.full_like(bias, -(2**31)), multiplier)


def test_rows_of_a_layer() -> None:
    parts = arrays(9, 30)
    x = np.random.default_rng(1).integers(-127, 127, (5, 30), np.int8)
    np.testing.assert_array_equal(layer(*parts).rows(2, 6)(x), layer(*parts)(x)[:, 2:6])


@pytest.mark.parametrize(("bias", "multiplier"), [(1, 3000), (1, UNIT), (MAX_BIAS, MAX_MULTIPLIER)])
def test_relu_of_a_layer_is_relu_of_its_outputs(bias: int, multiplier: int) -> None:
    weight, biases, multipliers = arrays(40, 300)
    biases //= max(1, MAX_BIAS // bias // 100_000)
    made = layer(weight, biases, multipliers // (MAX_MULTIPLIER // multiplier))
    x = np.random.default_rng(3).integers(-127, 128, (2 * ROWS + 5, 300)).astype(np.int8)
    found = made.relu(x)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, np.clip(made(x), 0, MAX_ACTIVATION))
    np.testing.assert_array_equal(found[-3:], made.relu(x[-3:]))  # many rows at once, or few
    assert len(np.unique(found)) > (100 if multiplier == 3000 else 1)


def test_relu_of_a_layer_at_halves() -> None:
    half = simple([[1]], multiplier=UNIT // 2)
    x = np.arange(-3, 4, dtype=np.int8)[:, None]
    assert half.relu(x).ravel().tolist() == [0, 0, 0, 0, 1, 1, 2]


def test_activations_are_limited() -> None:
    start = np.array([-127, 127, 5, -5], np.int8)
    assert added(start, np.array([-1, 1, 3, 10**12])).tolist() == [-127, 127, 8, 127]
    assert added(start, np.zeros(4, np.int64)).dtype == np.int8


def test_buckets_are_clipped() -> None:
    half = BUCKETS // 2
    logits = np.array([-(10**12), -half - 1, -half, -1, 0, 1, half - 1, half, 10**12])
    expected = [0, 0, 0, half - 1, half, half + 1, BUCKETS - 1, BUCKETS - 1, BUCKETS - 1]
    assert bucket(logits).tolist() == expected


@pytest.mark.parametrize("rows", [3, ROWS + 5])
def test_contexts_are_buckets_of_outputs(rows: int) -> None:
    one = layer(*arrays(5, 12))
    one = Layer(one.weight, one.bias >> 18, one.multiplier >> 20)
    x = np.random.default_rng(4).integers(-128, 128, (rows, 12)).astype(np.int8)
    found = one.contexts(x)
    assert np.array_equal(found, bucket(one(x)))
    assert len(np.unique(found)) > 2


@pytest.mark.parametrize(
    ("rows", "inputs", "sorts"),
    [(0, 5, 1), (1, 1, 1), (700, 3, 40), (900, 117, 300), (50, MAX_INPUTS, 7)],
)
def test_rows_that_are_alike_are_found(rows: int, inputs: int, sorts: int) -> None:
    rng = np.random.default_rng(rows)
    some = (ONE * rng.integers(-8, 8, (sorts, inputs))).astype(np.int8)
    x = some[rng.integers(0, sorts, rows)]
    first, which = distinct(x)
    assert np.array_equal(x[first][which], x)
    expected = np.unique(x, axis=0, return_index=True)[1] if rows else []
    assert sorted(first) == sorted(expected)


def test_rows_that_differ_in_one_place_are_told_apart() -> None:
    """Also where a sum of products, of which what is looked up is made, is the same for all."""
    x = np.zeros((6, 2), np.int8)
    x[:, 1] = np.arange(6)
    weights = np.array([1, 0], np.int64)
    first, which = integer._distinct(x, weights)
    assert np.array_equal(first, np.arange(6))
    assert np.array_equal(which, np.arange(6))


def test_logarithms() -> None:
    powers = [2**i for i in range(40)]
    assert log2_sixteenths(np.array(powers)).tolist() == [16 * i for i in range(40)]
    near = np.array([n + d for n in powers[6:] for d in (-1, 0, 1)])
    every = np.concatenate([np.arange(1, 5000), near])
    for n, found in zip(every.tolist(), log2_sixteenths(every).tolist(), strict=True):
        exponent = n.bit_length() - 1
        assert found == 16 * exponent + (16 * n) // (1 << exponent) - 16
        assert -2.4 < found - 16 * math.log2(n) <= 0.01
    ordered = log2_sixteenths(np.arange(1, 5000)).tolist()
    assert all(b >= a for a, b in pairwise(ordered))


def test_log_activation() -> None:
    x = np.array([0, 1, 2, 3, 7, 15, 4095])
    assert log_activation(x).tolist() == [0, ONE, 24, 2 * ONE, 3 * ONE, 4 * ONE, MAX_ACTIVATION]
    assert log_activation(x).dtype == np.int8


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_windows(reach: int) -> None:
    h, w, c = 3, 4, 2
    inside = np.arange(1, 1 + h * w * c, dtype=np.int8).reshape(h, w, c)
    field = np.pad(inside, ((reach, reach), (reach, reach), (0, 0)))
    cells = np.array([7, 0, 11])
    found = windows(field, cells, reach)
    for cell, row in zip(cells.tolist(), found, strict=True):
        expected: list[int] = []
        for y in range(cell // w - reach, cell // w + reach + 1):
            for x in range(cell % w - reach, cell % w + reach + 1):
                there = 0 <= y < h and 0 <= x < w
                expected += inside[y, x].tolist() if there else [0] * c
        assert row.tolist() == expected
