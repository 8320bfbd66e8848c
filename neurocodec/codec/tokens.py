"""Tokens of GOPs to bytes and back, and hashes of tokens; needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..bitstream.payloads import Header, VideoGop
from ..entropy.adaptive import (
    Before,
    ContextModel,
    Prior,
    TokenModel,
    TokenShape,
    enlarge_before,
)
from ..entropy.binary import BitCoder, BitDecoder, BitEncoder
from ..entropy.motion import (
    Field,
    MotionMemory,
    MotionModel,
    align_before,
    distances_of,
    motion_part,
)
from ..entropy.structure import Picture, StructureModel
from ..errors import FormatError
from ..tokenizer.config import (
    BASE_SCALE,
    BETWEEN,
    COARSEST,
    INTER,
    SPATIAL_STRIDE,
    TEMPORAL_STRIDE,
)

Grid = tuple[int, int]  # rows and columns of cells
LATENTS, PICTURES = 0, 1  # entropy models: of the families magvit2 and motion
SCALE_ONE = 64  # of the scales
# quantizer steps relative to the GOP's: of an intra picture's base's base, of its base, then of the
# pictures of levels 0 to 4; deeper levels have the last one's
DEFAULT_SCALES = (12, 20, 30, 46, 70, 84, 98)


@dataclass
class LatentTokens:
    """Of one latent frame: tokens (h, w, S, K) int16, depth (h, w) int64."""

    tokens: NDArray[np.int16]
    depth: NDArray[np.int64]


@dataclass
class PictureTokens:
    """motion: None of an intra picture. parts: of an intra picture those of its base's base, its
    base and itself; else of itself alone. kept: displays of the pictures that later ones may refer
    to."""

    picture: Picture
    motion: Field | None
    parts: list[LatentTokens]
    kept: tuple[int, ...] = ()


Tokens = LatentTokens | PictureTokens


def grid_of(width: int, height: int) -> Grid:
    """Frame size -> (h, w) cells."""
    return -(-height // SPATIAL_STRIDE), -(-width // SPATIAL_STRIDE)


def grids_of(grid: Grid) -> list[Grid]:
    """Cells of the base's base, the base and an intra picture of ``grid`` cells."""
    out = [grid]
    for _ in range(2):
        h, w = out[0]
        out.insert(0, (-(-h // BASE_SCALE), -(-w // BASE_SCALE)))
    return out


def latent_frames(frames: int) -> int:
    """Latent frames of a GOP: the first frame alone, then groups of four, the last filled up."""
    return 1 - (1 - frames) // TEMPORAL_STRIDE


def kind_of(picture: Picture) -> int:
    """Of the full-size part of a picture."""
    if not picture.refs:
        return COARSEST + 2
    return BETWEEN if max(picture.refs) > picture.display else INTER


class GopCoder(Protocol):
    """Entropy model of one GOP."""

    def code(self, coder: BitCoder, tokens: Tokens | None = None) -> Tokens:
        """Code the next tokens in coding order; a decoder gives None."""


class LatentCoder:
    """Entropy model 0: latent frames, one after the other."""

    def __init__(self, shape: TokenShape, prior: Prior, grid: Grid, frames: int) -> None:
        self._model = ContextModel(shape, prior, grid)

    def code(self, coder: BitCoder, tokens: Tokens | None = None) -> Tokens:
        if tokens is None:
            return LatentTokens(*self._model.code_frame(coder))
        assert isinstance(tokens, LatentTokens)
        self._model.code_frame(coder, tokens.tokens, tokens.depth)
        return tokens


class PictureCoder:
    """Entropy model 1: of each picture its place in the structure, its motion, and its tokens."""

    def __init__(self, shape: TokenShape, prior: Prior, grid: Grid, frames: int) -> None:
        """frames: of the GOP; an encoder that does not know yet gives the most there can be."""
        self._grids = grids_of(grid)
        self._structure = StructureModel(frames)
        self.motion = MotionModel(motion_part(prior))
        self.tokens = TokenModel(shape, prior)
        self._memory = MotionMemory()
        self._coded: dict[int, LatentTokens] = {}  # what may be a reference, by display

    def code(self, coder: BitCoder, tokens: Tokens | None = None) -> Tokens:
        assert tokens is None or isinstance(tokens, PictureTokens)
        picture = self._structure.code(coder, tokens.picture if tokens else None)
        motion, parts = None, []
        if not picture.refs:
            before: LatentTokens | None = None
            for i, grid in enumerate(self._grids):
                given = tokens.parts[i] if tokens else None
                known = enlarge_before(_before(before), grid) if before else None
                before = self._part(coder, grid, COARSEST + i, known, given)
                parts.append(before)
        else:
            first, second = picture.pair
            motion = self.motion.code_field(
                coder,
                distances_of(picture),
                tokens.motion if tokens else None,
                self._grids[-1],
                self._memory.suggest(picture),
            )
            self._memory.remember(picture, motion, self._structure.kept)
            known = align_before(
                motion, [_before(self._coded[first]), _before(self._coded[second])]
            )
            given = tokens.parts[0] if tokens else None
            parts.append(self._part(coder, self._grids[-1], kind_of(picture), known, given))
        self._coded[picture.display] = parts[-1]
        kept = self._structure.kept
        self._coded = {k: v for k, v in self._coded.items() if k in kept}
        return tokens or PictureTokens(picture, motion, parts, kept)

    def _part(
        self, coder: BitCoder, grid: Grid, kind: int, before: Before | None,
        given: LatentTokens | None,
    ) -> LatentTokens:  # fmt: skip
        wanted = (given.tokens, given.depth) if given else (None, None)
        return LatentTokens(*self.tokens.code(coder, grid, kind, before, *wanted))


def _before(tokens: LatentTokens) -> Before:
    return Before(tokens.depth, np.abs(tokens.tokens))


CODERS: dict[int, Callable[[TokenShape, Prior, Grid, int], GopCoder]] = {
    LATENTS: LatentCoder,
    PICTURES: PictureCoder,
}


class GopEncoder:
    """Tokens of one GOP to bytes."""

    def __init__(
        self, model: int, shape: TokenShape, prior: Prior, grid: Grid, frames: int,
        scales: tuple[int, ...] = DEFAULT_SCALES,
    ) -> None:  # fmt: skip
        """model: number of the entropy model. frames: the most that the GOP may have."""
        self._number, self._scales = model, scales
        self._coder, self._model = BitEncoder(), CODERS[model](shape, prior, grid, frames)

    def add(self, tokens: Tokens) -> None:
        self._model.code(self._coder, tokens)

    def finish(self) -> bytes:
        scales = bytes(self._scales) if self._number == PICTURES else b""
        return scales + self._coder.finish()


def scales_of(gop: VideoGop) -> tuple[int, ...]:
    """Of a GOP of pictures. None is 0: what damaged data says is made 1."""
    given = gop.tokens[: len(DEFAULT_SCALES)].ljust(len(DEFAULT_SCALES), b"\0")
    return tuple(max(1, scale) for scale in given)


def decode_tokens(
    header: Header, gop: VideoGop, shape: TokenShape, prior: Prior
) -> Iterator[Tokens]:
    """The tokens of a GOP in coding order. Raises FormatError: unknown entropy model."""
    if header.entropy_model not in CODERS:
        raise FormatError(f"entropy model {header.entropy_model} is not known to this program")
    pictures = header.entropy_model == PICTURES
    coder = BitDecoder(gop.tokens[len(DEFAULT_SCALES) :] if pictures else gop.tokens)
    grid = grid_of(header.width, header.height)
    model = CODERS[header.entropy_model](shape, prior, grid, gop.frames)
    count = gop.frames if pictures else latent_frames(gop.frames)
    for _ in range(count):
        yield model.code(coder)


def hash_tokens(items: Iterable[Tokens]) -> str:
    """SHA-256 over what each item holds, little-endian: of a picture its display, references and
    level as uint16, its modes as uint8 and its vectors as int16; of each latent frame its depths as
    uint16 and its tokens as int16."""
    digest = hashlib.sha256()
    for item in items:
        parts = [item]
        if isinstance(item, PictureTokens):
            p = item.picture
            digest.update(np.array([p.display, *p.refs, p.level], "<u2").tobytes())
            if item.motion is not None:
                digest.update(item.motion.mode.astype("u1").tobytes())
                digest.update(item.motion.mv.astype("<i2").tobytes())
            parts = list(item.parts)
        for latent in parts:
            assert isinstance(latent, LatentTokens)
            digest.update(latent.depth.astype("<u2").tobytes())
            digest.update(latent.tokens.astype("<i2").tobytes())
    return digest.hexdigest()
