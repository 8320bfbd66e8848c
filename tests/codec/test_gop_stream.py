"""How frames of a GOP are put into mini-GOPs: by the lookahead, and by trial encodes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from neurocodec import models
from neurocodec.codec import gop_stream, trial
from neurocodec.codec.effort import EFFORTS
from neurocodec.codec.gop_stream import GopStream
from neurocodec.codec.picture_encoder import PictureEncoder
from neurocodec.codec.pictures import Box
from neurocodec.codec.tokens import DEFAULT_SCALES, PICTURES, EntropyModel, PictureTokens, before_of
from neurocodec.codec.trial import CELLS, best_length
from neurocodec.entropy.adaptive import empty_prior
from neurocodec.entropy.field import Field, MotionMemory
from neurocodec.entropy.motion import MOTION_PREFIX, empty_motion_prior
from neurocodec.entropy.structure import Picture, regular
from neurocodec.tokenizer.config import MOTION_SIZES
from neurocodec.tokenizer.motion_model import MotionTokenizer


class Recorder:
    """In place of an encoder of pictures: says which ones it got, and the number in each."""

    mini_gops, _mini_gop = PictureEncoder.mini_gops, PictureEncoder._mini_gop
    step, alone = 0.1, True

    def __init__(self, trials: int = 0) -> None:
        self.effort = replace(EFFORTS["medium"], trials=trials)

    def _prepare(
        self, picture: Picture, planes: torch.Tensor
    ) -> Callable[[], tuple[PictureTokens, torch.Tensor]]:
        return lambda: (self.encode(picture, planes), planes)

    def _take(self, item: PictureTokens, decoded: torch.Tensor) -> None:
        pass

    def encode(self, picture: Picture, planes: torch.Tensor) -> PictureTokens:
        return PictureTokens(picture, None, [int(planes)])  # type: ignore[list-item]

    def forget(self, keep: tuple[int, ...]) -> None:
        pass


def coded(stream: GopStream, frames: int) -> list[Any]:
    small = np.zeros((16, 16), np.uint8)
    out = [item for i in range(frames) for item in stream.add(torch.tensor(i), small)]
    return out + list(stream.flush())


@pytest.mark.parametrize(
    ("chosen", "lengths"),
    [([8, 8, 8], [8]), ([2, 8, 1], [2, 2, 2, 2, 8, 1]), ([8, 1, 2], [8] + [1] * 8 + [2])],
)
def test_eight_frames_are_one_mini_gop_or_several(
    chosen: list[int], lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter(chosen)
    monkeypatch.setattr(
        gop_stream, "mini_gop_length", lambda anchor, rest, step, before: next(given)
    )
    found = coded(GopStream(Recorder()), 21)  # type: ignore[arg-type]
    assert [item.picture for item in found] == regular(lengths, 21)
    assert all(item.picture.display == item.parts[0] for item in found)


def test_what_is_known_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gop_stream, "mini_gop_length", lambda anchor, rest, step, before: before)
    stream, small = GopStream(Recorder()), np.zeros((16, 16), np.uint8)  # type: ignore[arg-type]
    lengths = {8: 2, 16: 8, 24: 1}
    found = [x for i in range(28) for x in stream.add(torch.tensor(i), small, lengths.get(i))]
    found += list(stream.flush())
    assert [item.picture for item in found] == regular([2, 2, 2, 2, 8] + [1] * 11, 28)


@pytest.mark.parametrize(
    ("trials", "still", "tried", "lengths"),
    [
        (1, [], 5, [8, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 8, 2]),
        (2, [], 3, [8, 8] + [1] * 16 + [2]),
        (2, [1], 2, [8, 8, 8, 1]),
        (8, [0, 1, 2, 3, 4], 0, [8]),
        (0, [], 0, [4]),
    ],
)
def test_trials_are_made_every_so_many_groups(
    trials: int,
    still: list[int],
    tried: int,
    lengths: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said, calls, groups = iter([8, 1, 2, 8, 2]), [], iter(range(10))

    def best(
        loop: Any, entropy: Any, anchors: tuple[int, int], known: Any, group: Any, steps: int
    ) -> int:
        calls.append(anchors)
        assert set(known) == set(anchors)
        assert len(group) == 8
        return next(said)

    monkeypatch.setattr(gop_stream, "best_length", best)
    monkeypatch.setattr(gop_stream, "before_of", lambda tokens: tokens)
    monkeypatch.setattr(gop_stream, "is_still", lambda frames: next(groups) in still)
    monkeypatch.setattr(gop_stream, "mini_gop_length", lambda anchor, rest, step, before: 4)
    stream = GopStream(Recorder(trials), entropy=object())  # type: ignore[arg-type]
    found = coded(stream, 41)
    assert len(calls) == tried
    assert [item.picture for item in found] == regular(lengths, 41)


ENTROPY = EntropyModel(
    PICTURES,
    models.token_shape(MOTION_SIZES["tiny"]),
    empty_prior(models.token_shape(MOTION_SIZES["tiny"]))
    | {MOTION_PREFIX + name: table for name, table in empty_motion_prior().items()},
)


def encoder_after(frames: list[torch.Tensor], grid: tuple[int, int]) -> tuple[Any, Any]:
    """An encoder that has coded the first frame, and what is known of it."""
    torch.manual_seed(0)
    tokenizer = MotionTokenizer(MOTION_SIZES["tiny"]).eval()
    encoder = PictureEncoder(tokenizer, grid, 0.1, DEFAULT_SCALES, torch.device("cpu"))
    item = encoder.encode(Picture(0, (), 0), frames[0])
    return encoder, {0: before_of(item.parts[-1])}


def drifting(pixels: int, rows: int, columns: int, noise: float) -> list[torch.Tensor]:
    """Nine frames of a texture that moves to the left by so many pixels each, an even number."""
    random = torch.Generator().manual_seed(1)
    wide = torch.rand(1, 6, 4 * rows, 4 * columns + 4 * pixels, generator=random)
    wide = torch.nn.functional.avg_pool2d(wide, 5, 1, 2)
    out = []
    for i in range(9):
        at = i * pixels // 2
        frame = wide[..., at : at + 4 * columns].clone()
        frame[:, :4] = frame[:, :1]
        frame += noise * torch.randn(frame.shape, generator=random)
        out.append((2 * frame - 0.5).clamp(0, 1))
    return out


@pytest.mark.parametrize(("pixels", "best"), [(0, 8), (24, 1)])
def test_what_moves_too_far_for_a_mini_gop_is_coded_in_steps(pixels: int, best: int) -> None:
    """Over eight frames 192 of the 96 pixels there are: nothing of a frame is left."""
    frames = drifting(pixels, 8, 12, 0.02)
    encoder, known = encoder_after(frames, (8, 12))
    before = dict(encoder.pictures)
    assert best_length(encoder, ENTROPY, (0, 0), known, frames[1:], 4) == best
    assert encoder.pictures == before


def test_a_trial_changes_nothing_that_is_coded_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it fail where motion is known, and of a part that does not begin at the corner."""
    monkeypatch.setattr(trial, "CELLS", (5, 6))
    frames = drifting(4, 8, 12, 0.02)
    results = []
    for tries in (True, False):
        encoder, known = encoder_after(frames, (8, 12))
        first = list(encoder.mini_gops((0, 0), frames[1:5], 4))
        known[4] = before_of(first[0].parts[-1])
        if tries:
            best_length(encoder, ENTROPY, (0, 4), known, frames[5:], 4)
        results.append(list(encoder.mini_gops((0, 4), frames[5:], 4)))
    for one, other in zip(*results, strict=True):
        assert one.picture == other.picture
        assert np.array_equal(one.parts[0].tokens, other.parts[0].tokens)
        assert one.motion is not None
        assert other.motion is not None
        assert np.array_equal(one.motion.mv, other.motion.mv)


def test_of_large_pictures_the_middle_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = CELLS[0] + 3, CELLS[1] + 2
    frames = [torch.zeros(1, 6, 4 * rows, 4 * columns)] * 9
    for frame in frames:
        frame[:, :, 4:-4, 4:-4] = 0.5
    encoder, known = encoder_after(frames, (rows, columns))
    seen = []

    def cost(part: Any, entropy: Any, anchors: Any, known: Any, box: Box, *rest: Any) -> float:
        seen.append((part.grid, known[0].depth.shape, part.pictures[0].shape[2:]))
        return 1.0

    monkeypatch.setattr(trial, "_cost", cost)
    assert best_length(encoder, ENTROPY, (0, 0), known, frames[1:], 4) == 8
    assert seen[0] == (CELLS, (rows, columns), (4 * CELLS[0], 4 * CELLS[1]))
    assert Box(1, 2, 3, 4).of_cells(np.arange(60).reshape(6, 10)).tolist() == [
        [12, 13, 14, 15], [22, 23, 24, 25], [32, 33, 34, 35],
    ]  # fmt: skip


def test_known_motion_is_cropped() -> None:
    memory = MotionMemory()
    mode = np.arange(20, dtype=np.uint8).reshape(4, 5) % 2
    mv = np.arange(80, dtype=np.int16).reshape(2, 4, 5, 2)
    memory.remember(Picture(8, (0, 0), 1), Field(mode, mv), (0,))
    part = memory.cropped(slice(1, 3), slice(2, 5))
    suggested = part.suggest(Picture(4, (0, 8), 2))
    whole = memory.suggest(Picture(4, (0, 8), 2))
    assert suggested is not None
    assert whole is not None
    assert np.array_equal(suggested, whole[:, 1:3, 2:5])
