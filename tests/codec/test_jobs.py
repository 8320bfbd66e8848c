"""GOPs in several processes: the same files, and failures that are told as any other."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

import neurocodec
from neurocodec import models
from neurocodec.bitstream.reader import Reader
from neurocodec.cli import main
from neurocodec.codec import compress, decompress, jobs
from neurocodec.codec.jobs import Jobs, Setting, jobs_that_pay
from neurocodec.errors import Error, ModelError, UsageError
from neurocodec.threads import ahead, free_memory
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


@pytest.mark.parametrize(
    ("frames", "gop", "size", "processors", "memory", "jobs"),
    [
        (300, 75, (352, 288), 2, 8 << 30, 2),
        (300, 75, (352, 288), 8, 8 << 30, 4),  # as many as GOPs
        (9000, 97, (640, 360), 8, 32 << 30, 8),
        (None, 97, (640, 360), 8, 32 << 30, 1),  # a pipe, perhaps
        (97, 97, (640, 360), 8, 32 << 30, 1),
        (300, 75, (160, 120), 8, 32 << 30, 1),  # done before they have started
        (130, 97, (640, 360), 2, 8 << 30, 1),  # the second would wait for the first
        (300, 121, (352, 288), 2, 8 << 30, 2),  # two at once, then a short one
        (280, 121, (352, 288), 3, 8 << 30, 3),
        (9000, 97, (1920, 1080), 8, 12 << 30, 2),  # memory
        (9000, 97, (3840, 2160), 8, 8 << 30, 1),
        (9000, 97, (640, 360), 1, 8 << 30, 1),
        (9000, 97, (640, 360), 0, 8 << 30, 1),
    ],
)
def test_how_many_pay(
    frames: int | None, gop: int, size: tuple[int, int], processors: int, memory: int, jobs: int
) -> None:
    assert jobs_that_pay(frames, gop, size, processors, memory) == jobs


@pytest.mark.parametrize(
    ("size", "memory", "jobs"),
    [((640, 360), 80 << 30, 8), ((1920, 1080), 12 << 30, 3), ((3840, 2160), 8 << 30, 1)],
)
def test_a_gpu_has_room_for_so_many(size: tuple[int, int], memory: int, jobs: int) -> None:
    assert jobs_that_pay(9000, 33, size, 8, 64 << 30, memory) == jobs


def test_memory_is_known() -> None:
    assert 64 << 20 < free_memory() < 1 << 50


def test_as_many_as_pay(
    tmp_path: Path, tiny_motion_generated: Path, monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    """Where there are processors for it, the commands start several processes, and the files are
    the same; not where one is told how many threads, nor to standard output, where a player waits,
    and not from Python unless asked."""
    source = write_clip(tmp_path / "a.mkv", 17, 32, 24)
    model = str(tiny_motion_generated)
    neurocodec.compress(source, tmp_path / "1.nc", model=model, gop=9, device="cpu")
    neurocodec.decompress(tmp_path / "1.nc", tmp_path / "1.y4m", model=model)
    started: list[int] = []

    class Counting(Jobs):
        def __init__(self, count: int, setting: Setting) -> None:
            started.append(count)
            super().__init__(count, setting)

    monkeypatch.setattr(jobs, "_WORTH_IT", 0)
    for module in (compress, decompress):
        monkeypatch.setattr(module, "Jobs", Counting)
        monkeypatch.setattr(module, "processors", lambda: 4)
    files = [str(tmp_path / name) for name in ("2.nc", "2.y4m")]
    common = ["--model", model, "--device", "cpu", "--quiet"]
    for more in ([], ["--threads", "1"]):
        arguments = ["compress", str(source), files[0], "--gop", "9", "-y", *common, *more]
        main.main(arguments, standalone_mode=False)
        main.main(["decompress", *files, "-y", *common, *more], standalone_mode=False)
        assert started == [2, 2]
    capfdbinary.readouterr()
    main.main(["decompress", files[0], "-", *common], standalone_mode=False)
    assert capfdbinary.readouterr().out == Path(files[1]).read_bytes()
    assert started == [2, 2]
    for number, suffix in enumerate(("nc", "y4m")):
        assert Path(files[number]).read_bytes() == (tmp_path / f"1.{suffix}").read_bytes()


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
