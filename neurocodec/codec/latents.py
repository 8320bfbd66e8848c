"""Frames to latent frames of the ``magvit2`` family, and back, a group of four at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from ..bitstream.payloads import AudioPacket
from ..device import autocast
from ..media.frame import Frame
from ..tokenizer.causal import Cache
from ..tokenizer.config import TEMPORAL_STRIDE
from ..tokenizer.model import Tokenizer
from .frames import GopEnd, Planes, crop_planes, pad_planes
from .tokens import LatentTokens


class GopTokenizer:
    """Frames of one GOP, a group at a time, to tokens: the streamed form of the tokenizer."""

    def __init__(self, tokenizer: Tokenizer, step: float, device: torch.device) -> None:
        self._tokenizer, self._device = tokenizer, device
        self._step = torch.tensor([step], dtype=torch.float32, device=device)
        self._cache = Cache()
        self._previous: torch.Tensor | None = None

    @torch.inference_mode()
    def __call__(self, frames: list[Frame]) -> LatentTokens:
        """frames: one at the start of the GOP, then up to four (the last is repeated)."""
        started = self._previous is not None
        if started:
            frames = frames + frames[-1:] * (TEMPORAL_STRIDE - len(frames))
        planes = pad_planes(frames).to(self._device)
        with autocast(self._device):
            z = self._tokenizer.encoder(planes, self._step, self._cache, started)
            tokens, depth, self._previous = self._tokenizer.quantize(
                z[:, :, 0].float(), self._previous, self._step
            )
        return LatentTokens(tokens.to(torch.int16).cpu().numpy(), depth.cpu().numpy())


def tokenize(
    events: Iterable[Frame | AudioPacket],
    tokenizer: Tokenizer,
    step: float,
    gop_frames: int,
    device: torch.device,
    skip: int = 0,
) -> Iterator[LatentTokens | GopEnd | AudioPacket]:
    """Latent frames, a GopEnd after those of each GOP, and the audio packets as they come. skip:
    frames at the beginning, of whole GOPs, that are coded already."""
    gop = GopTokenizer(tokenizer, step, device)
    group: list[Frame] = []
    pts: list[int] = []
    for event in events:
        if isinstance(event, AudioPacket):
            yield event
            continue
        if skip:
            skip -= 1
            continue
        group.append(event)
        pts.append(event.pts)
        if len(pts) == 1 or len(group) == TEMPORAL_STRIDE or len(pts) == gop_frames:
            yield gop(group)
            group = []
        if len(pts) == gop_frames:
            yield GopEnd(pts)
            gop, pts = GopTokenizer(tokenizer, step, device), []
    if group:
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
        self._previous: torch.Tensor | None = None

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
