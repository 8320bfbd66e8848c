import cv2
import numpy as np
import pytest

from neurocodec.codec.lookahead import (
    LONG,
    CutFinder,
    compensated_error,
    mini_gop_length,
    thumbnail,
)
from tests.codec.test_search import texture

Sequence = list[np.ndarray]


def scene(seed: int, height: int = 144, width: int = 400) -> np.ndarray:
    """Detail of six pixels on shades of fifty."""
    fine = texture(height, width, seed)
    coarse = np.kron(texture(height // 8, width // 8, seed + 100), np.ones((8, 8)))
    return (fine * 80 + coarse * 120 + 20).astype(np.uint8)


def pan(seed: int, frames: int, speed: int, width: int = 176) -> Sequence:
    """A camera that moves over a scene, ``speed`` pixels a frame."""
    whole = scene(seed)
    return [whole[:, speed * t : speed * t + width] for t in range(frames)]


def cuts(frames: Sequence) -> list[int]:
    finder = CutFinder()
    return [i for i, frame in enumerate(frames) if finder.is_cut(thumbnail(frame))]


def test_thumbnails_are_small_and_of_the_same_shape() -> None:
    assert thumbnail(np.zeros((1080, 1920), np.uint8)).shape == (90, 160)
    assert thumbnail(np.zeros((144, 176), np.uint8)).shape == (144, 176)
    assert thumbnail(np.zeros((8, 8), np.uint8)).shape == (16, 16)


def test_cuts_between_pans_are_found_and_nothing_else() -> None:
    frames = pan(0, 8, 3) + pan(1, 6, 10) + pan(2, 7, 0) + pan(3, 8, 6)
    assert cuts(frames) == [8, 14, 21]


@pytest.mark.parametrize("speed", [0, 2, 5, 10])
def test_a_pan_has_no_cut(speed: int) -> None:
    assert cuts(pan(4, 12, speed)) == []


@pytest.mark.parametrize("length", [6, 12])
def test_cross_fades_have_no_cut(length: int) -> None:
    a, b = (scene(seed)[:, :176].astype(np.float64) for seed in (5, 6))
    shares = np.concatenate([np.zeros(3), np.linspace(0, 1, length), np.ones(3)])
    assert cuts([((1 - s) * a + s * b).astype(np.uint8) for s in shares]) == []


def test_fades_from_and_to_black_have_no_cut() -> None:
    a = scene(5)[:, :176].astype(np.float64)
    shares = np.concatenate([np.zeros(3), np.linspace(0, 1, 18), np.ones(3)])
    up = [(s * a).astype(np.uint8) for s in shares]
    assert cuts(up) == []
    assert cuts(up[::-1]) == []


def test_a_first_frame_and_a_frozen_one_are_no_cuts() -> None:
    frame = scene(7)[:, :176]
    assert cuts([frame] * 4) == []


def test_motion_explains_a_pan_but_not_another_scene() -> None:
    one, two = (thumbnail(f) for f in pan(8, 2, 6))
    other = thumbnail(scene(9)[:, :176])
    assert compensated_error(one, one) == 0
    assert compensated_error(two, one) < 0.1 * compensated_error(other, one)


def zoom(seed: int, frames: int, speed: float, width: int = 176) -> Sequence:
    """A camera that closes in, by the factor ``1 + speed`` a frame, without noise."""
    whole = scene(seed, width=width)
    h, w = whole.shape
    out = []
    for t in range(frames):
        scale = (1 + speed) ** t
        move = np.array([[scale, 0, (1 - scale) * w / 2], [0, scale, (1 - scale) * h / 2]])
        out.append(cv2.warpAffine(whole, move, (w, h), flags=cv2.INTER_CUBIC))
    return out


def noisy(frames: Sequence, sigma: float) -> Sequence:
    noise = np.random.default_rng(0)
    return [(f + noise.normal(0, sigma, f.shape)).clip(0, 255).astype(np.uint8) for f in frames]


def length_of(frames: Sequence, before: int = LONG, step: float = 0.1) -> int:
    small = [thumbnail(f) for f in frames]
    return mini_gop_length(small[0], small[1:], step, before)


def test_mini_gops_are_long_where_motion_explains_pictures_far_apart() -> None:
    assert length_of(noisy(pan(8, 9, 2), 4)) == LONG


def test_mini_gops_are_long_where_nothing_moves() -> None:
    assert length_of([scene(8)[:, :176]] * 9) == LONG


def test_clean_pictures_that_grow_fast_go_step_by_step() -> None:
    assert length_of(zoom(8, 9, 0.08)) == 1


def test_where_little_is_new_noise_does_not_decide_for_steps() -> None:
    assert length_of(zoom(8, 9, 0.04)) == LONG


def test_where_much_is_new_in_each_picture_steps_need_not_be_better_by_much() -> None:
    frames = noisy(pan(8, 9, 6), 8)
    assert [length_of(frames, step=step) for step in (0.02, 0.3, 0.6)] == [1, 1, LONG]


def test_where_there_were_steps_they_go_on_unless_they_are_worse() -> None:
    frames = noisy(pan(8, 9, 4), 4)
    assert [length_of(frames, before) for before in (LONG, 1)] == [LONG, 1]
    assert length_of(noisy(pan(8, 9, 2), 4), 1) == LONG


def test_for_a_last_frame_there_is_nothing_to_choose() -> None:
    assert length_of(zoom(8, 2, 0.04)) == LONG


def test_a_clip_may_move_fast_from_the_start() -> None:
    assert cuts(pan(4, 8, 16)) == []
