"""A folder of videos: what becomes of each, and what a second call does."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import write_clip

from .conftest import Cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    (source / "deep" / "er").mkdir(parents=True)
    write_clip(source / "a.mkv", 3)
    shutil.copy(source / "a.mkv", source / "deep" / "er" / "-b.MKV")
    (source / "deep" / "bad.mp4").write_bytes(b"no video at all" * 100)
    (source / "notes.txt").write_text("not looked at")
    (source / ".hidden.mkv").write_bytes(b"")
    return source


def test_all_videos_of_a_folder(cli: Cli, folder: Path, tiny: Path, tmp_path: Path) -> None:
    out = folder / "out"  # inside, and yet not a source itself
    call = ("batch", folder, out, "--jobs", "2", "--model", tiny, "-q", "20")
    ended = cli(*call)
    assert ended.status == 1
    lines = ended.err.splitlines()
    assert lines[0].startswith("neurocodec: deep/bad.mp4: ")
    assert "deep/bad.mp4" in lines[0][13:]
    assert lines[1:] == ["neurocodec: error: 1 of 3 files failed"]
    assert "2 compressed, 0 there already" in ended.out
    made = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert made == ["a.mkv.nc", "deep/er/-b.MKV.nc"]
    assert (
        cli("compress", folder / "a.mkv", tmp_path / "a.nc", "--model", tiny, "-q", "20").err == ""
    )
    assert (out / "a.mkv.nc").read_bytes() == (tmp_path / "a.nc").read_bytes()

    (folder / "deep" / "bad.mp4").unlink()
    os.utime(folder / "a.mkv", ns=(4 * 10**18, 4 * 10**18))  # newer than what was made of it
    ended = cli(*call, "--json")
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out) == {
        "done": ["a.mkv"], "there": ["deep/er/-b.MKV"], "failed": {}
    }  # fmt: skip


def test_what_is_wrong_with_the_call(cli: Cli, folder: Path, tmp_path: Path) -> None:
    ended = cli("batch", folder, tmp_path / "out", "--effort", "none")
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "'none' is not one of" in ended.err
    assert not list((tmp_path / "out").rglob("*.nc"))
    ended = cli("batch", tmp_path / "nothing", tmp_path / "out")
    assert (ended.status, ended.err.count("\n")) == (3, 1)
    (tmp_path / "empty").mkdir()
    ended = cli("batch", tmp_path / "empty", tmp_path / "out")
    assert ended.status == 3
    assert "holds no video" in ended.err
    (tmp_path / "file").write_text("")
    ended = cli("batch", folder, tmp_path / "file" / "out")
    assert ended.status == 4


def test_folders_come_before_options(cli: Cli, folder: Path) -> None:
    ended = cli("batch", "-q", "20", folder, folder / "out")
    assert ended.status == 2
    assert ended.err == (
        "neurocodec: error: -q: give SRC_DIR and DST_DIR before the options of compress\n"
    )


def test_a_folder_that_cannot_be_made_fails_its_file_alone(
    cli: Cli, folder: Path, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "deep").write_text("in the way")
    ended = cli("batch", folder, out, "--model", tiny, "-q", "20")
    assert ended.status == 1
    assert ended.err.splitlines()[-1] == "neurocodec: error: 2 of 3 files failed"
    assert (out / "a.mkv.nc").exists()
