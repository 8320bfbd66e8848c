"""A bundle that generates: its tokenizer, and a masked transformer over the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .. import models
from ..codec.frames import crop_planes
from ..device import autocast
from ..errors import ModelError, UsageError, printable
from ..media.frame import Planes
from ..tokenizer.config import SPATIAL_STRIDE, TEMPORAL_STRIDE, TokenizerConfig
from ..tokenizer.lfq import ResidualLFQ, pack_bits, unpack_bits
from ..tokenizer.model import Tokenizer
from .exact import ExactTransformer
from .sample import sample
from .transformer import Transformer, TransformerConfig, given_cells


@torch.no_grad()
def first_tokens(tokenizer: Tokenizer, planes: Tensor, step: float) -> Tensor:
    """Tokens (B, T', h, w) int64 of the first stage, which every cell gets here, of clips (B, 6, T,
    H/2, W/2) in 0..1. Raises UsageError for the quantizer "levels"."""
    lfq = tokenizer.lfq
    if not isinstance(lfq, ResidualLFQ):
        raise UsageError('a transformer needs a tokenizer of quantizer "codes" or "signs"')
    z = tokenizer.encoder(planes, planes.new_full((len(planes),), step)).float()
    previous: Tensor | None = None
    found = []
    for i in range(z.shape[2]):
        prediction = tokenizer.predict(previous, z[:, :, i])
        bits = (z[:, :, i] - prediction).movedim(1, -1) @ lfq.project[min(i, 1), 0] >= 0
        signs = torch.where(bits, 1.0, -1.0)
        previous = prediction + (signs @ lfq.expand[min(i, 1), 0]).movedim(-1, 1)
        found.append(pack_bits(bits))
    return torch.stack(found, 1)


@torch.no_grad()
def planes_of_tokens(tokenizer: Tokenizer, tokens: Tensor, step: float) -> Tensor:
    """The inverse of :func:`first_tokens`: planes (B, 6, T, 4h, 4w), of clips decoded at once."""
    lfq = tokenizer.lfq
    assert isinstance(lfq, ResidualLFQ)
    signs = torch.where(unpack_bits(tokens, lfq.bits), 1.0, -1.0)
    previous: Tensor | None = None
    frames = []
    for i in range(tokens.shape[1]):
        q = (signs[:, i] @ lfq.expand[min(i, 1), 0]).movedim(-1, 1)
        previous = q + tokenizer.predict(previous, q)
        frames.append(previous)
    depth = torch.ones_like(tokens)
    q, steps = torch.stack(frames, 2), signs.new_full((len(tokens),), step)
    with autocast(tokens.device):
        return tokenizer.decoder(q, depth, steps).float()


@dataclass(frozen=True)
class Generative:
    """classes: their names. step: of the tokenizer's dial, at which the tokens were made.

    Windows of ``frames`` frames of ``size``, width and height, are what it knows.
    """

    name: str
    tokenizer: Tokenizer
    transformer: Transformer
    exact: ExactTransformer
    classes: list[str]
    step: float
    device: torch.device

    @property
    def frames(self) -> int:
        return 1 + (self.transformer.config.grid[0] - 1) * TEMPORAL_STRIDE

    @property
    def given(self) -> int:
        """First frames of a window from which the others are predicted, where nothing else is said:
        two latent frames, as in the paper, or one of two."""
        return max(1, min(1 + TEMPORAL_STRIDE, self.frames - TEMPORAL_STRIDE))

    @property
    def size(self) -> tuple[int, int]:
        _, h, w = self.transformer.config.grid
        return w * SPATIAL_STRIDE, h * SPATIAL_STRIDE

    def label(self, name: str | None) -> int:
        """Number of a class; None is without one. Raises UsageError."""
        if name is None:
            return len(self.classes)
        if name not in self.classes:
            raise UsageError(f"class {name!r}: {self.name} has {', '.join(self.classes)}")
        return self.classes.index(name)

    def tokens(self, planes: Tensor) -> Tensor:
        """Planes (B, 6, T, H/2, W/2) in 0..1 -> (B, T', h, w)."""
        return first_tokens(self.tokenizer, planes.to(self.device), self.step)

    def planes(self, tokens: Tensor, batch: int = 16) -> Tensor:
        """Tokens (B, T', h, w) -> planes (B, 6, T, H/2, W/2) in 0..1, on the CPU."""
        parts = [
            planes_of_tokens(self.tokenizer, part.to(self.device), self.step).cpu()
            for part in tokens.split(batch)
        ]
        return torch.cat(parts).clamp(0, 1)

    def frames_of(self, planes: Tensor) -> list[Planes]:
        """One clip (6, T, H/2, W/2) -> its frames."""
        return crop_planes(planes[None], self.size)

    def draw(
        self,
        labels: Tensor,
        tokens: Tensor | None = None,
        known: Tensor | None = None,
        task: str = "generate",
        batch: int = 16,
        **how: Any,
    ) -> Tensor:
        """Tokens (B, T', h, w) of classes ``labels`` (B,); those of cells ``known`` (T', h, w)
        are as in ``tokens``. how: steps, guidance, temperature and seed of ``sample``; the part of
        each ``batch`` has a seed of its own."""
        grid = self.transformer.config.grid
        if tokens is None:
            tokens = torch.zeros(len(labels), *grid, dtype=torch.int64)
        if known is None:
            known = given_cells("generate", grid)
        how = {"seed": 0} | how
        parts = zip(tokens.flatten(1).split(batch), labels.split(batch), strict=True)
        drawn = [
            sample(
                self.exact, t.to(self.device), n.to(self.device), known.flatten(), task,
                **how | {"seed": how["seed"] + i * 1_000_003},
            ).cpu()
            for i, (t, n) in enumerate(parts)
        ]  # fmt: skip
        return torch.cat(drawn).view(-1, *grid)


def read_transformer(bundle: models.Bundle) -> tuple[Transformer, list[str], float]:
    """A bundle's transformer, the names of its classes, and the step of the tokenizer's dial.

    Raises ModelError where there is none, or a damaged one."""
    facts = bundle.transformer
    if facts is None or not isinstance(bundle.config, TokenizerConfig):
        raise ModelError(f"{bundle.path}: generates nothing; there is no transformer in it")
    try:
        config = TransformerConfig.from_dict(facts["config"])
        classes, step = [str(name) for name in facts["classes"]], float(facts["step"])
        if len(classes) != config.classes or config.bits != bundle.config.bits:
            raise ValueError("classes or bits do not fit")
        with torch.device("meta"):
            model = Transformer(config)
        with safe_open(bundle.path, framework="pt") as file:
            names = list(model.state_dict())
            state = {name: file.get_tensor(f"transformer.{name}").float() for name in names}
        model.load_state_dict(state, assign=True)
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        line = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise ModelError(f"{bundle.path}: transformer: {line}") from None
    return model, classes, step


def load(bundle: models.Bundle, device: torch.device) -> Generative:
    """Raises ModelError where the bundle has no transformer, or a damaged one."""
    model, classes, step = read_transformer(bundle)
    model = model.to(device).eval().requires_grad_(False)
    tokenizer = bundle.tokenizer().to(device)
    return Generative(bundle.name, tokenizer, model, ExactTransformer(model), classes, step, device)


def find(model: str | None, device: torch.device) -> Generative:
    """By name or path; the bundle "tiny-gen" for None. Raises ModelError."""
    return load(models.find(model or "tiny-gen"), device)
