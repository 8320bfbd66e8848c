"""Cells that are left out at the lowest qualities of the family ``magvit2``."""

from pathlib import Path

import pytest
import torch

from neurocodec import models
from neurocodec.bitstream.payloads import STEP_ONE
from neurocodec.codec import latents
from neurocodec.codec.latents import GopTokenizer, tokenize
from neurocodec.codec.tokens import LatentTokens
from neurocodec.entropy.binary import BitEncoder
from neurocodec.media.frame import Frame
from neurocodec.tokenizer.config import step_of_quality
from tests.conftest import moving_picture

CPU = torch.device("cpu")


def coded(bundle: models.Bundle, frames: list[Frame], quality: int, by: str) -> list[LatentTokens]:
    """by: the entropy model that is asked, "" for none."""
    entropy = bundle.entropy(bundle.entropy_number(by)) if by else None
    step = round(step_of_quality(quality) * STEP_ONE) / STEP_ONE  # as a file has it
    items = tokenize(frames, bundle.tokenizer(), step, 9, CPU, entropy=entropy)
    return [item for item in items if isinstance(item, LatentTokens)]


def cells(latent: list[LatentTokens]) -> int:
    return sum(int((item.depth > 0).sum()) for item in latent)


@pytest.mark.parametrize("by", ["adaptive", "generator"])
def test_fewer_cells_are_coded_at_the_lowest_qualities(tiny_generated: Path, by: str) -> None:
    bundle = models.find(str(tiny_generated))
    frames = moving_picture(9, 64, 48)
    for quality, fewer in ((2, True), (10, True), (11, False)):
        plain, asked = coded(bundle, frames, quality, ""), coded(bundle, frames, quality, by)
        assert len(plain) == len(asked) == 3
        assert (cells(asked) < cells(plain)) == fewer
        if not fewer:
            assert all((a.tokens == b.tokens).all() for a, b in zip(plain, asked, strict=True))


@pytest.mark.parametrize("by", ["adaptive", "generator"])
def test_trials_leave_the_entropy_model_as_it_was(tiny_generated: Path, by: str) -> None:
    bundle = models.find(str(tiny_generated))
    coder = bundle.entropy(bundle.entropy_number(by)).coder((6, 8), 9, 1, (), 1)
    assert isinstance(coder, latents.LatentCoder)
    latent = coded(bundle, moving_picture(1, 64, 48), 5, "")[0]
    first, again = BitEncoder(), BitEncoder()
    coder.fork().code(first, latent)
    fork = coder.fork()
    fork.code(again, latent)
    assert first.ideal_bits == again.ideal_bits
    if by == "generator":  # weights are not copied
        assert fork.generator._layers is coder.generator._layers


def test_all_bits_too_dear_leaves_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = models.find(str(tiny))
    monkeypatch.setattr(latents, "_THRIFT", (1.0, 1e9))
    monkeypatch.setattr(latents, "_WORTH", 1e9)
    assert cells(coded(bundle, moving_picture(9, 64, 48), 5, "adaptive")) == 0


def test_a_coder_is_asked_of_every_latent_frame(tiny: Path) -> None:
    """What it has seen counts: its state goes on with what was chosen."""
    bundle = models.find(str(tiny))
    coder = bundle.entropy(0).coder((6, 8), 9, 1, (), 1)
    assert isinstance(coder, latents.LatentCoder)
    gop = GopTokenizer(bundle.tokenizer(), step_of_quality(5), CPU, coder)
    frames = moving_picture(5, 64, 48)
    kept = [gop(frames[:1]), gop(frames[1:])]
    own, after = BitEncoder(), BitEncoder()
    fresh = coder.fork()
    for latent in kept:
        fresh.code(own, latent)
    assert gop._coder is not None
    gop._coder.fork().code(after, kept[1])
    before = BitEncoder()
    fresh.fork().code(before, kept[1])
    assert after.ideal_bits == before.ideal_bits
