"""Detail that tokens cannot hold, taken along from the last frame that was seen.

A generator says what the tokens of later frames are, and its tokenizer blurs whatever it decodes.
But where a later frame, as decoded, is the last seen one, as decoded, moved, it should look as that
one did. Motion search between the two decodings says what went where; there the seen frame, moved
likewise, takes the decoding's place. Where nothing that was seen fits, the decoding stays.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..codec.search import search
from ..tokenizer.motion import Reference, compensate
from ..tokenizer.quarter_pixels import QuarterPixels

PENALTY = 2e-3  # squared error of luma that a bit of motion must save
MISFIT = 0.02  # mean squared error at which decoding and what was seen count alike
_REACH = 2  # half-resolution pixels around one that the error is taken of


@torch.no_grad()
def carried(decoded: Tensor, seen: Tensor, seen_decoded: Tensor) -> Tensor:
    """Frames ``decoded`` (B, 6, T, H/2, W/2) in 0..1 with the detail of the frame ``seen`` before
    them, (B, 6, H/2, W/2), of which ``seen_decoded`` is the decoding."""
    code, real = Reference(seen_decoded), Reference(seen)
    searched = QuarterPixels(seen_decoded)
    out = []
    for frame in decoded.unbind(2):
        motion = search(frame, (searched, searched), PENALTY)
        field = motion.fields[:, 0]
        error = (frame - compensate(code, field)).square().mean(1, keepdim=True)
        error = F.avg_pool2d(error, 2 * _REACH + 1, 1, _REACH, count_include_pad=False)
        weight = 1 / (1 + (error / MISFIT).square())
        out.append(frame + weight * (compensate(real, field) - frame))
    return torch.stack(out, 2).clamp(0, 1)
