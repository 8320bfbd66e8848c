import numpy as np
import torch

from neurocodec.tokenizer.motion import BOTH, DIRECT, MARGIN, Reference, predict
from neurocodec.tokenizer.patch import luma
from neurocodec.tokenizer.quarter_pixels import UNIT, QuarterPixels, predicted


def pictures(count: int, h: int, w: int) -> torch.Tensor:
    """Planes (count, 6, 4 h, 4 w) of noise, whole levels."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 6, 4 * h, 4 * w), generator=generator) / 255


def test_predictions_are_those_of_torch() -> None:
    h, w = 5, 7
    first, second = (x[None] for x in pictures(2, h, w))
    rng = np.random.default_rng(0)
    mode = rng.integers(0, DIRECT + 1, (h, w))
    fields = rng.integers(-400, 400, (2, h, w, 2))
    mode[2, 1:5], fields[:, 2, 1:5] = BOTH, [[[-7, 5]], [[4, -2]]]  # cells that move alike
    mode[3, 2:], fields[:, 3, 2:] = 1, 3
    assert {*mode.ravel()} == {0, 1, BOTH, DIRECT}
    theirs = predict(
        (Reference(first), Reference(second)),
        torch.from_numpy(mode)[None],
        torch.from_numpy(fields)[None],
    )
    ours = predicted((QuarterPixels(first), QuarterPixels(second)), mode, fields)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=0)
    assert not torch.equal(ours[0], ours[1])


def test_what_does_not_move_is_exact() -> None:
    still = pictures(1, 4, 6)
    reference = QuarterPixels(still)
    nothing = np.zeros((2, 4, 6, 2), np.int16)
    one, two = predicted((reference, reference), nothing[0, ..., 0], nothing)
    torch.testing.assert_close(one, still, atol=1e-6, rtol=0)
    assert torch.equal(one, two)


def test_each_picture_of_a_batch_has_its_own_samples() -> None:
    pair = pictures(2, 3, 2)
    samples = QuarterPixels(pair)
    for k in range(2):
        assert np.array_equal(samples.luma[k], QuarterPixels(pair[k : k + 1]).luma[0])


def test_samples_that_were_dropped_come_again() -> None:
    reference = QuarterPixels(pictures(1, 3, 2))
    before = reference.luma[0]
    reference.drop_luma()
    assert reference.luma[0] is not before
    assert np.array_equal(reference.luma[0], before)


def test_samples_of_the_search_are_those_that_pictures_are_predicted_from() -> None:
    picture = pictures(1, 3, 4)
    reference, mode = QuarterPixels(picture), np.zeros((3, 4), np.int64)
    for x, y in ((0, 0), (1, 0), (2, 3), (-5, 6)):
        field = np.broadcast_to([x, y], (2, 3, 4, 2))
        found = luma(predicted((reference, reference), mode, field)[0])[0]
        phase = reference.luma[0][(y & 3) * 4 + (x & 3)]
        top, left = MARGIN + (y >> 2), MARGIN + (x >> 2)
        seen = phase[top : top + 24, left : left + 32] / (255 * UNIT)
        assert np.abs(found.numpy() - seen).max() < 0.51 / (255 * UNIT)
