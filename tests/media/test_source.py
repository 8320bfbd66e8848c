import os
from pathlib import Path

import pytest
from PIL import Image

from neurocodec.errors import InputError
from neurocodec.media.source import open_source

from .clips import read, write_clip


@pytest.mark.parametrize(
    "name",
    [
        "http:x.mp4",
        "concat:a.mp4",
        "pipe:0",
        "-dash.mp4",
        "with space.mp4",
        "a%03d.mp4",
        "ünï→.mp4",
        "new\nline.mp4",
        "bad\udcff.mp4",
    ],
)
def test_a_name_is_only_a_file_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "plain.mp4", 2).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read(name, "none")[1]) == 2


@pytest.mark.parametrize("name", ["a%03d.png", "g*.png", "q?[a].png"])
def test_a_picture_s_name_is_not_a_pattern(name: str, tmp_path: Path) -> None:
    for other in ("a001.png", "g1.png", "qxa.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / other)
    Image.new("RGB", (12, 10)).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / name)
    info, frames, _ = read(tmp_path / name)
    assert (info.width, info.height, len(frames)) == (12, 10, 1)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("Not a video. " * 20)
    for name, words in {
        "missing.mp4": "No such file",
        ".": "is a directory",
        "pipe.mp4": "not a regular file",
        "empty.mp4": "the file is empty",
        "text.mp4": "not a video",
        "nul\0.mp4": "null",
        "x" * 300: "too long",
    }.items():
        with pytest.raises(InputError, match=words) as raised:
            open_source(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_a_list_of_files_elsewhere_is_not_followed(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", 2)
    listing = tmp_path / "list.mp4"
    listing.write_text(f"ffconcat version 1.0\nfile '{tmp_path / 'a.mp4'}'\n")
    with pytest.raises(InputError):
        open_source(listing)


def test_metadata_need_not_be_utf8(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", 2, codec="mpeg4")
    data = path.read_bytes()
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"L\xe4vf"))
    assert len(read(path)[1]) == 2
