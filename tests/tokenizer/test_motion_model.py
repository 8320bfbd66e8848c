import math

import pytest
import torch

from neurocodec.codec.frames import pad_planes
from neurocodec.codec.tokens import grids_of
from neurocodec.tokenizer.config import (
    BETWEEN,
    COARSE,
    INTER,
    INTRA,
    KINDS,
    MOTION_SIZES,
    config_from_dict,
)
from neurocodec.tokenizer.levels import LevelLFQ
from neurocodec.tokenizer.motion_model import (
    MotionTokenizer,
    base_of,
    cell_steps,
    enlarged,
    enlarged_cells,
    grey,
)
from neurocodec.tokenizer.patch import psnr
from tests.conftest import moving_picture

TINY = MOTION_SIZES["tiny"]


def untrained() -> MotionTokenizer:
    torch.manual_seed(0)
    return MotionTokenizer(TINY).eval()


def pictures(count: int = 2, width: int = 48, height: int = 32) -> list[torch.Tensor]:
    planes = pad_planes(moving_picture(count, width, height))
    return [planes[:, :, t] for t in range(count)]


@pytest.mark.parametrize("kind", [COARSE, INTRA, INTER, BETWEEN])
def test_untrained_is_prediction_plus_coded_difference(kind: int) -> None:
    model = untrained()
    first, second = pictures()
    predictions = (first, first.roll(1, -1))
    step = torch.tensor([0.1])
    before = torch.zeros(1, 4, 6, 96)
    with torch.no_grad():
        out = model(second, predictions, kind, step, before)
        mean = (predictions[0] + predictions[1]) / 2
        nets = model.networks(kind)
        patches = torch.nn.functional.pixel_unshuffle(second - mean, 4)[0].flatten(1)
        z = (nets.encoder.analysis @ patches).T
        if kind in (COARSE, INTRA):
            transform = model.lfq.choose_transform(z, kind, step)
            assert transform.any()
            z = model.lfq.transformed(z, transform)
        tokens, depth = model.lfq.quantize(z, kind, step)
        q = model.lfq.dequantize(tokens, None, kind, step)
        if kind in (COARSE, INTRA):
            q = model.lfq.transformed(q, transform, back=True)
        difference = (nets.decoder.synthesis @ q.T).view(1, 96, 4, 6)
        expected = mean + torch.nn.functional.pixel_shuffle(difference, 4)
    torch.testing.assert_close(out.planes, expected, atol=1e-5, rtol=0)
    assert torch.equal(out.depth[0].flatten(), depth)
    assert torch.equal(out.levels.view(24, 12, 8).long(), tokens)
    assert (depth > 0).any()


def test_masking_gives_still_cells_finer_steps() -> None:
    torch.manual_seed(1)
    still = torch.full((1, 6, 16, 32), 0.5)
    planes = still.clone()
    planes[..., 16:] += 0.4 * torch.rand(1, 6, 16, 16) - 0.2
    step = torch.tensor([0.1])
    steps = cell_steps(step, INTER, (planes, planes), 0.25)[0, 0]
    torch.testing.assert_close(steps[:, :3], torch.full((4, 3), 0.1 * (58 / 400) ** 0.25))
    variance = torch.nn.functional.pixel_shuffle(planes[:, :4], 2)[0, 0, :24, 40:].var(correction=0)
    assert steps[1, 6] == pytest.approx(
        0.1 * (float(variance * 255**2 + 58) / 400) ** 0.25, rel=0.05
    )
    assert (steps[:, 5:] > 1.5 * steps[:, :3].max()).all()
    assert cell_steps(step, INTER, (planes, planes), 0.0).tolist() == [[[[step.item()]]]]
    assert cell_steps(step, COARSE, (planes, planes), 0.25).tolist() == [[[[step.item()]]]]
    assert cell_steps(step, INTER, (planes, planes), 9.0).amax() == pytest.approx(0.3)


def test_masking_spares_what_is_still() -> None:
    """Error goes where the picture is restless, and training sees the steps it goes by."""
    torch.manual_seed(1)
    model = untrained()
    first = torch.full((1, 6, 16, 32), 0.5)
    first[..., 16:] += 0.6 * torch.rand(1, 6, 16, 16) - 0.3
    second = first + 0.05 * torch.randn(first.shape)
    step, before = torch.tensor([0.1]), torch.zeros(1, 4, 8, 96)
    with torch.no_grad():
        plain, masked = (
            model(second, (first, first), INTER, step, before, masking) for masking in (0.0, 0.35)
        )
    error = [(out.planes - second).square().mean((0, 1, 2)) for out in (plain, masked)]
    assert error[1][:14].mean() < 0.7 * error[0][:14].mean()
    assert error[1][18:].mean() > 1.2 * error[0][18:].mean()
    assert masked.steps.shape == (1, 1, 4, 8)


def test_finer_steps_give_better_pictures() -> None:
    model = untrained()
    (x,) = pictures(1)
    quality = []
    with torch.no_grad():
        for step in (0.4, 0.1, 0.03):
            out = model(x, (grey(x),) * 2, INTRA, torch.tensor([step]), torch.zeros(1, 4, 6, 96))
            quality.append(psnr(x[0, :, None], out.planes[0, :, None])[3])
    assert quality == sorted(quality)
    assert quality[-1] > 38


def test_the_pictures_of_a_batch_are_coded_apart() -> None:
    model = untrained()
    first, second = pictures()
    step = torch.tensor([0.1, 0.3])
    both = torch.cat([first, second])
    with torch.no_grad():
        out = model(both, (grey(both),) * 2, INTRA, step, torch.zeros(2, 4, 6, 96))
        alone = model(
            second, (grey(second),) * 2, INTRA, torch.tensor([0.3]), torch.zeros(1, 4, 6, 96)
        )
    torch.testing.assert_close(out.planes[1:], alone.planes)
    assert out.bits.shape == (2,)
    assert torch.equal(out.levels[1:], alone.levels)


def test_intra_and_inter_share_no_networks() -> None:
    model = untrained()
    a, b = model.networks(INTRA), model.networks(INTER)
    assert model.networks(COARSE) is a
    assert model.networks(BETWEEN) is b
    assert not {id(p) for p in a.parameters()} & {id(p) for p in b.parameters()}


def test_every_parameter_learns() -> None:
    model = untrained()
    with torch.no_grad():
        for p in model.parameters():
            if not p.any():
                p.normal_(0, 0.02)
    first, second = pictures()
    loss = torch.zeros(())
    for kind in range(KINDS):
        out = model(second, (first, second), kind, torch.tensor([0.05]), torch.zeros(1, 4, 6, 96))
        loss = loss + out.planes.square().mean() + out.bits.mean() * 1e-6
    loss.backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == ["lfq.log_gain"]  # frozen


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (4, 8), (9, 13), (17, 4)])
def test_bases_have_the_cells_that_the_bitstream_has(grid: tuple[int, int]) -> None:
    planes = torch.rand(1, 6, grid[0] * 4, grid[1] * 4)
    base = base_of(planes)
    for picture, (h, w) in zip((base_of(base), base, planes), grids_of(grid), strict=True):
        assert picture.shape == (1, 6, 4 * h, 4 * w)
    assert enlarged(base, (grid[0] * 4, grid[1] * 4)).shape == planes.shape
    h, w = grids_of(grid)[1]
    cells = torch.arange(h * w).view(1, h, w)
    large = enlarged_cells(cells, grid)
    assert large.shape == (1, *grid)
    assert large[0, -1, -1] == cells[0, (grid[0] - 1) // 4, (grid[1] - 1) // 4]


def test_a_base_predicts_what_is_smooth() -> None:
    flat = torch.full((1, 6, 20, 12), 0.3)
    torch.testing.assert_close(base_of(flat), torch.full((1, 6, 8, 4), 0.3))
    torch.testing.assert_close(enlarged(base_of(flat), (20, 12)), flat)
    x = torch.linspace(0, 1, 128).expand(1, 1, 64, 128)  # a ramp of luma
    planes = torch.cat(
        [torch.nn.functional.pixel_unshuffle(x, 2), x[..., ::2, ::2], x[..., ::2, ::2]], 1
    )
    error = (enlarged(base_of(planes), (32, 64)) - planes).abs()[..., 8:-8]
    assert error.max() < 0.01


@pytest.mark.parametrize("size", list(MOTION_SIZES))
def test_every_size_can_be_built_and_written_down(size: str) -> None:
    config = MOTION_SIZES[size]
    with torch.device("meta"):
        MotionTokenizer(config)
    assert config_from_dict(config.to_dict()) == config


# -- the noisy rate ---------------------------------------------------------------------------


def rate_of(values: torch.Tensor, log_scale: float, repeats: int = 1) -> torch.Tensor:
    """Mean bits of values (N,) in steps, each as all channels of a cell of its own."""
    lfq = LevelLFQ(8, 8, 1, noisy_rate=True)
    with torch.no_grad():
        lfq.rate_weights.zero_()
        lfq.rate_weights[:, 0] = log_scale
    cells = values[:, None].expand(-1, 8)
    levels = (cells.abs() + 0.35).floor() * cells.sign()
    total = torch.zeros(len(values))
    for _ in range(repeats):
        noisy = cells + torch.rand_like(cells) - 0.5
        total = total + lfq._noisy_rate(
            noisy, levels, 0, (1, 1, len(values)), torch.zeros_like(cells)
        ).mean(1)
    return total / repeats


def test_the_rate_is_finite_and_positive_everywhere() -> None:
    values = torch.tensor([0.0, 1e-6, 0.3, 0.5, 0.7, -1.0, 30.0, -4095.0]).requires_grad_()
    for log_scale in (-4.0, 0.0, 7.0):
        bits = rate_of(values, log_scale)
        assert bits.isfinite().all()
        assert (bits >= 0).all()
        (slope,) = torch.autograd.grad(bits.sum(), values)
        assert slope.isfinite().all()


@pytest.mark.parametrize("scale", [0.7, 2.0, 8.0])
def test_the_rate_is_close_to_the_entropy(scale: float) -> None:
    torch.manual_seed(0)
    samples = torch.distributions.Laplace(0.0, scale).sample((20000,))
    estimate = rate_of(samples, math.log(scale)).mean().item()
    # of samples in unit bins that fall anywhere: the mean over a few places of the bins
    entropies = []
    for offset in torch.linspace(0, 0.9, 10):
        p = (samples + offset).floor().long().unique(return_counts=True)[1] / len(samples)
        entropies.append(-(p * p.log2()).sum().item())
    entropy = sum(entropies) / len(entropies)
    assert estimate == pytest.approx(entropy, abs=0.15)


def test_the_rate_is_least_at_the_right_scale() -> None:
    torch.manual_seed(0)
    samples = torch.distributions.Laplace(0.0, 3.0).sample((4000,))
    costs = [rate_of(samples, math.log(3.0) + d).mean().item() for d in (-1.5, -0.7, 0.0, 0.7, 1.5)]
    assert costs[0] > costs[1] > costs[2] < costs[3] < costs[4]


def test_the_rate_pulls_small_values_to_zero() -> None:
    torch.manual_seed(0)
    values = torch.tensor([-0.3, -0.1, 0.1, 0.3]).requires_grad_()
    (slope,) = torch.autograd.grad(rate_of(values, -0.5, repeats=200).sum(), values)
    assert (slope.sign() == values.sign()).all()


def test_the_gradient_reaches_levels_of_zero_where_a_cell_is_coded() -> None:
    torch.manual_seed(0)
    residual = torch.full((1, 16), 0.3)
    residual[0, 15] = 5.0  # so that the cell is coded to the end
    residual.requires_grad_()
    for noisy, pulled in ((True, True), (False, False)):
        lfq = LevelLFQ(16, 4, 4, noisy_rate=noisy)
        _, _, bits, levels = lfq(residual, 0, torch.ones(1, 1), (1, 1, 1), torch.zeros(1, 16))
        assert not levels[0, :15].any()
        (slope,) = torch.autograd.grad(bits.sum(), residual)
        assert bool(slope[0, :15].any()) == pulled
