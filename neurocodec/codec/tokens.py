"""GOPs of a file to tokens and hashes of tokens; needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..bitstream.payloads import Header, VideoGop
from ..entropy.adaptive import ContextModel, Prior, TokenShape
from ..entropy.binary import BitDecoder
from ..errors import FormatError
from ..tokenizer.config import SPATIAL_STRIDE, TEMPORAL_STRIDE


@dataclass
class LatentTokens:
    """Of one latent frame: tokens (h, w, S, K) int16, depth (h, w) int64."""

    tokens: NDArray[np.int16]
    depth: NDArray[np.int64]


def grid_of(width: int, height: int) -> tuple[int, int]:
    """Frame size -> (h, w) cells."""
    return -(-height // SPATIAL_STRIDE), -(-width // SPATIAL_STRIDE)


def latent_frames(frames: int) -> int:
    """Latent frames of a GOP: the first frame alone, then groups of four, the last filled up."""
    return 1 - (1 - frames) // TEMPORAL_STRIDE


def decode_tokens(
    header: Header, gop: VideoGop, shape: TokenShape, prior: Prior
) -> Iterator[LatentTokens]:
    """The latent frames of a GOP, one at a time. Raises FormatError: unknown entropy model."""
    if header.entropy_model != 0:
        raise FormatError(f"entropy model {header.entropy_model} is not known to this program")
    coder = BitDecoder(gop.tokens)
    model = ContextModel(shape, prior, grid_of(header.width, header.height))
    for _ in range(latent_frames(gop.frames)):
        yield LatentTokens(*model.code_frame(coder))


def hash_tokens(latents: Iterator[LatentTokens]) -> str:
    """SHA-256 over each latent frame's depths as uint16 and tokens as int16, little-endian."""
    digest = hashlib.sha256()
    for latent in latents:
        digest.update(latent.depth.astype("<u2").tobytes())
        digest.update(latent.tokens.astype("<i2").tobytes())
    return digest.hexdigest()
