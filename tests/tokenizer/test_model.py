import dataclasses

import pytest
import torch
from torch import Tensor

from neurocodec.codec.frames import pad_planes
from neurocodec.codec.latents import GopTokenizer
from neurocodec.tokenizer.causal import Cache
from neurocodec.tokenizer.config import SIZES, TokenizerConfig, step_of_quality
from neurocodec.tokenizer.model import Tokenizer
from neurocodec.tokenizer.patch import psnr
from tests.conftest import moving_picture, tiny_tokenizer

SIGNS = dataclasses.replace(SIZES["tiny"], quantizer="signs", stages=16)
TWO_LEVELS = dataclasses.replace(SIZES["tiny"], channels=(8, 16), full_kernels=True)


def planes(frames: int = 9, width: int = 48, height: int = 32) -> Tensor:
    return pad_planes(moving_picture(frames, width, height))


def lively(config: TokenizerConfig) -> Tokenizer:
    """No layer is zero, so that every path matters."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(config)
    with torch.no_grad():
        for p in tokenizer.parameters():
            if not p.any():
                p.normal_(0, 0.02)
    return tokenizer.eval().requires_grad_(False)


@pytest.mark.parametrize("config", [SIZES["tiny"], TWO_LEVELS], ids=["tiny", "two levels"])
def test_streamed_equals_whole(config: TokenizerConfig) -> None:
    tokenizer, x = lively(config), planes()
    step = torch.tensor([0.2])
    whole = tokenizer.encoder(x, step)
    cache = Cache()
    parts = [
        tokenizer.encoder(x[:, :, a:b], step, cache, started=a > 0)
        for a, b in ((0, 1), (1, 5), (5, 9))
    ]
    torch.testing.assert_close(torch.cat(parts, 2), whole)
    depth = torch.randint(0, 5, (1, *whole.shape[2:]))
    decoded = tokenizer.decoder(whole, depth, step)
    assert decoded.shape == x.shape
    cache = Cache()
    parts = [
        tokenizer.decoder(whole[:, :, t : t + 1], depth[:, t : t + 1], step, cache, started=t > 0)
        for t in range(whole.shape[2])
    ]
    torch.testing.assert_close(torch.cat(parts, 2), decoded, atol=1e-5, rtol=1e-4)


def test_streamed_tokens_equal_those_of_the_whole_clip() -> None:
    tokenizer = tiny_tokenizer()
    frames = moving_picture(13, 64, 48)
    step = torch.tensor([0.1])
    gop = GopTokenizer(tokenizer, 0.1, torch.device("cpu"))
    streamed = [gop(frames[:1])] + [gop(frames[i : i + 4]) for i in range(1, 13, 4)]
    z = tokenizer.encoder(pad_planes(frames), step)
    previous = None
    for t, latent in enumerate(streamed):
        tokens, depth, previous = tokenizer.quantize(z[:, :, t], previous, step)
        assert (tokens.numpy() == latent.tokens).all()
        assert (depth.numpy() == latent.depth).all()


def test_untrained_is_a_transform_codec() -> None:
    tokenizer = Tokenizer(dataclasses.replace(SIZES["tiny"], latent_dim=384, stages=48))
    x = planes()
    quality = []
    with torch.no_grad():
        for q in (0, 50, 100):
            out = tokenizer(x, torch.tensor([step_of_quality(q)]))
            quality.append(psnr(x[0], out.planes[0])[3])
    assert quality == sorted(quality)
    assert quality[-1] > 38


@pytest.mark.parametrize("config", [SIZES["tiny"], SIGNS], ids=["levels", "signs"])
def test_training_pass_equals_coding_pass(config: TokenizerConfig) -> None:
    tokenizer, x = lively(config), planes()
    tokenizer.init_stages(x, (0.03, 0.9))
    step = torch.tensor([0.15])
    with torch.no_grad():
        out = tokenizer(x, step)
        z = tokenizer.encoder(x, step)
        previous, depths, latents = None, [], []
        for t in range(z.shape[2]):
            _, depth, previous = tokenizer.quantize(z[:, :, t], previous, step)
            depths.append(depth)
            latents.append(previous)
        decoded = tokenizer.decoder(torch.stack(latents, 2), torch.stack(depths)[None], step)
    assert torch.equal(torch.stack(depths), out.depth[0])
    torch.testing.assert_close(decoded, out.planes, atol=1e-4, rtol=1e-4)
    assert out.bits.item() > 0


def test_every_parameter_learns() -> None:
    tokenizer = lively(SIZES["tiny"]).requires_grad_(True)
    out = tokenizer(planes(), torch.tensor([0.05]))
    (out.planes.square().mean() + out.bits.mean() * 1e-6).backward()
    dead = [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("size", list(SIZES))
def test_every_size_can_be_built(size: str) -> None:
    config = SIZES[size]
    with torch.device("meta"):
        Tokenizer(config)
    assert TokenizerConfig.from_dict(config.to_dict()) == config


def test_finer_steps_for_higher_quality() -> None:
    steps = [step_of_quality(q) for q in range(101)]
    assert steps == sorted(set(steps), reverse=True)
