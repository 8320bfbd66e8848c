"""LFQ against the implementation of vector-quantize-pytorch, an independent one."""

import itertools
import warnings

import pytest
import torch

from neurocodec.tokenizer.lfq import (
    ResidualLFQ,
    entropy_penalty,
    pack_bits,
    signs,
    unpack_bits,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from vector_quantize_pytorch import LFQ


def test_packed_bits_come_apart_again() -> None:
    tokens = torch.arange(1 << 10)
    assert torch.equal(pack_bits(unpack_bits(tokens, 10)), tokens)
    assert unpack_bits(torch.tensor(4), 3).tolist() == [True, False, False]


def test_signs_have_two_values_and_a_gradient() -> None:
    u = torch.tensor([-2.0, -0.1, 0.0, 0.3], requires_grad=True)
    s = signs(u)
    assert s.tolist() == pytest.approx([-1, -1, 1, 1])
    s.sum().backward()
    assert u.grad is not None
    assert torch.allclose(u.grad, 1 - torch.tanh(u.detach()) ** 2)


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_indices_and_entropies_equal_the_oracle(bits: int) -> None:
    torch.manual_seed(bits)
    u = torch.randn(1, 64, bits) * 0.05
    oracle = LFQ(dim=bits, codebook_size=2**bits, entropy_loss_weight=1.0, diversity_gamma=1.0)
    oracle.train()
    result, breakdown = oracle(u, inv_temperature=100.0, return_loss_breakdown=True)
    assert torch.equal(pack_bits(u[0] >= 0), result.indices[0].long())
    per_sample, diversity = entropy_penalty(u[0], inverse_temperature=100.0)
    assert per_sample.item() == pytest.approx(breakdown.per_sample_entropy.item(), rel=1e-3)
    assert diversity.item() == pytest.approx(breakdown.batch_entropy.item(), rel=1e-3)


def test_eighteen_bits_need_no_codebook() -> None:
    u = torch.randn(32, 18, requires_grad=True)
    per_sample, diversity = entropy_penalty(u, inverse_temperature=1.0)
    (per_sample - diversity).backward()
    assert u.grad is not None
    assert u.grad.isfinite().all()
    assert 0 < diversity.item() <= 18 * 0.6932


def residuals(n: int = 400, dim: int = 12) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(n, dim) * torch.linspace(2, 0.1, dim)


def initialised(stages: int = 6) -> ResidualLFQ:
    lfq = ResidualLFQ(12, 4, stages)
    lfq.init_stages(0, residuals(), (1e-3, 1e-1))
    return lfq


def test_each_stage_leaves_less() -> None:
    lfq = initialised()
    r = residuals()
    left = [r.square().mean()]
    for s in range(lfq.stages):
        token = torch.where(r @ lfq.project[0, s] >= 0, 1.0, -1.0)
        r = r - token @ lfq.expand[0, s]
        left.append(r.square().mean())
    assert all(after < before for before, after in itertools.pairwise(left))


def test_tokens_say_all_and_depth_falls_with_the_step() -> None:
    lfq, r = initialised(), residuals()
    depths = []
    for step in (0.1, 0.5, 2.0, 20.0):
        tokens, depth = lfq.quantize(r, 0, torch.tensor(step))
        beyond = torch.arange(lfq.stages) >= depth[:, None]
        assert (tokens[beyond] == 0).all()
        assert (tokens[~beyond].abs() == 1).all()
        again, same, _ = lfq(r, 0, torch.full((len(r), 1), step))
        assert torch.equal(same, depth)
        assert torch.allclose(
            lfq.dequantize(tokens, depth, 0, torch.tensor(step)), again, atol=1e-5
        )
        depths.append(depth.float().mean().item())
    assert depths == sorted(depths, reverse=True)
    assert depths[-1] == 0
