"""Files of every released format version decode to the tokens they had when they were made."""

import json
from pathlib import Path

import numpy as np
import pytest

import neurocodec
from neurocodec import models
from neurocodec.bitstream.reader import Reader
from neurocodec.codec.verify import verify
from tests import reference_reader
from tests.conftest import moving_picture, two_scenes

GOLDEN = Path(__file__).parent / "golden"
BUNDLE = GOLDEN / "tiny.safetensors"
TOKENS: dict[str, dict[str, str]] = json.loads((GOLDEN / "tokens.json").read_text())
MOTION = GOLDEN / "motion"
MOTION_BUNDLE = MOTION / "tiny.safetensors"
GENERATED = GOLDEN / "generated"
GENERATED_TOKENS: dict[str, dict[str, str]] = json.loads((GENERATED / "tokens.json").read_text())
MOTION_TOKENS: dict[str, dict[str, str]] = json.loads((MOTION / "tokens.json").read_text())


def test_every_golden_file_has_its_hashes() -> None:
    assert sorted(TOKENS) == sorted(path.name for path in GOLDEN.glob("*.nc"))
    assert sorted(MOTION_TOKENS) == sorted(path.name for path in MOTION.glob("*.nc"))


@pytest.mark.parametrize("name", sorted(TOKENS))
def test_tokens(name: str) -> None:
    report = verify(GOLDEN / name, str(BUNDLE), tokens=True)
    assert report.tokens == TOKENS[name]
    assert report.damage == []


@pytest.mark.parametrize("name", sorted(TOKENS))
def test_tokens_by_the_reference_reader(name: str) -> None:
    bundle, data = BUNDLE.read_bytes(), (GOLDEN / name).read_bytes()
    assert reference_reader.hashes(bundle, data) == TOKENS[name]


@pytest.mark.parametrize(
    ("name", "size", "times"),
    [
        ("picture.nc", (35, 21), [0]),
        ("sound.nc", (40, 32), [40 * i for i in range(12)]),
        ("timestamps.nc", (37, 27), [0, 40, 83, 120, 240, 241, 400, 440, 480, 525, 560]),
    ],
)
def test_pictures(name: str, size: tuple[int, int], times: list[int]) -> None:
    with neurocodec.open(GOLDEN / name, str(BUNDLE), "cpu") as video:
        frames = list(video)
        in_milliseconds = [round(1000 * frame.pts * video.time_base) for frame in frames]
    assert in_milliseconds == times
    width, height = size
    for frame in frames:
        assert frame.y.shape == (height, width)
        assert frame.u.shape == frame.v.shape == ((height + 1) // 2, (width + 1) // 2)


@pytest.mark.parametrize("name", sorted(MOTION_TOKENS))
def test_tokens_of_the_motion_family(name: str) -> None:
    report = verify(MOTION / name, str(MOTION_BUNDLE), tokens=True)
    assert report.tokens == MOTION_TOKENS[name]
    assert report.damage == []
    bundle, data = MOTION_BUNDLE.read_bytes(), (MOTION / name).read_bytes()
    assert reference_reader.hashes(bundle, data) == MOTION_TOKENS[name]


@pytest.mark.parametrize(
    ("name", "size", "frames"), [("picture.nc", (35, 21), 1), ("clip.nc", (58, 42), 26)]
)
@pytest.mark.parametrize("signs", ["", "extended-"])
def test_pictures_of_the_motion_family(
    name: str, size: tuple[int, int], frames: int, signs: str
) -> None:
    name = signs + name
    with neurocodec.open(MOTION / name, str(MOTION_BUNDLE), "cpu") as video:
        found = list(video)
    assert [frame.y.shape for frame in found] == [size[::-1]] * frames
    expected = two_scenes(*size, 20, 6) if frames > 1 else moving_picture(1, *size)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours.y.astype(int) - theirs.y).mean() < 6


@pytest.mark.parametrize("name", ["latents.nc", "pictures.nc", "extended-pictures.nc"])
def test_tokens_with_a_generator(name: str) -> None:
    path = GENERATED / name
    bundle = (GENERATED / name.removeprefix("extended-")).with_suffix(".safetensors")
    report = verify(path, str(bundle), tokens=True)
    assert len(report.tokens) >= 2
    assert report.tokens == GENERATED_TOKENS[name]
    assert reference_reader.hashes(bundle.read_bytes(), path.read_bytes()) == report.tokens


def test_there_is_a_file_of_every_entropy_model() -> None:
    found = set()
    for path in GOLDEN.rglob("*.nc"):
        with Reader(path) as reader:
            found.add(reader.header.entropy_model)
    assert found == {0, 1, 2, 3, 4, 5}


def test_there_is_a_file_of_every_bundled_model() -> None:
    found = sorted(path.stem for path in (GOLDEN / "models").glob("*.nc"))
    assert found == sorted(bundle.name for bundle in models.bundled())


@pytest.mark.parametrize("path", sorted((GOLDEN / "models").glob("*.nc")), ids=lambda p: p.stem)
def test_bundled_models_decode_to_their_tokens_for_ever(path: Path) -> None:
    report = verify(path, tokens=True)
    assert report.tokens == json.loads(path.with_suffix(".json").read_text())
    with neurocodec.open(path) as video:
        assert sum(1 for _ in video) == report.frames == 9


def test_sound(tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    stats = neurocodec.decompress(GOLDEN / "sound.nc", out, model=str(BUNDLE), lossless=True)
    assert (stats.frames, stats.damage) == (12, ())
    import av

    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name == "opus"
        assert sum(frame.samples for frame in container.decode(audio=0)) >= 48000 * 12 // 25
