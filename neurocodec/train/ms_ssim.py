"""What a run of the ``motion`` tokenizer does differently where it aims at MS-SSIM."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..similarity import ms_ssim
from ..tokenizer.config import INTRA, SPATIAL_STRIDE
from ..tokenizer.levels import LevelLFQ
from ..tokenizer.motion_model import CodedPicture
from ..tokenizer.patch import dct_matrix, group_basis, luma

# 1 - MS-SSIM that is worth a bit a pixel, over a power of the step, as files of many qualities
# trade them
_PER_STEP, _POWER = 20.0, 2.45
LUMA_ERROR = 0.15  # the part of luma's squared error that stays, so that means do not wander
MASKING = (0.25, 0.45)  # of batches, about what ``compress --tune ms-ssim`` has
# Steps of luma's frequencies, by their distance from 0 in units of half a cycle a cell: what makes
# noise of all of them cost the same, see docs/decisions.md, and the part of that which is taken
_FREQUENCY = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10)
_STEP = (0.47, 0.50, 0.60, 0.66, 0.76, 0.87, 1.05, 1.19, 1.27, 1.33)
_CHROMA, _TAKEN = 0.75, 0.7


def dissimilarity(planes: Tensor, coded: CodedPicture, step: Tensor) -> Tensor:
    """1 - MS-SSIM of luma over lambda, bits a pixel: (B,)."""
    alike = ms_ssim(luma(planes), luma(coded.planes.float()))
    return (1 - alike) / (_PER_STEP * step**_POWER)


def shape_steps(lfq: LevelLFQ) -> None:
    """Give the channels of pictures, though not of intra pictures' bases, the steps above."""
    side = SPATIAL_STRIDE
    rows = group_basis(lfq.log_gain.shape[1], 1)[0].view(-1, 6, side // 2, side // 2)
    dct = dct_matrix(side).float()
    spectrum = (dct @ luma(rows) @ dct.T).abs().flatten(1)
    place = spectrum.argmax(1).numpy()
    steps = np.interp(np.hypot(place // side, place % side), _FREQUENCY, _STEP)
    steps = np.where(spectrum.amax(1).numpy() > 0, steps, _CHROMA)
    gain = _TAKEN * np.log(steps / _CHROMA)
    with torch.no_grad():
        lfq.log_gain[INTRA:] = torch.from_numpy(gain).to(lfq.log_gain)
