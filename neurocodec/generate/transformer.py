"""The masked transformer of MAGVIT-v2, for generation (arXiv 2310.05737, sections 3.1 and 4).

It sees a grid of tokens, some of them masked, a class and a task, and says what the masked ones may
be. A token of K bits is factorized into groups of at most nine, each with an embedding and a head
of its own, so that 2^18 words need neither.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

FACTOR_BITS = 9
# which cells are given: none; the first latent frame; first and last; all but a central block; one
TASKS = ("generate", "predict", "interpolate", "inpaint", "outpaint")


@dataclass(frozen=True)
class TransformerConfig:
    """grid: latent frames, rows and columns of cells. classes: the number of them; one more stands
    for none. bits: K. factorized: False is one group of all bits, for small K."""

    layers: int
    width: int
    heads: int
    grid: tuple[int, int, int]
    bits: int = 18
    classes: int = 1
    dropout: float = 0.1
    factorized: bool = True

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"grid": list(self.grid)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TransformerConfig:
        """Raises TypeError, ValueError for what is not one."""
        config = cls(**values | {"grid": tuple(values["grid"])})
        numbers = (config.layers, config.width, config.heads, config.bits, config.classes)
        if len(config.grid) != 3 or min(*numbers, *config.grid) < 1 or config.width % config.heads:
            raise ValueError("not the shape of a transformer")
        return config

    @property
    def cells(self) -> int:
        t, h, w = self.grid
        return t * h * w

    @property
    def factors(self) -> list[int]:
        """Bits of each group, the most significant first."""
        size = FACTOR_BITS if self.factorized else self.bits
        return [min(size, self.bits - at) for at in range(0, self.bits, size)]


# layers, width, heads; B and L are those of the paper
SIZES = {"tiny": (2, 64, 2), "small": (4, 160, 5), "B": (12, 768, 12), "L": (24, 1024, 16)}


def given_cells(task: str, grid: tuple[int, int, int]) -> Tensor:
    """Cells (t, h, w) bool that a task takes as they are."""
    _, h, w = grid
    given = torch.zeros(grid, dtype=torch.bool)
    middle = (slice(None), slice(h // 4, h - h // 4), slice(w // 4, w - w // 4))
    if task in ("predict", "interpolate"):
        given[0] = True
    if task == "interpolate":
        given[-1] = True
    if task == "outpaint":
        given[middle] = True
    if task == "inpaint":
        given[:] = True
        given[middle] = False
    return given


class Transformer(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        # one more word of each group is the mask
        self.words = nn.ModuleList(nn.Embedding(2**k + 1, width) for k in config.factors)
        self.places = nn.Parameter(torch.randn(config.cells, width) * 0.02)
        self.classes = nn.Embedding(config.classes + 1, width)
        self.tasks = nn.Embedding(len(TASKS), width)
        layer = nn.TransformerEncoderLayer(
            width, config.heads, 4 * width, config.dropout, "gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        self.blocks = nn.TransformerEncoder(
            layer, config.layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.heads = nn.ModuleList(nn.Linear(width, 2**k) for k in config.factors)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def split(self, tokens: Tensor) -> list[Tensor]:
        """Tokens (...) of K bits -> those of each group."""
        out, shift = [], self.config.bits
        for k in self.config.factors:
            shift -= k
            out.append((tokens >> shift) & (2**k - 1))
        return out

    def forward(self, tokens: Tensor, masked: Tensor, label: Tensor, task: Tensor) -> list[Tensor]:
        """tokens (B, N) int64 in the order of the grid, masked (B, N) bool, label (B,) with
        ``classes`` for none, task (B,) -> logits (B, N, 2^k) of each group."""
        x = self.features(tokens, masked, label, task)
        return [head(x) for head in self.heads]

    def features(self, tokens: Tensor, masked: Tensor, label: Tensor, task: Tensor) -> Tensor:
        """What the heads see of each cell, (B, N, width)."""
        x = self.places.expand(len(tokens), -1, -1)
        for k, words, part in zip(self.config.factors, self.words, self.split(tokens), strict=True):
            x = x + words(part.masked_fill(masked, 2**k))
        conditions = torch.stack([self.classes(label), self.tasks(task)], 1)
        hidden: Tensor = self.blocks(torch.cat([conditions, x], 1))[:, 2:]
        return hidden
