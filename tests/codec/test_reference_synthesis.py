"""The pictures of the golden files are those that section 11 of the specification says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from neurocodec import models
from neurocodec.bitstream.payloads import STEP_ONE
from neurocodec.bitstream.reader import Reader
from neurocodec.codec.pictures import PictureLoop
from neurocodec.codec.tokens import (
    PictureTokens,
    decode_tokens,
    grid_of,
    kind_of,
    picture_head,
)
from neurocodec.entropy.field import DIRECT
from tests import reference_synthesis as reference

MOTION = Path(__file__).parent.parent / "golden" / "motion"


@pytest.mark.parametrize(("name", "gop", "pictures"), [("picture.nc", 0, 1), ("clip.nc", 0, 4)])
def test_pictures_are_as_specified(
    name: str, gop: int, pictures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In coding order; each from our own references, so that rounding does not add up."""
    monkeypatch.setattr("neurocodec.tokenizer.motion_inference.has_fast_bf16", lambda _: False)
    bundle = models.find(str(MOTION / "tiny.safetensors"))
    network = bundle.tokenizer()
    tensors = {
        re.sub(r"^tokenizer\.", "", key): value.double().numpy()
        for key, value in network.state_dict().items()
    }
    with Reader(MOTION / name) as reader:
        header, found = reader.header, reader.read_gop(reader.gops[gop])
    assert found is not None
    video, (scales, masking) = found[0], picture_head(found[0])
    assert masking
    grid, step = grid_of(header.width, header.height), found[0].step / STEP_ONE
    loop = PictureLoop(network, grid, step, scales, torch.device("cpu"), masking)
    modes: set[int] = set()
    done: dict[int, np.ndarray] = {}
    for item, _ in zip(
        decode_tokens(header, video, bundle.entropy(header.entropy_model)),
        range(pictures),
        strict=False,
    ):
        assert isinstance(item, PictureTokens)
        t = step * scales[2 + min(item.picture.level, 4)] / 64
        if item.motion is None:
            theirs = np.zeros(0)
            for kind, part in enumerate(item.parts):
                h, w = part.depth.shape
                predicted = np.full((6, 4 * h, 4 * w), 0.5)
                if kind:
                    predicted = reference.enlarged(theirs, h, w)
                size = step * scales[kind] / 64 if kind < 2 else t
                both = (predicted, predicted)
                theirs = reference.picture(tensors, kind, size, both, part.tokens, masking)
        else:
            first, *_, last = [done[place] for place in item.picture.refs]
            both = reference.predictions((first, last), item.motion.mode, item.motion.mv)
            kind = kind_of(item.picture)
            theirs = reference.picture(tensors, kind, t, both, item.parts[0].tokens, masking)
            modes |= set(item.motion.mode.flat)
        ours = loop.decode(item)[0].double().numpy()
        levels = np.abs(ours - theirs) * 255
        assert levels.max() < 2.5
        assert (levels > 0.5).mean() < 0.05  # our references are interpolated in float16
        done[item.picture.display] = ours
    if pictures > 1:
        assert {0, DIRECT} <= modes, modes
