from pathlib import Path

import pytest

import neurocodec
from neurocodec.codec.compare import compare


@pytest.mark.parametrize("frames", [1, 2, 5, 12, 18])
def test_every_frame_comes_back(tmp_path: Path, tiny: Path, frames: int) -> None:
    from tests.conftest import write_clip

    source = write_clip(tmp_path / "in.mkv", frames)
    out = tmp_path / "out.nc"
    stats = neurocodec.compress(source, out, model=str(tiny), gop=9, quality=80)
    assert stats.frames == frames
    assert stats.bytes == out.stat().st_size
    quality = compare(source, out, str(tiny))
    assert quality.frames == frames
    assert quality.psnr > 30


def test_size_and_quality_rise_with_the_dial(clip: Path, tmp_path: Path, tiny: Path) -> None:
    sizes, psnrs = [], []
    for quality in (0, 25, 50, 75, 100):
        out = tmp_path / f"{quality}.nc"
        sizes.append(neurocodec.compress(clip, out, model=str(tiny), quality=quality).bytes)
        psnrs.append(compare(clip, out, str(tiny)).psnr)
    assert sizes == sorted(set(sizes))
    assert psnrs == sorted(set(psnrs))
