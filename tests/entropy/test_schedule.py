import numpy as np
import pytest

from neurocodec.bitstream.limits import MAX_STEPS
from neurocodec.entropy.schedule import ORDER, steps_of


def test_the_order_names_each_place_once() -> None:
    assert sorted(ORDER.ravel().tolist()) == list(range(MAX_STEPS))


@pytest.mark.parametrize("steps", range(1, MAX_STEPS + 1))
def test_steps_share_the_cells(steps: int) -> None:
    found = steps_of(16, 16, steps)
    counts = np.bincount(found.ravel(), minlength=steps)
    assert len(counts) == steps
    assert counts.sum() == 256
    assert counts.max() - counts.min() <= 16
    assert counts.min() > 0


@pytest.mark.parametrize("steps", range(1, MAX_STEPS))
def test_more_steps_only_part_what_fewer_join(steps: int) -> None:
    """A cell coded before another in few steps is not coded after it in many."""
    few, many = steps_of(4, 4, steps).ravel(), steps_of(4, 4, MAX_STEPS).ravel()
    for a in range(16):
        assert (few[many > many[a]] >= few[a]).all()


@pytest.mark.parametrize("grid", [(1, 1), (3, 7), (9, 2)])
def test_the_pattern_repeats_from_the_top_left(grid: tuple[int, int]) -> None:
    large = steps_of(12, 12, 5)
    np.testing.assert_array_equal(steps_of(*grid, 5), large[: grid[0], : grid[1]])
    np.testing.assert_array_equal(large[4:], large[:-4])
    np.testing.assert_array_equal(large[:, 4:], large[:, :-4])


def test_what_comes_first_lies_evenly() -> None:
    """The first quarter of the cells: one in each 2x2."""
    first = steps_of(8, 8, 4) == 0
    assert (first.reshape(4, 2, 4, 2).sum((1, 3)) == 1).all()


def test_two_steps_are_a_chessboard() -> None:
    y, x = np.mgrid[:8, :8]
    np.testing.assert_array_equal(steps_of(8, 8, 2), (y + x) % 2)
