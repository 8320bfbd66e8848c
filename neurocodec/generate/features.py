"""What a generative bundle sees in a video: tokens, their embeddings, and hidden features."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import OutputError
from ..files import replacing
from .model import Generative
from .transformer import TASKS


@dataclass(frozen=True)
class CellFeatures:
    """tokens: (W, T', h, w) int64. embeddings: (W, T', h, w, D), of the tokens alone. features: the
    same shape, what the transformer's heads see with no cell masked and no class given."""

    tokens: Tensor
    embeddings: Tensor
    features: Tensor


@torch.no_grad()
def features(model: Generative, clip: Tensor) -> CellFeatures:
    """Of a clip (6, T, H/2, W/2) in 0..1, in windows; the last frame fills up the last one."""
    missing = -clip.shape[1] % model.frames
    whole = torch.cat([clip, clip[:, -1:].expand(-1, missing, -1, -1)], 1)
    return features_of_tokens(
        model, torch.cat([model.tokens(w[None]) for w in whole.split(model.frames, 1)])
    )


@torch.no_grad()
def features_of_tokens(model: Generative, tokens: Tensor) -> CellFeatures:
    """Of windows (W, T', h, w)."""
    network, config = model.transformer, model.transformer.config
    embeddings, hidden = [], []
    for window in tokens.to(model.device).flatten(1).split(16):
        none = torch.full((len(window),), config.classes, device=model.device)
        task = torch.full_like(none, TASKS.index("generate"))
        masked = torch.zeros_like(window, dtype=torch.bool)
        words = zip(network.words, network.split(window), strict=True)
        parts = [F.embedding(part, word.weight) for word, part in words]  # type: ignore[arg-type]
        embeddings.append(torch.stack(parts).sum(0))
        hidden.append(network.features(window, masked, none, task))
    shape = (-1, *config.grid, config.width)
    return CellFeatures(
        tokens.cpu(), torch.cat(embeddings).view(shape).cpu(), torch.cat(hidden).view(shape).cpu()
    )


def save(found: CellFeatures, path: str | os.PathLike[str], overwrite: bool) -> None:
    """As an .npz of float32 and int64. Raises OutputError."""
    with replacing(path, overwrite) as part:
        try:
            with part.open("wb") as file:
                np.savez(
                    file, tokens=found.tokens.numpy(), embeddings=found.embeddings.numpy(),
                    features=found.features.numpy(),
                )  # fmt: skip
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror or error}") from None
