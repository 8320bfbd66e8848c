"""What only a process of its own shows: imports, pipes, signals, terminals."""

import os
import pty
import resource
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

import neurocodec
from tests.media.clips import as_pictures, write_clip

RUN = [sys.executable, "-m", "neurocodec"]


def call(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*RUN, *map(str, arguments)], capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["compress", "--help"], ["models", "list"], ["info"]]
)
def test_torch_is_imported_only_where_it_is_used(arguments: list[str], compressed: Path) -> None:
    if arguments == ["info"]:
        arguments = ["info", str(compressed)]
    program = (
        "import sys; from neurocodec.cli import run\n"
        f"sys.argv = ['neurocodec', *{arguments!r}]\n"
        "try: run()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'av'} & set(sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_standard_output(clip: Path, compressed: Path, tiny: Path, tmp_path: Path) -> None:
    ended = call("compress", clip, "-", "--model", tiny, "--gop", "5", "--json")
    assert ended.returncode == 0
    assert ended.stdout == compressed.read_bytes()
    assert b'"frames": 12' in ended.stderr
    ended = call("decompress", compressed, "-", "--model", tiny)
    assert (ended.returncode, ended.stderr) == (0, b"")
    neurocodec.decompress(compressed, tmp_path / "a.y4m", model=str(tiny))
    assert ended.stdout == (tmp_path / "a.y4m").read_bytes()


@pytest.mark.parametrize("command", ["compress", "decompress", "info"])
def test_a_reader_that_goes_away(command: str, clip: Path, compressed: Path, tiny: Path) -> None:
    source = clip if command == "compress" else compressed
    arguments = [*RUN, command, str(source)]
    if command != "info":
        arguments += ["-", "--model", str(tiny)]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert ended.returncode == 4
    place = b"standard output" if command == "info" else b"-"
    assert ended.stderr == b"neurocodec: error: " + place + b": closed by its reader\n"


@pytest.mark.parametrize("command", [["info"], ["verify"], ["decompress", "-"]])
def test_a_full_disk_behind_standard_output(
    command: list[str], compressed: Path, tiny: Path
) -> None:
    arguments = [*RUN, command[0], str(compressed), *command[1:]]
    if command[0] == "decompress":
        arguments += ["--model", str(tiny)]
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert ended.returncode == 4
    assert b"No space left" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some seconds' work."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    pictures = as_pictures(20, (64, 48)) * 100
    return write_clip(path, pictures=pictures, codec="mpeg4")


def test_a_closed_standard_output(compressed: Path, tiny: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m neurocodec decompress {compressed} $1 --model {tiny} >&-"
    for target, status in ((str(tmp_path / "a.y4m"), 0), ("-", 4)):
        arguments = ["sh", "-c", command, "sh", target]
        ended = subprocess.run(arguments, stderr=subprocess.PIPE, timeout=60)
        assert ended.returncode == status
        assert len(ended.stderr.splitlines()) == (status > 0)
    assert (tmp_path / "a.y4m").stat().st_size > 50_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_one_leaves_nothing(
    number: int, long_clip: Path, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    arguments = [*RUN, "compress", str(long_clip), str(out / "a.nc"), "--model", str(tiny)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not any(path.stat().st_size for path in out.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.split() == [b"neurocodec:", b"interrupted"]
    assert not list(out.iterdir())


def test_a_terminal_sees_progress(clip: Path, tiny: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    arguments = [*RUN, "compress", str(clip), str(tmp_path / "a.nc"), "--model", str(tiny)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 4096):
            seen += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"12/12" in seen
    assert b"frames/s" in seen
    assert b"<" in seen  # the time left


def test_libav_says_nothing(tiny: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.ts", 25)
    data = bytearray(clip.read_bytes())
    for i in range(1000, len(data), 700):
        data[i] ^= 0xFF
    clip.write_bytes(data)
    ended = call("compress", clip, tmp_path / "a.nc", "--model", tiny)
    assert all(line.startswith(b"neurocodec: ") for line in ended.stderr.splitlines())
    ended = call("decompress", tmp_path / "a.nc", tmp_path / "a.webm", "--model", tiny)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_killed_one_is_gone_on_with(long_clip: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    arguments = [*RUN, "compress", str(long_clip), str(out / "a.nc"), "--model", str(tiny)]
    arguments += ["--gop", "9", "--duration", "8", "-v"]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not any(path.stat().st_size > 3000 for path in out.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    (part,) = out.iterdir()
    assert part.name != "a.nc"
    kept = part.read_bytes()
    ended = subprocess.run([*arguments, "--resume"], capture_output=True, timeout=60)
    assert ended.returncode == 0
    assert b"going on after" in ended.stderr
    assert [path.name for path in out.iterdir()] == ["a.nc"]
    done = (out / "a.nc").read_bytes()
    assert done[:3000] == kept[:3000]
    assert call("verify", out / "a.nc").returncode == 0


def test_two_with_one_target(clip: Path, compressed: Path, tiny: Path, tmp_path: Path) -> None:
    arguments = [*RUN, "compress", str(clip), str(tmp_path / "a.nc"), "--model", str(tiny)]
    arguments += ["--gop", "5"]
    both = [subprocess.Popen(arguments, stderr=subprocess.PIPE) for _ in range(2)]
    ended = [(process.communicate(timeout=60)[1], process.returncode) for process in both]
    assert sorted(status for _, status in ended) == [0, 4]
    (loser,) = (text for text, status in ended if status)
    assert len(loser.splitlines()) == 1
    assert (tmp_path / "a.nc").read_bytes() == compressed.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


@pytest.mark.parametrize("command", ["compress", "decompress", "repair"])
def test_a_disk_that_fills_up(
    command: str, clip: Path, compressed: Path, tiny: Path, tmp_path: Path
) -> None:
    """A limit on the size of files is met as a full disk is: at some write, or at the end."""
    source, suffix = (clip, ".nc") if command == "compress" else (compressed, ".mp4")
    target = tmp_path / f"a{'.nc' if command == 'repair' else suffix}"
    arguments = [*RUN, command, str(source), str(target)]
    if command != "repair":
        arguments += ["--model", str(tiny)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    ended = subprocess.run(arguments, capture_output=True, timeout=60, preexec_fn=limit)
    assert ended.returncode == 4
    (line,) = ended.stderr.decode().splitlines()
    assert str(target) in line
    assert "too large" in line.lower()
    assert not list(tmp_path.iterdir())
