"""Detail of what was seen goes along with what moves, and nowhere else."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neurocodec.generate import clips, start
from neurocodec.generate.detail import carried
from neurocodec.generate.model import Generative
from neurocodec.tokenizer.patch import planes_from_yuv, psnr

SIDE = 64


def drawing(left: int, top: int, side: int = 20) -> torch.Tensor:
    """(6, 1, H/2, W/2): a bright square with stripes, on a quiet ground."""
    y = np.full((1, SIDE, SIDE), 60, np.uint8)
    inside = np.s_[0, top : top + side, left : left + side]
    y[inside] = np.where(np.arange(side) % 4 < 2, 150, 220)
    u = np.full((1, SIDE // 2, SIDE // 2), 100, np.uint8)
    return planes_from_yuv(y, u, u + 50).float() / 255


def blurred(planes: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(planes, (2, 2, 2, 2), "replicate"), 5, 1)


def test_detail_moves_with_a_square() -> None:
    first, later = drawing(10, 20), torch.cat([drawing(14, 22), drawing(18, 24)], 1)
    decoded = blurred(later)
    found = carried(decoded[None], first[None, :, 0], blurred(first)[None, :, 0])[0]
    for t in (0, 1):
        before, after = (psnr(x[:, t : t + 1], later[:, t : t + 1])[3] for x in (decoded, found))
        assert after > before + 6


def test_what_was_never_seen_stays_as_decoded() -> None:
    noise = torch.rand(1, 6, 1, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(0))
    seen = drawing(10, 20)[None, :, 0]
    found = carried(noise, seen, seen)
    assert (found - noise).square().mean() < 0.02 * (found - seen[:, :, None]).square().mean()


def test_prediction_of_a_still_clip_is_as_sharp_as_the_clip(
    tiny_gen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = start(str(tiny_gen), "cpu")
    clip = drawing(10, 20)[:, :, :16, :16].expand(-1, 5, -1, -1)
    decoded = blurred(clip[:, :1]).expand(-1, model.frames, -1, -1)[None]
    monkeypatch.setattr(Generative, "planes", lambda *_: decoded)
    found = clips.predict(model, clip, 3, 6, steps=2).planes[:, 5:]
    assert (found - clip[:, :1]).abs().max() < 0.02
    assert (decoded - clip[:, :1]).abs().max() > 0.2
