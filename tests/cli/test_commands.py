import json
from pathlib import Path

import pytest

import neurocodec
from tests.media.clips import look, write_clip

from .conftest import Cli


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version").out == f"neurocodec, version {neurocodec.__version__}\n"
    ended = cli("--help")
    assert ended.status == 0
    for command in ("compress", "decompress", "info", "verify", "repair", "models"):
        assert command in ended.out
    for command, options in {
        "compress": "-q --quality --model --gop --effort --entropy --steps --device --threads "
                    "--audio --start --duration --jobs --resume --tune -y --json -v --quiet",
        "decompress": "--model --lossless --max-pixels --max-frames --device --threads --jobs "
                      "--start --duration -y --json -v --quiet",
        "repair": "-y --json -v --quiet",
        "verify": "--tokens --json",
    }.items():  # fmt: skip
        text = cli(command, "-h").out
        for option in options.split():
            assert option in text


def test_round_trip(cli: Cli, clip: Path, tiny: Path, tmp_path: Path) -> None:
    ended = cli("compress", clip, tmp_path / "a.nc", "--model", tiny, "-q", "70", "--gop", "9")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(f"{tmp_path / 'a.nc'}: 12 frames of 64x48, ")
    ended = cli("decompress", tmp_path / "a.nc", tmp_path / "a.mp4", "--model", tiny)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(f"{tmp_path / 'a.mp4'}: 12 frames of 64x48, ")
    seen = look(tmp_path / "a.mp4")
    assert (len(seen.times), seen.codecs) == (12, ["aac"])


def test_json(cli: Cli, clip: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.nc"
    stats = json.loads(cli("compress", clip, out, "--model", tiny, "--json").out)
    assert stats["bytes"] == out.stat().st_size
    facts = json.loads(cli("info", out, "--json").out)
    assert (facts["width"], facts["height"], facts["frames"]) == (64, 48, 12)
    assert facts["model"]["name"] == "tiny"
    report = json.loads(cli("verify", out, "--json", "--tokens", "--model", tiny).out)
    assert (report["gops"], report["frames"], report["damage"]) == (1, 12, [])
    assert len(report["tokens"]["0"]) == 64
    decoded = json.loads(cli("decompress", out, tmp_path / "a.mkv", "--model", tiny, "--json").out)
    assert decoded["frames"] == 12
    bundles = json.loads(cli("models", "list", "--json").out)["models"]
    assert [bundle["name"] for bundle in bundles if bundle["default"]]
    shown = json.loads(cli("models", "show", tiny, "--json").out)
    assert (shown["name"], shown["hash"]) == ("tiny", facts["model"]["hash"])


def test_quiet_says_nothing(cli: Cli, compressed: Path, tiny: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 2, pix_fmt="yuv444p")  # worth a notice
    ended = cli("compress", clip, tmp_path / "a.nc", "--model", tiny, "--quiet")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    ended = cli("decompress", compressed, tmp_path / "a.webm", "--model", tiny, "--quiet")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert cli("verify", compressed, "--quiet").out == ""


def test_one_notice_a_kind(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 12, pix_fmt="yuv444p10le")
    ended = cli("compress", clip, tmp_path / "a.nc", "--model", tiny)
    assert ended.err == f"neurocodec: {clip}: yuv444p10le is converted to 8-bit 4:2:0\n"


def test_verbose_says_more(cli: Cli, clip: Path, tiny: Path, tmp_path: Path) -> None:
    ended = cli("compress", clip, tmp_path / "a.nc", "--model", tiny, "-v")
    assert "64x48, 25 frames per second, 1 audio tracks; model tiny on cpu" in ended.err
    ended = cli("decompress", tmp_path / "a.nc", tmp_path / "a.mp4", "--model", tiny, "-v")
    assert "64x48, 12 frames, 1 audio tracks; model tiny" in ended.err


def test_overwriting(cli: Cli, clip: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.nc"
    out.write_bytes(b"old")
    assert cli("compress", clip, out, "--model", tiny, "-y").status == 0
    assert out.stat().st_size > 1000


def test_options_reach_the_codec(cli: Cli, clip: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.nc"
    cli("compress", clip, out, "--model", tiny, "-q", "7", "--gop", "3", "--audio", "none",
        "--start", "0.08", "--duration", "0.2", "--device", "cpu", "--threads", "1")  # fmt: skip
    facts = json.loads(cli("info", out, "--json").out)
    assert (facts["quality"], facts["gop_frames"], facts["gops"]) == (7, 3, 2)
    assert (facts["frames"], facts["audio"]) == (5, [])
    cli("compress", clip, out, "--model", tiny, "-y", "--audio", "opus:48")
    facts = json.loads(cli("info", out, "--json").out)
    assert facts["audio"][0]["codec"] == "opus"
    back = tmp_path / "a.mkv"
    cli("decompress", out, back, "--model", tiny, "--no-audio", "--lossless", "--start", "0.4")
    seen = look(back)
    assert (len(seen.times), seen.codecs) == (2, [])


def test_info(cli: Cli, compressed: Path) -> None:
    ended = cli("info", compressed)
    facts = dict(line.split(maxsplit=1) for line in ended.out.splitlines() if " " in line)
    assert facts["width"] == "64"
    assert facts["frames"] == "12"
    assert facts["audio"].startswith("codec aac, sample_rate 48000")


def test_names_fit_for_a_terminal(cli: Cli, clip: Path, tiny: Path, tmp_path: Path) -> None:
    for name in ("new\nline.nc", "bell\a.nc", "bad\udcff.nc"):
        ended = cli("compress", clip, tmp_path / name, "--model", tiny)
        assert (ended.status, ended.err) == (0, "")
        assert len(ended.out.splitlines()) == 1
        assert "\N{REPLACEMENT CHARACTER}" in ended.out
        assert cli("info", tmp_path / name).status == 0


def test_models(cli: Cli, tiny: Path) -> None:
    ended = cli("models", "list")
    assert "(default)" in ended.out
    assert "(--tune ms-ssim)" in ended.out
    assert len(ended.out.splitlines()) >= 1
    assert "tokenizer" in cli("models", "show", tiny).out
    assert cli("models", "show").status == 0


@pytest.mark.parametrize("tokens", [False, True])
def test_verify(tokens: bool, cli: Cli, compressed: Path, tiny: Path) -> None:
    ended = cli("verify", compressed, *(["--tokens", "--model", str(tiny)] if tokens else []))
    lines = ended.out.splitlines()
    assert lines[-1] == f"{compressed}: 3 GOPs, 12 frames, undamaged"
    assert len(lines) == (4 if tokens else 1)


def test_repair(cli: Cli, compressed: Path, tiny: Path, tmp_path: Path) -> None:
    whole, out = compressed.read_bytes(), tmp_path / "b.nc"
    cut = tmp_path / "a.nc"
    cut.write_bytes(whole[:-30])  # of the trailer
    ended = cli("repair", cut, out)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == f"{out}: 3 GOPs, 12 frames, {len(whole)} bytes"
    assert out.read_bytes() == whole
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    cut.write_bytes(damaged)
    assert cli("repair", cut, out).status == 4  # it is there
    ended = cli("repair", cut, out, "-y", "--json")
    assert ended.status == 9
    assert json.loads(ended.out)["lost"]
    assert "parts were lost" in ended.err
    assert cli("verify", out, "--tokens", "--model", tiny).status == 0
    assert cli("repair", cut, cut, "-y").status == 2
    cut.write_bytes(b"nothing")
    assert cli("repair", cut, tmp_path / "c.nc").status == 5
    assert {path.name for path in tmp_path.iterdir()} == {"a.nc", "b.nc"}
