import json
from pathlib import Path

import pytest

from neurocodec.bitstream.describe import describe
from neurocodec.bitstream.reader import Reader
from neurocodec.bitstream.sections import SectionType

from .small import SMALL, places


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "small.nc"
    path.write_bytes(SMALL)
    return path


def test_describe(path: Path) -> None:
    with Reader(path) as reader:
        found = describe(reader)
    assert json.loads(json.dumps(found)) == found
    assert found["file"] == str(path)
    assert (found["width"], found["height"], found["frames"], found["gops"]) == (64, 48, 12, 3)
    assert found["frame_rate"] == "30000/1001"
    assert found["duration"] == pytest.approx(12 * 1001 / 30000, abs=1e-6)
    assert found["bits_per_pixel"] == pytest.approx(8 * len(SMALL) / (12 * 64 * 48), abs=1e-6)
    assert found["bitrate_kbps"] == pytest.approx(8 * len(SMALL) / 400.4, abs=1e-3)
    assert found["colour"] == {"primaries": 1, "transfer": 1, "matrix": 1, "range": "full"}
    assert found["audio"] == [
        {"codec": "opus", "sample_rate": 48000, "channels": 2, "language": "eng"}
    ]
    assert found["metadata"] == {"encoder": "test", "ключ": "значение"}
    assert found["complete"] is True


def test_duration_follows_the_times_of_the_frames(path: Path) -> None:
    """The last GOP with pictures counts, though sound may follow it."""
    end = next(p.end for p in places() if (p.type, p.number) == (SectionType.VIDEO, 1))
    sound = next(p for p in places() if (p.type, p.number) == (SectionType.AUDIO, 3))
    path.write_bytes(SMALL[:end] + SMALL[sound.begin : sound.end])
    with Reader(path) as reader:
        assert describe(reader)["duration"] == pytest.approx((28000 + 3003) / 90000, abs=1e-6)


def test_a_file_without_gops(path: Path) -> None:
    path.write_bytes(SMALL[: places()[0].end])
    with Reader(path) as reader:
        found = describe(reader)
    assert (found["frames"], found["gops"], found["duration"]) == (0, 0, 0)
    assert found["bitrate_kbps"] is None
    assert found["complete"] is False
