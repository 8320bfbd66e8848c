"""GOPs in several processes: the same files, and failures that are told as any other."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

import neurocodec
from neurocodec import models
from neurocodec.bitstream.reader import Reader
from neurocodec.codec import jobs
from neurocodec.codec.jobs import Jobs, Setting
from neurocodec.errors import Error, ModelError, UsageError
from neurocodec.threads import ahead
from tests.conftest import two_scenes, write_clip, write_y4m


def test_the_same_files(tmp_path: Path, tiny_motion_generated: Path) -> None:
    """With a scene cut and a short last GOP, and where a GOP is lost."""
    source, model = write_y4m(tmp_path / "a.y4m", two_scenes(50, 38, 13, 6)), tiny_motion_generated
    for count in (1, 2):
        out = tmp_path / f"{count}.nc"
        neurocodec.compress(source, out, model=str(model), gop=9, device="cpu", jobs=count)
    data = (tmp_path / "1.nc").read_bytes()
    assert (tmp_path / "2.nc").read_bytes() == data
    with Reader(tmp_path / "1.nc") as reader:
        assert [gop.video.frames for gop in reader.gops if gop.video] == [9, 4, 6]
        second = reader.gops[1].video
        assert second is not None
    damaged = bytearray(data)
    damaged[second.offset + 40] ^= 1
    (tmp_path / "1.nc").write_bytes(damaged)
    stats = [
        neurocodec.decompress(
            tmp_path / "1.nc", tmp_path / f"{count}.y4m", model=str(model), jobs=count
        )
        for count in (1, 2)
    ]
    assert (tmp_path / "1.y4m").read_bytes() == (tmp_path / "2.y4m").read_bytes()
    assert [s.frozen_frames for s in stats] == [4, 4]
    assert stats[0].damage == stats[1].damage != ()


def test_sound_and_the_other_family(tmp_path: Path, tiny: Path) -> None:
    source = write_clip(tmp_path / "a.mkv", 12, sound="flac")
    for count in (1, 3):
        neurocodec.compress(
            source, tmp_path / f"{count}.nc", model=str(tiny), gop=5, device="cpu", jobs=count
        )
    assert (tmp_path / "1.nc").read_bytes() == (tmp_path / "3.nc").read_bytes()


def test_not_with_rate_control(clip: Path, tmp_path: Path) -> None:
    for aim in ({"bitrate": 100.0}, {"target_size": 10**6}, {"psnr": 35.0}):
        with pytest.raises(UsageError, match="several jobs"):
            neurocodec.compress(clip, tmp_path / "a.nc", jobs=2, **aim)  # type: ignore[arg-type]
    for call in (neurocodec.compress, neurocodec.decompress):
        with pytest.raises(UsageError, match="0 jobs"):
            call(clip, tmp_path / "a.mkv", jobs=0)


@pytest.fixture
def setting(tmp_path: Path, clip: Path, tiny_motion: Path) -> Setting:
    neurocodec.compress(clip, tmp_path / "a.nc", model=str(tiny_motion))
    with Reader(tmp_path / "a.nc") as reader:
        return Setting(models.read_bundle(tiny_motion), reader.header)


def test_failures_of_a_process(setting: Setting, tmp_path: Path) -> None:
    gone = replace(setting, bundle=replace(setting.bundle, path=tmp_path / "gone.safetensors"))
    with Jobs(1, gone) as pool, pytest.raises(ModelError, match="gone"):
        list(pool.in_order([1], lambda _: (jobs._encode, ([], 1))))
    with Jobs(1, setting) as pool, pytest.raises(Error, match="ended by itself"):
        list(pool.in_order([1], lambda _: (exit_now, ())))


def exit_now() -> None:
    import os

    os._exit(1)


def wait_for_the_end() -> None:
    """As a long GOP that looks for the end after each picture."""
    assert jobs._given is not None
    for _ in range(600):
        if jobs._given[1].is_set():
            raise InterruptedError
        time.sleep(0.05)


def test_what_is_under_way_can_be_stopped(setting: Setting) -> None:
    with Jobs(1, setting) as pool:
        items = ahead(pool.in_order([0, 1], lambda i: (wait_for_the_end, ()) if i else None), 4,
                      pool.stop)  # fmt: skip
        assert next(items) == (0, None)
        began = time.monotonic()
        items.close()
        assert time.monotonic() - began < 20
