"""Products of small matrices, and sums of runs."""

import numpy as np
import pytest
from numpy.typing import NDArray

from neurocodec.compiled import compiled
from neurocodec.vectors import LANES, combined, panels, product


def made(m: int, k: int, n: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(m + k + n)
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize("rows", [0, 1, 2, 5, 6, 7, 13, 24])
@pytest.mark.parametrize("columns", [LANES, 2 * LANES, 3 * LANES, 6 * LANES])
@pytest.mark.parametrize("inner", [0, 1, 33])
def test_a_product(rows: int, columns: int, inner: int) -> None:
    a, b = made(rows, inner, columns)
    out = np.full((rows + 1, columns), 7, np.float32)
    product(a, panels(b), out[:rows])
    np.testing.assert_allclose(out[:rows], a.astype(np.float64) @ b, atol=1e-5)
    assert (out[rows:] == 7).all()


def test_rows_do_not_depend_on_those_beside_them() -> None:
    a, b = made(23, 64, 3 * LANES)
    whole = np.empty((23, 3 * LANES), np.float32)
    product(a, panels(b), whole)
    for first, last in ((0, 1), (1, 9), (22, 23)):
        part = np.empty((last - first, 3 * LANES), np.float32)
        product(a[first:last], panels(b), part)
        assert np.array_equal(part, whole[first:last])


def test_whole_numbers_below_two_to_the_24_are_exact() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-127, 128, (50, 2048)), rng.integers(-63, 64, (2048, LANES))
    a[0], b[:, 0] = 127, 63
    out = np.empty((50, LANES), np.float32)
    product(a.astype(np.float32), panels(b.astype(np.float32)), out)
    assert np.array_equal(out, a @ b)


def test_sums_of_runs() -> None:
    matrix = ((1.0, 0.0, -2.5), (0.0, 0.0, 0.0), (0.5, 1.0, 1.0), (0.0, 3.0, 0.0))
    combine = combined(matrix)

    @compiled
    def run(of, to):  # type: ignore[no-untyped-def]
        combine(of, 3, 30, to, 1, 20, 2 * LANES)

    of = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    to = np.full(90, 7, np.float32)
    run(of, to)
    expected = np.full(90, 7, np.float32)
    for j, row in enumerate(matrix):
        runs = (of[3 + 30 * k : 3 + 30 * k + 16] for k in range(3))
        expected[1 + 20 * j : 17 + 20 * j] = sum(f * x for f, x in zip(row, runs, strict=True))
    np.testing.assert_allclose(to, expected, atol=1e-6)
