import numpy as np
import torch

from neurocodec.tokenizer.motion import BOTH, DIRECT, Reference, predict
from neurocodec.tokenizer.quarter_pixels import UNIT, QuarterPixels, predicted

STEP = 1 / (255 * UNIT)


def pictures(count: int, h: int, w: int) -> torch.Tensor:
    """Planes (count, 6, 4 h, 4 w) of noise, whole levels."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 6, 4 * h, 4 * w), generator=generator) / 255


def test_predictions_are_those_of_torch_rounded() -> None:
    h, w = 5, 7
    first, second = (x[None] for x in pictures(2, h, w))
    rng = np.random.default_rng(0)
    mode = rng.integers(0, DIRECT + 1, (h, w))
    fields = rng.integers(-400, 400, (2, h, w, 2))
    assert {*mode.ravel()} == {0, 1, BOTH, DIRECT}
    theirs = predict(
        (Reference(first), Reference(second)),
        torch.from_numpy(mode)[None],
        torch.from_numpy(fields)[None],
    )
    ours = predicted((QuarterPixels(first), QuarterPixels(second)), mode, fields)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=0.51 * STEP, rtol=0)
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
        alone = QuarterPixels(pair[k : k + 1])
        assert np.array_equal(samples.luma[k], alone.luma[0])
        assert np.array_equal(samples.chroma[1][k], alone.chroma[1][0])
