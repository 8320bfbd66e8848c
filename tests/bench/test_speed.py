import importlib
import os
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurocodec import models
from neurocodec.bench.anchors import Setting
from neurocodec.bench.ffmpeg import Ffmpeg
from neurocodec.bench.hyperprior import Hyperprior
from neurocodec.bench.roofline import roofline
from neurocodec.bench.speed import (
    Speeds,
    markdown,
    measure_speed,
    moving_photographs,
    parse_sizes,
)
from neurocodec.bench.stages import STAGES, Sampler, stage_of
from neurocodec.bench.versions import machine
from neurocodec.bench.y4m import open_y4m, write_y4m
from neurocodec.codec.child import environment
from neurocodec.errors import UsageError
from neurocodec.threads import ahead
from neurocodec.tokenizer.config import BETWEEN


def test_speed(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurocodec.bench.speed._STARTS", 1)
    lines: list[str] = []
    found = measure_speed(((192, 128),), 9, model=str(tiny), notify=lines.append)
    assert [line.split("  ")[1] for line in lines] == [
        "neurocodec", "neurocodec fast", "x265 medium", "vvenc faster",
        "CompressAI hyperprior, random weights",
    ]  # fmt: skip
    assert len(found.rows) == 10
    for row in found.rows[:8]:
        assert row.fps > 0
        assert row.real_time == pytest.approx(row.fps / 25, abs=1e-3)
        assert row.start_up > 0
        assert row.peak_bytes > 1e6
    for direction in ("encode", "decode"):
        seconds = found.stages["192x128"][direction]
        assert set(seconds) == {"wall", *STAGES}
        assert 0 < seconds["network"] < seconds["wall"]
    text = markdown(found)
    assert "| 192x128 | x265 medium | encode |" in text
    assert (
        "| size | | whole | start-up | media | search | prediction | network | loop filter |"
        in text
    )


def test_a_roofline_counts_the_macs_of_a_picture(tiny_motion: Path) -> None:
    found = roofline(64, 48, str(tiny_motion))
    networks = models.read_bundle(tiny_motion).tokenizer().networks(BETWEEN)
    cells = 8 * 6
    macs = networks.decoder.synthesis.numel() * cells
    for name, module in networks.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            of_cells = name.startswith(("decoder.stem", "decoder.blocks", "decoder.up"))
            macs += module.weight.numel() * cells * (1 if of_cells else 4)
    assert found.macs == macs
    assert found.of_pixel == round(macs / (64 * 48))
    assert found.speed == pytest.approx(macs / found.seconds)
    assert 0 < found.share < 2
    seconds = {"64x48": {"encode": dict.fromkeys(("wall", *STAGES), 0.0)}}
    assert "| 64x48 | " in markdown(Speeds(2, machine(), [], seconds, [found])).splitlines()[-1]
    with pytest.raises(UsageError, match="family motion"):
        roofline(64, 48, "magvit2-small")


_STUB = """
import numpy as np, torch

class Model:
    def eval(self): return self
    def update(self, force): pass
    def compress(self, x):
        assert x.shape[2] % 64 == x.shape[3] % 64 == 0
        return {"strings": [[(x * 255).byte().numpy().tobytes()]], "shape": x.shape[1:]}
    def decompress(self, strings, shape):
        x = np.frombuffer(strings[0][0], np.uint8).reshape(1, *shape)
        return {"x_hat": torch.from_numpy(x.copy()) / 255}

def bmshj2018_hyperprior(quality, metric, pretrained): return Model()
"""


def test_a_learned_codec_of_pictures(
    tmp_path: Path, ffmpeg: Ffmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in that loses nothing: frames of a size that is not whole for it come back."""
    codec = Hyperprior(Setting("CompressAI"), ffmpeg, 9, None, None)
    assert codec.missing() == "compressai is not installed"
    package = tmp_path / "compressai"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "zoo.py").write_text(_STUB)
    monkeypatch.syspath_prepend(tmp_path)
    assert codec.missing() is None
    clip = list(moving_photographs(3, 72, 50))
    write_y4m(tmp_path / "in.y4m", clip, Fraction(30000, 1001))
    env = environment() | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"}
    for command in (
        codec.encode(tmp_path / "in.y4m", 3, tmp_path / "stream"),
        codec.decode(tmp_path / "stream", tmp_path / "out.y4m"),
    ):
        subprocess.run(command, env=env, check=True)
    out = open_y4m(tmp_path / "out.y4m")
    assert (out.width, out.height, out.rate) == (72, 50, Fraction(30000, 1001))
    assert len(list(out)) == 3
    for ours, theirs in zip(out, clip, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_clip_moves_and_is_the_same_every_time() -> None:
    clips = [list(moving_photographs(3, 64, 48)) for _ in range(2)]
    for a, b in zip(*clips, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    y, u, _ = clips[0][0]
    assert (y.shape, u.shape) == ((48, 64), (24, 32))
    assert np.abs(clips[0][1][0].astype(int) - y).mean() > 2


def test_sizes() -> None:
    assert parse_sizes("320x180, 33x47") == ((320, 180), (32, 46))
    for bad in ("320", "ax4", "8x8", "320x180x3", ""):
        with pytest.raises(UsageError, match="give WIDTHxHEIGHT"):
            parse_sizes(bad)
    with pytest.raises(UsageError, match="2 frames or more"):
        measure_speed(((64, 48),), 1)


def test_a_missing_encoder_is_a_row(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neurocodec.bench import speed

    class Bare(Ffmpeg):
        encoders = {"libx265"}  # noqa: RUF012

    monkeypatch.setattr(speed, "Ffmpeg", Bare)
    monkeypatch.setattr(speed, "_rows", lambda codec, *_: [
        speed.Row("64x48", codec.setting.label, "encode", 1, 1, 1, 1, codec.missing() or "")
    ])  # fmt: skip
    monkeypatch.setattr(
        speed, "_stages", lambda *_: {"encode": dict.fromkeys(("wall", *STAGES), 0.0)}
    )
    text = markdown(measure_speed(((64, 48),), 2, model=str(tiny)))
    assert "| 64x48 | vvenc faster | encode | missing: ffmpeg" in text


def test_stages_are_told_by_module() -> None:
    """A thread in the entropy coder, and one that waits for it."""
    from neurocodec.entropy import binary

    namespace: dict[str, object] = {"time": time}
    code = compile("def work():\n    time.sleep(0.4)\n    yield 1\n", binary.__file__, "exec")
    exec(code, namespace)
    with Sampler() as sampler:
        list(ahead(namespace["work"](), 1))  # type: ignore[operator]
    assert sampler.seconds["token entropy"] == pytest.approx(0.4, abs=0.15)
    assert sum(sampler.seconds.values()) == pytest.approx(sampler.seconds["token entropy"], abs=0.1)
    assert stage_of(None) is None


def test_a_tool_counts_for_who_uses_it() -> None:
    """Interpolation for the search is search, and for a prediction, prediction."""
    from neurocodec.codec import search
    from neurocodec.tokenizer import motion

    def called_from(file: str) -> str | None:
        namespace: dict[str, Any] = {"look": lambda: stage_of(sys._getframe().f_back)}
        tool = "def tool():\n    return look()\n"
        exec(compile(tool, motion.__file__, "exec"), namespace)
        exec(compile("def user():\n    return tool()\n", file, "exec"), namespace)
        return namespace["user"]()  # type: ignore[no-any-return]

    assert called_from(search.__file__) == "search"
    assert called_from(motion.__file__) == "prediction"


def test_importing_is_starting_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(0.3)")
    monkeypatch.syspath_prepend(tmp_path)
    with Sampler() as sampler:
        worker = threading.Thread(target=importlib.import_module, args=("slow_to_import",))
        worker.start()
        worker.join()
    assert sampler.seconds["start-up"] == pytest.approx(0.3, abs=0.15)
