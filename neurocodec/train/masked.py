"""Training of the masked transformer: masked token modelling with the cosine schedule.

Class and task are conditions; the class is left out now and then, for classifier-free guidance;
targets are smoothed. Tokens are made once, by a tokenizer with the quantizer "codes" or "signs".
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import models
from ..device import autocast
from ..errors import InputError, UsageError
from ..files import replacing
from ..generate.model import first_tokens, read_transformer
from ..generate.sample import cosine_masked
from ..generate.transformer import SIZES, TASKS, Transformer, TransformerConfig, given_cells
from ..tokenizer.config import SPATIAL_STRIDE, TEMPORAL_STRIDE, step_of_quality
from .listing import list_media
from .ranks import current, parallel
from .run import Run, refuse_folder_of_a_run
from .stream import StreamBatches

logger = logging.getLogger(__name__)
RESULT = "transformer.safetensors"  # what a run leaves
HELD_OUT = 20  # every so many clips, one is not trained on


@dataclass
class MaskedConfig:
    """batch: clips a step, of all ranks. task_odds: of TASKS, in their order."""

    size: str = "B"
    steps: int = 100000
    batch: int = 64
    frames: int = 17
    crop: int = 128
    clips: int = 10000  # to make tokens of
    quality: float = 50.0  # the tokenizer's dial
    learning_rate: float = 1e-4
    warm_up: int = 5000
    ema: float = 0.999
    clip_norm: float = 1.0
    dropout: float = 0.1
    label_smoothing: float = 0.1
    class_dropout: float = 0.1
    task_odds: str = "1,0,0,0,0"
    factorized: bool = True
    seed: int = 0
    save_every: int = 500
    validate_every: int = 5000

    def odds(self) -> list[float]:
        """Raises UsageError."""
        try:
            values = [float(text) for text in self.task_odds.split(",")]
            if len(values) != len(TASKS) or min(values) < 0 or not sum(values):
                raise ValueError
        except ValueError:
            names = ", ".join(TASKS)
            raise UsageError(f"task_odds {self.task_odds!r}: give numbers for {names}") from None
        return [value / sum(values) for value in values]


@dataclass
class TokenSet:
    """tokens (M, N) int64 and labels (M,) of clips, the names of the classes."""

    tokens: Tensor
    labels: Tensor
    classes: list[str]
    model: str  # tokens_hash of the bundle
    grid: tuple[int, int, int]

    def save(self, path: Path) -> None:
        facts = {"classes": self.classes, "model": self.model, "grid": list(self.grid)}
        with replacing(path, overwrite=True) as part:
            tensors = {"tokens": self.tokens, "labels": self.labels}
            save_file(tensors, part, {"neurocodec": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path) -> TokenSet:
        """Raises InputError."""
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads(file.metadata()["neurocodec"])
                tokens, labels = file.get_tensor("tokens"), file.get_tensor("labels")
            return cls(tokens, labels, facts["classes"], facts["model"], tuple(facts["grid"]))
        except (OSError, SafetensorError, TypeError, KeyError, ValueError):
            raise InputError(f"{path}: not a file of tokens") from None


def make_tokens(bundle: models.Bundle, data: Path, config: MaskedConfig) -> TokenSet:
    """Of ``config.clips`` clips. Raises DataError, UsageError."""
    tokenizer, step = bundle.tokenizer(), step_of_quality(config.quality)
    batches = StreamBatches(list_media(data), 1, config.frames, config.crop, config.seed)
    tokens, labels = [], []
    for i in range(config.clips):
        clip, label = batches.labelled(i, 0)
        tokens.append(first_tokens(tokenizer, clip[None], step).flatten())
        labels.append(label)
        if i % 100 == 0:
            logger.info("tokens of clip %d of %d", i, config.clips)
    side = config.crop // SPATIAL_STRIDE
    grid = (1 + (config.frames - 1) // TEMPORAL_STRIDE, side, side)
    found = torch.stack(tokens)
    return TokenSet(found, torch.tensor(labels), batches.classes, bundle.tokens_hash, grid)


@dataclass(frozen=True)
class _Shape:
    config: TransformerConfig
    tokenizer: str

    def to_dict(self) -> dict[str, Any]:
        return {"transformer": self.config.to_dict(), "tokenizer": self.tokenizer}


class MaskedRun(Run):
    config: MaskedConfig
    model: Transformer
    shape: _Shape

    def __init__(
        self, config: MaskedConfig, tokens: TokenSet, bits: int, out: Path, device: str = "auto"
    ) -> None:
        """Raises UsageError."""
        if config.size not in SIZES:
            raise UsageError(f"size {config.size!r}: give one of {', '.join(SIZES)}")
        torch.manual_seed(config.seed)
        shape = TransformerConfig(
            *SIZES[config.size], tokens.grid, bits, len(tokens.classes), config.dropout,
            config.factorized,
        )  # fmt: skip
        super().__init__(config, _Shape(shape, tokens.model), Transformer(shape), out, device)
        if config.batch % self.ranks.size:
            raise UsageError(f"batch {config.batch}: give a multiple of {self.ranks.size} ranks")
        self.tokens, self.odds = tokens, config.odds()
        self.net = parallel(self.model, self.device)
        held = torch.arange(len(tokens.tokens)) % HELD_OUT == HELD_OUT - 1
        self.learnt_from, self.held_out = (~held).nonzero()[:, 0], held.nonzero()[:, 0]

    def start_from_bundle(self, bundle: models.Bundle) -> None:
        """Take a bundle's transformer. Raises ModelError, InputError."""
        model, classes, _ = read_transformer(bundle)
        shape = self.shape.config
        if replace(model.config, dropout=shape.dropout) != shape or classes != self.tokens.classes:
            raise InputError(f"{bundle.path}: its transformer has another shape or other classes")
        self.model.load_state_dict(model.state_dict())
        self.forget_average()

    def masks(self, rng: np.random.Generator) -> tuple[int, Tensor]:
        """A task, and the cells (N,) bool that are masked for it: of those that it does not give,
        a part drawn from the cosine schedule, at least one."""
        task = int(rng.choice(len(TASKS), p=self.odds))
        unknown = (~given_cells(TASKS[task], self.shape.config.grid)).flatten().nonzero()[:, 0]
        count = max(1, math.ceil(len(unknown) * cosine_masked(float(rng.random()))))
        masked = torch.zeros(self.shape.config.cells, dtype=torch.bool)
        masked[unknown[torch.from_numpy(rng.permutation(len(unknown))[:count])]] = True
        return task, masked

    def loss(self, net: Any, at: Tensor, rngs: list[np.random.Generator]) -> dict[str, Tensor]:
        """Of clips ``at`` (B,): cross-entropy of masked tokens, smoothed and in nats a token."""
        drawn = [self.masks(rng) for rng in rngs]
        tokens = self.tokens.tokens[at].to(self.device)
        masked = torch.stack([mask for _, mask in drawn]).to(self.device)
        task = torch.tensor([task for task, _ in drawn], device=self.device)
        labels = self.tokens.labels[at].clone()
        unnamed = torch.tensor([rng.random() < self.config.class_dropout for rng in rngs])
        labels[unnamed] = self.shape.config.classes
        with autocast(self.device):
            logits = net(tokens, masked, labels.to(self.device), task)
        # clips count alike however many of their tokens are masked
        weight = masked.float() / masked.sum(1, keepdim=True) / len(at)
        loss = nats = torch.zeros((), device=self.device)
        for group, part in zip(logits, self.model.split(tokens), strict=True):
            flat, target = group.float().flatten(0, 1), part.flatten()
            smooth = F.cross_entropy(
                flat, target, reduction="none", label_smoothing=self.config.label_smoothing
            )
            loss = loss + (smooth * weight.flatten()).sum()
            plain = F.cross_entropy(flat.detach(), target, reduction="none")
            nats = nats + (plain * weight.flatten()).sum()
        return {"loss": loss, "nats": nats}

    def step(self, _: None) -> dict[str, float]:
        self.start_step()
        if self.ranks.rank:  # what it drops is its own affair
            torch.manual_seed(hash((self.config.seed, self.done, self.ranks.rank)))
        rng = np.random.default_rng((self.config.seed, self.done))
        at = self.learnt_from[torch.from_numpy(
            rng.integers(len(self.learnt_from), size=self.config.batch)
        )]  # fmt: skip
        places = range(self.config.batch)[self.ranks.share(self.config.batch)]
        rngs = [np.random.default_rng((self.config.seed, self.done, k)) for k in places]
        at = at[self.ranks.share(self.config.batch)]
        found = self.loss(self.net, at, rngs)
        self.backward(found["loss"], {"at": at})
        norm = self.finish_step()
        return {name: value.item() for name, value in found.items()} | {"norm": norm}

    def validate(self) -> None:
        """Nats a token of held-out clips, with the same masks every time."""
        if not len(self.held_out):
            return
        self.model.eval()
        with self.averaged():
            rngs = [np.random.default_rng((0, int(k))) for k in self.held_out]
            nats = [
                self.loss(self.model, at[None], [rng])["nats"].item()
                for at, rng in zip(self.held_out, rngs, strict=True)
            ]
        self.model.train()
        self.log({"val": "mean", "step": self.done, "q": "all", "nats": float(np.mean(nats))})

    def export(self, path: Path) -> None:
        """The averaged weights, with configuration, classes and tokenizer's hash beside them."""
        facts = {
            **self.shape.to_dict(),
            "classes": self.tokens.classes,
            "step": step_of_quality(self.config.quality),
            "card": {"steps": self.done, "hours": round(self.seconds / 3600, 2),
                     "config": asdict(self.config)},
        }  # fmt: skip
        with replacing(path, overwrite=True) as part:
            weights = {k: v.cpu().contiguous() for k, v in self.average.items()}
            save_file(weights, part, {"neurocodec": json.dumps(facts)})


def train_transformer(
    bundle: models.Bundle,
    data: Path,
    out: Path,
    config: MaskedConfig,
    resume: bool = False,
    device: str = "auto",
    progress: bool = False,
    start: models.Bundle | None = None,
) -> None:
    """Train in ``out`` on tokens of the clips of ``data``, whose folders are their classes; the
    result is ``out/transformer.safetensors``. start: bundle whose transformer to go on from.
    Raises DataError, InputError, ModelError, UsageError."""
    if not resume:
        refuse_folder_of_a_run(out)
    if bundle.config.quantizer not in ("codes", "signs"):
        raise UsageError(
            f'{bundle.name}: a transformer needs a tokenizer of quantizer "codes" or "signs"'
        )
    out.mkdir(parents=True, exist_ok=True)
    file, ranks = out / "tokens.safetensors", current()
    if ranks.first and not file.exists():
        make_tokens(bundle, data, config).save(file)
    ranks.wait()
    tokens = TokenSet.load(file)
    if tokens.model != bundle.tokens_hash:
        raise InputError(f"{file}: tokens of another model than {bundle.name}")
    run = MaskedRun(config, tokens, bundle.config.bits, out, device)
    if resume:
        run.resume()
    elif start is not None:
        run.start_from_bundle(start)
    run.loop(iter(lambda: None, 0), run.step, run.validate, progress)
    if ranks.first:
        run.export(out / RESULT)


def add_transformer(bundle: models.Bundle, run: Path, target: Path) -> None:
    """Write ``bundle`` with the transformer that a run made for it. Raises InputError."""
    path = run / RESULT
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["neurocodec"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kept = {k: facts[k] for k in ("classes", "step")} | {"config": facts["transformer"]}
    except (OSError, SafetensorError, TypeError, KeyError, ValueError):
        raise InputError(f"{path}: not what a run of a transformer leaves") from None
    if facts["tokenizer"] != bundle.tokens_hash:
        raise InputError(f"{path}: made for the tokens of another model than {bundle.name}")
    models.write_bundle(
        target, target.stem, bundle.tokenizer(), bundle.prior(),
        bundle.card | {"transformer": facts.get("card")}, None,
        models.TransformerParts(kept, state),
    )  # fmt: skip
