"""From a tokenizer of images to one of video (MAGVIT-v2, arXiv 2310.05737, appendix A).

An image is a one-frame video whose past is the frame itself, so a causal kernel acts on it as the
sum of its temporal slices. Inflation puts that sum into the last slice, the one of the present, and
zeros into those of the past: what becomes of an image is unchanged, and of a video every frame is
coded as it would be alone, until training finds out what the past is good for.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .causal import CausalConv3d
from .config import TEMPORAL_STRIDE
from .model import Tokenizer


@torch.no_grad()
def inflate(model: Tokenizer) -> None:
    """Inflate a model that was trained on single frames, in place. The transforms beside the
    networks, and what predicts a latent frame from another, stay as they are."""
    for module in model.modules():
        if isinstance(module, CausalConv3d) and module.past:
            weight = module.conv.weight  # (out, in, T, h, w)
            present = weight.sum(2)
            weight.zero_()
            weight[:, :, -1] = present
    down = model.encoder.temporal_down.conv
    groups = _by_frame(down.weight, 1)  # (out, 4, in, ...): inputs of a group's four frames
    present = groups.sum(1)
    groups.zero_()
    groups[:, -1] = present
    up = model.decoder.temporal_up.conv
    groups = _by_frame(up.weight, 0)  # of an image's group the last frame alone is kept
    groups[:-1] = groups[-1:].clone()
    assert up.bias is not None
    bias = up.bias.view(TEMPORAL_STRIDE, -1)
    bias[:-1] = bias[-1:].clone()


def _by_frame(weight: Tensor, dim: int) -> Tensor:
    """A view of a kernel whose channels along ``dim`` are those of four frames."""
    return weight.unflatten(dim, (TEMPORAL_STRIDE, -1))
