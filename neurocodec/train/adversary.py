"""The adversarial part of MAGVIT-v2's objective (arXiv 2310.05737, section 3.2 and appendix A).

A 3D discriminator that reduces by blurring (Zhang, ICML 2019), the non-saturating loss, R1
(Mescheder et al., ICML 2018) and LeCam regularisation (Tseng et al., CVPR 2021).
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ranks import Ranks

_SLOPE = 0.2  # of leaky ReLUs
_LECAM_DECAY = 0.99


def blur_pool(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Halve dimensions of (B, C, T, H, W), rounding up, after a binomial filter of three taps."""
    for dim in dims:  # edges by hand: on a GPU F.pad repeats none of 2^31 numbers or more
        x = x.transpose(2, dim)
        first, last = x[:, :, :1], x[:, :, -1:]
        b, c = x[:, :, ::2], x[:, :, 1::2]
        a = torch.cat([first, c], 2)[:, :, : b.shape[2]]
        if c.shape[2] < b.shape[2]:
            c = torch.cat([c, last], 2)
        x = ((a + 2 * b + c) / 4).transpose(2, dim)
    return x


class _Block(nn.Module):
    """Residual block that halves height and width, and time where there is any."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(c_in, c_in, 3, padding=1)
        self.conv2 = nn.Conv3d(c_in, c_out, 3, padding=1)
        self.skip = nn.Conv3d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        dims = (2, 3, 4) if x.shape[2] > 1 else (3, 4)
        y = F.leaky_relu(self.conv1(x), _SLOPE)
        y = F.leaky_relu(self.conv2(blur_pool(y, dims)), _SLOPE)
        return (y + self.skip(blur_pool(x, dims))) / math.sqrt(2)


class Discriminator(nn.Module):
    """Clips (B, 3, T, H, W), RGB in -1..1, -> logits (B,) of their being real.

    ``widths``: channels at full size and after each halving. LeCam's moving averages of logits are
    buffers, so that checkpoints hold them.
    """

    mean_real: Tensor
    mean_fake: Tensor

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(_Block(a, b) for a, b in itertools.pairwise(widths))
        self.last = nn.Conv3d(widths[-1], widths[-1], 3, padding=1)
        self.out = nn.Linear(widths[-1], 1)
        self.register_buffer("mean_real", torch.zeros(()))
        self.register_buffer("mean_fake", torch.zeros(()))

    def forward(self, clips: Tensor) -> Tensor:
        x = F.leaky_relu(self.stem(clips), _SLOPE)
        for block in self.blocks:
            x = block(x)
        x = F.leaky_relu(self.last(x), _SLOPE)
        return self.out(x.mean((2, 3, 4)))[:, 0].float()

    @torch.no_grad()
    def follow(self, real: Tensor, fake: Tensor, ranks: Ranks) -> None:
        """Let LeCam's averages follow the logits of a step, those of all ranks."""
        both = ranks.total(torch.stack([real.detach().mean(), fake.detach().mean()])) / ranks.size
        self.mean_real.lerp_(both[0], 1 - _LECAM_DECAY)
        self.mean_fake.lerp_(both[1], 1 - _LECAM_DECAY)


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating: of the tokenizer, given the logits of what it decoded."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def r1_penalty(logits: Tensor, clips: Tensor) -> Tensor:
    """Squared gradient of the logits by the real clips that gave them, mean over clips."""
    (gradient,) = torch.autograd.grad(logits.sum(), clips, create_graph=True)
    return gradient.float().square().sum((1, 2, 3, 4)).mean()


def lecam_penalty(model: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
    """How far logits have left the averages of the other side."""
    above = F.relu(real - model.mean_fake).square().mean()
    return above + F.relu(model.mean_real - fake).square().mean()
