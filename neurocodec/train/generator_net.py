"""The generator in floats, as it is trained: the networks of ``entropy/generator.py``, with weights
and activations rounded as the integers will be, and gradients that pass straight through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..entropy.adaptive import TRANSFORM_BITS, TokenShape
from ..entropy.generator import (
    LOGITS,
    MORE,
    NEGATIVE,
    NONZERO,
    REACH,
    STILL_MORE,
    GeneratorConfig,
    transform_features,
)
from ..entropy.integer import LOGIT_ONE, MAX_ACTIVATION, MAX_BIAS, MAX_WEIGHT, ONE, SHIFT
from ..entropy.schedule import steps_of

_LARGEST = MAX_ACTIVATION / ONE


def log_value(x: Tensor) -> Tensor:
    """``entropy.integer.log_activation`` of integers x >= 0, as the float it stands for."""
    y = (x + 1).float()
    mantissa, exponent = torch.frexp(y)
    sixteenths = 16 * (exponent - 1) + (32 * mantissa).floor() - 16
    return sixteenths.clamp(max=MAX_ACTIVATION) / ONE


def _activation(x: Tensor, lowest: float = 0.0) -> Tensor:
    x = x.clamp(lowest, _LARGEST)
    return x + ((x * ONE).round() / ONE - x).detach()


def _scale(weight: Tensor) -> Tensor:
    """Of each output. Where all weights are next to nothing, large enough for a multiplier."""
    return weight.detach().abs().amax(1, keepdim=True).clamp_min(1e-3) / MAX_WEIGHT


class RoundedLinear(nn.Linear):
    def rounded(self) -> Tensor:
        scale = _scale(self.weight)
        return self.weight + ((self.weight / scale).round() * scale - self.weight).detach()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.rounded(), self.bias)


@dataclass
class Shown:
    """What there is to see of cells: depth (B, h, w), its logarithm, tokens (B, h, w, 2 D), log
    magnitudes and then those with signs, and which transform (B, h, w, T), where there are any."""

    depth: Tensor
    log_depth: Tensor
    tokens: Tensor
    transform: Tensor


def shown_of(
    shape: TokenShape, depth: Tensor, tokens: Tensor, transform: Tensor | None = None
) -> Shown:
    """depth (B, h, w), tokens (B, h, w, D), transform (B, h, w) or None for none."""
    size = log_value(tokens.abs())
    which = torch.zeros_like(depth) if transform is None else transform
    which = which[..., None] == 1 + torch.arange(transform_features(shape), device=depth.device)
    signed = torch.cat([size, size * tokens.sign()], -1)
    return Shown(depth, log_value(depth), signed, which.float())


class GeneratorNet(nn.Module):
    """Masked network over the tokens of one latent frame; layers named as in the bundle."""

    def __init__(self, config: GeneratorConfig, shape: TokenShape) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        sizes = config.layers(shape)
        self.layers = nn.ModuleDict(
            {
                _key(name): RoundedLinear(inputs, outputs)
                for name, (outputs, inputs) in sizes.items()
            }
        )
        s, k, h, c = shape.stages, shape.bits, config.hidden, config.channels
        d = s * k
        mask = torch.zeros(s, h, c + 2 * d + s + 1 + transform_features(shape))
        for stage in range(s):
            mask[stage, :, :c] = mask[stage, :, c + 2 * d :] = 1
            mask[stage, :, c : c + stage * k] = mask[stage, :, c + d : c + d + stage * k] = 1
        self.mask: Tensor
        self.register_buffer("mask", mask.view(s * h, -1), persistent=False)
        with torch.no_grad():
            self.layer("tokens.hidden").weight.mul_(self.mask)
            for name in filter(_gives_logits, sizes):
                self.layer(name).weight.mul_(0.3)

    def layer(self, name: str) -> RoundedLinear:
        found = self.layers[_key(name)]
        assert isinstance(found, RoundedLinear)
        return found

    def _convolved(self, name: str, x: Tensor, reach: int) -> Tensor:
        """Layer over surroundings of cells, x (B, C, h, w)."""
        layer, side = self.layer(name), 2 * reach + 1
        kernel = layer.rounded().unflatten(1, (side, side, x.shape[1])).permute(0, 3, 1, 2)
        return F.conv2d(x, kernel, layer.bias, padding=reach)

    def static(self, x: Tensor) -> Tensor:
        """Features (B, h, w, F), in ones -> (B, C, h, w)."""
        y = _activation(self.layer("static.0")(x)).permute(0, 3, 1, 2)
        for name in ("static.1", "static.2"):
            y = _activation(y + _activation(self._convolved(name, y, 1)))
        return y

    def cost(
        self, seen: Tensor, depth: Tensor, tokens: Tensor, steps: int,
        transform: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Nats of depths (B, h, w) and tokens (B, h, w, D) of latent frames, coded in ``steps``
        steps; seen: their features (B, h, w, F), in ones; transform: (B, h, w), of kinds that have
        them. Summed."""
        static = self.static(seen)
        order = torch.from_numpy(steps_of(*depth.shape[1:], steps)).to(depth.device)
        shown = shown_of(self.shape, depth, tokens, transform)
        cost = static.new_zeros(())
        for step in range(steps):
            at = (order == step).expand_as(depth)
            known = (order < step).expand_as(depth).float()
            logits = self.depth_logits(static, shown, known, at)
            cost = cost + depth_cost(
                self.shape, logits, depth[at], None if transform is None else transform[at]
            )
            at = at & (depth > 0)
            if at.any():
                logits = self.token_logits(static, shown, known, at)
                cost = cost + token_cost(self.shape, logits, tokens[at], depth[at])
        return cost

    def depth_logits(self, static: Tensor, shown: Shown, known: Tensor, at: Tensor) -> Tensor:
        """Logits (N, 2^tree_bits) of cells ``at``; known: 1 where cells' depths are seen."""
        seen = torch.stack([known, known * (shown.depth > 0), known * shown.log_depth], 1)
        seen = torch.cat([seen, (known[..., None] * shown.transform).permute(0, 3, 1, 2)], 1)
        around = _activation(self._convolved("depth.seen", seen, REACH))
        x = torch.cat([static, around], 1).permute(0, 2, 3, 1)[at]
        x = _activation(self.layer("depth.0")(x))
        x = _activation(x + _activation(self.layer("depth.1")(x)))
        return self.layer("depth.out")(x)

    def token_logits(self, static: Tensor, shown: Shown, known: Tensor, at: Tensor) -> Tensor:
        """Logits (N, S, LOGITS, K) of cells ``at``; known: 1 where cells' tokens are seen.

        Of a cell's own tokens a stage sees those of the stages before it."""
        depths = [known, (shown.depth > 0).float(), shown.log_depth, known * shown.log_depth]
        seen = [torch.stack(depths, -1), shown.tokens * known[..., None], shown.transform]
        around = _activation(self.layer("tokens.seen")(torch.cat(seen, -1)))
        x = torch.cat([_near(around, at), static.permute(0, 2, 3, 1)[at]], 1)
        x = _activation(self.layer("tokens.trunk")(x))
        for i in range(self.config.blocks):
            inner = _activation(self.layer(f"tokens.blocks.{i}.0")(x))
            x = _activation(x + self.layer(f"tokens.blocks.{i}.1")(inner), -_LARGEST)
        which = F.one_hot(shown.depth[at], self.shape.stages + 1).float()
        x = torch.cat([F.relu(x), shown.tokens[at], which, shown.transform[at]], 1)
        hidden = self.layer("tokens.hidden")
        x = _activation(F.linear(x, hidden.rounded() * self.mask, hidden.bias))
        s, k = self.shape.stages, self.shape.bits
        out = self.layer("tokens.out")
        weight = out.rounded().view(s, LOGITS * k, -1)
        y = torch.einsum("nsh,sch->nsc", x.unflatten(1, (s, -1)), weight)
        return (y + out.bias.view(s, -1)).unflatten(2, (LOGITS, k))

    def motion_logits(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, F) of decisions about motion -> logits, and what is between."""
        for i in (0, 1):
            x = _activation(self.layer(f"motion.{name}.{i}")(x))
        return self.layer(f"motion.{name}.{'x' if name == 'difference' else 'out'}")(x), x

    def across_logits(self, inner: Tensor, across: Tensor) -> Tensor:
        """Logits of vertical differences, given what is between and facts about the horizontal
        ones."""
        x = _activation(self.layer("motion.difference.2")(torch.cat([inner, across], 1)))
        return self.layer("motion.difference.y")(x)

    @torch.no_grad()
    def load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take the layers of a bundle, as :meth:`arrays` gives them. Where they are of a shape
        without transforms, and this one has some, what sees and tells these starts from 0."""
        for name in self.config.layers(self.shape):
            layer = self.layer(name)
            weight, bias, multiplier = (
                torch.from_numpy(arrays[f"{name}.{part}"]).double()
                for part in ("weight", "bias", "multiplier")
            )
            unit = LOGIT_ONE if _gives_logits(name) else ONE
            weight = weight * (multiplier * ONE / (unit << SHIFT))[:, None]
            bias = bias * multiplier / (unit << SHIFT)
            if name == "depth.seen":  # features of each cell stand together
                cells = (2 * REACH + 1) ** 2
                weight = weight.unflatten(1, (cells, -1))
                more = layer.weight.shape[1] // cells - weight.shape[2]
                weight = F.pad(weight, (0, more)).flatten(1)
            rows, columns = (a - b for a, b in zip(layer.weight.shape, weight.shape, strict=True))
            layer.weight.copy_(F.pad(weight, (0, columns, 0, rows)))
            layer.bias.copy_(F.pad(bias, (0, rows)))

    @torch.no_grad()
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The layers in integers, as a bundle has them."""
        found: dict[str, NDArray[Any]] = {}
        for name in self.config.layers(self.shape):
            layer = self.layer(name)
            weight = layer.weight * self.mask if name == "tokens.hidden" else layer.weight
            scale = _scale(layer.weight)
            unit = LOGIT_ONE if _gives_logits(name) else ONE
            multiplier = (scale[:, 0].double() * (1 << SHIFT) * unit / ONE).round()
            bias = layer.bias.double() * (unit << SHIFT) / multiplier
            bias = bias.round().clamp(-MAX_BIAS, MAX_BIAS)
            found[f"{name}.weight"] = (weight / scale).round().to(torch.int8).cpu().numpy()
            found[f"{name}.bias"] = bias.to(torch.int32).cpu().numpy()
            found[f"{name}.multiplier"] = multiplier.to(torch.int32).cpu().numpy()
        return found


def _near(x: Tensor, at: Tensor) -> Tensor:
    """3x3 surroundings of cells ``at`` (B, h, w) in x (B, h, w, C): (N, 9 C)."""
    _, h, w, c = x.shape
    flat = F.pad(x, (0, 0, 1, 1, 1, 1)).view(-1, c)
    i, y, x_ = at.nonzero(as_tuple=True)
    start = (i * (h + 2) + y) * (w + 2) + x_
    reach = (torch.arange(3)[:, None] * (w + 2) + torch.arange(3)).flatten().to(start.device)
    return flat.index_select(0, (start[:, None] + reach).flatten()).view(-1, 9 * c)


def _gives_logits(layer: str) -> bool:
    return layer.rsplit(".", 1)[1] in ("out", "x", "y")


def _key(name: str) -> str:
    return name.replace(".", "_")


def _cost(logit: Tensor, bit: Tensor) -> Tensor:
    """Nats of bits, given the logits of a one."""
    return F.softplus(torch.where(bit, -logit, logit))


def motion_cost(logits: Tensor, bits: Tensor) -> Tensor:
    """Nats of bits (N, outputs), -1 where there is none; summed."""
    return (_cost(logits, bits > 0) * (bits >= 0)).sum()


def depth_cost(
    shape: TokenShape, logits: Tensor, depth: Tensor, transform: Tensor | None = None
) -> Tensor:
    """Nats of depths (N,), and of transforms (N,), given logits (N, 2^tree_bits); summed."""
    coded = depth > 0
    cost = _cost(logits[:, 0], coded).sum()
    value, logits, bits = depth[coded] - 1, logits[coded], shape.depth_bits
    if transform is not None:
        value = (value << TRANSFORM_BITS) + transform[coded]
        bits += TRANSFORM_BITS
    node = torch.ones_like(value)
    for shift in range(bits - 1, -1, -1):
        bit = (value >> shift) & 1
        cost = cost + _cost(logits.gather(1, node[:, None])[:, 0], bit > 0).sum()
        node = 2 * node + bit
    return cost


def token_cost(shape: TokenShape, logits: Tensor, tokens: Tensor, depth: Tensor) -> Tensor:
    """Nats of tokens (N, D), given logits (N, S, LOGITS, K); summed."""
    t = tokens.unflatten(1, (shape.stages, shape.bits))
    carried = torch.arange(shape.stages, device=t.device) < depth[:, None]
    logits, t = logits[carried].transpose(1, 2), t[carried]  # (M, K, LOGITS), (M, K)
    if shape.quantizer == "signs":
        return _cost(logits[..., NEGATIVE], t < 0).sum()
    some = t != 0
    cost = _cost(logits[..., NONZERO], some).sum()
    logits, t = logits[some], t[some]
    size = t.abs().float()
    cost = cost + _cost(logits[:, NEGATIVE], t < 0).sum()
    cost = cost + _cost(logits[:, MORE], size > 1).sum()
    still = logits[:, STILL_MORE]
    on = (size - 2) * F.softplus(-still) + F.softplus(still)
    return cost + (on * (size > 1)).sum()
