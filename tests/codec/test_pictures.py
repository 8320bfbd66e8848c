"""The ``motion`` family through files: what the encoder made is what comes out."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import neurocodec
from neurocodec import models
from neurocodec.bitstream.payloads import VideoGop
from neurocodec.bitstream.reader import Reader
from neurocodec.bitstream.writer import Writer
from neurocodec.codec import pictures
from neurocodec.codec.effort import DEFAULT_TUNE, TUNES
from neurocodec.codec.frames import crop_planes, pad_planes
from neurocodec.codec.picture_encoder import PictureEncoder
from neurocodec.codec.tokens import (
    DEFAULT_SCALES,
    EXTENDED_PICTURES,
    PictureTokens,
    decode_tokens,
    hash_tokens,
    picture_head,
)
from neurocodec.codec.verify import verify
from neurocodec.entropy.structure import Picture, mini_gop
from neurocodec.media.frame import Frame
from neurocodec.tokenizer.quarter_pixels import QuarterPixels
from tests.conftest import moving_picture, two_scenes, write_y4m


def decoded(path: Path, model: Path) -> list[Frame]:
    with neurocodec.open(path, str(model), "cpu") as video:
        return list(video)


def same(a: Frame, b: Frame) -> bool:
    pairs = zip(a.planes, b.planes, strict=True)
    return a.pts == b.pts and all(np.array_equal(x, y) for x, y in pairs)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / (np.square(a.astype(float) - b).mean() + 1e-9)))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return two_scenes(50, 38, 20, 6)


def test_of_large_pictures_fewer_references_are_held(
    tiny_motion: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = models.read_bundle(tiny_motion).tokenizer()
    grid, group = (5, 7), [pad_planes([f])[:, :, 0] for f in frames[:5]]
    decoded = []
    for large, held in ((100, 3), (30, 2)):
        monkeypatch.setattr(pictures, "_LARGE", large)
        loop = PictureEncoder(tokenizer, grid, 0.1, DEFAULT_SCALES, torch.device("cpu"))
        loop.encode(Picture(0, (), 0), group[0])
        alive: list[weakref.ref[QuarterPixels]] = []
        seen: set[int] = set()

        def noting(*args: Any, alive: Any = alive, seen: set[int] = seen) -> QuarterPixels:
            alive.append(weakref.ref(made := QuarterPixels(*args)))
            seen.add(sum(r() is not None for r in alive))
            return made

        monkeypatch.setattr(pictures, "QuarterPixels", noting)
        for picture in mini_gop(0, 0, 4):
            loop.encode(picture, group[picture.display])
        assert max(seen) == held
        decoded.append(loop.pictures)
    assert all(torch.equal(decoded[0][k], decoded[1][k]) for k in range(5))


@pytest.fixture(scope="module")
def compressed(
    tmp_path_factory: pytest.TempPathFactory, tiny_motion: Path, frames: list[Frame]
) -> Path:
    """GOPs of 9, 9, 2 and, behind a cut, 6 frames."""
    folder = tmp_path_factory.mktemp("motion")
    source = write_y4m(folder / "a.y4m", frames)
    neurocodec.compress(source, folder / "a.nc", model=str(tiny_motion), gop=9, device="cpu")
    return folder / "a.nc"


@pytest.mark.parametrize(
    ("count", "size", "gop"),
    [
        (1, (64, 48), None), (2, (64, 48), None), (8, (50, 38), None), (14, (50, 38), None),
        (18, (16, 16), 17), (7, (16, 16), 1), (5, (1, 1), 3), (4, (8, 3), None), (4, (3, 130), 3),
        (3, (130, 9), None), (9, (300, 31), None),
    ],
)  # fmt: skip
def test_every_frame_comes_back(
    count: int, size: tuple[int, int], gop: int | None, tmp_path: Path, tiny_motion: Path
) -> None:
    given = moving_picture(count, *size)
    source, out = write_y4m(tmp_path / "a.y4m", given), tmp_path / "a.nc"
    stats = neurocodec.compress(source, out, model=str(tiny_motion), quality=80, gop=gop)
    assert (stats.frames, stats.bytes) == (count, out.stat().st_size)
    found = decoded(out, tiny_motion)
    assert len(found) == count
    for ours, theirs in zip(found, given, strict=True):
        assert all(a.shape == b.shape for a, b in zip(ours.planes, theirs.planes, strict=True))
        assert psnr(ours.y, theirs.y) > 28
        assert psnr(ours.u, theirs.u) > 28


def test_a_tune_is_written_and_decoded(tmp_path: Path, tiny_motion: Path) -> None:
    """The more it masks, the better is what is still, against what is restless."""
    rng = np.random.default_rng(0)
    planes = [np.full((48, 64), 120, np.uint8)] + [np.full((24, 32), 128, np.uint8)] * 2
    planes[0][:, 32:] = rng.integers(0, 255, (48, 32))
    planes[0][:, :16] += rng.integers(0, 40, (48, 16), np.uint8)
    source, out = write_y4m(tmp_path / "a.y4m", [Frame(*planes, 0)] * 3), tmp_path / "a.nc"
    found = {}
    for tune, masking in TUNES.items():
        neurocodec.compress(source, out, model=str(tiny_motion), tune=tune, overwrite=True)
        with Reader(out) as reader:
            video = reader.read_gop(reader.gops[0])
        assert video is not None
        assert picture_head(video[0])[1] == masking
        error = np.square(decoded(out, tiny_motion)[-1].y.astype(float) - planes[0])
        found[tune] = (error[:, :16].mean(), error[:, 40:].mean() / error[:, :16].mean())
    assert found["ms-ssim"][0] < found["balanced"][0] < found["psnr"][0]
    assert found["ms-ssim"][1] > 1.2 * found["psnr"][1]


@pytest.mark.parametrize("effort", ["fast", "medium", "slow"])
def test_the_decoder_has_what_the_encoder_has(
    effort: str, tmp_path: Path, tiny_motion: Path, frames: list[Frame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    gops: list[dict[int, Frame]] = []
    take = PictureEncoder._take

    def keeping(self: PictureEncoder, item: PictureTokens, planes: torch.Tensor) -> None:
        take(self, item, planes)
        display = item.picture.display
        if display == 0:
            gops.append({})
        gops[-1][display] = Frame(*crop_planes(planes[:, :, None], (50, 38))[0], 0)

    monkeypatch.setattr(PictureEncoder, "_take", keeping)
    source, out = write_y4m(tmp_path / "a.y4m", frames), tmp_path / "a.nc"
    neurocodec.compress(source, out, model=str(tiny_motion), gop=14, effort=effort, device="cpu")
    assert [len(gop) for gop in gops] == [14, 6, 6]
    expected = [gop[i] for gop in gops for i in sorted(gop)]
    for ours, theirs in zip(decoded(out, tiny_motion), expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours.planes, theirs.planes, strict=True))


def test_a_scene_cut_starts_a_gop(compressed: Path, frames: list[Frame]) -> None:
    with Reader(compressed) as reader:
        found = [reader.read_gop(gop) for gop in reader.gops]
        assert reader.header.entropy_model == EXTENDED_PICTURES
        assert reader.header.gop_frames == 9
        assert reader.frames == len(frames)
    assert [gop[0].frames for gop in found if gop] == [9, 9, 2, 6]
    heads = {picture_head(gop[0]) for gop in found if gop}
    assert heads == {(DEFAULT_SCALES, TUNES[DEFAULT_TUNE])}


def test_seeking_gives_what_playing_gives(compressed: Path, tiny_motion: Path) -> None:
    with neurocodec.open(compressed, str(tiny_motion), "cpu") as video:
        whole = list(video)
        for i in (1, 5, 9, 17, 19, 20, 25):
            video.seek(i / 25)
            part = iter(video)
            assert same(next(part), whole[i])
            assert sum(1 for _ in part) == len(whole) - i - 1
        video.seek(0.81)  # between two frames
        assert [frame.pts for frame in video] == [frame.pts for frame in whole[21:]]


def test_the_same_twice(compressed: Path, tiny_motion: Path, tmp_path: Path) -> None:
    first, second = (verify(compressed, str(tiny_motion), tokens=True) for _ in range(2))
    assert first == second
    assert (first.gops, first.frames, first.damage, len(first.tokens)) == (4, 26, [], 4)
    again = tmp_path / "a.nc"
    source = compressed.with_suffix(".y4m")
    neurocodec.compress(source, again, model=str(tiny_motion), gop=9, device="cpu")
    assert again.read_bytes() == compressed.read_bytes()


@pytest.mark.parametrize("size", [(50, 38), (16, 16), (1, 1), (200, 31)])
def test_pictures(size: tuple[int, int], tmp_path: Path, tiny_motion: Path) -> None:
    luma = moving_picture(1, *size)[0].y
    Image.fromarray(np.stack([luma] * 3, 2)).save(tmp_path / "a.png")
    stats = neurocodec.compress(
        tmp_path / "a.png", tmp_path / "a.nc", model=str(tiny_motion), quality=90
    )
    assert stats.frames == 1
    neurocodec.decompress(tmp_path / "a.nc", tmp_path / "b.png", model=str(tiny_motion))
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.size == size
        assert psnr(np.asarray(picture)[..., 1], luma) > 28


def test_a_lost_gop_harms_no_other(compressed: Path, tiny_motion: Path, tmp_path: Path) -> None:
    whole, data = decoded(compressed, tiny_motion), compressed.read_bytes()
    with Reader(compressed) as reader:
        at = [gop.video.offset for gop in reader.gops if gop.video]
    starts, damaged = (0, 9, 18, 20, 26), tmp_path / "a.nc"
    rng = np.random.default_rng(0)
    for number, begin in enumerate(at):
        end = at[number + 1] if number < 3 else begin + 200
        flipped = bytearray(data)
        flipped[int(rng.integers(begin + 24, end))] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(flipped)
        lost = range(starts[number], starts[number + 1])
        span = f"{lost.start / 25:.2f} s to {lost.stop / 25:.2f} s"
        with neurocodec.open(damaged, str(tiny_motion), "cpu") as video:
            found = list(video)
            assert video.damage == [f"GOP {number} ({span}): video section is damaged"]
        assert len(found) == len(whole)
        assert all(same(found[i], whole[i]) for i in range(26) if i not in lost)
        assert verify(damaged, str(tiny_motion), tokens=True).gops == 3


@pytest.mark.parametrize("kept", [0.45, 0.7, 0.95, 0.999])
def test_a_file_that_was_cut_off(
    kept: float, compressed: Path, tiny_motion: Path, tmp_path: Path
) -> None:
    data, cut = compressed.read_bytes(), tmp_path / "a.nc"
    cut.write_bytes(data[: int(kept * len(data))])
    whole = decoded(compressed, tiny_motion)
    with neurocodec.open(cut, str(tiny_motion), "cpu") as video:
        found = list(video)
        assert video.damage
    assert len(found) in (0, 9, 18, 20, 26)
    assert all(same(a, b) for a, b in zip(found, whole, strict=False))


def with_tokens(source: Path, target: Path, tokens: Iterator[bytes]) -> Path:
    """A file whose checksums are right, with other tokens in each GOP."""
    with Reader(source) as reader, target.open("wb") as file:
        writer = Writer(file)
        writer.header(reader.header)
        for entry in reader.gops:
            found = reader.read_gop(entry)
            assert found is not None
            gop, times = found
            writer.gop(replace(gop, tokens=next(tokens)), times)
        writer.finish()
    return target


@pytest.mark.parametrize("seed", range(3))
def test_any_tokens_give_frames(
    seed: int, compressed: Path, tiny_motion: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    junk = [rng.bytes(2000), b"", bytes(500), b"\xff" * 500] if seed else [b"\1\2\3"] * 4
    path = with_tokens(compressed, tmp_path / "a.nc", iter(junk))
    found = decoded(path, tiny_motion)
    assert [f.pts for f in found] == [f.pts for f in decoded(compressed, tiny_motion)]
    assert verify(path, str(tiny_motion), tokens=True).damage == []


def test_heads_of_damaged_data() -> None:
    found = picture_head(VideoGop(1, 0, 1, 1, b"\5\0\7"))
    assert found == ((5, 1, 7, 1, 1, 1, 1), 0)
    assert picture_head(VideoGop(1, 0, 1, 1, bytes([9] * 7 + [200, 3]))) == ((9,) * 7, 200)


def test_the_hash_tells_all_that_tokens_say(compressed: Path, tiny_motion: Path) -> None:
    bundle = models.find(str(tiny_motion))
    with Reader(compressed) as reader:
        found = reader.read_gop(reader.gops[0])
        assert found is not None
        items = list(decode_tokens(reader.header, found[0], bundle.entropy(1)))
    first = hash_tokens(items)
    picture = items[1]
    assert isinstance(picture, PictureTokens)
    assert picture.motion is not None
    whole = picture.picture
    for other in (replace(whole, level=3), replace(whole, refs=(0,))):
        picture.picture = other
        assert hash_tokens(items) != first
    picture.picture = whole
    for array in (
        picture.motion.mode, picture.motion.mv, picture.parts[0].depth, picture.parts[0].tokens,
    ):  # fmt: skip
        array.flat[-1] += 1
        assert hash_tokens(items) != first
        array.flat[-1] -= 1
    assert hash_tokens(items) == first
