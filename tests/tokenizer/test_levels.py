import pytest
import torch
import torch.nn.functional as F

from neurocodec.tokenizer.levels import MAX_LEVEL, LevelLFQ
from neurocodec.tokenizer.patch import block_transforms, group_basis


def residuals(n: int = 200, dim: int = 16) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(n, dim) * torch.linspace(1, 0.05, dim)


def test_tokens_and_step_give_the_values_back() -> None:
    lfq, r = LevelLFQ(16, 4, 4), residuals()
    errors, sizes = [], []
    for step in (0.5, 0.1, 0.02):
        tokens, depth = lfq.quantize(r, 0, torch.tensor(step))
        q = lfq.dequantize(tokens, depth, 0, torch.tensor(step))
        errors.append((q - r).abs().max().item())
        sizes.append(tokens.abs().sum().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2  # beyond the depth nothing is coded
    assert sizes == sorted(sizes)


def test_nothing_beyond_the_depth_and_something_in_its_last_stage() -> None:
    lfq, r = LevelLFQ(16, 4, 4), residuals()
    tokens, depth = lfq.quantize(r, 0, torch.tensor(0.3))
    assert len(depth.unique()) > 2
    beyond = torch.arange(4) >= depth[:, None]
    assert (tokens[beyond] == 0).all()
    coded = depth > 0
    last = tokens[torch.arange(len(r)), depth.clamp(min=1) - 1]
    assert (last[coded] != 0).any(1).all()


def test_a_good_prediction_costs_depth_zero() -> None:
    lfq = LevelLFQ(16, 4, 4)
    _, depth = lfq.quantize(torch.full((5, 16), 0.01), 0, torch.tensor(0.3))
    assert (depth == 0).all()


def test_channels_count_by_their_steps() -> None:
    """What is twice as large in a channel of twice the step is coded alike: depths, too."""
    flat, shaped, r = LevelLFQ(16, 4, 4), LevelLFQ(16, 4, 4), residuals()
    gain = torch.tensor([0.25, 4.0]).repeat(8)  # powers of two: nothing is rounded
    with torch.no_grad():
        shaped.log_gain[0] = gain.log()
    step = torch.tensor(0.25)
    expected, depths = flat.quantize(r, 0, step)
    tokens, depth = shaped.quantize(r * gain, 0, step)
    assert len(depths.unique()) > 2
    assert (depth == depths).float().mean() > 0.98  # but for what the logarithm rounds
    assert (tokens == expected).float().mean() > 0.98
    assert (shaped.quantize(r, 0, step)[1] != depths).any()


def test_levels_are_bounded() -> None:
    lfq = LevelLFQ(16, 4, 4)
    tokens, _ = lfq.quantize(torch.full((1, 16), -1e6), 0, torch.tensor(0.01))
    assert tokens.min() == -MAX_LEVEL


def test_training_pass_agrees_with_coding_and_has_gradients() -> None:
    lfq, r = LevelLFQ(16, 4, 4), residuals(24).requires_grad_()
    step = torch.full((24, 1), 0.2)
    q, depth, bits, levels = lfq(r, 1, step, (1, 4, 6), torch.zeros(24, 16))
    tokens, same = lfq.quantize(r.detach(), 1, torch.tensor(0.2))
    assert torch.equal(depth, same)
    assert torch.equal(levels.long().view(24, 4, 4), tokens)
    assert torch.allclose(q, lfq.dequantize(tokens, depth, 1, torch.tensor(0.2)), atol=1e-6)
    bits.sum().backward()
    assert r.grad is not None
    assert r.grad.abs().sum() > 0
    assert lfq.rate_weights.grad is not None
    assert lfq.rate_weights.grad[1].abs().sum() > 0


def test_larger_levels_cost_more_bits() -> None:
    lfq = LevelLFQ(16, 4, 4)
    step, grid, before = torch.ones(1, 1), (1, 1, 1), torch.zeros(1, 16)
    costs = [lfq(torch.full((1, 16), v), 0, step, grid, before)[2].item() for v in (1.0, 4.0, 20.0)]
    assert costs == sorted(costs)


def test_channels_must_fill_the_stages() -> None:
    with pytest.raises(ValueError, match="bits \\* stages"):
        LevelLFQ(17, 4, 4)


def with_transforms() -> LevelLFQ:
    return LevelLFQ(96, 8, 12, noisy_rate=True, transforms=block_transforms())


def latent_of(luma: torch.Tensor) -> torch.Tensor:
    """(N, 8, 8) -> (N, 96), in steps."""
    analysis, _ = group_basis(96, 1)
    planes = torch.cat([F.pixel_unshuffle(luma[:, None], 2), torch.zeros(len(luma), 2, 4, 4)], 1)
    return planes.flatten(1) @ analysis.T


def test_a_cell_has_the_transform_that_tells_it_in_the_fewest_levels() -> None:
    lfq, step = with_transforms(), torch.tensor(1.0)
    x = torch.zeros(4, 8, 8)
    x[0] = 20 * torch.cos(torch.arange(8) * 0.4)  # nothing smaller helps
    x[1, :, 4:] = 20.0  # an edge between left and right
    x[2, 4:] = 20.0
    x[3, 4:, 4:] = 20.0
    z = latent_of(x)
    transform = lfq.choose_transform(z, 0, step)
    assert transform.tolist() == [0, 1, 2, 3]
    turned = lfq.transformed(z, transform)
    assert (turned.abs() > 0.5).sum(1).tolist()[1:] == [1, 1, 1]
    assert torch.allclose(lfq.transformed(turned, transform, back=True), z, atol=1e-4)


def test_transforms_lose_nothing_and_leave_chroma_alone() -> None:
    analysis, _ = group_basis(96, 1)
    chroma = analysis[:, :64].abs().amax(1) < 1e-6
    assert chroma.sum() == 32
    for matrix in block_transforms():
        assert torch.allclose(matrix @ matrix.T, torch.eye(96), atol=1e-5)
        assert torch.allclose(matrix[chroma][:, chroma], torch.eye(32), atol=1e-5)
    corner = torch.zeros(1, 8, 8)
    corner[0, 4:, 4:] = 1.0
    of_luma = (latent_of(corner) @ block_transforms()[2].T)[0, ~chroma]
    assert (of_luma.abs() > 0.1).nonzero().flatten().tolist() == [
        3
    ]  # the last of the four blocks' means
