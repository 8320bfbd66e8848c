"""A training run -> a model bundle."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .. import models
from ..codec.tokens import LatentCoder, PictureCoder
from ..entropy.adaptive import (
    Prior,
    TokenModel,
    TokenShape,
    empty_prior,
    trained_prior,
)
from ..entropy.binary import BitEncoder, Counts
from ..entropy.motion import MOTION_PREFIX, MotionModel
from ..errors import InputError, UsageError
from ..tokenizer.config import MotionConfig, TokenizerConfig, config_from_dict, step_of_quality
from ..tokenizer.model import Tokenizer
from ..tokenizer.motion_model import MotionTokenizer
from .motion_run import check_intra, merge
from .run import load_checkpoint
from .token_cache import crops, quality_of, tokenized

logger = logging.getLogger(__name__)

PRIOR_FRAMES = 33
PRIOR_CROP = 224
MOTION_CONFIDENCE = 16  # of tables of motion: still and moving clips differ much
PRIOR_CONFIDENCE = 32  # how many bits of experience a context starts with, at most


def export(
    run: Path,
    target: Path,
    data: Path | None,
    clips: int,
    frames: int = PRIOR_FRAMES,
    crop: int = PRIOR_CROP,
    intra: Path | None = None,
    generator: models.Bundle | None = None,
) -> None:
    """Write the averaged weights of a run as a bundle, named after the target.

    data: training folder on whose clips the entropy model gathers its first counts; without one
    it starts from nothing. frames and crop: of each of those clips. intra: run that the networks of
    intra pictures come from, where that is another. generator: bundle whose generator is kept.
    Raises InputError, DataError, UsageError, ModelError.
    """
    state = load_checkpoint(run)
    if "generator" in state["tokenizer"]:
        raise UsageError(f"{run}: the run of a generator; say with --tokenizer what it is for")
    if "transformer" in state["tokenizer"]:
        raise InputError(f"{run}: the run of a transformer; it leaves transformer.safetensors")
    tokenizer = load_tokenizer(state)
    config = tokenizer.config
    card: dict[str, Any] = {
        "steps": state["done"],
        "hours": round(state["seconds"] / 3600, 2),
        "config": state["config"],
    }
    if intra is not None:
        if not isinstance(config, MotionConfig):
            raise UsageError(f"{run}: not of the family motion, whose intra networks are apart")
        other = load_checkpoint(intra)
        check_intra(intra, other, config)
        if other["config"]["part"] == "inter":
            raise UsageError(f"{intra}: a run of part inter, which learns no intra pictures")
        merge(tokenizer, other["average"], "intra")
        card["intra"] = {
            "steps": other["done"],
            "hours": round(other["seconds"] / 3600, 2),
            "config": other["config"],
        }
    parts = None
    if generator is not None:
        parts = models.generator_parts(generator)
        if parts is None:
            raise UsageError(f"{generator.name}: has no generator")
        if models.token_shape(generator.config) != models.token_shape(config):
            raise UsageError(f"{generator.name}: its generator is for other tokens")
        card["generator of"] = generator.hash.hex()
    tokenizer.eval().requires_grad_(False)
    prior = _no_counts(config)
    if data is not None:
        prior = gathered_prior(tokenizer, data, clips, frames, crop, tune=models.tune_of(card))
    models.write_bundle(target, target.stem, tokenizer, prior, card, parts)


def load_tokenizer(state: dict[str, Any]) -> Any:
    """The networks of a checkpoint, with averaged weights, ready for inference."""
    tokenizer: Any = models.build(config_from_dict(state["tokenizer"]))
    tokenizer.load_state_dict(state["model"])
    tokenizer.load_state_dict(state["average"], strict=False)
    return tokenizer.eval().requires_grad_(False)


def gathered_prior(
    tokenizer: Any, data: Path, clips: int, frames: int, crop: int, footage: bool = False,
    tune: str | None = None,
) -> Prior:  # fmt: skip
    """Counts of the entropy model over ``clips`` clips of a folder, at many qualities. footage: it
    is one's own, see ``load_footage``. tune: see ``tokenized``."""
    planes = crops(data, clips, frames, crop, footage)
    shape = models.token_shape(tokenizer.config)
    if isinstance(tokenizer.config, MotionConfig):
        return gather_motion_prior(tokenizer, shape, planes, clips, frames, crop, tune)
    return gather_prior(tokenizer, shape, planes, clips, frames, crop)


def _no_counts(config: TokenizerConfig | MotionConfig) -> Prior:
    return {name: np.zeros(size, np.uint8) for name, size in models.prior_shapes(config).items()}


class _Gatherer:
    """Entropy models of one clip after the other, whose counts go on without limit."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, Counts]] = {}

    def adopt(self, part: str, model: TokenModel | MotionModel) -> None:
        """Let a model count in the tables of those before it."""
        if part not in self._tables:
            self._tables[part] = model.tables
            for table in model.tables.values():
                table.limit = 1 << 40
        model.tables = self._tables[part]

    def prior(self) -> Prior:
        out: Prior = {}
        for part, tables in self._tables.items():
            confidence = MOTION_CONFIDENCE if part == MOTION_PREFIX else PRIOR_CONFIDENCE
            prior = trained_prior(tables, confidence)
            out |= {part + name: table for name, table in prior.items()}
        return out


def gather_motion_prior(
    tokenizer: MotionTokenizer, shape: TokenShape, planes: Iterable[Tensor], clips: int,
    frames: int, crop: int, tune: str | None = None,
) -> Prior:  # fmt: skip
    """Counts of the entropy model over clips (1, 6, T, H/2, W/2), each at one of many qualities."""
    cells = crop // 8
    gatherer = _Gatherer()
    empty = _no_counts(tokenizer.config)
    for i, clip in enumerate(planes):
        coder, bits = PictureCoder(shape, empty, (cells, cells), frames), BitEncoder()
        gatherer.adopt("", coder.tokens)
        gatherer.adopt(MOTION_PREFIX, coder.motion)
        for tokens in tokenized(tokenizer, clip, step_of_quality(quality_of(i)), tune=tune):
            coder.code(bits, tokens)
        _report(i, clips, bits, clip)
    return gatherer.prior()


def _report(clip: int, clips: int, bits: BitEncoder, planes: Tensor) -> None:
    logger.info("clip %d of %d: %.3f bits per pixel", clip + 1, clips,
                bits.ideal_bits / (planes[0, 0].numel() * 4))  # fmt: skip


def gather_prior(
    tokenizer: Tokenizer, shape: TokenShape, planes: Iterable[Tensor], clips: int, frames: int,
    crop: int,
) -> Prior:  # fmt: skip
    """Counts of the entropy model over clips (1, 6, T, H/2, W/2), each at one of many qualities."""
    cells = crop // 8
    gatherer = _Gatherer()
    for i, clip in enumerate(planes):
        coder, bits = LatentCoder(shape, empty_prior(shape), (cells, cells), frames), BitEncoder()
        gatherer.adopt("", coder.tokens)
        for tokens in tokenized(tokenizer, clip, step_of_quality(quality_of(i))):
            coder.code(bits, tokens)
        _report(i, clips, bits, clip)
    return gatherer.prior()
