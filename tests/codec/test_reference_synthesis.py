"""The pictures of the golden files are those that section 11 of the specification says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from neurocodec import models
from neurocodec.bitstream.payloads import STEP_ONE
from neurocodec.bitstream.reader import Reader
from neurocodec.codec.picture_encoder import PictureEncoder
from neurocodec.codec.pictures import PictureLoop
from neurocodec.codec.tokens import (
    DEFAULT_SCALES,
    LatentTokens,
    PictureTokens,
    decode_tokens,
    grid_of,
    kind_of,
    picture_head,
)
from neurocodec.entropy.field import DIRECT
from neurocodec.entropy.structure import Picture
from neurocodec.tokenizer.config import MOTION_SIZES
from tests import reference_synthesis as reference
from tests.conftest import tiny_motion_tokenizer

MOTION = Path(__file__).parent.parent / "golden" / "motion"


def tensors_of(network: torch.nn.Module) -> reference.Tensors:
    return {
        re.sub(r"^tokenizer\.", "", key): value.double().numpy()
        for key, value in network.state_dict().items()
    }


def intra(
    tensors: reference.Tensors, parts: list[LatentTokens], step: float, scales: tuple[int, ...],
    masking: int,
) -> np.ndarray:  # fmt: skip
    """What the reference makes of an intra picture and its bases."""
    picture = np.zeros(0)
    for kind, part in enumerate(parts):
        h, w = part.depth.shape
        predicted = reference.enlarged(picture, h, w) if kind else np.full((6, 4 * h, 4 * w), 0.5)
        picture = reference.picture(
            tensors, kind, step * scales[kind] / 64, (predicted, predicted), part.tokens, masking,
            part.transform,
        )  # fmt: skip
    return picture


def test_cells_with_transforms_are_as_specified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurocodec.tokenizer.motion_inference.has_fast_bf16", lambda _: False)
    network = tiny_motion_tokenizer(config=MOTION_SIZES["tiny"])
    loop = PictureEncoder(network, (6, 8), 0.1, DEFAULT_SCALES, torch.device("cpu"), 16)
    random = torch.Generator().manual_seed(3)
    planes = torch.rand(1, 6, 6, 8, generator=random).repeat_interleave(4, 2)
    planes = planes.repeat_interleave(4, 3).roll((2, 2), (2, 3))  # edges within cells
    item = loop.encode(Picture(0, (), 0), planes)
    assert all(part.transform is not None and part.transform.any() for part in item.parts)
    theirs = intra(tensors_of(network), item.parts, 0.1, DEFAULT_SCALES, 16)
    by, t = item.loop_filter, 0.1 * DEFAULT_SCALES[2] / 64
    assert by is not None
    theirs = reference.smoothed(theirs, by.strengths, by.wide, by.blocks, t, by.offsets)
    assert item.wiener is not None
    theirs = reference.corrected(theirs, item.wiener.luma, item.wiener.chroma)
    assert np.abs(loop.pictures[0][0].numpy() - theirs).max() * 255 < 1.5


@pytest.mark.parametrize(
    ("name", "gop", "pictures"),
    [
        ("picture.nc", 0, 1),
        ("clip.nc", 0, 4),
        ("extended-picture.nc", 0, 1),
        ("extended-clip.nc", 0, 4),
    ],
)
def test_pictures_are_as_specified(
    name: str, gop: int, pictures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In coding order; each from our own references, so that rounding does not add up."""
    monkeypatch.setattr("neurocodec.tokenizer.motion_inference.has_fast_bf16", lambda _: False)
    bundle = models.find(str(MOTION / "tiny.safetensors"))
    network = bundle.tokenizer()
    tensors = tensors_of(network)
    with Reader(MOTION / name) as reader:
        header, found = reader.header, reader.read_gop(reader.gops[gop])
    assert found is not None
    video, (scales, masking) = found[0], picture_head(found[0])
    assert masking
    grid, step = grid_of(header.width, header.height), found[0].step / STEP_ONE
    loop = PictureLoop(network, grid, step, scales, torch.device("cpu"), masking)
    modes: set[int] = set()
    strengths: set[int] = set()
    wieners = 0
    done: dict[int, np.ndarray] = {}
    for item, _ in zip(
        decode_tokens(header, video, bundle.entropy(header.entropy_model)),
        range(pictures),
        strict=False,
    ):
        assert isinstance(item, PictureTokens)
        t = step * scales[2 + min(item.picture.level, 4)] / 64
        if item.motion is None:
            theirs = intra(tensors, item.parts, step, scales, masking)
        else:
            first, *_, last = [done[place] for place in item.picture.refs]
            both = reference.predictions((first, last), item.motion.mode, item.motion.mv)
            kind = kind_of(item.picture)
            theirs = reference.picture(tensors, kind, t, both, item.parts[0].tokens, masking)
            modes |= set(item.motion.mode.flat)
        by = item.loop_filter
        assert by is not None
        theirs = reference.smoothed(theirs, by.strengths, by.wide, by.blocks, t, by.offsets)
        strengths |= set(by.strengths)
        wiener, item.wiener = item.wiener, None
        planes = loop.decoding(item)()
        ours = planes[0].double().numpy()
        levels = np.abs(ours - theirs) * 255
        assert levels.max() < 2.5
        assert (levels > 0.5).mean() < 0.05  # our references are interpolated in float16
        if wiener is not None:  # which is exact, and makes more of differences
            item.wiener = wiener
            wieners += wiener.changes
            planes = loop.decoding(item)()
            theirs = reference.corrected(ours, wiener.luma, wiener.chroma)
            ours = planes[0].double().numpy()
            assert np.abs(ours - theirs).max() < 1e-6
        loop.pictures[item.picture.display] = planes
        done[item.picture.display] = ours
    assert bool(wieners) == name.startswith("extended")
    if name == "clip.nc":
        assert {0, DIRECT} <= modes, modes
        assert max(strengths)
