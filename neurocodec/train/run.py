"""What every training run does: steps, moving averages, checkpoints, a log."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..device import choose_device
from ..errors import DataError, DivergenceError, InputError
from .board import Board
from .ranks import current
from .settings import environment, to_toml

if TYPE_CHECKING:
    from ..models import Bundle

logger = logging.getLogger(__name__)

LOG_EVERY = 50  # steps
CORRECTION_RATE = 0.03  # learning rate of corrections to the DCT, relative to the rest


def refuse_folder_of_a_run(out: Path) -> None:
    """Raises DataError where a new run would overwrite another."""
    if (out / "checkpoint.pt").exists():
        raise DataError(f"{out}: holds a run already; give --resume or another folder")


class RunConfig(Protocol):
    """What a run needs of its configuration, a dataclass."""

    steps: int
    learning_rate: float
    warm_up: int
    ema: float
    clip_norm: float
    seed: int
    save_every: int
    validate_every: int


class Shape(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


class Run:
    """A run in a folder: ``checkpoint.pt``, ``config.toml``, ``log.jsonl``, ``tensorboard``,
    ``validation-*.png``. Of several ranks, the first one writes them."""

    def __init__(
        self, config: Any, shape: Shape, model: nn.Module, out: Path, device: str = "auto",
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:  # fmt: skip
        """config: a dataclass, see :class:`RunConfig`. shape: of the model. betas: of Adam."""
        self.config, self.shape, self.out = config, shape, out
        self.device = choose_device(device)
        self.ranks = current()
        self.model = model.to(self.device)
        self.average = {k: v.detach().clone() for k, v in self.model.named_parameters()}
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.model), betas=betas)
        self.done = 0
        self.seconds = 0.0
        self.recent: list[dict[str, float]] = []  # figures of the steps since the last entry
        self.board = Board(out / "tensorboard", 0)
        self._batch: dict[str, Tensor] = {}

    # -- checkpoints --------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def more_state(self) -> dict[str, Any]:
        """What else a checkpoint is to hold. Overridden with :meth:`load_more_state`."""
        return {}

    def load_more_state(self, state: dict[str, Any]) -> None:
        pass

    def save(self) -> None:
        """Write a checkpoint that replaces the last one when it is complete."""
        state = {
            "config": asdict(self.config),
            "toml": to_toml(self.config),
            "environment": environment(self.device),
            "tokenizer": self.shape.to_dict(),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "done": self.done,
            "seconds": self.seconds,
            "recent": self.recent,
            **self.more_state(),
        }
        if not self.ranks.first:
            return
        part = self.checkpoint.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.checkpoint)
        self.board.flush()

    def resume(self) -> None:
        """Raises InputError where the checkpoint is missing or of another size."""
        state = load_checkpoint(self.out)
        if state["tokenizer"] != self.shape.to_dict():
            raise InputError(f"{self.checkpoint}: made with another tokenizer configuration")
        self.model.load_state_dict(state["model"])
        self.average = {k: v.to(self.device) for k, v in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.seconds = state["done"], state["seconds"]
        self.recent = state.get("recent", [])
        self.load_more_state(state)
        self.board = Board(self.out / "tensorboard", self.done + 1)
        if self.ranks.first:
            self._forget_later_entries()

    def _forget_later_entries(self) -> None:
        """Take what a run that was stopped logged after its last checkpoint out of the log."""
        path = self.out / "log.jsonl"
        if not path.exists():
            return
        lines = path.read_text().splitlines()
        kept = [line for line in lines if line.endswith("}") and self._is_past(json.loads(line))]
        part = path.with_suffix(".part")
        part.write_text("".join(f"{line}\n" for line in kept))
        os.replace(part, path)

    def _is_past(self, entry: dict[str, Any]) -> bool:
        return bool(entry["step"] <= self.done)

    def start_from_bundle(self, bundle: Bundle) -> None:
        """Take a bundle's weights. Raises InputError where it is of another shape."""
        if bundle.config.to_dict() != self.shape.to_dict():
            raise InputError(f"{bundle.path}: of another tokenizer configuration")
        self.model.load_state_dict(bundle.tokenizer().state_dict())
        self.forget_average()

    def forget_average(self) -> None:
        """Let the moving average begin at the weights as they are."""
        self.average = {k: v.detach().clone() for k, v in self.model.named_parameters()}

    # -- training -----------------------------------------------------------------------------

    def learning_rate(self, index: int) -> float:
        """Warm-up and cosine. Overridden where a run is to be lengthened later."""
        c = self.config
        warm = min(1.0, (index + 1) / c.warm_up)
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * index / c.steps))
        return float(c.learning_rate * warm * cosine)

    def start_step(self) -> None:
        """What is random in a step depends on the seed and its number, so that runs can resume."""
        torch.manual_seed(self.config.seed * 1_000_003 + self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.done) * group["rate"]
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor, batch: dict[str, Tensor]) -> None:
        """Raises DivergenceError when the loss is not finite; the batch is kept then."""
        self._batch = batch
        self.check_finite(loss.item(), "loss")
        loss.backward()

    def check_finite(self, value: float, name: str) -> None:
        """Raises DivergenceError, and keeps the batch of the last backward pass."""
        if math.isfinite(value):
            return
        self.out.mkdir(parents=True, exist_ok=True)
        file = self.out / f"not-finite-{self.ranks.rank}.pt"
        torch.save({k: v.detach().cpu() for k, v in self._batch.items()}, file)
        raise DivergenceError(f"{name} is not finite at step {self.done}; batch saved in {file}")

    def finish_step(self) -> float:
        """Clip, update, average. Returns the norm of the gradient. Raises DivergenceError."""
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm))
        self.check_finite(norm, "gradient")
        self.optimizer.step()
        self.done += 1
        decay = min(self.config.ema, (1 + self.done) / (10 + self.done))
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                self.average[name].lerp_(p, 1 - decay)
        return norm

    def loop(
        self,
        batches: Iterable[Any],
        step: Callable[[Any], dict[str, float]],
        validate: Callable[[], None],
        progress: bool,
    ) -> None:
        """Train from where the run is to its last step. batches: from there on; step: takes one,
        and makes one or more steps of the optimizer."""
        from tqdm import tqdm

        config = self.config
        if self.ranks.first:
            (self.out / "config.toml").write_text(to_toml(config))
        began = time.monotonic() - self.seconds
        bar = tqdm(total=config.steps, initial=self.done, unit="step", dynamic_ncols=True,
                   disable=not (progress and self.ranks.first))  # fmt: skip
        for batch in batches:
            if self.done >= config.steps:
                break
            before = self.done
            self.recent.append(self.ranks.mean(step(batch), self.device))
            bar.update(self.done - before)
            self.seconds = time.monotonic() - began
            ended = self.done >= config.steps
            if ended or self.done // LOG_EVERY > before // LOG_EVERY:
                names = dict.fromkeys(k for r in self.recent for k in r)
                mean = {k: float(np.mean([r[k] for r in self.recent if k in r])) for k in names}
                self.recent.clear()
                self.log({"step": self.done, "seconds": round(self.seconds), **mean})
                bar.set_postfix({k: f"{v:.4g}" for k, v in mean.items()}, refresh=False)
            if ended or self.done // config.save_every > before // config.save_every:
                self.save()
            if ended or self.done // config.validate_every > before // config.validate_every:
                self.ranks.wait()
                if self.ranks.first:
                    validate()
        bar.close()
        self.board.close()

    def log(self, entry: dict[str, Any]) -> None:
        if not self.ranks.first:
            return
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
        self.board.add(entry)
        logger.info(
            " ".join(
                f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items()
            )
        )

    def show(self, picture: Image.Image) -> None:
        """Keep a picture of how well the run does."""
        picture.save(self.out / f"validation-{self.done:06d}.png")
        self.board.show("validation", picture, self.done)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the model has the averaged weights."""
        trained = {k: p.detach().clone() for k, p in self.model.named_parameters()}
        self.model.load_state_dict(self.average, strict=False)
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.load_state_dict(trained, strict=False)


def _parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay on kernels alone. The corrections of the DCT learn slowly: at fine steps the
    noise of large updates would cost more than they could gain."""
    named = {k: p for k, p in model.named_parameters() if p.requires_grad}
    linear = [p for name, p in named.items() if name.endswith("correction")]
    kernels = [p for name, p in named.items() if p.dim() > 2]
    vectors = [p for name, p in named.items() if p.dim() <= 2 and not name.endswith("correction")]
    return [
        {"params": kernels, "weight_decay": 0.01, "rate": 1.0},
        {"params": vectors, "weight_decay": 0.0, "rate": 1.0},
        {"params": linear, "weight_decay": 0.0, "rate": CORRECTION_RATE},
    ]


def load_checkpoint(out: Path) -> dict[str, Any]:
    """A run's checkpoint, tensors and plain values only. Raises InputError."""
    path = out / "checkpoint.pt"
    if not path.is_file():
        raise InputError(f"{path}: no checkpoint to resume from")
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
