import io
import os
import sys
from pathlib import Path

import pytest

from neurocodec.errors import OutputError
from neurocodec.files import binary_stdout, check_output, replacing, writing


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def fill(path: Path, error: type[BaseException]) -> None:
    path.write_bytes(b"half")
    raise error


def appear(part: Path, target: Path) -> None:
    part.write_bytes(b"ours")
    target.write_bytes(b"theirs")


def test_appears_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with replacing(target, False) as part:
        part.write_bytes(b"new")
        assert not target.exists()
        assert part.parent == tmp_path
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_failure(error: type[BaseException], tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(error), replacing(target, True) as part:
        fill(part, error)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_overwriting_is_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="give -y"), replacing(target, False):
        pass
    with replacing(target, True) as part:
        part.write_bytes(b"new")
    assert target.read_bytes() == b"new"


def test_a_target_that_appeared_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with pytest.raises(OutputError, match="exists already"), replacing(target, False) as part:
        appear(part, target)
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a"]


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", link)
    with replacing(tmp_path / "a", False) as part:
        part.write_bytes(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_several_at_once_in_one_folder(tmp_path: Path) -> None:
    with replacing(tmp_path / "a", False) as a, replacing(tmp_path / "b", False) as b:
        assert a != b


def test_names_as_long_as_may_be(tmp_path: Path) -> None:
    with replacing(tmp_path / ("n" * 255), False) as part:
        part.write_bytes(b"new")
    with pytest.raises(OutputError, match="too long"):
        check_output(tmp_path / ("n" * 256), False)


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("new")
    for name in ("link", "dangling"):
        with replacing(tmp_path / name, True) as part:
            part.write_bytes(b"new")
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "new").read_bytes() == b"new"


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    with replacing("/dev/null", False) as part:
        assert part == Path("/dev/null")
        part.write_bytes(b"gone")
    assert Path("/dev/null").is_char_device()


def test_bad_targets(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target, words in {
        tmp_path: "is a directory",
        tmp_path / "missing" / "a": "no such folder",
        tmp_path / "file" / "a": "no such folder",
        tmp_path / "nul\0": "null",
    }.items():
        with pytest.raises(OutputError, match=words):
            check_output(target, True)
    with pytest.raises(OutputError), replacing("/proc/neurocodec", False):  # also for root
        pass


def test_errors_of_the_disk_name_the_target(tmp_path: Path) -> None:
    full = pytest.raises(OutputError, match="/dev/full: No space left")
    with full, writing("/dev/full", False) as file:
        file.write(b"more than nothing")
    closed = pytest.raises(OutputError, match="closed by its reader")
    with closed, writing(tmp_path / "a", False):
        raise BrokenPipeError
    assert not names(tmp_path)


def test_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stream)
    with writing("-", False) as file:
        file.write(b"\x00\xff")
    assert stream.buffer.getvalue() == b"\x00\xff"  # type: ignore[attr-defined]
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    with pytest.raises(OutputError, match="terminal"):
        binary_stdout()
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="closed"):
        binary_stdout()
