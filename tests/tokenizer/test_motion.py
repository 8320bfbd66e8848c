import pytest
import torch
import torch.nn.functional as F

from neurocodec.codec.frames import pad_planes
from neurocodec.tokenizer.motion import (
    BOTH,
    CHROMA_TAPS,
    DIRECT,
    FIRST,
    LUMA_TAPS,
    MARGIN,
    MAX_VECTOR,
    SECOND,
    Phases,
    Reference,
    aligned,
    compensate,
    predict,
)
from tests.conftest import moving_picture

LUMA = {0: [0, 0, 0, 64, 0, 0, 0, 0], 1: [-1, 4, -10, 58, 17, -5, 1, 0],
        2: [-1, 4, -11, 40, 40, -11, 4, -1], 3: [0, 1, -5, 17, 58, -10, 4, -1]}  # fmt: skip
CHROMA = {0: [0, 64, 0, 0], 1: [-4, 54, 16, -2], 2: [-4, 36, 36, -4], 3: [-2, 16, 54, -4]}


def picture(width: int = 48, height: int = 32, seed: int = 0) -> torch.Tensor:
    """Noise: (1, 6, H/2, W/2)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 6, height // 2, width // 2, generator=generator)


def luma(planes: torch.Tensor) -> torch.Tensor:
    return F.pixel_shuffle(planes[:, :4], 2)[:, 0]


def field(x: int, y: int, h: int = 4, w: int = 6) -> torch.Tensor:
    return torch.tensor([x, y]).expand(1, h, w, 2)


def sample(plane: torch.Tensor, y: int, x: int, taps: dict[int, list[int]]) -> float:
    """One sample of a plane (H, W) at quarter pixels (y, x), by the filters of HEVC, slowly."""
    rows, columns = taps[y % 4], taps[x % 4]
    before = len(rows) // 2 - 1
    total = 0.0
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            v = min(max(y // 4 + i - before, 0), plane.shape[0] - 1)
            u = min(max(x // 4 + j - before, 0), plane.shape[1] - 1)
            total += row * column * plane[v, u].item() / 64**2
    return total


@pytest.mark.parametrize("vector", [(0, 0), (8, -12), (5, 2), (-3, 9), (-30, -7)])
def test_blocks_equal_the_slow_reference(vector: tuple[int, int]) -> None:
    planes = picture()
    x, y = vector
    blocks = Reference(planes).luma.windows(field(x, y), 8, 8)
    assert blocks.shape == (1, 4, 6, 8, 8)
    for cy, cx, i, j in ((0, 0, 0, 0), (1, 2, 3, 5), (3, 5, 7, 7), (2, 4, 0, 7)):
        expected = sample(luma(planes)[0], (cy * 8 + i) * 4 + y, (cx * 8 + j) * 4 + x, LUMA)
        assert blocks[0, cy, cx, i, j].item() == pytest.approx(expected, abs=1e-5)


def test_whole_pixels_are_exact() -> None:
    planes = picture()
    blocks = Reference(planes).luma.windows(field(4 * 3, 4 * -2), 8, 8)
    assert torch.equal(blocks[0, 1, 2], luma(planes)[0, 8 - 2 : 16 - 2, 16 + 3 : 24 + 3])


def test_all_phases_at_once_are_those_that_are_asked_for() -> None:
    planes = torch.rand(2, 24, 40, generator=torch.Generator().manual_seed(3))
    field = torch.arange(-8, 8).view(1, 4, 4, 1).repeat(2, 1, 1, 2)
    for taps in (LUMA_TAPS, CHROMA_TAPS):
        asked, whole = (Phases(planes, taps, MARGIN, torch.float32) for _ in range(2))
        whole.fill_all()
        assert torch.allclose(asked.windows(field, 4, 8), whole.windows(field, 4, 8), atol=1e-6)


def test_chroma_is_filtered_with_its_own_taps() -> None:
    planes = picture()
    moved = compensate(Reference(planes), field(6, -10))  # 3 and -5 quarters of a chroma pixel
    for plane in (4, 5):
        for i, j in ((5, 6), (8, 11), (9, 20)):
            expected = sample(planes[0, plane], i * 4 - 5, j * 4 + 3, CHROMA)
            assert moved[0, plane, i, j].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_far_outside_there_is_nothing_but_edge(sign: int) -> None:
    planes = picture()
    reference = Reference(planes)
    far = compensate(reference, field(sign * MAX_VECTOR, 0))
    column = planes[..., :1] if sign < 0 else planes[..., -1:]
    edge = luma(planes)[..., :1] if sign < 0 else luma(planes)[..., -1:]
    torch.testing.assert_close(luma(far), edge.expand_as(luma(far)), atol=1e-5, rtol=0)
    torch.testing.assert_close(far[:, 4:], column[:, 4:].expand_as(far[:, 4:]), atol=1e-5, rtol=0)
    assert torch.equal(far, compensate(reference, field(sign * (MAX_VECTOR - 64), 0)))


def test_no_motion_gives_the_picture_itself() -> None:
    planes = pad_planes(moving_picture(1, 48, 32))[:, :, 0]
    torch.testing.assert_close(compensate(Reference(planes), field(0, 0)), planes)


def test_the_same_motion_everywhere_shifts_the_picture() -> None:
    planes = picture(64, 48)
    moved = compensate(Reference(planes), field(8, -16, 6, 8))  # 2 right, 4 up
    inside = (slice(8, -8), slice(8, -8))
    torch.testing.assert_close(
        luma(moved)[0][inside], luma(planes)[0].roll((4, -2), (0, 1))[inside]
    )
    torch.testing.assert_close(
        moved[0, 4:, 4:-4, 4:-4], planes[0, 4:].roll((2, -1), (1, 2))[:, 4:-4, 4:-4]
    )


def test_blended_windows_sum_to_one() -> None:
    planes = torch.full((2, 6, 16, 24), 0.3)
    generator = torch.Generator().manual_seed(0)
    anywhere = torch.randint(-200, 200, (2, 4, 6, 2), generator=generator)
    torch.testing.assert_close(compensate(Reference(planes), anywhere), planes)


def test_pictures_of_a_batch_do_not_mix() -> None:
    pair = torch.cat([picture(seed=1), picture(seed=2)])
    fields = torch.cat([field(5, 1), field(-9, 14)])
    both = compensate(Reference(pair), fields)
    for i in (0, 1):
        alone = compensate(Reference(pair[i : i + 1]), fields[i : i + 1])
        assert torch.equal(both[i : i + 1], alone)


def test_modes_say_which_reference_predicts() -> None:
    a, b = Reference(picture(seed=1)), Reference(picture(seed=2))
    fields = torch.stack([field(3, 0), field(0, -6)], 1)
    first, second = compensate(a, fields[:, 0]), compensate(b, fields[:, 1])

    def predicted(mode: int) -> tuple[torch.Tensor, torch.Tensor]:
        return predict((a, b), torch.full((1, 4, 6), mode), fields)

    expected = {FIRST: (first, first), SECOND: (second, second), BOTH: (first, second)}
    for mode, pair in expected.items():
        torch.testing.assert_close(predicted(mode), pair)
    for one, other in zip(predicted(DIRECT), predicted(BOTH), strict=True):
        assert torch.equal(one, other)


def test_a_vector_that_is_not_used_has_no_part_in_any_cell() -> None:
    references = Reference(picture(seed=1)), Reference(picture(seed=2))
    generator = torch.Generator().manual_seed(0)
    mode = torch.randint(0, 4, (1, 4, 6), generator=generator)
    assert {FIRST, SECOND, BOTH} <= set(mode.flatten().tolist())
    fields = torch.randint(-60, 60, (1, 2, 4, 6, 2), generator=generator)
    used = torch.stack([mode != SECOND, mode != FIRST], 1)[..., None]
    pair = predict(references, mode, fields)
    for one, other in zip(pair, predict(references, mode, fields * used), strict=True):
        assert torch.equal(one, other)
    changed = predict(references, mode, fields * ~used)
    assert not any(torch.allclose(a, b, atol=1e-2) for a, b in zip(pair, changed, strict=True))


def test_modes_of_neighbours_blend() -> None:
    a, b = Reference(torch.zeros(1, 6, 16, 24)), Reference(torch.ones(1, 6, 16, 24))
    mode = torch.zeros(1, 4, 6, dtype=torch.long)
    mode[..., 3:] = SECOND
    fields = torch.zeros(1, 2, 4, 6, 2, dtype=torch.long)
    for planes in predict((a, b), mode, fields):
        line = luma(planes)[0, 16]
        assert line[:20].max() < 1e-6
        assert line[28:].min() > 1 - 1e-6
        assert (line.diff() > -1e-6).all()


def test_cells_are_taken_from_where_vectors_point() -> None:
    cells = torch.arange(24.0).view(1, 4, 6, 1)
    assert torch.equal(aligned(cells, field(0, 0)), cells)
    # 15 quarters are less than half a cell, 16 are half a cell and count as a whole one
    assert torch.equal(aligned(cells, field(15, -16)), cells)
    assert torch.equal(aligned(cells, field(16, 0))[0, :, :-1], cells[0, :, 1:])
    assert torch.equal(aligned(cells, field(0, -32))[0, 1:], cells[0, :-1])
    far = aligned(cells, field(-MAX_VECTOR, MAX_VECTOR))
    assert (far == cells[0, -1, 0]).all()
