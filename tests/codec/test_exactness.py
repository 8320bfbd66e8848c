"""Tokens are the same on every machine, because probabilities are integers; floats would not do."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurocodec
from neurocodec.codec.verify import verify
from neurocodec.entropy.integer import SHIFT, Layer


@pytest.fixture
def coded(clip: Path, tiny_motion_generated: Path, tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "clip.nc"
    model = str(tiny_motion_generated)
    neurocodec.compress(clip, path, model=model, audio="none", quality=70)
    return path, model


def hashes(path: Path, model: str) -> dict[str, str]:
    return verify(path, model, tokens=True).tokens


def test_sums_in_another_order(coded: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As another library, another number of threads or another processor would add them."""

    def backwards(self: Layer, x: Any) -> Any:
        total = sum(
            x[:, part].astype(np.float32)[:, ::-1] @ self.weight[part][::-1]
            for part in (slice(7, None), slice(0, 7))
        )
        total = (total.astype(np.int64) + self.bias) * self.multiplier
        return (total + (1 << (SHIFT - 1))) >> SHIFT

    expected = hashes(*coded)
    monkeypatch.setattr(Layer, "__call__", backwards)
    assert hashes(*coded) == expected


def test_floats_would_break_it(coded: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With sums in half precision, as a graphics card may take them, tokens are lost."""

    def floats(self: Layer, x: Any) -> Any:
        real = (self.weight * self.multiplier / 2.0**SHIFT).astype(np.float16)
        total = (x.astype(np.float16) @ real).astype(np.float32)
        return np.rint(total + self.bias * self.multiplier / 2.0**SHIFT).astype(np.int64)

    expected = hashes(*coded)
    monkeypatch.setattr(Layer, "__call__", floats)
    assert hashes(*coded) != expected


def test_under_other_settings(coded: tuple[Path, str]) -> None:
    """The script that compares hashes finds no difference, and would say so if there were one."""
    path, model = coded
    script = Path(__file__).parents[2] / "scripts" / "exactness.py"
    command = [sys.executable, str(script), str(path), "--model", model, "--short"]
    environment = os.environ | {"PYTHONPATH": str(script.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    first = next(iter(hashes(path, model).values()))
    assert done.stdout.count(first[:32]) >= 8
    assert done.stdout.count(", by torch") >= 3
    for more in (["--python", "false"], ["--model", "none"]):
        wrong = subprocess.run([*command, *more], capture_output=True, text=True, env=environment)
        assert wrong.returncode == 1
        assert "differs" in wrong.stdout
