"""Sampling of token grids by a masked transformer, in a few steps (MaskGIT, CVPR 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .transformer import TASKS, Transformer, given_cells


def cosine_masked(progress: float) -> float:
    """The part of the cells that is masked, from 1 at progress 0 to 0 at 1."""
    return math.cos(math.pi / 2 * progress)


@torch.no_grad()
def sample(
    model: Transformer,
    tokens: Tensor,
    label: Tensor,
    task: str = "generate",
    steps: int = 12,
    guidance: float = 0.0,
    temperature: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Tokens (B, N), of which those that the task gives stay, of class ``label`` (B,).

    guidance: by how much the logits are drawn away from those without a class (classifier-free
    guidance). temperature: of the noise on confidences, which falls to none.
    """
    config, device = model.config, tokens.device
    random = torch.Generator().manual_seed(seed)
    tokens, unknown = tokens.clone(), ~given_cells(task, config.grid).flatten().to(device)
    masked = unknown.expand(len(tokens), -1).clone()
    number = torch.full_like(label, TASKS.index(task))
    none = torch.full_like(label, config.classes)
    for step in range(steps):
        logits = model(tokens, masked, label, number)
        if guidance:
            free = model(tokens, masked, none, number)
            logits = [f + (1 + guidance) * (x - f) for x, f in zip(logits, free, strict=True)]
        found, confidence = torch.zeros_like(tokens), torch.zeros(tokens.shape, device=device)
        for k, group in zip(config.factors, logits, strict=True):
            p = group.float().softmax(-1)
            drawn = torch.multinomial(p.flatten(0, 1).cpu(), 1, generator=random).to(device)
            drawn = drawn.view_as(tokens)
            confidence += p.gather(-1, drawn[..., None])[..., 0].clamp_min(1e-9).log()
            found = (found << k) | drawn
        tokens = torch.where(masked, found, tokens)
        left = math.floor(int(unknown.sum()) * cosine_masked((step + 1) / steps) + 1e-9)
        noise = -torch.log(-torch.log(torch.rand(tokens.shape, generator=random) + 1e-20) + 1e-20)
        confidence += temperature * (1 - (step + 1) / steps) * noise.to(device)
        confidence = confidence.masked_fill(~masked, math.inf)
        least = confidence.argsort(1)[:, :left]
        masked = torch.zeros_like(masked).scatter_(1, least, True) & masked
    return tokens
