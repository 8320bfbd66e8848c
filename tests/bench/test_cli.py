import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from neurocodec.cli import main
from neurocodec.errors import Error, InputError, UsageError
from tests.bench.conftest import Finished
from tests.conftest import write_clip


def call(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments, catch_exceptions=False, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


def test_bench_run_and_report(tmp_path: Path) -> None:
    write_clip(tmp_path / "clips.mkv", 3)
    suite = tmp_path / "suite.toml"
    suite.write_text(
        'clips = ["*.mkv"]\nmetrics = ["psnr"]\n[[anchors]]\ncodec = "x264"\npreset = "ultrafast"'
    )
    out = tmp_path / "out"
    text = call("bench", "run", str(suite), "--out", str(out), "--codecs", "x264")
    assert text.count("x264 ultrafast") == 4
    assert call("bench", "run", str(suite), "--out", str(out), "--codecs", "x264", "--quiet") == ""
    listed = call("bench", "report", str(out)).split()
    assert str(out / "index.html") in listed
    assert all(Path(path).exists() for path in listed)
    assert "neurocodec: not run" in (out / "report.md").read_text()


def test_failures_end_in_an_error(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mkv", 2)
    suite = tmp_path / "suite.toml"
    suite.write_text('clips = ["clip.mkv"]\n[[anchors]]\ncodec = "x264"\npreset = "none"')
    with pytest.raises(Error, match="clip, x264 none: failed: "):
        call("bench", "run", str(suite), "--out", str(tmp_path / "out"), "--codecs", "x264")


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        call("bench", "run", str(tmp_path / "none.toml"), "--out", str(tmp_path))
    with pytest.raises(UsageError, match="give WIDTHxHEIGHT"):
        call("bench", "speed", "--sizes", "big")


def test_compare(tmp_path: Path) -> None:
    a = write_clip(tmp_path / "a.mkv", 2)
    b = write_clip(tmp_path / "b.mp4", 2, codec="libx264")
    page = tmp_path / "page.html"
    text = call("compare", str(a), str(b), "--metrics", "psnr,ms_ssim", "--out", str(page))
    assert text.startswith("b.mp4 against a.mkv, 2 frames\n  PSNR-YUV")
    assert page.exists()
    values = json.loads(call("compare", str(a), str(b), "--metrics", "psnr", "--json"))
    assert values["videos"][0]["means"]["psnr"] > 20
    assert len(values["videos"][0]["columns"]["psnr_y"]) == 2


def test_help_is_there_for_every_command() -> None:
    for command in ("run", "report", "speed"):
        assert "Usage:" in call("bench", command, "--help")
    assert "Usage:" in call("compare", "--help")


def test_an_older_results_folder(finished: Finished, tmp_path: Path) -> None:
    shutil.copy(finished.folder / "run.json", tmp_path)
    text = (tmp_path / "run.json").read_text().replace('"version": 1', '"version": 0')
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match="another version of the benchmark"):
        call("bench", "report", str(tmp_path))
