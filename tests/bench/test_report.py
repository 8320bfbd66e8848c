"""Tables, figures and the page of a finished run; the page in a browser where there is one."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from neurocodec.bench import page as page_module
from neurocodec.bench.bd import bd_rate
from neurocodec.bench.report import write_report
from neurocodec.bench.results import Results
from neurocodec.bench.tables import Tables, shown_speed
from neurocodec.errors import InputError
from tests.bench import browser
from tests.bench.conftest import Finished


@pytest.fixture(scope="module")
def reported(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "out"
    shutil.copytree(finished.folder, folder)
    write_report(folder, 2_000_000)
    return folder


def test_markdown(reported: Path) -> None:
    text = (reported / "report.md").read_text()
    tables = Tables(Results.read(reported))
    curves = (tables.curve("clip", c, "psnr") for c in ("x265 ultrafast", "neurocodec"))
    expected = bd_rate("psnr", *curves).value
    assert expected is not None
    row = next(line for line in text.splitlines() if line.startswith("| x265 ultrafast |"))
    assert f"{expected:+.0f} %" in row
    assert len(row.split("|")) == 10  # the codec, five metrics, two speeds
    assert "| vvenc faster, our GOP |" in text
    assert re.search(r"\*\*neurocodec\*\* \|.*\d", text)
    assert "Nothing was left out." in text
    for key in ("psnr", "ms_ssim", "vmaf", "xpsnr"):
        assert f"curves-{key}.svg" in text


def test_figures(reported: Path) -> None:
    svg = (reported / "curves-psnr.svg").read_text()
    assert "neurocodec" in svg
    assert "x265 ultrafast" in svg
    assert "http://" not in re.sub(
        r'xmlns\S*="\S+"|"http://\S+\.dtd"|<metadata>.*</metadata>', "", svg, flags=re.S
    )
    with Image.open(reported / "curves-psnr.png") as picture:
        assert picture.width > 200


def data_of(path: Path) -> dict:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S
    )
    assert found
    return json.loads(found[1])


def test_the_page_holds_everything(reported: Path) -> None:
    text = (reported / "index.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "{{" not in text
    data = data_of(reported / "index.html")
    ours = data["points"]["clip"]["neurocodec"]
    assert [p["value"] for p in ours] == [10, 50, 90]
    for codec in data["codecs"]:
        assert any(p["picture"] for p in data["points"]["clip"][codec])
    assert set(data["pictures"]) == {
        "clip",
        *(p["picture"] for ps in data["points"]["clip"].values() for p in ps if p["picture"]),
    }
    assert all(p["metrics"]["psnr"] for p in ours)


def test_pictures_stay_within_their_bytes(finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(finished.folder, folder)
    write_report(folder, 2_000_000)
    every = data_of(folder / "index.html")["pictures"]
    write_report(folder, sum(map(len, every.values())) // 3)
    fewer = data_of(folder / "index.html")
    assert 0 < sum(map(len, fewer["pictures"].values())) <= sum(map(len, every.values())) // 3
    write_report(folder, 0)
    none = data_of(folder / "index.html")
    assert none["pictures"] == {}
    assert none["pictures_note"]


def test_a_clip_with_a_hostile_name(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    page_module.write_page(path, "report", "a & <b>", {"title": "</script><script>alert(1)"})
    text = path.read_text()
    assert "<title>a &amp; &lt;b&gt;</title>" in text
    assert "</script><script>alert" not in text


def test_folders_without_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        write_report(tmp_path, 0)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="not the results of a benchmark"):
        write_report(tmp_path, 0)


def test_speeds_are_shown_in_two_figures() -> None:
    assert [shown_speed(v) for v in (0.123, 4.56, 78.9, 1234, None)] == [
        "0.12",
        "4.6",
        "79",
        "1234",
        "-",
    ]


@pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))
def test_in_chromium(reported: Path, tmp_path: Path) -> None:
    with browser.Browser() as chromium:
        chromium.open(reported / "index.html")
        assert chromium.run("return document.title") == "Benchmark “tests”"
        assert chromium.run("return document.querySelectorAll('#chart path.series').length") == 3
        assert chromium.run("return document.querySelectorAll('#bd tr').length") == 4
        spot = chromium.run(
            "const c = document.querySelector('#chart circle');"
            "const box = document.querySelector('#chart svg').viewBox.baseVal;"
            "return [c.getAttribute('cx') / box.width, c.getAttribute('cy') / box.height];"
        )
        chromium.hover("#chart svg", *spot)
        tip = chromium.run(
            "const t = document.querySelector('.tip'); return t.hidden ? '' : t.textContent"
        )
        assert "neurocodec, quality 10" in tip
        assert "neurocodec compress work/sources/clip.y4m" in tip
        chromium.run(
            "const m = document.querySelector('#metric'); m.value = 'vmaf';"
            "m.dispatchEvent(new Event('change'));"
        )
        assert "VMAF" in chromium.run("return document.querySelector('#chart svg').textContent")
        chromium.run("document.querySelector('.legend button').click()")
        assert chromium.run("return document.querySelectorAll('#chart path.series').length") == 2
        chromium.hover(".stage", 0.25, 0.5)
        assert chromium.run(
            "return document.querySelector('.stage .over').style.clipPath"
        ).startswith("inset(0px 0px 0px 2")
        loaded = "return [...document.querySelectorAll('.stage img')].map(i => i.naturalWidth)"
        assert chromium.run(loaded) == [192, 192]
        chromium.screenshot(tmp_path / "page.png")
        with Image.open(tmp_path / "page.png") as picture:
            assert len(picture.convert("L").resize((64, 64)).getcolors()) > 10
        assert chromium.log() == []
