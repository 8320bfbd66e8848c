import pytest
import torch

from neurocodec.codec.merging import _Merging, merge
from neurocodec.codec.search import Motion
from neurocodec.tokenizer.motion import BOTH, DIRECT, FIRST, SECOND, Reference, predict
from neurocodec.tokenizer.patch import luma
from tests.codec.test_search import PENALTY, error, planes, texture

H, W = 8, 12  # cells
WHOLE = texture(112, 144)


def shifted(x: int, y: int) -> torch.Tensor:
    """A picture whose content lies x, y pixels right and down of where ``motion`` sees it from."""
    return planes(WHOLE[24 + y : 88 + y, 24 + x : 120 + x])


def motion(mode: int, *vectors: tuple[int, int]) -> Motion:
    fields = torch.tensor(vectors).view(1, 2, 1, 1, 2).repeat(1, 1, H, W, 1)
    return Motion(torch.full((1, H, W), mode), fields)


def references(*shifts: tuple[int, int]) -> tuple[Reference, Reference]:
    first, second = (Reference(shifted(*shift)) for shift in (shifts * 2)[:2])
    return first, second


def test_a_cell_that_moves_a_little_otherwise_moves_as_its_neighbours() -> None:
    found = motion(FIRST, (12, -8), (0, 0))
    found.fields[0, 0, 3, 5] += 1
    merged = merge(found, shifted(3, -2), references((0, 0)), PENALTY)
    assert torch.equal(merged.fields, motion(FIRST, (12, -8), (0, 0)).fields)


def test_what_moves_on_its_own_stays() -> None:
    target, still = shifted(0, 0), shifted(0, 0)
    y = luma(target).clone()
    y[:, 24:40, 32:56] = luma(shifted(9, 5))[:, 24:40, 32:56]
    found = motion(FIRST, (0, 0), (0, 0))
    found.fields[0, 0, 3:5, 4:7] = torch.tensor([36, 20])
    merged = merge(found, planes(y[0].numpy()), (Reference(still),) * 2, PENALTY)
    assert torch.equal(merged.fields, found.fields)


@pytest.mark.parametrize("mode", [BOTH, DIRECT, SECOND])
def test_modes_merge_with_the_vectors_that_they_have(mode: int) -> None:
    direct = torch.tensor([[8, 0], [-4, 0]]).view(1, 2, 1, 1, 2).repeat(1, 1, H, W, 1)
    at = torch.tensor([mode != SECOND, True])
    vectors = direct * at.view(1, 2, 1, 1, 1)
    found = Motion(torch.full((1, H, W), mode), vectors.clone())
    found.mode[0, 4, 4] = FIRST
    found.fields[0, :, 4, 4] = torch.tensor([[9, 0], [0, 0]])
    merged = merge(found, shifted(0, 0), references((-2, 0), (1, 0)), PENALTY, direct)
    assert (merged.mode == mode).all()
    assert torch.equal(merged.fields, vectors)


def test_the_error_of_the_picture_is_known_throughout() -> None:
    generator = torch.Generator().manual_seed(0)
    h, w = 7, 5  # odd: windows of the last row and column reach outside
    target, first, second = (shifted(i, 0)[..., : 4 * h, : 4 * w] for i in (0, 1, 2))
    pair = (Reference(first), Reference(second))
    mode = torch.randint(0, 3, (1, h, w), generator=generator)
    used = torch.stack([mode != SECOND, mode != FIRST], 1)[..., None]
    fields = torch.randint(-9, 9, (1, 2, h, w, 2), generator=generator) * used
    merging = _Merging(Motion(mode, fields), luma(target), pair, PENALTY, None, None)
    for turn in range(4):
        merging.ask(turn // 2, turn % 2)
        predicted = sum(predict(pair, merging.mode, merging.fields)) / 2
        expected = luma(target) - luma(predicted)
        torch.testing.assert_close(merging._left[:, 4:-4, 4:-4], expected, atol=1e-5, rtol=0)
    assert (merging.mode != mode).any()


def test_error_counts_as_windows_overlap() -> None:
    """A checkered field of two vectors predicts well what blends both, and no block of it does."""
    found = motion(FIRST, (0, 0), (0, 0))
    found.fields[0, 0, :, W // 2 :] = torch.tensor([8, 0])
    pair = references((0, 0))
    target = sum(predict(pair, found.mode, found.fields)) / 2
    merged = merge(found, target, pair, 1e-6, rounds=2)
    assert torch.equal(merged.fields, found.fields)
    assert error(merged, target, shifted(0, 0)) < 1e-9


def test_weight_of_cells_decides() -> None:
    found = motion(FIRST, (0, 0), (0, 0))
    found.fields[0, 0, 3, 5] = torch.tensor([4, 0])
    target = shifted(0, 0)
    pair = references((0, 0))
    target = sum(predict(pair, found.mode, found.fields)) / 2
    kept = merge(found, target, pair, 1e-5)
    assert torch.equal(kept.fields, found.fields)
    weight = torch.full((1, H, W), 1e-6)
    assert (merge(found, target, pair, 1e-5, weight=weight).fields == 0).all()
