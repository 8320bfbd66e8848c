"""Noise is averaged away in the frames that others are predicted from, and nothing else is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from neurocodec.codec import temporal_filter
from neurocodec.codec.compress import compress
from neurocodec.codec.temporal_filter import REACH, TemporalFilter, filtered
from neurocodec.media.frame import Frame
from tests.conftest import write_clip

STEP = 0.16  # of q 50
NOISE = 5.0  # grey levels


def texture(seed: int, side: int = 160) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    coarse = random.uniform(30, 220, (side // 8, side // 8)).astype(np.float32)
    fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return fine.clip(16, 235).astype(np.float32)


def frame_of(y: NDArray[Any], u: NDArray[Any], v: NDArray[Any], pts: int) -> Frame:
    y, u, v = (p.round().clip(0, 255).astype(np.uint8) for p in (y, u, v))
    return Frame(y, u, v, pts)


def clips(frames: int, pixels: int, noise: float = NOISE) -> tuple[list[Frame], list[Frame]]:
    """A texture that moves by so many pixels a frame, an even number: with noise, and without."""
    random = np.random.default_rng(1)
    wide = texture(0)
    noisy, clean = [], []
    for i in range(frames):
        at = pixels * i
        y = wide[32:128, at : at + 96]
        planes = y, y[::2, ::2], 255 - y[::2, ::2]
        clean.append(frame_of(*planes, i))
        a, b, c = (p + random.normal(0, noise, p.shape) for p in planes)
        noisy.append(frame_of(a, b, c, i))
    return noisy, clean


def error(a: Frame, b: Frame) -> list[float]:
    """Of each plane, squared, but for its border."""
    return [
        float(np.square(p.astype(float) - q)[8:-8, 8:-8].mean())
        for p, q in zip(a.planes, b.planes, strict=True)
    ]


@pytest.mark.parametrize("pixels", [0, 2])
def test_noise_goes_where_frames_agree_moved_or_not(pixels: int) -> None:
    noisy, clean = clips(2 * REACH + 1, pixels)
    others = {k - REACH: f for k, f in enumerate(noisy) if k != REACH}
    found = filtered(noisy[REACH], others, STEP)
    before, after = error(noisy[REACH], clean[REACH]), error(found, clean[REACH])
    assert all(a < 0.45 * b for a, b in zip(after, before, strict=True))
    assert found.pts == noisy[REACH].pts


def test_what_frames_do_not_have_in_common_stays() -> None:
    noisy, _ = clips(1, 0)
    other = texture(5)[:96, :96]
    stranger = frame_of(other, other[::2, ::2], other[::2, ::2], 0)
    found = filtered(noisy[0], dict.fromkeys((-2, -1, 1, 2), stranger), STEP)
    assert max(error(found, noisy[0])) < NOISE**2 / 2  # of some 3000 between the two
    assert max(error(stranger, noisy[0])) > 1000


def test_finer_steps_are_filtered_less() -> None:
    noisy, _ = clips(3, 0, 20.0)
    changes = [
        error(filtered(noisy[1], {-1: noisy[0], 1: noisy[2]}, step), noisy[1])[0]
        for step in (0.03, 0.1, 0.4)
    ]
    assert changes == sorted(changes)
    assert changes[0] < 0.7 * changes[2]


@pytest.mark.parametrize(("frames", "reach"), [(1, 8), (7, 8), (30, 8), (30, 3), (30, 0)])
def test_frames_come_in_order_and_as_soon_as_can_be(
    frames: int, reach: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal_filter, "mini_gop_length", lambda anchor, rest, step, before: 8)
    noisy, _ = clips(frames, 2)
    noisy = [replace(frame, pts=10 * i) for i, frame in enumerate(noisy)]
    stream, found, held = TemporalFilter(STEP, reach), [], []
    for i, frame in enumerate(noisy):
        found += list(stream.add(frame))
        assert len(found) >= i + 1 - (reach if i > 8 or not reach else max(reach, 8))
        held.append(len(stream._frames))
    found += list(stream.flush())
    assert max(held) <= reach + 9
    assert [frame.pts for frame, _ in found] == [frame.pts for frame in noisy]
    assert [length for _, length in found] == [
        8 if i and i % 8 == 0 and reach else None for i in range(frames)
    ]
    for i, ((frame, _), source) in enumerate(zip(found, noisy, strict=True)):
        if i % 8 or not reach or frames == 1:
            assert frame is source
            continue
        near = range(max(0, i - reach), min(frames, i + reach + 1))
        expected = filtered(source, {k - i: noisy[k] for k in near if k != i}, STEP)
        for one, other, was in zip(frame.planes, expected.planes, source.planes, strict=True):
            assert np.array_equal(one, other)
            assert not np.array_equal(one, was)


def test_in_chains_of_single_steps_frames_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy, _ = clips(30, 0)
    asked, befores = [], []

    def length(
        anchor: NDArray[np.uint8], rest: list[NDArray[np.uint8]], step: float, before: int
    ) -> int:
        assert step == STEP
        befores.append(before)
        asked.append([next(k for k, f in enumerate(noisy) if s is f.y) for s in (anchor, *rest)])
        return 2 if len(asked) == 2 else 1

    monkeypatch.setattr(temporal_filter, "mini_gop_length", length)
    monkeypatch.setattr(temporal_filter, "thumbnail", lambda y: y)
    stream = TemporalFilter(STEP)
    found = [f for frame in noisy for f in stream.add(frame)] + list(stream.flush())
    groups = [(0, 9), (8, 17), (16, 25)]
    assert befores == [8, 1, 2]
    assert asked == [list(range(*group)) for group in groups]
    assert [i for i, (frame, _) in enumerate(found) if frame is not noisy[i]] == [16]
    assert {i: length for i, (_, length) in enumerate(found) if length} == {
        8: 1,
        16: 2,
        24: 1,
    }


def test_odd_and_tiny_frames() -> None:
    y = np.full((5, 3), 90, np.uint8)
    frames = [Frame(y, y[:3, :2], y[:3, :2], i) for i in range(3)]
    assert np.array_equal(filtered(frames[1], {-1: frames[0], 1: frames[2]}, STEP).y, y)


@pytest.mark.parametrize(
    ("tune", "effort", "places", "reach"),
    [(None, "medium", [0, 8], 8), ("psnr", "fast", [0, 8], 2), ("grain", "medium", [], 0)],
)
def test_compress_filters_unless_grain_is_to_stay(
    tune: str | None, effort: str, places: list[int], reach: int, tmp_path: Path,
    tiny_motion: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen = []

    def record(frame: Frame, others: dict[int, Frame], step: float) -> Frame:
        seen.append((frame.pts, sorted(others)))
        return frame

    monkeypatch.setattr(temporal_filter, "filtered", record)
    monkeypatch.setattr(temporal_filter, "mini_gop_length", lambda anchor, rest, step, before: 8)
    clip = write_clip(tmp_path / "a.mkv", 12, 64, 48)
    compress(clip, tmp_path / "a.nc", model=str(tiny_motion), gop=20, tune=tune, effort=effort)
    distance = seen[1][0] // 8 if seen else 1
    assert [pts // distance for pts, _ in seen] == places
    for at, (_, others) in zip(places, seen, strict=True):
        near = range(max(-at, -reach), min(11 - at, reach) + 1)
        assert others == [k for k in near if k]
