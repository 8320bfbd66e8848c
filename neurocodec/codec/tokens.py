"""Tokens of GOPs to bytes and back, and hashes of tokens; needs no torch."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..bitstream.limits import MAX_STEPS
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
from ..entropy.field import Field, MotionMemory, align_before, distances_of
from ..entropy.generator import (
    DEFAULT_STEPS,
    Generator,
    GeneratorModel,
    Side,
    features,
    step_activation,
)
from ..entropy.loop_filter import LoopFilter, LoopFilterModel
from ..entropy.motion import MotionModel, motion_part
from ..entropy.motion_features import Known
from ..entropy.motion_generator import MotionGenerator
from ..entropy.signs import HIDDEN_EVERY
from ..entropy.structure import Picture, StructureModel
from ..entropy.wiener import Wiener, WienerModel, group_of
from ..tokenizer.config import (
    BASE_SCALE,
    BETWEEN,
    COARSEST,
    INTER,
    SPATIAL_STRIDE,
    TEMPORAL_STRIDE,
)

Grid = tuple[int, int]  # rows and columns of cells
LATENTS, PICTURES = 0, 1  # entropy models: of the families magvit2 and motion,
GENERATED_LATENTS, GENERATED_PICTURES = 2, 3  # and the same with a generator;
EXTENDED_PICTURES, EXTENDED_GENERATED_PICTURES = 4, 5  # and with hidden signs and Wiener filters
OF_LATENTS = (LATENTS, GENERATED_LATENTS)
OF_PICTURES = (PICTURES, GENERATED_PICTURES, EXTENDED_PICTURES, EXTENDED_GENERATED_PICTURES)
WITH_GENERATOR = (GENERATED_LATENTS, GENERATED_PICTURES, EXTENDED_GENERATED_PICTURES)
SCALE_ONE = 64  # of the scales
MASKING_ONE = 128  # of masking
# quantizer steps relative to the GOP's: of an intra picture's base's base, of its base, then of the
# pictures of levels 0 to 4; deeper levels have the last one's
DEFAULT_SCALES = (8, 12, 31, 46, 76, 92, 108)
_PICTURE_HEAD = len(DEFAULT_SCALES) + 1  # bytes: scales and masking


@dataclass
class LatentTokens:
    """Of one latent frame: tokens (h, w, S, K) int16, depth (h, w) int64; of a kind whose cells
    have transforms also these, (h, w) int64."""

    tokens: NDArray[np.int16]
    depth: NDArray[np.int64]
    transform: NDArray[np.int64] | None = None

    def __getstate__(self) -> tuple[object, ...]:
        """For another process: tokens of cells that have any."""
        return self.tokens.shape, self.tokens[self.depth > 0], self.depth, self.transform

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, some, self.depth, self.transform = state
        self.tokens = np.zeros(shape, np.int16)
        self.tokens[self.depth > 0] = some


@dataclass
class PictureTokens:
    """motion: None of an intra picture. parts: of an intra picture those of its base's base, its
    base and itself; else of itself alone. kept: displays of the pictures that later ones may refer
    to. loop_filter: None where the model has none. wiener: None where the entropy model has
    none."""

    picture: Picture
    motion: Field | None
    parts: list[LatentTokens]
    kept: tuple[int, ...] = ()
    loop_filter: LoopFilter | None = None
    wiener: Wiener | None = None


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


@dataclass(frozen=True)
class EntropyModel:
    """What codes tokens: number, as in a file's header, first counts, and the generator of those
    that have one."""

    number: int
    shape: TokenShape
    prior: Prior
    generator: Generator | None = None

    @property
    def of_pictures(self) -> bool:
        return self.number in OF_PICTURES

    @property
    def extended(self) -> bool:
        """Whether signs may be hidden, and pictures have Wiener filters."""
        return self.number in (EXTENDED_PICTURES, EXTENDED_GENERATED_PICTURES)

    def coder(
        self, grid: Grid, frames: int, step: int, scales: tuple[int, ...], steps: int,
        hidden: int = 0,
    ) -> GopCoder:  # fmt: skip
        """Of one GOP. frames: of the GOP; an encoder that does not know yet gives the most there
        can be. step: of its quantizer, as in VIDEO; scales: of pictures; steps: of the schedule;
        hidden: of so many levels of a picture's cell one has a hidden sign, 0: none."""
        generated = None
        if self.generator is not None:
            generated = Generated(self.generator, steps, step, scales)
        if self.of_pictures:
            return PictureCoder(
                self.shape, self.prior, grid, frames, generated, hidden, self.extended
            )
        return LatentCoder(self.shape, self.prior, grid, frames, generated)


@dataclass(frozen=True)
class Generated:
    """A generator, steps of its schedule, and what it must know of the GOP: step and scales."""

    generator: Generator
    steps: int
    step: int  # in units of 1 / STEP_ONE
    scales: tuple[int, ...] = DEFAULT_SCALES

    def model(self, shape: TokenShape) -> GeneratorModel:
        return GeneratorModel(shape, self.generator, self.steps)

    def motion_model(self) -> MotionGenerator | None:
        """None where the generator has no networks for motion."""
        if not self.generator.config.motion:
            return None
        return MotionGenerator(self.generator.layers, self.generator.prior)

    def side(
        self, scale: int, level: int = 0, motion: Field | None = None,
        distances: tuple[int, ...] = (),
    ) -> Side:  # fmt: skip
        return Side(self.step * scale, level, motion, distances)


class LatentCoder:
    """Entropy models 0 and 2: latent frames, one after the other."""

    def __init__(
        self, shape: TokenShape, prior: Prior, grid: Grid, frames: int,
        generated: Generated | None = None,
    ) -> None:  # fmt: skip
        self._grid, self._generated = grid, generated
        if generated is None:
            self.tokens = ContextModel(shape, prior, grid)
        else:
            self.generator = generated.model(shape)
        self._last: LatentTokens | None = None

    def fork(self) -> LatentCoder:
        """One that goes on from here, and leaves this one as it is."""
        other = copy.copy(self)
        if self._generated is None:
            other.tokens = copy.deepcopy(self.tokens)
        else:
            other.generator = copy.copy(self.generator)
            other.generator.tables = copy.deepcopy(self.generator.tables)
        return other

    def code(self, coder: BitCoder, tokens: Tokens | None = None) -> Tokens:
        assert tokens is None or isinstance(tokens, LatentTokens)
        wanted = (tokens.tokens, tokens.depth) if tokens else (None, None)
        if self._generated is None:
            return LatentTokens(*self.tokens.code_frame(coder, *wanted))
        before = None if self._last is None else before_of(self._last)
        kind, side = int(before is not None), self._generated.side(SCALE_ONE)
        seen = features(self.generator.shape, self._grid, kind, before, side)
        found = self.generator.code(coder, self._grid, kind, seen, *wanted)
        self._last = LatentTokens(*found[:2])
        return self._last


class PictureCoder:
    """Entropy models 1, 3, 4 and 5: of each picture its place in the structure, motion and
    tokens."""

    def __init__(
        self, shape: TokenShape, prior: Prior, grid: Grid, frames: int,
        generated: Generated | None = None, hidden: int = 0, wieners: bool = False,
    ) -> None:  # fmt: skip
        """As :meth:`EntropyModel.coder`. wieners: whether Wiener filters are coded, too, where the
        model has a loop filter."""
        self._grids, self._generated, self._shape = grids_of(grid), generated, shape
        self._structure = StructureModel(frames)
        self._filters = LoopFilterModel(grid) if shape.loop_filter else None
        self._wieners = WienerModel(grid) if shape.loop_filter and wieners else None
        self.motion_generator = None
        if generated is None:
            self.tokens = TokenModel(shape, prior)
            self.tokens.hidden = hidden
        else:
            self.generator = generated.model(shape)
            self.generator.hidden = hidden
            self.motion_generator = generated.motion_model()
        if self.motion_generator is None:
            self.motion = MotionModel(motion_part(prior))
        self._memory = MotionMemory()
        self._coded: dict[int, Before] = {}  # of what may be a reference, by display

    def go_on(self, memory: MotionMemory, known: dict[int, Before]) -> None:
        """Start where pictures, by display, are coded already: with first counts."""
        self._memory, self._coded = memory, dict(known)

    def code(self, coder: BitCoder, tokens: Tokens | None = None) -> Tokens:
        assert tokens is None or isinstance(tokens, PictureTokens)
        picture = self._structure.code(coder, tokens.picture if tokens else None)
        return self.code_picture(coder, picture, self._structure.kept, tokens)

    def code_picture(
        self, coder: BitCoder, picture: Picture, kept: tuple[int, ...],
        tokens: PictureTokens | None = None,
    ) -> PictureTokens:  # fmt: skip
        """What a picture has beside its place in the structure. kept: displays that later ones may
        refer to."""
        motion, parts = None, []
        if not picture.refs:
            before: LatentTokens | None = None
            for i in range(len(self._grids)):
                given = tokens.parts[i] if tokens else None
                known = enlarge_before(before_of(before), self._grids[i]) if before else None
                before = self._part(coder, picture, i, COARSEST + i, known, given)
                parts.append(before)
        else:
            first, second = picture.pair
            motion = self._motion(coder, picture, tokens.motion if tokens else None)
            self._memory.remember(picture, motion, kept)
            known = align_before(motion, [self._coded[first], self._coded[second]])
            given = tokens.parts[0] if tokens else None
            parts.append(self._part(coder, picture, 2, kind_of(picture), known, given, motion))
        self._coded[picture.display] = before_of(parts[-1])
        self._coded = {k: v for k, v in self._coded.items() if k in kept}
        loop_filter = None
        if self._filters is not None:
            wanted = tokens.loop_filter if tokens else None
            assert tokens is None or wanted is not None
            loop_filter = self._filters.code(coder, not picture.refs, wanted)
        wiener = None
        if self._wieners is not None:
            wiener = self._wieners.code(coder, group_of(picture), tokens.wiener if tokens else None)
        return tokens or PictureTokens(picture, motion, parts, kept, loop_filter, wiener)

    def _motion(self, coder: BitCoder, picture: Picture, given: Field | None) -> Field:
        grid, distances = self._grids[-1], distances_of(picture)
        suggested = self._memory.suggest(picture)
        if self._generated is None or self.motion_generator is None:
            return self.motion.code_field(coder, distances, given, grid, suggested)
        source = self._memory.source(picture)
        step = self._generated.step * self._generated.scales[scale_place(picture)]
        first, second = picture.pair
        known = Known(
            distances, picture.level, step_activation(step),
            None if suggested is None or source is None else (suggested, source[1].mode),
            (self._coded[first], self._coded[second]),
        )  # fmt: skip
        return self.motion_generator.code_field(coder, known, given, grid)

    def _part(
        self, coder: BitCoder, picture: Picture, part: int, kind: int, before: Before | None,
        given: LatentTokens | None, motion: Field | None = None,
    ) -> LatentTokens:  # fmt: skip
        """part: 0 and 1 of an intra picture's bases, 2 of pictures themselves."""
        wanted = (given.tokens, given.depth, given.transform) if given else (None, None, None)
        grid = self._grids[part]
        if self._generated is None:
            levels, depth, transform = self.tokens.code(coder, grid, kind, before, *wanted)
        else:
            scale = self._generated.scales[part if part < 2 else scale_place(picture)]
            distances = distances_of(picture) if motion is not None else ()
            side = self._generated.side(scale, picture.level, motion, distances)
            seen = features(self._shape, grid, kind, before, side)
            levels, depth, transform = self.generator.code(coder, grid, kind, seen, *wanted)
        has_transform = self._shape.transform_bits(kind) > 0
        return LatentTokens(levels, depth, transform if has_transform else None)


def before_of(tokens: LatentTokens) -> Before:
    """What later tokens are told of these."""
    return Before(tokens.depth, np.abs(tokens.tokens))


def scale_place(picture: Picture) -> int:
    """Which of the scales is that of a picture itself."""
    return 2 + min(picture.level, len(DEFAULT_SCALES) - 3)


class GopEncoder:
    """Tokens of one GOP to bytes."""

    def __init__(
        self, entropy: EntropyModel, grid: Grid, frames: int, step: int,
        scales: tuple[int, ...] = DEFAULT_SCALES, steps: int = DEFAULT_STEPS, masking: int = 0,
    ) -> None:  # fmt: skip
        """frames: the most that the GOP may have. masking: of pictures, 0..255, for their decoder.
        The rest as of ``EntropyModel.coder``; where signs may be hidden, they are."""
        self._coder = BitEncoder()
        hidden = HIDDEN_EVERY if entropy.extended else 0
        self._model = entropy.coder(grid, frames, step, scales, steps, hidden)
        self._head = bytes([*scales, masking]) if entropy.of_pictures else b""
        if entropy.extended:
            self._head += bytes([hidden])
        if entropy.generator is not None:
            self._head += bytes([steps])

    def add(self, tokens: Tokens) -> None:
        self._model.code(self._coder, tokens)

    def finish(self) -> bytes:
        return self._head + self._coder.finish()


def picture_head(gop: VideoGop) -> tuple[tuple[int, ...], int]:
    """Scales and masking of a GOP of pictures. No scale is 0: what damaged data says is made 1."""
    head = gop.tokens[:_PICTURE_HEAD].ljust(_PICTURE_HEAD, b"\0")
    return tuple(max(1, scale) for scale in head[:-1]), head[-1]


def hidden_of(gop: VideoGop, entropy: EntropyModel) -> int:
    """Of how many levels one has a hidden sign in a GOP; 0: none."""
    return next(iter(gop.tokens[_PICTURE_HEAD:]), 0) if entropy.extended else 0


def decode_tokens(header: Header, gop: VideoGop, entropy: EntropyModel) -> Iterator[Tokens]:
    """The tokens of a GOP in coding order."""
    pictures = entropy.of_pictures
    scales = picture_head(gop)[0] if pictures else ()
    hidden, steps = hidden_of(gop, entropy), DEFAULT_STEPS
    at = (_PICTURE_HEAD if pictures else 0) + int(entropy.extended)
    if entropy.generator is not None:
        steps = min(max(gop.tokens[at : at + 1].ljust(1, b"\1")[0], 1), MAX_STEPS)
        at += 1
    grid = grid_of(header.width, header.height)
    model = entropy.coder(grid, gop.frames, gop.step, scales, steps, hidden)
    coder = BitDecoder(gop.tokens[at:])
    count = gop.frames if pictures else latent_frames(gop.frames)
    for _ in range(count):
        yield model.code(coder)


def hash_tokens(items: Iterable[Tokens]) -> str:
    """SHA-256 over what each item holds, little-endian: of a picture its display, references and
    level as uint16, its modes as uint8 and its vectors as int16; of each latent frame its depths as
    uint16, its transforms, where it has any, as uint8 and its tokens as int16; of a picture with a
    loop filter its strengths, whether it is wide, and its blocks, as uint8, and its offsets; of one
    with Wiener filters at last that of each class of luma as uint8, taps as int8, regions as uint8,
    and taps of U and of V as int8."""
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
            if latent.transform is not None:
                digest.update(latent.transform.astype("u1").tobytes())
            digest.update(latent.tokens.astype("<i2").tobytes())
        if isinstance(item, PictureTokens) and item.loop_filter is not None:
            digest.update(bytes([*item.loop_filter.strengths, item.loop_filter.wide]))
            digest.update(item.loop_filter.blocks.astype("u1").tobytes())
            for offsets in item.loop_filter.offsets:
                if offsets is not None:
                    digest.update(np.array(offsets.shape, "<u2").tobytes())
                    digest.update(offsets.astype("i1").tobytes())
        if isinstance(item, PictureTokens) and item.wiener is not None:
            by = item.wiener
            if by.luma is not None:
                digest.update(by.luma.which.astype("u1").tobytes())
                digest.update(by.luma.taps.astype("i1").tobytes())
                digest.update(by.luma.regions.astype("u1").tobytes())
            for taps in by.chroma:
                if taps is not None:
                    digest.update(taps.astype("i1").tobytes())
    return digest.hexdigest()
