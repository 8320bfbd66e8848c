"""A training run -> a model bundle."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import models
from ..device import autocast
from ..entropy.adaptive import ContextModel, Prior, TokenShape, empty_prior, trained_prior
from ..entropy.binary import BitEncoder
from ..tokenizer.config import TokenizerConfig, step_of_quality
from ..tokenizer.model import Tokenizer
from .data import load_sources
from .tokenizer import load_checkpoint

logger = logging.getLogger(__name__)

PRIOR_FRAMES = 33
PRIOR_CROP = 224
PRIOR_CONFIDENCE = 32  # how many bits of experience a context starts with, at most


def export(
    run: Path,
    target: Path,
    data: Path | None,
    clips: int,
    frames: int = PRIOR_FRAMES,
    crop: int = PRIOR_CROP,
) -> None:
    """Write the averaged weights of a run as a bundle, named after the target.

    data: training folder on whose clips the entropy model gathers its first counts; without one
    it starts from nothing. frames and crop: of each of those clips. Raises InputError, DataError.
    """
    state = load_checkpoint(run)
    config = TokenizerConfig.from_dict(state["tokenizer"])
    tokenizer = Tokenizer(config)
    tokenizer.load_state_dict(state["model"])
    tokenizer.load_state_dict(state["average"], strict=False)
    tokenizer.eval().requires_grad_(False)
    shape = TokenShape(config.quantizer, config.stages, config.bits)
    prior = empty_prior(shape)
    if data is not None:
        prior = gather_prior(tokenizer, shape, data, clips, frames, crop)
    card: dict[str, Any] = {
        "steps": state["done"],
        "hours": round(state["seconds"] / 3600, 2),
        "config": state["config"],
    }
    models.write_bundle(target, target.stem, tokenizer, prior, card)


def gather_prior(
    tokenizer: Tokenizer, shape: TokenShape, data: Path, clips: int, frames: int, crop: int
) -> Prior:
    """Counts of the entropy model over ``clips`` clips, each at one of many qualities."""
    sources = load_sources(data, frames, crop)
    videos = [v for v in sources.videos if min(v.shape[2:]) * 2 >= crop]
    rng = np.random.default_rng(0)
    cells = crop // 8
    tables = None
    for i in range(clips):
        video = videos[i % len(videos)]
        y, x = (int(rng.integers(side - crop // 2 + 1)) for side in video.shape[2:])
        half = crop // 2
        planes = video[None, :, :frames, y : y + half, x : x + half].float() / 255
        step = torch.tensor([step_of_quality(100 * (i * 0.618034 % 1))])
        model = ContextModel(shape, empty_prior(shape), (cells, cells))
        if tables is None:
            tables = model.tables
            for table in tables.values():
                table.limit = 1 << 40
        model.tables = tables
        with torch.inference_mode(), autocast(torch.device("cpu")):
            z = tokenizer.encoder(planes, step).float()
            previous, coder = None, BitEncoder()
            for t in range(z.shape[2]):
                tokens, depth, previous = tokenizer.quantize(z[:, :, t], previous, step)
                model.code_frame(coder, tokens.to(torch.int16).numpy(), depth.numpy())
        logger.info("clip %d of %d: %.3f bits per pixel", i + 1, clips,
                    coder.ideal_bits / (planes[0, 0].numel() * 4))  # fmt: skip
    return trained_prior(tables or {}, PRIOR_CONFIDENCE)
