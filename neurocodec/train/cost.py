"""What a training step would take, found without taking one: on tensors that have shapes alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ..tokenizer.causal import ResBlock
from ..tokenizer.config import SIZES, SPATIAL_STRIDE, TEMPORAL_STRIDE
from ..tokenizer.model import Tokenizer
from .adversary import Discriminator
from .objective import TrainConfig

STATE_BYTES = 20  # of a parameter: weight, gradient, two moments of Adam, moving average; float32


class _Saved:
    """What a forward pass keeps for the backward pass, each storage counted once."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # kept, so that ids stay apart
        self._block: nn.Module | None = None
        self.inner: dict[nn.Module, int] = {}  # bytes saved within a residual block
        self.outer = 0  # elsewhere
        self.inputs = 0  # of residual blocks

    def _new(self, x: Tensor) -> int:
        storage = x.untyped_storage()
        if storage._cdata in self._seen:
            return 0
        self._seen[storage._cdata] = storage
        return storage.nbytes()

    def pack(self, x: Tensor) -> Tensor:
        if not isinstance(x, nn.Parameter):
            size = self._new(x)
            if self._block is None:
                self.outer += size
            else:
                self.inner[self._block] = self.inner.get(self._block, 0) + size
        return x

    def enter(self, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.inputs += inputs[0].untyped_storage().nbytes()
        self._block = block

    def leave(self, *_: Any) -> None:
        self._block = None

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        handles = []
        for module in model.modules():
            if isinstance(module, ResBlock):
                handles.append(module.register_forward_pre_hook(self.enter))
                handles.append(module.register_forward_hook(self.leave))
        try:
            with torch.autograd.graph.saved_tensors_hooks(self.pack, lambda x: x):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def total(self, recompute: bool) -> int:
        """Bytes at the peak: all of it, or what lies between residual blocks and one block's."""
        if not recompute:
            return self.outer + sum(self.inner.values())
        return self.outer + self.inputs + max(self.inner.values(), default=0)


def _clip_tokens(config: TrainConfig, clips: int) -> tuple[int, int, int, int]:
    side = config.crop // SPATIAL_STRIDE
    return clips, 1 + (config.frames - 1) // TEMPORAL_STRIDE, side, side


def _pass(model: Tokenizer, config: TrainConfig, clips: int, bf16: bool) -> Tensor:
    """Encoder and decoder on made-up clips; what is between them is small."""
    shape = model.config
    b, t, h, w = _clip_tokens(config, clips)
    planes = torch.zeros(b, 6, config.frames, 4 * h, 4 * w)
    step, depth = torch.ones(b), torch.ones(b, t, h, w)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        z = model.encoder(planes, step).float()
        assert z.shape == (b, shape.latent_dim, t, h, w)
        return model.decoder(z, depth, step).float().square().mean()  # type: ignore[no-any-return]


def estimate(config: TrainConfig, ranks: int = 1, bf16: bool = True) -> dict[str, float]:
    """Parameters, bytes and floating-point operations of one step on one of ``ranks``.

    Operations are of convolutions and matrix products (a multiplication and an addition are two),
    forward and backward, over all clips of the rank; those of the quantizer, R1 and the perceptual
    network are left out. Activations are of one micro-batch, those of the tokenizer.
    """
    clips = max(1, config.batch // (ranks * config.accumulate))
    with FakeTensorMode():
        model = Tokenizer(SIZES[config.size])
        saved = _Saved()
        with saved.watching(model):
            _pass(model, config, clips, bf16)
        for block in model.modules():
            if isinstance(block, ResBlock):
                block.recompute = config.recompute
        with FlopCounterMode(display=False) as counter:
            _pass(model, config, clips, bf16).backward()
        parameters = sum(p.numel() for p in model.parameters())
        found: dict[str, float] = {
            "parameters": parameters,
            "clips in a micro-batch": clips,
            "activation bytes": saved.total(config.recompute),
            "state bytes": STATE_BYTES * parameters,
            "operations a step": counter.get_total_flops() * config.accumulate,
        }
        if config.adversarial:
            found |= _adversary(config, clips, bf16)
    return found


def _adversary(config: TrainConfig, clips: int, bf16: bool) -> dict[str, float]:
    model = Discriminator(config.widths())
    pair = torch.zeros(2 * clips, 3, config.frames, config.crop, config.crop)
    with (
        FlopCounterMode(display=False) as counter,
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        model(pair).mean().backward()
    return {
        "discriminator parameters": sum(p.numel() for p in model.parameters()),
        "discriminator operations a step": counter.get_total_flops() * config.accumulate,
    }
