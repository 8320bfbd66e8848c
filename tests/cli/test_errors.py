"""Every mistake of a user: one line on standard error, a status of its own, no file."""

import signal
from pathlib import Path

import pytest

from neurocodec.codec import coding as module
from neurocodec.models import read_bundle, write_bundle
from tests.conftest import tiny_tokenizer

from .conftest import Cli, Ended


def check(ended: Ended, status: int, *words: str) -> None:
    assert ended.status == status
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("neurocodec: error: ")
    for word in words:
        assert word in lines[0]


def test_bad_usage(cli: Cli, clip: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.nc"
    for arguments, word in (
        (("compress", clip), "Missing argument"),
        (("conpress", clip, out), "conpress"),
        (("compress", clip, out, "--nonsense"), "--nonsense"),
        (("compress", clip, out, "-q", "101"), "101"),
        (("compress", clip, out, "-q", "high"), "high"),
        (("compress", clip, out, "--gop", "0"), "1 to 1024"),
        (("compress", clip, out, "--audio", "mp3"), "--audio mp3"),
        (("compress", clip, out, "--audio", "opus:1000"), "6 to 510"),
        (("compress", clip, out, "--start", "nan"), "start nan"),
        (("compress", clip, out, "--start", "-3"), "start -3"),
        (("compress", clip, out, "--duration", "0"), "duration 0"),
        (("compress", clip, out, "--threads", "0"), "0"),
        (("compress", clip, out, "--device", "abacus"), "abacus"),
        (("compress", clip, clip, "-y", "--model", tiny), "same file"),
        (("compress", clip, out, "--entropy", "huffman"), "huffman"),
        (("compress", clip, out, "--steps", "0"), "--steps"),
        (("compress", clip, out, "--steps", "17"), "--steps"),
        (("decompress", clip, tmp_path / "out.avi"), ".mp4"),
        (("decompress", clip, tmp_path / "out"), ".mp4"),
        (("decompress", clip, tmp_path / "out.mp4", "--lossless"), ".mkv"),
    ):
        check(cli(*arguments), 2, word)
    assert not list(tmp_path.iterdir())


def test_bad_input(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("Not a video.")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "two\nlines.mp4").touch()
    for name, word in (
        ("missing.mp4", "No such file"),
        ("text.mp4", "not a video"),
        ("empty.mp4", "empty"),
        ("two\nlines.mp4", "empty"),
        (".", "directory"),
    ):
        ended = cli("compress", tmp_path / name, tmp_path / "out.nc", "--model", tiny)
        check(ended, 3, word)
    for command in (("decompress", tmp_path / "missing.nc", tmp_path / "out.mp4"),
                    ("info", tmp_path / "missing.nc"), ("verify", tmp_path)):  # fmt: skip
        check(cli(*command), 3)


def test_bad_target(cli: Cli, clip: Path, compressed: Path, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "there.nc").write_bytes(b"old")
    (tmp_path / "there.mp4").write_bytes(b"old")
    for command, source, suffix in (("compress", clip, ".nc"), ("decompress", compressed, ".mp4")):
        for target, word in (
            (f"there{suffix}", "give -y"),
            (f"missing/out{suffix}", "no such folder"),
        ):
            check(cli(command, source, tmp_path / target, "--model", tiny), 4, word)
        check(cli(command, source, f"/proc/out{suffix}", "--model", tiny), 4)
    check(cli("compress", clip, tmp_path, "--model", tiny), 4, "directory")
    check(cli("compress", clip, "/dev/full", "--model", tiny), 4, "No space left")
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"old"}


def test_bad_file(cli: Cli, clip: Path, compressed: Path, tiny: Path, tmp_path: Path) -> None:
    whole = compressed.read_bytes()
    cases = {
        "empty": b"",
        "short": whole[:11],
        "no header": whole[:20],
        "half a header": whole[:300],
        "video": clip.read_bytes(),
        "flipped header": whole[:50] + bytes([whole[50] ^ 1]) + whole[51:],
    }
    for data in cases.values():
        path = tmp_path / "a.nc"
        path.write_bytes(data)
        for command in (("info", path), ("verify", path),
                        ("decompress", path, tmp_path / "out.mp4", "--model", tiny)):  # fmt: skip
            check(cli(*command), 5, str(path))
    assert len(list(tmp_path.iterdir())) == 1


def test_newer_version(cli: Cli, compressed: Path, tmp_path: Path) -> None:
    data = bytearray(compressed.read_bytes())
    data[8] += 1
    path = tmp_path / "a.nc"
    path.write_bytes(data)
    for command in (("info", path), ("verify", path), ("decompress", path, tmp_path / "a.mp4")):
        check(cli(*command), 6, "format version 2")


def test_bad_model(cli: Cli, clip: Path, compressed: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.nc"
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"not a bundle")
    check(cli("compress", clip, out, "--model", "no-such"), 7, "no-such", "magvit2-small")
    check(cli("compress", clip, out, "--model", tmp_path / "no.safetensors"), 7, "No such file")
    check(cli("compress", clip, out, "--model", bad), 7)
    check(cli("models", "show", bad), 7)
    ended = cli("compress", clip, out, "--model", tiny, "--entropy", "generator")
    check(ended, 7, str(tiny), "has no generator")
    other = tmp_path / "other.safetensors"
    write_bundle(other, "other", tiny_tokenizer(1), read_bundle(tiny).prior(), {})
    hashes = [read_bundle(path).hash.hex()[:16] for path in (tiny, other)]
    ended = cli("decompress", compressed, tmp_path / "out.mp4", "--model", other)
    check(ended, 8, *hashes)
    assert not out.exists()


def test_damage(cli: Cli, compressed: Path, tiny: Path, tmp_path: Path) -> None:
    whole = compressed.read_bytes()
    flipped = tmp_path / "flipped.nc"
    data = bytearray(whole)
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    cut = tmp_path / "cut.nc"
    cut.write_bytes(whole[: len(whole) * 8 // 10])
    for path in (flipped, cut):
        ended = cli("decompress", path, tmp_path / "out.mp4", "--model", tiny, "--quiet", "-y")
        check(ended, 9, str(path), "damaged", "the rest was decoded")
        assert (tmp_path / "out.mp4").stat().st_size > 1000
        check(cli("verify", path, "--quiet"), 9, "damaged")
        ended = cli("decompress", path, tmp_path / "strict.mp4", "--model", tiny, "--strict")
        check(ended, 5, str(path))
        assert not (tmp_path / "strict.mp4").exists()
    ended = cli("info", cut)
    assert ended.status == 9
    assert "frames" in ended.out
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."), 1, "out of memory"),
        (ZeroDivisionError("a\nb"), 1, "a fault of the program: ZeroDivisionError: a"),
        (OSError(28, "No space left on device"), 4, "No space left"),
    ],
)
def test_what_nobody_expected(
    error: BaseException, status: int, words: str, cli: Cli, clip: Path, tiny: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "_write_gops", fail)
    ended = cli("compress", clip, tmp_path / "out.nc", "--model", tiny)
    assert ended.status == status
    lines = [line for line in ended.err.splitlines() if line]
    assert len(lines) == 1
    assert words in lines[0]
    assert not list(tmp_path.iterdir())


def test_an_interruption_that_a_library_swallowed(
    cli: Cli, clip: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("half of a module") from None

    monkeypatch.setattr(module, "_write_gops", swallow)
    ended = cli("compress", clip, tmp_path / "out.nc", "--model", tiny)
    assert (ended.status, ended.err) == (130, "neurocodec: interrupted\n")


def test_termination_is_an_interruption(
    cli: Cli, clip: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(module, "_write_gops", end)
    assert cli("compress", clip, tmp_path / "out.nc", "--model", tiny).status == 130
    assert not list(tmp_path.iterdir())
