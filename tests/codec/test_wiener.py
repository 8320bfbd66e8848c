"""Luma is corrected by filters that bring it nearer to the source."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

import neurocodec
from neurocodec import models
from neurocodec.bitstream.reader import Reader
from neurocodec.codec import picture_encoder, wiener_choice
from neurocodec.codec.picture_encoder import PictureEncoder
from neurocodec.codec.pictures import PictureLoop
from neurocodec.codec.tokens import DEFAULT_SCALES, PictureTokens, decode_tokens
from neurocodec.codec.wiener import corrected
from neurocodec.codec.wiener_choice import choose_wiener
from neurocodec.entropy.structure import regular
from neurocodec.entropy.wiener import NEWEST, LumaFilter, Wiener, group_of
from neurocodec.tokenizer.config import MOTION_SIZES
from neurocodec.tokenizer.motion_model import MotionTokenizer
from neurocodec.tokenizer.patch import luma, planes_of
from tests import reference_synthesis as reference
from tests.conftest import moving_picture, tiny_motion_tokenizer, write_y4m
from tests.generators import random_luma_filter


def planes_with(y: np.ndarray) -> Tensor:
    chroma = torch.full((1, y.shape[0] // 2, y.shape[1] // 2), 120 / 255)
    return planes_of(torch.from_numpy(y.astype(np.float32) / 255)[None], chroma, chroma + 20 / 255)


def blurred(rows: int = 8, columns: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A picture of edges and texture, and the same blurred."""
    rng = np.random.default_rng(seed)
    y = cv2.resize(rng.integers(30, 220, (rows, columns)).astype(np.uint8), (columns * 8, rows * 8),
                   interpolation=cv2.INTER_NEAREST)  # fmt: skip
    y[:, : columns * 4] = cv2.GaussianBlur(
        rng.integers(0, 255, (rows * 8, columns * 4)).astype(np.uint8), (0, 0), 1.0
    )
    return planes_with(y), planes_with(cv2.GaussianBlur(y, (0, 0), 0.8))


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().sum())


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 2), (9, 10)])
@pytest.mark.parametrize("planes", ["luma", "chroma", "both"])
def test_it_is_as_specified(rows: int, columns: int, planes: str) -> None:
    """In integers: to the last bit. All turns and nearly all classes are among the blocks."""
    rng = np.random.default_rng(rows)
    y = rng.integers(0, 256, (8 * rows, 8 * columns))
    ramp = np.add.outer(np.arange(8 * rows) * 3, np.arange(8 * columns) * 5) % 256
    y = np.where(rng.random(y.shape) < 0.5, ramp, y)
    y[: 4 * rows] = ramp[: 4 * rows]
    uv = rng.integers(0, 256, (2, 4 * rows, 4 * columns))
    given = planes_of(*(torch.from_numpy(x[None] / 255).float() for x in (y, *uv)))
    luma_filter = random_luma_filter(rng, (rows, columns))
    luma_filter.regions[0, 0] = True
    u, v = rng.integers(-40, 41, (2, 15))
    by = Wiener(
        luma_filter if planes != "chroma" else None, (u, v) if planes != "luma" else (None, None)
    )
    found = corrected(given, by)
    theirs = reference.corrected(given[0].numpy(), by.luma, by.chroma)
    assert np.array_equal(np.round(found[0].numpy() * 255), np.round(theirs * 255))
    changed = [not torch.equal(found[:, part], given[:, part]) for part in (slice(4), 4, 5)]
    assert changed == [planes != "chroma", planes != "luma", planes != "luma"]


def test_blur_is_taken_back() -> None:
    source, decoded = blurred()
    by, found = choose_wiener(decoded, source, None, True, 1e-6)
    assert by.luma is not None
    assert by.chroma == (None, None)
    assert torch.equal(found, corrected(decoded, by))
    assert error(found, source) < 0.3 * error(decoded, source)
    assert torch.equal(found[:, 4:], decoded[:, 4:])


def test_chroma_follows_luma() -> None:
    """Where U is off by a part of how luma differs beside it, luma tells."""
    source, _ = blurred()
    y = luma(source)[0]
    off = y.roll(-1, 1)[::2, ::2] - y[::2, ::2]
    decoded = source.clone()
    decoded[:, 4] = ((source[:, 4] + 0.4 * off).clamp(0, 1) * 255).round() / 255
    by, found = choose_wiener(decoded, source, None, True, 1e-6)
    assert by.luma is None
    assert by.chroma[0] is not None
    assert by.chroma[1] is None
    assert torch.equal(found, corrected(decoded, by))
    assert error(found, source) < 0.1 * error(decoded, source)


def test_it_is_not_used_where_it_does_not_pay() -> None:
    source, decoded = blurred()
    assert not choose_wiener(decoded, decoded, None, True, 1e-6)[0].changes
    by, found = choose_wiener(decoded, source, None, True, 1e3)
    assert not by.changes
    assert found is decoded
    assert not choose_wiener(decoded, source, None, False, 1e-6)[0].changes
    assert corrected(decoded, by) is decoded


def test_dear_taps_are_fewer_and_known_ones_are_kept() -> None:
    source, decoded = blurred()
    count = []
    for penalty in (1e-6, 1e-3, 3e-3):
        by = choose_wiener(decoded, source, None, True, penalty)[0].luma
        assert by is not None
        count.append(len(by.taps))
    assert count == sorted(count, reverse=True)
    assert count[0] > count[-1]
    last, _ = choose_wiener(decoded, source, None, True, 1e-3)
    again, _ = choose_wiener(decoded, source, last, True, 1e-3)
    assert again.luma is not None
    assert again.luma.has_taps_of(last.luma)


def test_regions_where_it_would_do_harm_are_left_alone() -> None:
    source, decoded = blurred(8, 32)
    left = decoded.clone()
    left[..., 64:] = source[..., 64:]  # the right half is as it should be
    by, found = choose_wiener(left, source, None, True, 1e-6)
    assert by.luma is not None
    assert by.luma.regions[:, 0].all()
    assert not by.luma.regions[:, 2:].any()
    assert torch.equal(luma(found)[..., 128:], luma(left)[..., 128:])


def test_cells_weigh_as_the_encoder_says() -> None:
    """Half of a region is to be sharper, half of it more blurred."""
    source, decoded = blurred(8, 8)
    y = cv2.GaussianBlur((luma(decoded)[0] * 255).byte().numpy(), (0, 0), 0.8)
    target, weight = planes_with(y), torch.ones(1, 8, 8)
    target[..., :16] = source[..., :16]
    errors = []
    for heavy in (slice(0, 4), slice(4, 8)):
        weights = weight.clone()
        weights[..., heavy] = 1000
        found = choose_wiener(decoded, target, None, True, 1e-6, weights)[1]
        errors.append([error(found[..., half], target[..., half])
                       for half in (slice(0, 16), slice(16, 32))])  # fmt: skip
    assert errors[0][0] < errors[1][0]
    assert errors[1][1] < errors[0][1]


def test_large_pictures_are_looked_at_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    source, decoded = blurred(13, 8)
    decoded = decoded.clone()
    decoded[:, 4] += 0.1 * (decoded[:, 0] - decoded[:, 1])
    whole, _ = choose_wiener(decoded, source, None, True, 1e-5)
    monkeypatch.setattr(wiener_choice, "_ROWS", 32)
    bands, _ = choose_wiener(decoded, source, None, True, 1e-5)
    assert whole.luma is not None
    assert bands.luma is not None
    assert np.array_equal(bands.luma.which, whole.luma.which)
    assert np.abs(bands.luma.taps - whole.luma.taps).max() <= 1
    assert whole.chroma[0] is not None
    assert bands.chroma[0] is not None
    assert np.abs(bands.chroma[0] - whole.chroma[0]).max() <= 1


def coded_pictures(monkeypatch: pytest.MonkeyPatch) -> list[PictureTokens]:
    """In coding order, of pictures that are decoded blurred."""

    def blurring(planes: Tensor, *args: object) -> tuple[None, Tensor]:
        y = cv2.GaussianBlur((luma(planes)[0] * 255).byte().numpy(), (0, 0), 0.9)
        return None, planes_of(torch.from_numpy(y)[None].float() / 255, planes[:, 4], planes[:, 5])

    monkeypatch.setattr(picture_encoder, "choose", blurring)
    tokenizer = MotionTokenizer(MOTION_SIZES["tiny"]).eval()
    loop = PictureEncoder(tokenizer, (8, 12), 0.02, DEFAULT_SCALES, torch.device("cpu"))
    sources = [blurred(8, 12, 3)[0].roll(t, 3) for t in range(9)]
    return [loop.encode(picture, sources[picture.display]) for picture in regular([8], 9)]


def test_only_pictures_near_the_top_bring_new_taps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are coded side by side, in no fixed order."""
    last: dict[int, LumaFilter] = {}
    deep = 0
    for item in coded_pictures(monkeypatch):
        assert item.wiener is not None
        found, group = item.wiener.luma, group_of(item.picture)
        if found is None:
            continue
        if item.picture.level > NEWEST:
            assert found.has_taps_of(last[group])
            deep += 1
        else:
            last[group] = found
    assert set(last) == {0, 1, 2}
    assert deep


def test_files_have_them(tmp_path: Path, tiny_motion: Path) -> None:
    source = write_y4m(tmp_path / "in.y4m", moving_picture(12, 96, 64))
    out = tmp_path / "out.nc"
    neurocodec.compress(source, out, model=str(tiny_motion), quality=60)
    bundle = models.find(str(tiny_motion))
    with Reader(out) as reader:
        header, found = reader.header, reader.read_gop(reader.gops[0])
        assert found is not None
        items = list(decode_tokens(header, found[0], bundle.entropy(header.entropy_model)))
    wieners = [item.wiener for item in items if isinstance(item, PictureTokens)]
    assert any(wiener is not None and wiener.changes for wiener in wieners)


def test_a_decoder_corrects_what_it_decoded() -> None:
    tokenizer = tiny_motion_tokenizer(config=MOTION_SIZES["tiny"])
    loop = PictureEncoder(tokenizer, (6, 8), 0.1, DEFAULT_SCALES, torch.device("cpu"))
    item = loop.encode(regular([8], 1)[0], blurred(6, 8)[0])
    other = PictureLoop(tokenizer, (6, 8), 0.1, DEFAULT_SCALES, torch.device("cpu"))
    item.wiener = Wiener()
    plain = other.decoding(item)()
    item.wiener = Wiener(random_luma_filter(np.random.default_rng(1), (6, 8)))
    item.wiener.luma.regions[:] = True  # type: ignore[union-attr]
    found = other.decoding(item)()
    assert torch.equal(found, corrected(plain, item.wiener))
    assert not torch.equal(found, plain)
