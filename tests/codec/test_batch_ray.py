"""Tasks on a Ray cluster. Those that need one start it here, and are left out where Ray is not
installed, which is no part of the extra for tests."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neurocodec import __version__
from neurocodec.codec.batch import _threads_of
from neurocodec.codec.batch_ray import LOCAL, RayRunning, run_command
from neurocodec.codec.child import environment
from neurocodec.errors import InputError, UsageError
from tests.conftest import write_clip

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no Ray")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_command_in_this_process(here: Path, clip: Path, tiny: Path) -> None:
    folder, call = str(here), ["compress", "--quiet", "--model", str(tiny), clip.name, "out.nc"]
    assert run_command(call, folder, __version__) == (0, "")
    assert (here / "out.nc").stat().st_size > 100
    assert run_command(call, folder, __version__) == (
        4, "out.nc: exists already; give -y to overwrite it"
    )  # fmt: skip
    status, line = run_command(["compress", "--effort", "none", "a", "b"], folder, __version__)
    assert status == 2
    assert "'none' is not one of" in line


def test_machines_that_are_not_as_this_one(here: Path) -> None:
    status, line = run_command([], str(here), "0.0.1")
    assert status == 1
    assert line.endswith(f"has neurocodec {__version__}, not 0.0.1")
    status, line = run_command([], str(here / "nothing"), __version__)
    assert status == 3
    assert "No such file or directory on " in line


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("nonsense", ":1", "host:", "host:port"):
        with pytest.raises(UsageError, match="give HOST:PORT"):
            RayRunning(address, 1, 1)
    with pytest.raises(InputError, match="no cluster answers"):
        RayRunning("127.0.0.1:1", 1, 1)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'neurocodec\[ray\]'"):
        RayRunning(LOCAL, 1, 1)


def test_threads_that_options_name() -> None:
    assert _threads_of(["-q", "3"]) is None
    assert _threads_of(["--threads", "3", "-q", "4"]) == 3
    assert _threads_of(["--threads=2"]) == 2
    assert _threads_of(["--threads"]) == _threads_of(["--threads", "many"]) == 1


def _batch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "neurocodec", "batch", *map(str, arguments)],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip


@needs_ray
def test_batch_as_without_ray(tmp_path: Path, tiny: Path) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    for name, frames in (("a.mkv", 3), ("b.mkv", 5), ("deep/c.mkv", 1)):
        write_clip(source / name, frames)
    (source / "bad.mp4").write_bytes(b"no video at all" * 100)
    options = ("--jobs", "2", "--json", "--model", tiny, "-q", "20")
    alone = _batch(source, tmp_path / "alone", *options)
    out = tmp_path / "ray"
    with_ray = _batch(source, out, *options, "--ray", LOCAL)
    assert (with_ray.returncode, with_ray.stdout) == (alone.returncode, alone.stdout)
    assert with_ray.stderr.splitlines() == alone.stderr.splitlines()
    made = sorted(path.relative_to(out) for path in out.rglob("*.nc"))
    assert list(map(str, made)) == ["a.mkv.nc", "b.mkv.nc", "deep/c.mkv.nc"]
    for path in made:
        assert (out / path).read_bytes() == (tmp_path / "alone" / path).read_bytes()


def _lost_at_first(arguments: list[str], folder: str, version: str) -> tuple[int, str]:
    """Ends its process as often as ``arguments`` say."""
    mark = Path(folder) / arguments[0]
    tried = len(mark.read_text()) if mark.exists() else 0
    mark.write_text("x" * (tried + 1))
    if tried < int(arguments[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return 0, ""


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_lost_processes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurocodec.codec.batch_ray.run_command", _lost_at_first)
    running = RayRunning(LOCAL, 2, 1)
    try:
        assert running.call(["once", "1"]) == (0, "")
        assert (here / "once").read_text() == "xx"
        status, line = running.call(["always", "9"])
        assert status == 1
        assert line.startswith("its process was lost 3 times")
        assert (here / "always").read_text() == "xxx"
        running.stop()
        assert running.call(["never", "0"]) == (1, "interrupted")
        assert not (here / "never").exists()
    finally:
        running.close()
