"""What the motion of pictures must be worth."""

from typing import Any

import pytest
import torch

from neurocodec.codec.picture_encoder import PictureEncoder
from neurocodec.entropy.field import Field
from neurocodec.entropy.structure import regular
from neurocodec.tokenizer.config import MOTION_SIZES
from neurocodec.tokenizer.motion_model import MotionTokenizer


def test_motion_of_an_anchor_must_save_twice_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = MotionTokenizer(MOTION_SIZES["tiny"]).eval()
    encoder = PictureEncoder(tokenizer, (2, 2), 0.1, (64,) * 7, torch.device("cpu"))
    penalties = []
    search = encoder._search

    def noting(*args: Any) -> Field:
        penalties.append(args[3])
        return search(*args)

    monkeypatch.setattr(encoder, "_search", noting)
    for picture in regular([2], 3):
        encoder.encode(picture, torch.full((1, 6, 8, 8), 0.3))
    assert penalties[0] == pytest.approx(2 * penalties[1])
