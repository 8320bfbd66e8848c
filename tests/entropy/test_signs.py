"""Hidden signs: which they are, and that they cost nothing."""

import numpy as np
import pytest

from neurocodec.entropy.binary import BitDecoder, BitEncoder, Counts
from neurocodec.entropy.signs import code_signs, hidden_signs


def random_levels(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.round(rng.laplace(0, 1, (9, 4, 5))).astype(np.int16)


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_the_last_of_so_many_levels_has_a_hidden_sign(every: int) -> None:
    levels = random_levels(every)
    cells = np.array([8, 1, 4])
    hidden_before = 0
    for stage in range(4):
        size = np.abs(levels[cells, stage]).astype(np.int64)
        found = hidden_signs(levels, cells, stage, size, every)
        for row, cell in zip(found, cells, strict=True):
            flat = np.abs(levels[cell, : stage + 1].ravel())
            for j, sign in enumerate(row):
                at = stage * 5 + j
                run = [n for n in flat[: at + 1] if n]
                if flat[at] and len(run) % every == 0:
                    assert sign == (-1 if sum(run[-every:]) % 2 else 1)
                    hidden_before += 1
                else:
                    assert sign == 0
    assert hidden_before == sum(np.count_nonzero(levels[cell]) // every for cell in cells)


def test_hidden_signs_are_not_coded() -> None:
    rng = np.random.default_rng(0)
    level = np.array([[3, 0, -1], [-2, 5, 0]])
    hidden = np.array([[0, 0, -1], [-1, 0, 0]], np.int8)
    contexts = rng.integers(0, 4, level.shape)

    def table() -> Counts:
        return Counts(np.full((1, 4, 2), 3))

    encoder, plain = BitEncoder(), BitEncoder()
    signs = code_signs(encoder, table(), 0, level, np.abs(level), contexts, hidden)
    code_signs(plain, table(), 0, level, np.abs(level), contexts)
    assert encoder.ideal_bits == 2
    assert plain.ideal_bits == 4
    unknown = np.zeros_like(level)
    for data, known in ((encoder.finish(), hidden), (plain.finish(), None)):
        found = code_signs(BitDecoder(data), table(), 0, unknown, np.abs(level), contexts, known)
        assert (np.abs(level) * found == level).all()
    assert (np.abs(level) * signs == level).all()


def test_levels_with_other_signs_than_they_tell_are_refused() -> None:
    level = np.array([[3, -1]])
    with pytest.raises(AssertionError, match="do not tell"):
        code_signs(
            BitEncoder(), Counts(np.zeros((1, 1, 2), np.int64)), 0, level, np.abs(level),
            np.zeros_like(level), np.array([[0, 1]], np.int8),
        )  # fmt: skip
