import json
from pathlib import Path

import av
from click.testing import CliRunner
from PIL import Image

from neurocodec.cli import main
from neurocodec.cli.demo import command


def test_demo_makes_what_it_says(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = CliRunner().invoke(command, ["--out", str(out), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    with av.open(str(out / "decoded.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 60
        assert len(container.streams.audio) == 1
    with Image.open(out / "side-by-side.png") as picture:
        assert picture.size == (512, 256)
    facts = CliRunner().invoke(main, ["info", "--json", str(out / "demo.nc")])
    size = json.loads(facts.output)["bytes"]
    assert f"compressed  {size} bytes" in result.output
    decibels = float(result.output.split("PSNR")[1].split()[0])
    assert decibels > 30
