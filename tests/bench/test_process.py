import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neurocodec.bench.anchors import PYTHON
from neurocodec.bench.process import ProgramError, Programs, StoppedError, shown

MEGABYTE = 1_000_000


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def test_time_and_memory_are_those_of_the_program(tmp_path: Path) -> None:
    ballast = bytearray(200 * MEGABYTE)  # of ours, which must not count
    code = "import time; b = bytearray(60_000_000); time.sleep(0.3); print('done', len(b))"
    use, log = Programs().measure(python(code), tmp_path)
    assert log == "done 60000000\n"
    assert 0.3 <= use.seconds < 5
    assert 0 < use.cpu_seconds < use.seconds + 1
    assert 60 * MEGABYTE < use.peak_bytes < 120 * MEGABYTE
    assert use.to_dict(30)["fps"] == pytest.approx(30 / use.seconds, abs=0.01)
    del ballast


def test_failures_end_with_the_last_words(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"^Error: bad preset$"):
        Programs().measure(
            python("print('Error: bad preset'); print('bye'); raise SystemExit(3)"), tmp_path
        )
    with pytest.raises(ProgramError, match="could not be run"):
        Programs().measure([str(tmp_path / "nothing")], tmp_path)


def test_stopping_ends_what_runs(tmp_path: Path) -> None:
    import threading

    programs = Programs()
    began = time.monotonic()
    threading.Timer(0.5, programs.stop).start()
    with pytest.raises(StoppedError):
        programs.measure(python("import time; time.sleep(60)"), tmp_path)
    assert time.monotonic() - began < 20
    with pytest.raises(StoppedError):
        programs.measure(python("pass"), tmp_path)


def test_a_killed_benchmark_leaves_nothing_running(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from neurocodec.bench.process import Programs;"
        "Programs().measure([sys.executable, '-S', '-c', 'import os, time; "
        'open("pid", "w").write(str(os.getpid())); time.sleep(60)\'], Path(\'.\'))'
    )
    benchmark = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid = int((tmp_path / "pid").read_text())
    benchmark.send_signal(signal.SIGKILL)
    benchmark.wait()
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("the program still runs")


def test_commands_are_shown_without_the_folders_of_a_machine() -> None:
    assert shown(["/opt/x/ffmpeg-linux-v7", "-i", "a b"]) == "ffmpeg -i 'a b'"
    assert shown([*PYTHON, "neurocodec", "compress", "a"]) == "neurocodec compress a"
    assert shown([*PYTHON, "neurocodec.bench.jpeg", "a"]) == "python -m neurocodec.bench.jpeg a"
