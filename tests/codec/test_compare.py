from pathlib import Path

import numpy as np
import pytest

import neurocodec
from neurocodec.codec.compare import Quality, compare, frame_psnr
from neurocodec.errors import InputError
from neurocodec.media.frame import Frame
from tests.media.clips import write_clip


def test_psnr() -> None:
    planes = [np.full(shape, 100, np.uint8) for shape in ((4, 4), (2, 2), (2, 2))]
    other = [planes[0] + 1, planes[1], planes[2].copy()]
    other[2][0, 0] += 10  # a mean squared error of 25
    got = frame_psnr(Frame(*planes, 0), Frame(*other, 0))
    assert got == pytest.approx([48.1308, 100, 34.1514], abs=1e-3)
    assert Quality(1, 40.0, 30.0, 20.0).psnr == pytest.approx(36.25)


def test_another_clip_is_refused(tmp_path: Path, tiny: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 5)
    neurocodec.compress(clip, tmp_path / "a.nc", model=str(tiny))
    assert compare(clip, tmp_path / "a.nc", str(tiny)).frames == 5
    for name, frames, size in (("b", 6, (64, 48)), ("c", 4, (64, 48)), ("d", 5, (1, 1))):
        other = write_clip(tmp_path / f"{name}.mkv", frames, size=size, codec="ffv1")
        with pytest.raises(InputError, match="differs"):
            compare(other, tmp_path / "a.nc", str(tiny))
