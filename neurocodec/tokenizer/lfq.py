"""Lookup-free quantization (LFQ) and residual LFQ with a depth per cell.

LFQ: MAGVIT-v2, arXiv 2310.05737, section 3.1. The codebook is {-1, +1}^K: a token is the K signs
of a projected latent. Residual LFQ applies S such stages, each to what the former left over.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAMBDA_PER_STEP2 = 0.14  # squared error a bit must save, in units of step^2
ENTROPY_GROUP_BITS = 9  # codes of at most this many bits are enumerated for the diversity entropy


def signs(u: Tensor) -> Tensor:
    """-1 or +1, zero counted as +1. The gradient is that of tanh (straight-through)."""
    soft = torch.tanh(u)
    return soft + (torch.where(u >= 0, 1.0, -1.0) - soft).detach()


def pack_bits(bits: Tensor) -> Tensor:
    """(..., K) bool -> (...) int64 token; the first bit is the most significant."""
    weights = 1 << torch.arange(bits.shape[-1] - 1, -1, -1, device=bits.device)
    return (bits.long() * weights).sum(-1)


def unpack_bits(tokens: Tensor, bits: int) -> Tensor:
    """(...) token -> (..., K) bool."""
    shifts = torch.arange(bits - 1, -1, -1, device=tokens.device)
    return (tokens[..., None].long() >> shifts) & 1 == 1


def code_sums(
    u: Tensor, inverse_temperature: float = 100.0, weight: Tensor | None = None
) -> Tensor:
    """What the entropies of LFQ codes need of samples, as sums that add up over parts of a batch.

    u: (N, K) projections, N may be 0. weight: (N,), how much each sample counts. Returns (F,): the
    weights, the entropies of single samples, and the probabilities of the codes of each group of
    at most nine bits, so that 2^18 codes are never enumerated.
    """
    if weight is None:
        weight = u.new_ones(u.shape[0])
    logits = 4 * inverse_temperature * u  # log-odds of +1 against -1
    p = torch.sigmoid(logits)
    h = F.softplus(logits) - p * logits
    sums = [weight.sum()[None], (h.sum(-1) * weight).sum()[None]]
    for group in logits.split(ENTROPY_GROUP_BITS, -1):
        k = group.shape[-1]
        codes = unpack_bits(torch.arange(2**k, device=u.device), k).to(u.dtype)  # (2^k, k)
        log_p = F.logsigmoid(group) @ codes.T + F.logsigmoid(-group) @ (1 - codes).T  # (N, 2^k)
        sums.append((log_p.exp() * weight[:, None]).sum(0))
    return torch.cat(sums)


def code_entropies(sums: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Sums (..., F) of :func:`code_sums` -> per-sample and diversity entropy (...), nats."""
    sums = sums / sums[..., :1].clamp_min(1e-9)
    sizes = [2**k for k in _group_bits(bits)]
    means = sums[..., 2:].split(sizes, -1)
    diversity = sum(-(mean * mean.clamp_min(1e-12).log()).sum(-1) for mean in means)
    return sums[..., 1], diversity  # type: ignore[return-value]


def _group_bits(bits: int) -> list[int]:
    return [min(ENTROPY_GROUP_BITS, bits - at) for at in range(0, bits, ENTROPY_GROUP_BITS)]


def entropy_penalty(
    u: Tensor, inverse_temperature: float = 100.0, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Per-sample entropy and diversity entropy of LFQ codes, in nats (equation 5 of the paper).

    u: (N, K) projections. weight: (N,), how much each sample counts. The loss adds the first and
    subtracts the second. Code probabilities are a softmax over -|u - code|^2 * inverse_temperature,
    which factorises over bits: the per-sample entropy is exact for any K. The diversity entropy is
    taken over groups of at most nine bits.
    """
    return code_entropies(code_sums(u, inverse_temperature, weight), u.shape[1])


class ResidualLFQ(nn.Module):
    """S stages of K-bit LFQ. Stage s: project D -> K, take signs, map back, subtract.

    Two sets of stages: one for the first latent frame of a GOP, one for those with a prediction.
    """

    def __init__(self, latent_dim: int, bits: int, stages: int) -> None:
        super().__init__()
        self.bits, self.stages = bits, stages
        self.project = nn.Parameter(torch.randn(2, stages, latent_dim, bits) * latent_dim**-0.5)
        self.expand = nn.Parameter(torch.zeros(2, stages, bits, latent_dim))

    @torch.no_grad()
    def init_stages(self, kind: int, residual: Tensor, lam_range: tuple[float, float]) -> None:
        """Start each stage from the principal directions of the residual it will see.

        residual: (N, D) latents less their prediction. A cell counts at stage s in proportion to
        the share of lambdas (log-uniform over lam_range) at which it would pay for s + 1 stages.
        """
        low, high = lam_range
        r = residual.double()
        log_range = torch.log(torch.tensor(high / low, dtype=torch.float64))
        for s in range(self.stages):
            energy = r.square().sum(1) + 1e-12
            gain = 0.25 * energy
            w = (torch.log(gain / (self.bits * low)) / log_range).clamp(1e-3, 1) / energy.sqrt()
            cov = (r * w[:, None]).T @ r
            directions = torch.linalg.eigh(cov)[1][:, -self.bits :].flip(1)  # (D, K)
            u = r @ directions
            scale = (u.abs() * w[:, None]).sum(0) / w.sum() + 1e-9
            self.project[kind, s] = (directions / scale).float()
            self.expand[kind, s] = (directions * scale).T.float()
            r = r - torch.where(u >= 0, 1.0, -1.0) * scale @ directions.T

    def forward(
        self, residual: Tensor, kind: int, step: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Differentiable quantization with the depths that :meth:`quantize` chooses.

        residual: (N, D). step: (N, 1). Returns the quantized residual (N, D), depth (N,) and, for
        the entropy penalty, the projections of the cells that reach each stage: S times (N_s, K).
        The signs are straight-through at every stage, so the Jacobian I - prod(I - J_s) stays
        between 0 and I however many stages there are.
        """
        depth = self.quantize(residual, kind, step)[1]
        order = depth.argsort(descending=True, stable=True)
        reached = (depth[:, None] > torch.arange(self.stages, device=depth.device)).sum(0).tolist()
        r = residual[order]
        finished, projections = [], []  # rows leave in order of rising depth
        for s, n in enumerate(reached):
            finished.append(r[n:])
            if n == 0:
                break
            u = r[:n] @ self.project[kind, s]
            r = r[:n] - signs(u) @ self.expand[kind, s]
            projections.append(u)
        else:
            finished.append(r)
        left = torch.cat(finished[::-1])
        left = left[order.argsort()]
        return residual - left, depth, projections

    def choose_depth(self, errors: Tensor, step: Tensor, thrift: float = 1.0) -> Tensor:
        """errors: (N, S+1) squared error at each depth -> (N,) depth minimising D + thrift * lambda
        * R."""
        depths = torch.arange(self.stages + 1, device=errors.device, dtype=errors.dtype)
        rate = thrift * (depths * self.bits + 2.0 * (depths > 0))
        return (errors + LAMBDA_PER_STEP2 * step.reshape(-1, 1) ** 2 * rate).argmin(1)

    @torch.no_grad()
    def quantize(
        self, residual: Tensor, kind: int, step: Tensor, thrift: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """residual: (N, D), step: scalar or (N, 1), the dial of quality. thrift: weight of bits in
        the choice of depths. Returns tokens (N, S, K) int64 of -1 and +1, 0 beyond the depth, and
        depth (N,) int64."""
        r = residual
        errors, tokens = [r.square().sum(1)], []
        for s in range(self.stages):
            token = torch.where(r @ self.project[kind, s] >= 0, 1.0, -1.0)
            r = r - token @ self.expand[kind, s]
            errors.append(r.square().sum(1))
            tokens.append(token)
        depth = self.choose_depth(torch.stack(errors, 1), step, thrift)
        coded = torch.arange(self.stages, device=r.device) < depth[:, None]
        return (torch.stack(tokens, 1) * coded[..., None]).long(), depth

    def dequantize(self, tokens: Tensor, depth: Tensor, kind: int, step: Tensor) -> Tensor:
        """tokens (N, S, K) -> quantized residual (N, D). The depth is implied by the tokens."""
        return tokens.flatten(1).to(self.expand.dtype) @ self.expand[kind].flatten(0, 1)


class CodeLFQ(ResidualLFQ):
    """As the paper has it: every cell has every stage, so that a cell is always so many tokens."""

    def choose_depth(self, errors: Tensor, step: Tensor, thrift: float = 1.0) -> Tensor:
        return torch.full((len(errors),), self.stages, device=errors.device)
