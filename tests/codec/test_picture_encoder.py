"""How frames of a GOP are put into mini-GOPs, and what their motion must be worth."""

from typing import Any

import numpy as np
import pytest
import torch

from neurocodec.codec import picture_encoder
from neurocodec.codec.picture_encoder import GopStream, PictureEncoder
from neurocodec.entropy.motion import Field
from neurocodec.entropy.structure import Picture, regular
from neurocodec.tokenizer.config import MOTION_SIZES
from neurocodec.tokenizer.motion_model import MotionTokenizer


class Recorder:
    """In place of an encoder of pictures: says which ones it got, and the number in each."""

    def encode(self, picture: Picture, planes: torch.Tensor) -> tuple[Picture, int]:
        return picture, int(planes)

    def forget(self, keep: tuple[int, ...]) -> None:
        pass


def coded(frames: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a stream of so many frames has coded; lengths: what the lookahead says, in turn."""
    given = iter(lengths)
    monkeypatch.setattr(picture_encoder, "mini_gop_length", lambda anchor, rest: next(given))
    stream = GopStream(Recorder())  # type: ignore[arg-type]
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
    found = coded(21, chosen, monkeypatch)
    assert [picture for picture, _ in found] == regular(lengths, 21)
    assert all(picture.display == number for picture, number in found)


def test_motion_of_an_anchor_must_save_twice_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = MotionTokenizer(MOTION_SIZES["tiny"]).eval()
    encoder = PictureEncoder(tokenizer, (2, 2), 0.1, (64,) * 7, torch.device("cpu"))
    penalties = []
    search = encoder._search

    def noting(picture: Picture, planes: torch.Tensor, penalty: float) -> Field:
        penalties.append(penalty)
        return search(picture, planes, penalty)

    monkeypatch.setattr(encoder, "_search", noting)
    for picture in regular([2], 3):
        encoder.encode(picture, torch.full((1, 6, 8, 8), 0.3))
    assert penalties[0] == pytest.approx(2 * penalties[1])
