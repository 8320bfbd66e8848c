"""What the ``magvit2`` tokenizer is trained for: rate and distortion, or MAGVIT-v2's objective.

The loss of a clip is a sum, each term with a weight of the configuration:

- ``rate``: D / lambda + R at quantizer step t, in bits a pixel, with lambda = LAMBDA_PER_STEP2 *
  t^2 and D weighted by ``distortion``, times (t / 0.1)^0.7 so that coarse and fine steps pull
  about equally.
- ``recon``: squared error of samples, as if in -1..1.
- ``perceptual``: distance between features of a pretrained network, see ``features.py``.
- ``adversarial``: non-saturating loss against a discriminator, see ``adversary.py``.
- ``commitment``, ``entropy``, ``diversity``: of LFQ, equation 5 of the paper (arXiv 2310.05737).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..device import autocast
from ..tokenizer.lfq import LAMBDA_PER_STEP2, code_entropies, code_sums
from ..tokenizer.model import TrainingOutput
from ..tokenizer.patch import weighted_error
from .adversary import (
    Discriminator,
    discriminator_loss,
    generator_loss,
    lecam_penalty,
    r1_penalty,
)
from .features import Features, distance
from .picture import rgb_clips
from .ranks import Ranks, not_syncing, parallel

_SLACK = 0.01  # by which interpolation may leave the range


@dataclass
class TrainConfig:
    """A run of the ``magvit2`` family. batch: clips a step, of all ranks and micro-batches."""

    size: str = "small"
    steps: int = 10000
    batch: int = 4
    accumulate: int = 1  # micro-batches a step
    frames: int = 17
    crop: int = 128
    learning_rate: float = 6e-4
    warm_up: int = 200
    beta1: float = 0.9  # of Adam
    ema: float = 0.999
    clip_norm: float = 1.0
    learns: str = "all"  # or "decoder": tokens stay what they are, and so do files' sizes
    rate: float = 1.0
    distortion: float = 1.0  # weight of D beside the rate: less, where other losses judge, too
    recon: float = 0.0
    perceptual: float = 0.0
    features: str = "efficientnet"
    perceptual_start: int = 0  # step from which it counts
    perceptual_from: float = 0.0  # step of the quantizer from which it and ``distortion`` count
    adversarial: float = 0.0
    adversarial_start: int = 0  # step from which the discriminator learns and is learnt from
    adversary_rate: float = 1.0  # learning rate of the discriminator, relative to the tokenizer's
    r1: float = 10.0
    r1_every: int = 1  # steps; the penalty counts as much more (lazily: arXiv 1912.04958)
    lecam: float = 0.001
    discriminator: str = "64,128,256,256"  # channels, at full size and after each halving
    commitment: float = 0.25  # quantizer "signs" only, as the next four
    entropy: float = 0.1
    diversity: float = 0.1
    entropy_boost: float = 3.0  # of both entropies at the first step, falling to 1
    entropy_steps: int = 2000
    photo_odds: float = 0.25  # how often a photograph under synthetic camera motion
    workers: int = 0  # threads that decode clips as they are needed; 0: all at once, into memory
    recompute: bool = False  # activations in backward passes, instead of remembering them
    compile: bool = False
    seed: int = 0
    save_every: int = 250
    validate_every: int = 1000

    def widths(self) -> tuple[int, ...]:
        """Channels of the discriminator. Raises ValueError."""
        return tuple(int(width) for width in self.discriminator.split(","))


def check_range(planes: Tensor) -> None:
    """Raises ValueError where samples are not in 0..1: a loader of 0..255 trains without a word,
    and to nothing."""
    low, high = planes.min().item(), planes.max().item()
    if low < -_SLACK or high > 1 + _SLACK:
        raise ValueError(f"samples from {low:.3g} to {high:.3g}, not in 0..1")


def coarse(step: Tensor, whole: float) -> Tensor:
    """How much quantizer steps (B,) are of those that ``perceptual_from`` means: 1 from it on, none
    up to half of it, by the logarithm between."""
    if not whole:
        return torch.ones_like(step)
    return (1 + (step / whole).log2()).clamp(0, 1)


def rate_distortion(
    out: TrainingOutput, planes: Tensor, step: Tensor, weight: float | Tensor = 1.0
) -> Tensor:
    """D / lambda + R of a batch; planes (B, 6, T, H/2, W/2), step (B,). weight: of D, of all or of
    each (B,)."""
    pixels = planes[0, 0].numel() * 4
    distortion = weighted_error(out.planes, planes)
    cost = (weight * distortion / (LAMBDA_PER_STEP2 * step**2) + out.bits) / pixels
    return (cost * (step / 0.1) ** 0.7).mean()


def annealed(config: TrainConfig, done: int) -> float:
    """By how much the entropies count more than their weights say."""
    left = max(0.0, 1 - done / config.entropy_steps) if config.entropy_steps else 0.0
    return 1 + (config.entropy_boost - 1) * left


def codes(out: TrainingOutput, stages: int, bits: int, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Mean per-sample and diversity entropy, nats, of the stages that two cells or more reach on
    any rank. All ranks' cells count alike."""
    nothing = out.planes.new_zeros(0, bits)
    reached = [us + [nothing] * (stages - len(us)) for us in out.projections]
    sums = torch.stack([code_sums(u.float()) for us in reached for u in us])
    sums = ranks.total(sums)
    sharp, diverse = code_entropies(sums, bits)
    counted = sums[:, 0].detach() > 1
    count = counted.sum().clamp_min(1)
    return (sharp * counted).sum() / count, (diverse * counted).sum() / count


class Objective:
    """The loss of a micro-batch, and the adversary that learns beside the tokenizer."""

    def __init__(
        self, config: TrainConfig, stages: int, bits: int, device: torch.device, ranks: Ranks,
        features: Features | None,
    ) -> None:  # fmt: skip
        """features: for the perceptual loss, needed where it has a weight."""
        self.config, self.stages, self.bits = config, stages, bits
        self.device, self.ranks, self.features = device, ranks, features
        self.discriminator: Discriminator | None = None
        if config.adversarial:
            self.discriminator = Discriminator(config.widths()).to(device)
            self._net = parallel(self.discriminator, device)
            self.optimizer = torch.optim.AdamW(
                self.discriminator.parameters(), betas=(config.beta1, 0.99), weight_decay=0.0
            )

    def plays(self, done: int) -> bool:
        """Whether the adversary takes part in this step."""
        return self.discriminator is not None and done >= self.config.adversarial_start

    def loss(
        self, out: TrainingOutput, planes: Tensor, step: Tensor, done: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the tokenizer, for planes (B, 6, T, H/2, W/2) in 0..1 coded at step (B,); and what to
        report of it."""
        c = self.config
        loss, parts = planes.new_zeros(()), {}
        share = coarse(step, c.perceptual_from)
        if c.rate:
            weight = 1 + (c.distortion - 1) * share
            loss = loss + c.rate * rate_distortion(out, planes, step, weight)
        if c.recon:
            parts["recon"] = 4 * (out.planes - planes).square().mean()
            loss = loss + c.recon * parts["recon"]
        if out.projections:
            sharp, diverse = codes(out, self.stages, self.bits, self.ranks)
            parts |= {"commitment": out.commitment, "sharp": sharp, "diverse": diverse}
            falling = annealed(c, done) / self.bits
            loss = loss + falling * (c.entropy * sharp - c.diversity * diverse)
            loss = loss + c.commitment * out.commitment
        if self.features is not None and done >= c.perceptual_start:
            some = share > 0  # at the least the coarsest, so that there is something to look at
            some[step.argmax()] = True
            real, fake = (_pictures(rgb_clips(x[some])) for x in (planes, out.planes))
            with autocast(self.device):
                far = distance(self.features, fake, real).view(int(some.sum()), -1).mean(1)
            parts["perceptual"] = (far * share[some]).sum() / len(planes)
            loss = loss + c.perceptual * parts["perceptual"]
        if self.discriminator is not None and self.plays(done):
            self.discriminator.requires_grad_(False)
            with self._precision():
                parts["fooled"] = generator_loss(self.discriminator(rgb_clips(out.planes)))
            self.discriminator.requires_grad_(True)
            loss = loss + c.adversarial * parts["fooled"]
        return loss, {name: value.detach() for name, value in parts.items()}

    def learn(
        self, planes: Tensor, decoded: Tensor, done: int, last: bool, parts: int
    ) -> dict[str, Tensor]:
        """A backward pass of the discriminator, over one of ``parts`` micro-batches."""
        assert self.discriminator is not None
        c = self.config
        penalised = done % c.r1_every == 0
        real = rgb_clips(planes).detach().requires_grad_(penalised)
        fake = rgb_clips(decoded.detach())
        with not_syncing(self._net, not last):
            with self._precision():
                of_real, of_fake = self._net(torch.cat([real, fake])).chunk(2)
            loss = discriminator_loss(of_real, of_fake)
            lecam = lecam_penalty(self.discriminator, of_real, of_fake)
            total = loss + c.lecam * lecam
            figures = {"d_loss": loss.detach(), "lecam": lecam.detach()}
            if penalised:
                penalty = r1_penalty(of_real, real)
                total = total + c.r1 * c.r1_every * penalty
                figures["r1"] = penalty.detach()
            (total / parts).backward()
        self.discriminator.follow(of_real, of_fake, self.ranks)
        return figures

    def _precision(self) -> AbstractContextManager[object]:
        """Of the discriminator: on a CPU float32, for there gradients of 3D kernels in bf16 came
        out infinite (torch 2.13, 128 channels)."""
        return nullcontext() if self.device.type == "cpu" else autocast(self.device)


def _pictures(clips: Tensor) -> Tensor:
    """(B, 3, T, H, W) -> (B T, 3, H, W)."""
    return clips.transpose(1, 2).flatten(0, 1)
