import numpy as np
import pytest
import torch

from neurocodec.codec.merging import _Merging, errors_of, merge
from neurocodec.codec.search import Motion, levels
from neurocodec.tokenizer.motion import BOTH, DIRECT, FIRST, SECOND
from neurocodec.tokenizer.patch import luma
from neurocodec.tokenizer.quarter_pixels import UNIT, QuarterPixels, predicted
from tests.codec.test_search import PENALTY, error, planes, texture

H, W = 8, 12  # cells
DEAR = 1e-2  # squared error that a bit must save, for which vectors hardly ever differ
WHOLE = texture(112, 144)


def shifted(x: int, y: int) -> torch.Tensor:
    """A picture whose content lies x, y pixels right and down of where ``motion`` sees it from."""
    return planes(WHOLE[24 + y : 88 + y, 24 + x : 120 + x])


def motion(mode: int, *vectors: tuple[int, int]) -> Motion:
    fields = torch.tensor(vectors).view(1, 2, 1, 1, 2).repeat(1, 1, H, W, 1)
    return Motion(torch.full((1, H, W), mode), fields)


def references(*shifts: tuple[int, int]) -> tuple[QuarterPixels, QuarterPixels]:
    first, second = (QuarterPixels(shifted(*shift)) for shift in (shifts * 2)[:2])
    return first, second


def predict(
    pair: tuple[QuarterPixels, QuarterPixels], mode: torch.Tensor, fields: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return predicted(pair, mode[0].numpy(), fields[0].numpy())


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
    merged = merge(found, planes(y[0].numpy()), (QuarterPixels(still),) * 2, PENALTY)
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


@pytest.mark.parametrize("side", [2, 4])
def test_a_block_goes_where_none_of_its_cells_would_alone(side: int) -> None:
    all_the_same = motion(FIRST, (12, -8), (0, 0)).fields
    found = motion(FIRST, (12, -8), (0, 0))
    found.fields[0, 0, side : 2 * side, 4 : 4 + side] += 1
    pair = references((0, 0))
    target = sum(predict(pair, found.mode, found.fields)) / 2
    assert torch.equal(merge(found, target, pair, DEAR, sides=(1, 1)).fields, found.fields)
    assert torch.equal(merge(found, target, pair, DEAR, sides=(side,)).fields, all_the_same)
    assert torch.equal(merge(found, target, pair, 1e-6, sides=(side,)).fields, found.fields)


@pytest.mark.parametrize("side", [1, 2])
def test_a_block_becomes_direct_with_vectors_of_each_cell(side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    direct = torch.randint(-9, 9, (1, 2, H, W, 2), generator=generator)
    found = Motion(torch.full((1, H, W), DIRECT), direct.clone())
    pair = references((-2, 0), (1, 0))
    target = sum(predict(pair, found.mode, found.fields)) / 2
    found.mode[0, side : 2 * side, 4 : 4 + side] = FIRST
    found.fields[0, :, side : 2 * side, 4 : 4 + side] = torch.tensor([[[[30, 0]]], [[[0, 0]]]])
    merged = merge(found, target, pair, PENALTY, direct, sides=(side,))
    assert (merged.mode == DIRECT).all()
    assert torch.equal(merged.fields, direct)


def test_blocks_of_both_corners_are_asked() -> None:
    """Of 7 x 11 cells, not of whole blocks: counted from the top left, then from the other."""
    for row, column in ((0, 0), (5, 9)):
        found = motion(FIRST, (12, -8), (0, 0))
        mode, fields = found.mode[:, :7, :11], found.fields[:, :, :7, :11].clone()
        fields[0, 0, row : row + 2, column : column + 2] += 1
        picture = shifted(0, 0)[..., :28, :44]
        pair = (QuarterPixels(picture), QuarterPixels(picture))
        target = sum(predict(pair, mode, fields)) / 2
        merged = merge(Motion(mode, fields), target, pair, DEAR, sides=(2, 2))
        assert (merged.fields[:, 0] == torch.tensor([12, -8])).all(), (row, column)


@pytest.mark.parametrize("side", [1, 2, 4])
def test_the_error_of_the_picture_is_known_throughout(side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    h, w = 7, 5  # odd: windows of the last row and column reach outside
    target, first, second = (shifted(i, 0)[..., : 4 * h, : 4 * w] for i in (0, 1, 2))
    pair = (QuarterPixels(first), QuarterPixels(second))
    mode = torch.randint(0, 3, (1, h, w), generator=generator)
    used = torch.stack([mode != SECOND, mode != FIRST], 1)[..., None]
    fields = torch.randint(-9, 9, (1, 2, h, w, 2), generator=generator) * used
    samples = pair[0].luma[0], pair[1].luma[0]
    y = luma(target)
    merging = _Merging(mode[0], fields[0], levels(y[0]), samples, PENALTY, None, None)
    for row, column in ((0, 0), (0, side), (side, 0), (h % side, w % side)):
        if max(row - h, column - w) + side > 0:
            continue
        merging.ask(side, row, column)
        now = torch.from_numpy(merging.mode).long()[None]
        vectors = torch.from_numpy(merging.fields).long().movedim(2, 0)[None]
        left = (y - luma(sum(predict(pair, now, vectors)) / 2))[0] * 255 * UNIT
        ours = torch.from_numpy(merging.left[4:-4, 4:-4])
        torch.testing.assert_close(ours, left, atol=1.01, rtol=0)  # samples are rounded
        np.testing.assert_allclose(merging.errors, errors_of(merging.left), rtol=1e-3)
    assert (now != mode).any()


def test_error_counts_as_windows_overlap() -> None:
    """A checkered field of two vectors predicts well what blends both, and no block of it does."""
    found = motion(FIRST, (0, 0), (0, 0))
    found.fields[0, 0, :, W // 2 :] = torch.tensor([8, 0])
    pair = references((0, 0))
    target = sum(predict(pair, found.mode, found.fields)) / 2
    merged = merge(found, target, pair, 1e-6, sides=(2, 1))
    assert torch.equal(merged.fields, found.fields)
    assert error(merged, target, shifted(0, 0)) < 1e-6


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
