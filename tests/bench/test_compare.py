import json
import shutil
from pathlib import Path

import pytest

import neurocodec
from neurocodec.bench.compare import compare
from neurocodec.codec.compare import compare as compare_nc
from neurocodec.errors import InputError, OutputError, UsageError
from tests.bench import browser
from tests.bench.test_report import data_of
from tests.conftest import write_clip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("compare")
    source = write_clip(folder / "source.mkv", 6, 64, 48)
    nc = folder / "ours.nc"
    neurocodec.compress(source, nc, model=str(tiny), quality=60)
    other = write_clip(folder / "other.mp4", 6, 64, 48, codec="libx264")
    return {"source": source, "nc": nc, "other": other}


def test_two_against_a_third(videos: dict[str, Path], tiny: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    found = compare(
        videos["nc"], videos["other"], videos["source"], metrics=("psnr", "ms_ssim"),
        page=page, model=str(tiny),
    )  # fmt: skip
    assert (found.names, found.reference, found.frames) == (
        ["ours.nc", "other.mp4"],
        "source.mkv",
        6,
    )
    expected = compare_nc(videos["source"], videos["nc"], str(tiny))
    assert found.qualities[0].means["psnr"] == pytest.approx(expected.psnr)
    assert len(found.qualities[1].columns["ms_ssim"]) == 6
    json.dumps(found.to_dict())
    data = data_of(page)
    assert data["names"] == ["source.mkv", "ours.nc", "other.mp4"]
    assert list(data["frames"]) == ["0", "1", "2", "3", "4", "5"]
    assert all(len(uris) == 3 for uris in data["frames"].values())


def test_one_against_the_other(videos: dict[str, Path]) -> None:
    found = compare(videos["source"], videos["source"], metrics=("psnr",))
    assert found.qualities[0].means["psnr"] == 100
    found = compare(videos["source"], videos["other"], metrics=("psnr",))
    assert found.reference == "source.mkv"
    assert len(found.qualities) == 1


def test_odd_sizes(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "odd.mkv", 2, 65, 51)
    found = compare(path, path, metrics=("psnr", "ms_ssim", "xpsnr", "vmaf"))
    assert found.qualities[0].means["ms_ssim"] == pytest.approx(1)
    assert (found.width, found.height) == (65, 51)


def test_pictures_stay_within_their_bytes(videos: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    a, b = videos["source"], videos["other"]
    compare(a, b, metrics=("psnr",), page=page, picture_bytes=5000)
    frames = data_of(page)["frames"]
    assert sum(len(u) for uris in frames.values() for u in uris) <= 5000
    assert len(frames) < 6


def test_what_cannot_be_compared(videos: dict[str, Path], tmp_path: Path) -> None:
    short = write_clip(tmp_path / "short.mkv", 4, 64, 48)
    with pytest.raises(InputError, match=r"source.mkv is this long: 6 frames, short.mkv 4 frames"):
        compare(videos["source"], short)
    small = write_clip(tmp_path / "small.mkv", 6, 32, 48)
    with pytest.raises(InputError, match=r"source.mkv is of size 64x48, small.mkv 32x48"):
        compare(videos["source"], small)
    with pytest.raises(UsageError, match="unknown metric 'ssim'"):
        compare(short, short, metrics=("ssim",))
    with pytest.raises(OutputError, match="exists already"):
        compare(short, short, page=small)


@pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))
def test_the_page_in_chromium(videos: dict[str, Path], tiny: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    alike = tmp_path / "source.mkv"  # two files of one name
    shutil.copy(videos["other"], alike)
    compare(videos["nc"], alike, videos["source"], metrics=("psnr",), page=page, model=str(tiny))
    with browser.Browser() as chromium:
        chromium.open(page)
        assert chromium.run("return document.querySelectorAll('#chart path.series').length") == 2
        assert chromium.run("return document.querySelectorAll('#means tr').length") == 3
        chromium.run(
            "const f = document.querySelector('#frame'); f.value = '3';"
            "f.dispatchEvent(new Event('change'));"
        )
        loaded = "return [...document.querySelectorAll('.stage img')].map(i => i.naturalWidth)"
        assert chromium.run(loaded) == [64, 64]
        assert chromium.log() == []
