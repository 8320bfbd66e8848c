"""Whole runs on a made-up clip: what is kept, resumed, matched and left out."""

import json
import shutil
from pathlib import Path

import pytest

from neurocodec.bench import run as run_module
from neurocodec.bench.anchors import Dial
from neurocodec.bench.ffmpeg import Ffmpeg
from neurocodec.bench.results import Results, read_json
from neurocodec.bench.run import beyond, failures, run_suite, spread
from neurocodec.bench.suite import Suite, read_suite
from neurocodec.errors import InputError
from tests.bench.conftest import Finished
from tests.conftest import write_clip


def anchors_only(folder: Path, anchors: str, clip: str = "clip.mkv", frames: int = 5) -> Suite:
    path = folder / "suite.toml"
    path.write_text(f'clips = ["{clip}"]\nframes = {frames}\nmetrics = ["psnr"]\n{anchors}')
    return read_suite(path)


X264 = '[[anchors]]\ncodec = "x264"\npreset = "ultrafast"\n'


def test_every_point_is_whole(finished: Finished) -> None:
    results = Results.read(finished.folder)
    assert {c.status for c in results.curves.values()} == {"done"}
    for curve in results.curves.values():
        points = results.points(curve)
        assert len(points) >= 3
        for path, point in zip(curve.points, points, strict=True):
            stream = results.work / "streams" / Path(path).relative_to("points")
            size = next(stream.parent.glob(f"{stream.stem}.*")).stat().st_size
            assert point["bytes"] == size
            assert point["bpp"] == pytest.approx(8 * size / (5 * 192 * 176))
            assert point["kbps"] == pytest.approx(8 * size / (5 / 25) / 1000)
            assert point["frames"] == len(point["per_frame"]["psnr_y"]) == 5
            assert {"psnr", "ms_ssim", "vmaf", "xpsnr"} <= set(point["metrics"])
            assert point["encode"]["seconds"] > 0
            assert point["decode"]["peak_bytes"] > 1e6
            assert str(finished.folder) not in json.dumps(point)  # no paths of this machine
            assert point["versions"]
    ours = results.points(results.curves["clip", "neurocodec"])
    assert [p["value"] for p in ours] == [10, 50, 90]
    assert ours[0]["encode"]["command"].startswith("neurocodec compress work/sources/clip.y4m")
    assert "tiny" in ours[0]["versions"]["model"]
    x265 = results.points(results.curves["clip", "x265 ultrafast"])[0]
    assert "-c:v libx265 -preset ultrafast" in x265["encode"]["command"]
    assert x265["versions"]["ffmpeg"] == Ffmpeg().version
    assert x265["versions"]["encoder"][0].isdigit()


def test_anchors_meet_our_rates_and_overlap_our_quality(finished: Finished) -> None:
    results = Results.read(finished.folder)
    ours = results.points(results.curves["clip", "neurocodec"])
    curve = results.curves["clip", "x265 ultrafast"]
    points = results.points(curve)
    for point, target in zip(points, curve.targets, strict=True):
        if target is not None and point["value"] > 8:  # the end of its dial
            assert point["bytes"] == pytest.approx(ours[target]["bytes"], rel=0.15)
    assert min(p["metrics"]["psnr"] for p in points) < max(p["metrics"]["psnr"] for p in ours)


def test_a_finished_run_is_not_repeated_and_a_lost_point_is_made_again(
    finished: Finished, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    lines: list[str] = []
    run_suite(finished.suite, folder, notify=lines.append)
    assert lines
    assert all(line.endswith("(was there)") for line in lines)
    results = Results.read(folder)
    lost = folder / results.curves["clip", "x265 ultrafast"].points[0]
    before = read_json(lost)
    lost.unlink()
    lines.clear()
    run_suite(finished.suite, folder, only=("x265",), notify=lines.append)
    assert sum("was there" not in line for line in lines) == 1
    after = read_json(lost)
    assert after["bytes"] == before["bytes"]
    assert after["per_frame"] == before["per_frame"]
    assert Results.read(folder).curves.keys() == results.curves.keys()  # the others are kept


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mkv", 6)
    suite = anchors_only(tmp_path, X264)
    lines: list[str] = []

    def interrupt(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite(suite, tmp_path / "out", only=("x264",), notify=interrupt)
    results = Results.read(tmp_path / "out")
    assert results.curves["clip", "x264 ultrafast"].status == "running"
    assert len(results.curves["clip", "x264 ultrafast"].points) == 2
    lines.clear()
    run_suite(suite, tmp_path / "out", only=("x264",), notify=lines.append)
    assert [line.endswith("(was there)") for line in lines] == [True, True, False, False]
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_what_is_missing_or_fails_is_noted_and_the_rest_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoVvenc(Ffmpeg):
        @property
        def encoders(self) -> set[str]:  # type: ignore[override]
            return {"libx264", "libx265"}

    monkeypatch.setattr(run_module, "Ffmpeg", NoVvenc)
    write_clip(tmp_path / "clip.mkv", 3)
    bad = '[[anchors]]\ncodec = "x265"\npreset = "nonsense"\n'
    others = '[[anchors]]\ncodec = "vvenc"\n[[anchors]]\ncodec = "webp"\n'
    suite = anchors_only(tmp_path, bad + others + X264)
    results = run_suite(suite, tmp_path / "out", only=("x265", "vvenc", "webp", "x264"), jobs=2)
    status = {codec: c.status for (_, codec), c in results.curves.items()}
    assert status["neurocodec"] == "not run"
    assert status["vvenc"].startswith("missing: ffmpeg")
    assert status["webp"] == "skipped: takes one frame only"
    assert status["x264 ultrafast"] == "done"
    assert status["x265 nonsense"].startswith("failed: ")
    assert failures(results) == [f"clip, x265 nonsense: {status['x265 nonsense']}"]


def test_stills(tmp_path: Path) -> None:
    """One odd-sized RGB picture through every still codec; sides become even."""
    from PIL import Image
    from skimage import data

    Image.fromarray(data.astronaut()[100:163, 200:265]).save(tmp_path / "face.png")
    still = "".join(f'[[anchors]]\ncodec = "{name}"\n' for name in ("jpeg", "webp", "avif"))
    suite = anchors_only(tmp_path, still, "face.png", 1)
    results = run_suite(suite, tmp_path / "out", only=("jpeg", "webp", "avif"))
    source = results.sources["face"]
    assert (source.width, source.height, source.frames) == (64, 62, 1)
    assert source.colours.full_range
    assert source.notes == ("cropped from 65x63 to even sides, which all codecs take",)
    for codec in ("jpeg", "webp", "avif"):
        points = results.points(results.curves["face", codec])
        psnrs = [p["metrics"]["psnr"] for p in points]
        assert psnrs == sorted(psnrs)
        assert psnrs[-1] > 33


def test_another_metric_is_added_without_encoding_again(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mkv", 3)
    suite = anchors_only(tmp_path, X264)
    run_suite(suite, tmp_path / "out", only=("x264",))
    first = Results.read(tmp_path / "out")
    path = tmp_path / "out" / first.curves["clip", "x264 ultrafast"].points[0]
    before = read_json(path)
    text = (tmp_path / "suite.toml").read_text().replace('["psnr"]', '["psnr", "ms_ssim"]')
    (tmp_path / "suite.toml").write_text(text)
    run_suite(read_suite(tmp_path / "suite.toml"), tmp_path / "out", only=("x264",))
    after = read_json(path)
    assert after["encode"] == before["encode"]
    assert after["metrics"]["psnr"] == before["metrics"]["psnr"]
    assert 0 < after["metrics"]["ms_ssim"] <= 1


def test_a_clip_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "clip.mkv").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a video"):
        run_suite(anchors_only(tmp_path, X264), tmp_path / "out")


def test_where_more_points_are_needed() -> None:
    ours = [(100.0, 30.0), (200.0, 33.0), (400.0, 36.0)]
    better = [(100.0, 34.0), (200.0, 37.0), (400.0, 40.0)]
    assert beyond(ours, better, low=True) == pytest.approx(100 * 2 ** (-4.3 / 3))
    assert beyond(ours, better, low=False) is None
    assert beyond(better, ours, low=False) == pytest.approx(400 * 2 ** (4.3 / 3))
    assert beyond(ours, better[:1], low=True) is None
    assert spread(Dial("crf", 51, 8, (38, 24))) == [42, 34, 28, 20]
