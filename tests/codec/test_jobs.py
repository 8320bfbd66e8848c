"""GOPs in several processes: the same files, and failures that are told as any other."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import neurocodec
from neurocodec import models
from neurocodec.bitstream.reader import Reader
from neurocodec.cli import main
from neurocodec.codec import child, coding, jobs, plan
from neurocodec.codec.child import Child
from neurocodec.codec.jobs import Jobs, Request, Setting, _Beside
from neurocodec.codec.plan import CODING, ENTROPY, jobs_that_pay
from neurocodec.errors import ModelError, UsageError
from neurocodec.threads import ahead, free_memory
from tests.conftest import moving_picture, two_scenes, write_clip, write_y4m


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
    frames: int | None, gop: int, size: tuple[int, int], processors: int, memory: int, jobs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(plan, "processors", lambda: processors)
    monkeypatch.setattr(plan, "free_memory", lambda: memory)
    assert jobs_that_pay(frames, gop, size) == jobs


@pytest.mark.parametrize(
    ("size", "memory", "jobs"),
    [((640, 360), 80 << 30, 8), ((1920, 1080), 12 << 30, 3), ((3840, 2160), 8 << 30, 1)],
)
def test_a_gpu_has_room_for_so_many(
    size: tuple[int, int], memory: int, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "processors", lambda: 8)
    monkeypatch.setattr(plan, "free_memory", lambda: 64 << 30)
    assert jobs_that_pay(9000, 33, size, gpu_memory=memory) == jobs


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

    monkeypatch.setattr(plan, "_JOBS_PAY", 0)
    monkeypatch.setattr(plan, "processors", lambda: 4)
    for module in (coding, jobs):
        monkeypatch.setattr(module, "Jobs", Counting)
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


def a_long_gop(setting: Setting) -> Request:
    header = setting.header
    return moving_picture(600, header.width, header.height), 1000


def answered(call: Callable[[Request], Any], request: Request) -> Any:
    """The answer, or what it failed by."""
    try:
        return call(request)
    except Exception as error:
        return error


def test_failures_of_a_process_are_told_here(setting: Setting, tmp_path: Path) -> None:
    gone = replace(setting, bundle=replace(setting.bundle, path=tmp_path / "gone.safetensors"))
    with Jobs(2, gone) as pool:
        for one in pool._all:
            assert isinstance(answered(one, a_long_gop(setting)), ModelError)
    with Jobs(2, setting) as pool, ThreadPoolExecutor() as threads:
        beside = pool._all[0]
        assert isinstance(beside, _Beside)
        asked = threads.submit(answered, beside, a_long_gop(setting))
        while not beside._told:
            time.sleep(0.05)
        assert beside._child is not None
        beside._child.kill()
        assert "ended by itself" in str(asked.result())


def test_what_is_under_way_can_be_stopped(setting: Setting) -> None:
    with Jobs(2, setting) as pool:
        items = ahead(
            pool.in_order([0, 1, 2], lambda i: a_long_gop(setting) if i else None), 4, pool.stop
        )
        assert next(items) == (0, None)
        beside = pool._all[0]
        assert isinstance(beside, _Beside)
        while not beside._told:
            time.sleep(0.05)
        began = time.monotonic()
        items.close()
        assert time.monotonic() - began < 20
    assert beside._child is not None
    assert not beside._child.alive
    assert isinstance(answered(beside, a_long_gop(setting)), InterruptedError)


def test_processes_are_started_early(
    tmp_path: Path, clip: Path, tiny_motion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that a command will ask for, which takes them; what it does not want is ended."""
    started: list[tuple[str, ...]] = []

    class Counting(Child):
        def __init__(self, *command: str) -> None:
            started.append(command)
            super().__init__(*command)

    monkeypatch.setattr(child, "Child", Counting)
    monkeypatch.setattr(plan, "processors", lambda: 3)
    options = [str(clip), str(tmp_path / "a.nc"), "--model", str(tiny_motion), "--gop", "5"]
    for more, expected in (
        (["--jobs", "3"], [CODING] * 2),
        (["--jobs", "9"], [CODING] * 2),  # of three GOPs
        ([], []),
        (["--psnr", "30"], []),
    ):
        started.clear()
        main.main(["compress", *options, "-y", "--quiet", *more], standalone_mode=False)
        assert started == expected
        assert not any(child._waiting.values())
    monkeypatch.setattr(plan, "ENTROPY_PAYS", 0)
    for more, expected in (([], [ENTROPY]), (["--psnr", "30"], [])):
        started.clear()
        main.main(["compress", *options, "-y", "--quiet", *more], standalone_mode=False)
        assert started == expected
        assert not any(child._waiting.values())
    monkeypatch.setattr(plan, "_JOBS_PAY", 0)
    monkeypatch.setattr(coding, "jobs_of", lambda *_: 1)  # it turns out otherwise
    started.clear()
    main.main(["compress", *options, "-y", "--quiet"], standalone_mode=False)
    assert started == [CODING] * 2
    assert not child._waiting[CODING]
