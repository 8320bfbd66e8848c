"""What ``scripts/entropy_table.py`` measures adds up to what a file takes."""

import runpy
from pathlib import Path

import pytest

import neurocodec
from tests.conftest import write_clip

SCRIPT = Path(__file__).parents[2] / "scripts" / "entropy_table.py"


@pytest.mark.parametrize("kind", ["tiny_generated", "tiny_motion_generated"])
def test_parts_add_up(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    source, out = write_clip(tmp_path / "a.mkv", 6, 48, 32), tmp_path / "a.nc"
    stats = neurocodec.compress(source, out, model=str(model), entropy="generator", device="cpu")
    found = runpy.run_path(str(SCRIPT))["measure"](out, None, str(model), None)
    # but for what a section holds beside
    assert 0 < stats.video_bytes - found[("4", "file")][0] / 8 < 64
    for name in ("adaptive", "1", "2", "4", "8"):
        whole = found[(name, "file")][0]
        names = ("tokens and depths", "motion", "loop filter")
        parts = [found.get((name, part), [0])[0] for part in names]
        assert whole - 16 < sum(parts) <= whole
        stages = sum(bits for key, (bits, _) in found.items() if key[:2] == (name, "stage"))
        steps = sum(bits for key, (bits, _) in found.items() if key[:2] == (name, "step"))
        assert 0 < stages < parts[0]
        if name != "adaptive":
            assert steps == pytest.approx(stages)
            assert {key[2] for key in found if key[:2] == (name, "step")} <= set(range(int(name)))
