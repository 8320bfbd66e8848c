"""Loop filters of pictures as they are coded; their bytes: tests/test_reference_reader.py."""

from dataclasses import replace

import numpy as np
import pytest

from neurocodec.entropy.binary import BitDecoder, BitEncoder
from neurocodec.entropy.loop_filter import (
    OFFSET_BLOCKS,
    LoopFilter,
    LoopFilterModel,
    Offsets,
    blocks_of,
)


def bits_of(filters: list[LoopFilter], grid: tuple[int, int]) -> float:
    coder, model = BitEncoder(), LoopFilterModel(grid)
    for i, one in enumerate(filters):
        model.code(coder, i == 0, one)
    return coder.ideal_bits


def test_blocks_cover_all_cells() -> None:
    assert [blocks_of(grid) for grid in ((1, 4), (5, 8), (45, 80))] == [(1, 1), (2, 2), (12, 20)]


@pytest.mark.parametrize("grid", [(1, 1), (9, 21)])
def test_what_was_coded_comes_back(grid: tuple[int, int]) -> None:
    rng, filters = np.random.default_rng(3), []
    for strengths in ((0, 0, 0), (3, 1, 2), (1, 0, 3), (0, 2, 0), (2, 3, 1), (2, 3, 1)):
        blocks = (rng.random(blocks_of(grid)) < 0.5) & (strengths[0] > 0)
        offsets = None, None, None
        if filters:  # the first is of an intra picture
            sizes = rng.integers(0, 3, 3)
            offsets = tuple(  # type: ignore[assignment]
                None if size == 2 else rng.integers(-15, 16, blocks_of(grid, OFFSET_BLOCKS[size]))
                for size in sizes
            )
        filters.append(LoopFilter(strengths, blocks, strengths[0] > 1, offsets))
    encoder, model = BitEncoder(), LoopFilterModel(grid)
    for i, one in enumerate(filters):
        model.code(encoder, i == 0, one)
    decoder, model = BitDecoder(encoder.finish()), LoopFilterModel(grid)
    for i, one in enumerate(filters):
        found = model.code(decoder, i == 0)
        assert (found.strengths, found.wide) == (one.strengths, one.wide)
        assert np.array_equal(found.blocks, one.blocks)
        for ours, theirs in zip(found.offsets, one.offsets, strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or np.array_equal(ours, theirs)


def test_what_stays_or_lies_together_is_cheap() -> None:
    grid, rng = (48, 80), np.random.default_rng(5)
    size = blocks_of(grid)
    none = LoopFilter((0, 0, 0), np.zeros(size, np.bool_))
    assert bits_of([none] * 60, grid) < 60
    noise = [LoopFilter((2, 1, 1), rng.random(size) < 0.5) for _ in range(20)]
    together = np.arange(size[0])[:, None] + np.zeros(size) < 5
    dear = bits_of(noise, grid)
    assert dear > 0.98 * 20 * 12 * 20
    assert bits_of([noise[0]] * 20, grid) < 0.3 * dear  # as before
    alternating = [LoopFilter((2, 1, 1), together ^ bool(i % 2)) for i in range(20)]
    assert bits_of(alternating, grid) < 0.3 * dear  # as above


def test_offsets_that_lie_together_are_cheap() -> None:
    grid, rng = (48, 80), np.random.default_rng(7)
    none = LoopFilter((0, 0, 0), np.zeros(blocks_of(grid), np.bool_))

    def bits(offsets: Offsets) -> float:
        return bits_of([none, *[replace(none, offsets=(None, offsets, None))] * 20], grid)

    shape = blocks_of(grid, OFFSET_BLOCKS[1])
    noise = rng.integers(0, 2, shape)
    together = noise * (np.arange(shape[1]) < 4)
    assert bits(np.zeros(shape, np.int64)) < 0.05 * bits(noise)
    assert bits(together) < 0.5 * bits(noise)
    assert bits(noise * np.where(rng.random(shape) < 0.5, -1, 1)) > 1.1 * bits(noise)  # signs
