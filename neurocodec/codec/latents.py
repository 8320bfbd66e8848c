"""Frames to latent frames of the ``magvit2`` family, and back, a group of four at a time.

At the lowest qualities an encoder leaves out more cells, as many as pay by the bits that the
entropy model needs for the others: a decoder predicts them from the latent frame before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..bitstream.payloads import STEP_ONE, AudioPacket
from ..device import autocast
from ..entropy.binary import BitEncoder
from ..entropy.generator import DEFAULT_STEPS
from ..media.frame import Frame, Planes
from ..tokenizer.causal import Cache
from ..tokenizer.config import TEMPORAL_STRIDE, step_of_quality
from ..tokenizer.lfq import LAMBDA_PER_STEP2
from ..tokenizer.model import Tokenizer
from .frames import GopEnd, crop_planes, pad_planes
from .tokens import EntropyModel, LatentCoder, LatentTokens, grid_of

LOW_QUALITY = 10  # up to which cells are left out by what their bits really are
_THRIFT = (1.0, 1.6, 2.5, 4.0, 6.3)  # weights of approximate bits that are tried
# of real bits, beside lambda: the networks make good a part of what is lost in latents
_WORTH = 3.0


class GopTokenizer:
    """Frames of one GOP, a group at a time, to tokens: the streamed form of the tokenizer."""

    def __init__(
        self, tokenizer: Tokenizer, step: float, device: torch.device,
        coder: LatentCoder | None = None,
    ) -> None:  # fmt: skip
        """coder: the state of the entropy model, to leave out cells by."""
        self._tokenizer, self._device, self._coder = tokenizer, device, coder
        self._step = torch.tensor([step], dtype=torch.float32, device=device)
        self._cache = Cache()
        self._previous: Tensor | None = None

    @torch.inference_mode()
    def __call__(self, frames: list[Frame]) -> LatentTokens:
        """frames: one at the start of the GOP, then up to four (the last is repeated)."""
        started = self._previous is not None
        if started:
            frames = frames + frames[-1:] * (TEMPORAL_STRIDE - len(frames))
        planes = pad_planes(frames).to(self._device)
        with autocast(self._device):
            z = self._tokenizer.encoder(planes, self._step, self._cache, started)
            z = z[:, :, 0].float()
        if self._coder is not None:
            return self._quantize_by(z, self._coder)
        latent, self._previous = self._quantize(z, 1.0)
        return latent

    def _quantize(self, z: Tensor, thrift: float) -> tuple[LatentTokens, Tensor]:
        """z: (1, D, h, w). Returns its tokens, and what a decoder makes of them."""
        tokens, depth, decoded = self._tokenizer.quantize(z, self._previous, self._step, thrift)
        latent = LatentTokens(tokens.to(torch.int16).cpu().numpy(), depth.cpu().numpy())
        return latent, decoded

    def _quantize_by(self, z: Tensor, coder: LatentCoder) -> LatentTokens:
        """As many cells left out as makes squared error + _WORTH * lambda * bits least."""
        penalty = _WORTH * LAMBDA_PER_STEP2 * float(self._step) ** 2
        best, kept, depth = math.inf, None, None
        for thrift in _THRIFT:
            latent, decoded = self._quantize(z, thrift)
            if depth is not None and np.array_equal(depth, latent.depth):
                continue
            depth = latent.depth
            trial, bits = coder.fork(), BitEncoder()
            trial.code(bits, latent)
            cost = float((z - decoded).double().square().sum()) + penalty * bits.ideal_bits
            if cost < best:
                best, kept = cost, (latent, decoded, trial)
        assert kept is not None
        latent, self._previous, self._coder = kept
        return latent


def tokenize(
    events: Iterable[Frame | AudioPacket],
    tokenizer: Tokenizer,
    step: float,
    gop_frames: int,
    device: torch.device,
    skip: int = 0,
    entropy: EntropyModel | None = None,
    steps: int = DEFAULT_STEPS,
) -> Iterator[LatentTokens | GopEnd | AudioPacket]:
    """Latent frames, a GopEnd after those of each GOP, and the audio packets as they come. skip:
    frames at the beginning, of whole GOPs, that are coded already. entropy: what the tokens will be
    coded by, to leave out cells at steps of LOW_QUALITY and worse; steps: of its schedule."""

    def new_gop(frame: Frame) -> GopTokenizer:
        units = round(step * STEP_ONE)
        if entropy is None or units < round(step_of_quality(LOW_QUALITY) * STEP_ONE):
            return GopTokenizer(tokenizer, step, device)
        height, width = frame.y.shape
        coder = entropy.coder(grid_of(width, height), gop_frames, units, (), steps)
        assert isinstance(coder, LatentCoder)
        return GopTokenizer(tokenizer, step, device, coder)

    gop: GopTokenizer | None = None
    group: list[Frame] = []
    pts: list[int] = []
    for event in events:
        if isinstance(event, AudioPacket):
            yield event
            continue
        if skip:
            skip -= 1
            continue
        if gop is None:
            gop = new_gop(event)
        group.append(event)
        pts.append(event.pts)
        if len(pts) == 1 or len(group) == TEMPORAL_STRIDE or len(pts) == gop_frames:
            yield gop(group)
            group = []
        if len(pts) == gop_frames:
            yield GopEnd(pts)
            gop, pts = None, []
    if group:
        assert gop is not None
        yield gop(group)
    if pts:
        yield GopEnd(pts)


class GopSynthesizer:
    """Tokens of one GOP, a latent frame at a time, to frames."""

    def __init__(
        self, tokenizer: Tokenizer, step: float, size: tuple[int, int], device: torch.device
    ) -> None:
        """size: (width, height) of the frames to give."""
        self._tokenizer, self._device, self._size = tokenizer, device, size
        self._step = torch.tensor([step], dtype=torch.float32, device=device)
        self._cache = Cache()
        self._previous: Tensor | None = None

    @torch.inference_mode()
    def __call__(self, latent: LatentTokens) -> list[Planes]:
        """The (y, u, v) planes of one frame at the start of the GOP, then of four."""
        started = self._previous is not None
        tokens = torch.from_numpy(latent.tokens).to(self._device)
        depth = torch.from_numpy(latent.depth).to(self._device)
        q = self._tokenizer.dequantize(tokens, depth, self._previous, self._step)
        self._previous = q
        with autocast(self._device):
            planes = self._tokenizer.decoder(
                q[:, :, None], depth[None, None], self._step, self._cache, started
            )
        return crop_planes(planes, self._size)

    def finish(self) -> list[Planes]:
        """The frames that are left: none, for each comes at once."""
        return []

    def close(self) -> None:
        pass
