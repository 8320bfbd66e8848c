import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neurocodec.codec.block_search import picture_of
from neurocodec.codec.effort import Effort
from neurocodec.codec.merging import merge
from neurocodec.codec.search import Motion, search
from neurocodec.tokenizer.lfq import LAMBDA_PER_STEP2
from neurocodec.tokenizer.motion import BOTH, DIRECT, FIRST, SECOND, Reference, predict
from neurocodec.tokenizer.patch import luma
from neurocodec.tokenizer.quarter_pixels import UNIT, QuarterPixels
from tests.conftest import moving_picture

PENALTY = LAMBDA_PER_STEP2 * 0.1**2
QUICK = Effort(coarse=(8, 2, 1), fine=(2, 1), rounds=1, both=(1,))


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth noise (H, W) in 0..1, with detail of about six pixels."""
    noise = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 1, height, width)))
    for _ in range(3):
        noise = F.avg_pool2d(F.pad(noise, (2, 2, 2, 2), mode="reflect"), 5, 1)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return noise[0, 0].numpy()


def planes(y: np.ndarray) -> torch.Tensor:
    """Luma (H, W) -> planes (1, 6, H/2, W/2), chroma grey."""
    luma = torch.from_numpy(y).float()[None, None]
    grey = torch.full((1, 2, y.shape[0] // 2, y.shape[1] // 2), 0.5)
    return torch.cat([F.pixel_unshuffle(luma, 2), grey], 1)


def find(
    target: torch.Tensor, first: torch.Tensor, second: torch.Tensor | None = None,
    penalty: float = PENALTY, direct: torch.Tensor | None = None, effort: Effort = QUICK,
) -> Motion:  # fmt: skip
    """Motion as an encoder finds it."""
    a = QuarterPixels(first)
    b = a if second is None else QuarterPixels(second)
    found = search(target, (a, b), penalty, direct, effort)
    return merge(found, target, (a, b), penalty, direct, sides=effort.merges)


def changes(field: torch.Tensor) -> int:
    """How often neighbours of a field (1, h, w, 2) differ."""
    return int((field.diff(dim=1) != 0).any(-1).sum() + (field.diff(dim=2) != 0).any(-1).sum())


def error(motion: Motion, target: torch.Tensor, *references: torch.Tensor) -> float:
    first, second = (Reference(r) for r in (references * 2)[:2])
    pair = predict((first, second), motion.mode, motion.fields)
    return (luma(sum(pair) / 2) - luma(target)).square().mean().item()


@pytest.mark.parametrize(("x", "y"), [(3, 0), (-5, 4), (12, -9)])
def test_a_shift_of_everything_is_found_exactly(x: int, y: int) -> None:
    whole = texture(112, 144)
    reference, target = whole[24:88, 24:120], whole[24 + y : 88 + y, 24 + x : 120 + x]
    motion = find(planes(target), planes(reference))
    assert (motion.mode == FIRST).all()
    assert motion.fields.shape == (1, 2, 8, 12, 2)
    inside = motion.fields[0, 0, 2:-2, 2:-2]
    assert torch.equal(inside, torch.tensor([4 * x, 4 * y]).expand_as(inside))


def test_quarter_pixels_are_found() -> None:
    reference = planes(texture(64, 96))
    blocks = Reference(reference).luma.windows(torch.tensor([5, -2]).expand(1, 8, 12, 2), 8, 8)
    target = planes(blocks[0].transpose(1, 2).reshape(64, 96).numpy())
    field = find(target, reference, penalty=PENALTY / 30).fields[0, 0]
    assert torch.equal(field, torch.tensor([5, -2]).expand_as(field))


def test_samples_are_those_of_the_decoder_rounded() -> None:
    y = planes(texture(40, 56))
    reference, samples = Reference(y), QuarterPixels(y).luma[0]
    for vector in ((0, 0), (5, -2), (-7, 11), (2, 3)):
        field = torch.tensor(vector, dtype=torch.int32).expand(5, 7, 2).contiguous()
        ours = picture_of(samples, field.numpy())
        windows = reference.luma.windows(field.long()[None], 8, 8)
        theirs = windows[0].transpose(1, 2).reshape(40, 56) * 255 * UNIT
        np.testing.assert_allclose(ours, theirs, atol=0.51)


def test_two_regions_move_on_their_own() -> None:
    back, front = texture(64, 128), texture(64, 128, seed=1)

    def frame(x: int) -> np.ndarray:
        y = np.roll(back, -x, 1)
        y[:, 64:] = np.roll(front, 2 * x, 0)[:, 64:]
        return y

    field = find(planes(frame(2)), planes(frame(0))).fields[0, 0]
    left, right = field[1:-1, 1:6], field[1:-1, 9:-1]
    assert torch.equal(left, torch.tensor([8, 0]).expand_as(left))
    assert torch.equal(right, torch.tensor([0, -16]).expand_as(right))
    assert changes(field[None]) <= 3 * 8


def test_what_does_not_move_has_no_vectors() -> None:
    x = planes(texture(64, 96))
    motion = find(x, x)
    assert not motion.fields.any()
    assert (motion.mode == FIRST).all()
    noisy = (x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(
        0, 1
    )
    assert not find(noisy, x).fields.any()


def test_what_was_suggested_is_direct_where_it_fits() -> None:
    before, after = planes(texture(64, 96)), planes(texture(64, 96, seed=1))
    generator = torch.Generator().manual_seed(0)
    direct = torch.randint(-20, 20, (1, 2, 8, 12, 2), generator=generator)
    blocks = [
        Reference(reference).luma.windows(direct[:, i], 8, 8)
        for i, reference in enumerate((before, after))
    ]
    now = planes((sum(blocks) / 2)[0].transpose(1, 2).reshape(64, 96).numpy())
    motion = find(now, before, after, direct=direct)
    assert (motion.mode == DIRECT).all()
    assert torch.equal(motion.fields, direct)


def test_unused_vectors_are_zero() -> None:
    a, b, c = (planes(np.roll(texture(64, 64, seed), 2 * seed, 1)) for seed in (0, 1, 2))
    motion = find((a + b) / 2, b, c)
    assert not motion.fields[:, 0][motion.mode == SECOND].any()
    assert not motion.fields[:, 1][motion.mode == FIRST].any()


def test_a_higher_price_of_bits_means_fewer_changes() -> None:
    frames = [planes(f.y.astype(np.float64) / 255) for f in moving_picture(4, 96, 64)]
    noise = 0.03 * torch.randn(frames[0].shape, generator=torch.Generator().manual_seed(0))
    counts = [
        changes(find(frames[3] + noise, frames[0], penalty=PENALTY * factor).fields[:, 0])
        for factor in (0.01, 1, 100)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 2 * counts[2]


def test_two_references_beat_one_in_a_cross_fade() -> None:
    a, b = planes(texture(64, 96)), planes(texture(64, 96, seed=1))
    now = (a + b) / 2
    motion = find(now, a, b)
    assert (motion.mode == BOTH).float().mean() > 0.9
    assert error(motion, now, a, b) < 0.02 * min(
        error(find(now, a), now, a), error(find(now, b), now, b)
    )


def test_what_is_uncovered_comes_from_the_reference_that_has_it() -> None:
    back, front = texture(64, 96), texture(32, 16, seed=1)

    def frame(left: int) -> torch.Tensor:
        y = back.copy()
        y[16:48, left : left + 16] = 1 - 0.5 * front
        return planes(y)

    before, now, after = frame(24), frame(32), frame(40)
    motion = find(now, before, after, effort=Effort())
    assert (motion.mode[0, 2:6, 3] == SECOND).all()
    assert (motion.mode[0, 2:6, 6] == FIRST).all()
    found = error(motion, now, before, after)
    assert found < 3e-4
    assert found < 0.7 * error(find(now, before), now, before)


def test_the_search_gives_the_same_again() -> None:
    a, b, c = (planes(f.y.astype(np.float64) / 255) for f in moving_picture(3, 64, 48))
    one, two = find(b, a, c), find(b, a, c)
    assert torch.equal(one.mode, two.mode)
    assert torch.equal(one.fields, two.fields)


@pytest.mark.parametrize("size", [(40, 56), (8, 16), (72, 16)])
def test_grids_that_large_blocks_do_not_divide(size: tuple[int, int]) -> None:
    height, width = size
    whole = texture(height, width + 8)
    a, b = planes(whole[:, :width]), planes(whole[:, 2 : 2 + width])
    motion = find(b, a, a.clone())
    assert motion.mode.shape == (1, height // 8, width // 8)
    assert motion.fields.shape == (1, 2, height // 8, width // 8, 2)


def test_the_smallest_picture() -> None:
    x = planes(texture(16, 16)[:8, :8])
    assert not find(x, x).fields.any()
