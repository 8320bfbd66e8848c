"""The fast form of the networks gives what the networks give that were trained."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from neurocodec.tokenizer import motion_inference
from neurocodec.tokenizer.config import BETWEEN, COARSE, INTER, INTRA, MOTION_SIZES, MotionConfig
from neurocodec.tokenizer.motion_inference import Convolutions, FastPictureCodec
from neurocodec.tokenizer.motion_model import cell_steps
from tests.conftest import tiny_motion_tokenizer

CPU = torch.device("cpu")
STEP = 0.07
TINY = MOTION_SIZES["tiny"]
# networks of inter pictures of sizes of their own
OWN = replace(TINY, inter_context=4, inter_context_blocks=0, inter_width=24, inter_decoder_blocks=2)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().clamp_min(1e-12).log10())


@pytest.mark.parametrize("kind", [COARSE, INTRA, INTER, BETWEEN])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("masked", "config"), [(False, TINY), (True, TINY), (True, OWN)])
@torch.inference_mode()
def test_the_same_picture(
    kind: int, masked: bool, config: MotionConfig, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(motion_inference, "has_fast_bf16", lambda device: bf16)
    tokenizer = tiny_motion_tokenizer(config=config)
    nets = tokenizer.networks(kind)
    torch.manual_seed(1)
    planes, first, second = (torch.rand(1, 6, 24, 32) for _ in range(3))
    steps = torch.full((1, 1, 1, 1), STEP)
    if masked:
        steps = STEP * (0.5 + 2 * torch.rand(1, 1, 6, 8))
    condition = tokenizer.condition(kind, steps, planes)
    prediction, context = nets.context(first, second, condition)
    z = nets.encoder(planes, prediction)
    q = torch.where(z.abs() > STEP, z, 0)
    q[..., :3, 2:7] = 0  # some cells have nothing
    decoded = nets.decoder(q, prediction, context, condition, steps)

    fast = FastPictureCodec(nets, Convolutions(CPU))
    given = tokenizer.condition_of(kind, steps)
    torch.testing.assert_close(
        given.expand(6, 8, -1), condition[0, :, ::2, ::2].permute(1, 2, 0), atol=1e-6, rtol=0
    )
    last = [x[0].permute(1, 2, 0) for x in (planes, first, second)]
    for _ in range(2):  # buffers are used again
        better, seen = fast.context(last[1], last[2], given)
        latent = fast.encode(last[0], better)
        told = q[0].permute(1, 2, 0).flatten(0, 1)
        cells = told.any(1).nonzero()[:, 0]
        assert 0 < len(cells) < 48
        how = told[cells], cells, better, seen, given, steps[0, 0, ..., None]
        out = fast.decode(*how)
        with monkeypatch.context() as large:
            large.setattr(motion_inference, "_LARGE", 0)
            large.setattr(motion_inference, "_BAND", 4)
            in_bands = fast.decode(*how)
        torch.testing.assert_close(in_bands, out, atol=1e-5, rtol=0)
    pairs = [
        (better.permute(2, 0, 1), prediction[0]),
        (latent.t().reshape(z[0].shape), z[0]),
        (out.permute(2, 0, 1), decoded[0]),
    ]
    changed = F.mse_loss(prediction, (first + second) / 2)
    assert changed > 1e-5  # the networks do something
    for ours, theirs in pairs:
        if bf16:
            assert psnr(ours, theirs) > 55
        else:
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_asinh() -> None:
    x = torch.cat([torch.linspace(-1e-3, 1e-3, 101), torch.linspace(-300, 300, 1001)])
    torch.testing.assert_close(motion_inference._asinh(x), x.asinh(), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("kind", [COARSE, INTRA, BETWEEN])
@pytest.mark.parametrize("masking", [0.0, 0.3])
def test_steps_of_cells(kind: int, masking: float) -> None:
    torch.manual_seed(2)
    smooth = torch.rand(2, 6, 6, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    first, second = (smooth + 0.1 * torch.rand(2, 6, 24, 32) ** 4).split(1)
    step = torch.tensor([STEP])
    expected = cell_steps(step, kind, (first, second), masking)
    found = motion_inference.steps_of_cells(step, kind, (first, second), masking)
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-4)
    assert (expected.numel() > 1) == (masking > 0 and kind != COARSE)


def test_rounded_planes() -> None:
    planes = torch.rand(8, 12, 6) * 1.2 - 0.1
    expected = (planes.clamp(0, 1) * 255).round() / 255
    found = motion_inference.rounded(planes.clone())
    assert torch.equal(found, expected.permute(2, 0, 1)[None])
