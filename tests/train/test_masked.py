"""The transformer's sizes, objective, conditions and sampling."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from neurocodec import models
from neurocodec.entropy.adaptive import empty_prior
from neurocodec.errors import InputError, UsageError
from neurocodec.generate import clips, start
from neurocodec.generate.exact import ExactTransformer
from neurocodec.generate.sample import cosine_masked, sample
from neurocodec.generate.transformer import (
    SIZES,
    TASKS,
    Transformer,
    TransformerConfig,
    given_cells,
)
from neurocodec.tokenizer.config import SIZES as TOKENIZERS
from neurocodec.train.export import export
from neurocodec.train.masked import (
    MaskedConfig,
    MaskedRun,
    TokenSet,
    add_transformer,
    train_transformer,
)
from neurocodec.train.run import load_checkpoint
from tests.conftest import tiny_tokenizer, write_clip

GRID = (2, 4, 4)
CONFIG = MaskedConfig(
    size="tiny", steps=60, batch=8, frames=5, crop=32, clips=6, learning_rate=3e-3, warm_up=5,
    dropout=0.0, class_dropout=0.2, save_every=20, validate_every=30,
)  # fmt: skip


def two_classes(clips: int = 24) -> TokenSet:
    """Every token of a clip is that of its class; the first one of nine bits, the other of ten."""
    labels = torch.arange(clips) % 2
    tokens = torch.tensor([0b101, 0b1000000011])[labels][:, None].expand(-1, 32).contiguous()
    return TokenSet(tokens, labels, ["a", "b"], "hash", GRID)


@pytest.mark.parametrize(("size", "millions"), [("B", 86), ("L", 306)])
def test_sizes_of_the_paper(size: str, millions: int) -> None:
    """The paper's larger one has 307 million parameters; its clips are 5 x 16 x 16 cells."""
    with torch.device("meta"):
        model = Transformer(TransformerConfig(*SIZES[size], (5, 16, 16), classes=600))
    count = sum(p.numel() for p in model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.03)


def test_tokens_are_split_into_groups_and_back() -> None:
    model = Transformer(TransformerConfig(1, 8, 1, GRID, bits=18))
    high, low = model.split(torch.tensor([0b111000111_000000001]))
    assert (high.item(), low.item()) == (0b111000111, 1)
    whole = TransformerConfig(1, 8, 1, GRID, bits=12, factorized=False)
    assert whole.factors == [12]
    assert TransformerConfig(1, 8, 1, GRID, bits=12).factors == [9, 3]


def test_tasks_give_what_they_say() -> None:
    counts = {task: int(given_cells(task, (5, 4, 4)).sum()) for task in TASKS}
    assert counts == {
        "generate": 0, "predict": 16, "interpolate": 32, "inpaint": 5 * 12, "outpaint": 5 * 4
    }  # fmt: skip


def test_masks_follow_the_cosine_and_the_task(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, task_odds="1,1,0,0,0")
    run = MaskedRun(config, two_classes(), 10, tmp_path, "cpu")
    drawn = [run.masks(np.random.default_rng(i)) for i in range(400)]
    given = given_cells("predict", GRID).flatten()
    assert not any((mask & given).any() for task, mask in drawn if TASKS[task] == "predict")
    parts = [mask.float().mean().item() for task, mask in drawn if TASKS[task] == "generate"]
    assert 0.3 < len(parts) / 400 < 0.7
    assert np.mean(parts) == pytest.approx(2 / np.pi, abs=0.06)
    assert min(parts) > 0
    assert [cosine_masked(x) for x in (0, 0.5, 1)] == pytest.approx([1, 0.5**0.5, 0])


def test_logits_see_nothing_of_masked_tokens() -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(*SIZES["tiny"], GRID, bits=10)).eval()
    tokens = torch.randint(1 << 10, (1, 32))
    masked = torch.arange(32)[None] < 16
    other = torch.where(masked, tokens ^ 0b1011, tokens)
    zero = torch.zeros(1, dtype=torch.long)
    for a, b in zip(
        model(tokens, masked, zero, zero), model(other, masked, zero, zero), strict=True
    ):
        assert torch.equal(a, b)


def test_it_learns_classes_and_samples_them(tmp_path: Path) -> None:
    run = MaskedRun(CONFIG, two_classes(), 10, tmp_path, "cpu")
    losses = [run.step(None)["nats"] for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
    run.model.eval()
    model, labels = ExactTransformer(run.model), torch.tensor([0, 1])
    none = torch.zeros(32, dtype=torch.bool)
    drawn = sample(model, torch.zeros(2, 32, dtype=torch.long), labels, none, guidance=2.0)
    expected = two_classes().tokens[:2]
    assert (drawn == expected).float().mean() > 0.9


def test_label_smoothing_keeps_the_loss_up(tmp_path: Path) -> None:
    """With certain and right logits the smoothed loss is s (1 - 1/n) of the logits' spread."""
    run = MaskedRun(CONFIG, two_classes(), 10, tmp_path, "cpu")
    target = run.model.split(two_classes().tokens[:2])
    certain = [
        30.0 * torch.nn.functional.one_hot(part, 2**k)
        for part, k in zip(target, run.model.config.factors, strict=True)
    ]
    rngs = [np.random.default_rng(i) for i in range(2)]
    found = run.loss(lambda *_: certain, torch.arange(2), rngs)
    assert found["nats"].item() < 1e-4
    spread = sum(0.1 * (1 - 2.0**-k) * 30 for k in run.model.config.factors)
    assert found["loss"].item() == pytest.approx(spread, rel=1e-3)


@pytest.fixture
def signs(tmp_path: Path) -> models.Bundle:
    shape = dataclasses.replace(TOKENIZERS["tiny"], quantizer="signs", bits=10, stages=2)
    path = tmp_path / "signs.safetensors"
    tokenizer = tiny_tokenizer(config=shape)
    models.write_bundle(path, "signs", tokenizer, empty_prior(models.token_shape(shape)), {})
    return models.read_bundle(path)


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_from_folders_to_weights(signs: models.Bundle, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    for name in ("run", "jump"):
        (data / name).mkdir(parents=True)
        write_clip(data / name / "a.mkv", 8, 64, 48)
    config = dataclasses.replace(CONFIG, steps=4, save_every=2)
    train_transformer(signs, data, out, dataclasses.replace(config, steps=4))
    tokens = TokenSet.load(out / "tokens.safetensors")
    assert tokens.classes == ["jump", "run"]
    assert sorted(tokens.labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert len(tokens.tokens.unique()) > 4
    assert load_checkpoint(out)["done"] == 4
    with safe_open(out / "transformer.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["neurocodec"])
        assert facts["transformer"]["grid"] == [2, 4, 4]
        assert facts["tokenizer"] == signs.tokens_hash
    with pytest.raises(InputError, match="transformer"):
        export(out, tmp_path / "x.safetensors", None, 1)
    whole = tmp_path / "whole.safetensors"
    add_transformer(signs, out, whole)
    model = start(str(whole), "cpu")
    assert (model.classes, model.frames, model.size) == (["jump", "run"], 5, (32, 32))
    found = tokens.tokens[:1]
    seen = [torch.zeros(1, 32, dtype=torch.bool), torch.zeros(1).long(), torch.zeros(1).long()]
    with safe_open(out / "transformer.safetensors", framework="pt") as file:
        trained = Transformer(model.transformer.config).eval()
        trained.load_state_dict({k: file.get_tensor(k) for k in file.keys()})  # noqa: SIM118
    for a, b in zip(model.transformer(found, *seen), trained(found, *seen), strict=True):
        assert (a - b).abs().max() < 0.02 * b.std() + 0.02  # kernels are bf16 in the bundle
    assert clips.generate(model, [0, 1], steps=2).shape == (2, 6, 5, 16, 16)
    bundle, more = models.read_bundle(whole), tmp_path / "more"
    train_transformer(bundle, data, more, dataclasses.replace(config, steps=1), start=bundle)
    (later,) = (e for e in log_of(more) if "loss" in e)
    assert later["loss"] < next(e for e in log_of(out) if "loss" in e)["loss"]
    (data / "jump").rename(data / "fly")
    with pytest.raises(InputError, match="another shape or other classes"):
        train_transformer(bundle, data, tmp_path / "other", config, start=bundle)
    add_transformer(models.read_bundle(whole), out, tmp_path / "again.safetensors")  # same tokens
    counts = {name: table + 1 for name, table in signs.prior().items()}
    models.write_bundle(tmp_path / "y.safetensors", "y", signs.tokenizer(), counts, {})
    with pytest.raises(InputError, match="another model"):
        add_transformer(
            models.read_bundle(tmp_path / "y.safetensors"), out, tmp_path / "x.safetensors"
        )
    with pytest.raises(InputError, match="not what a run"):
        add_transformer(signs, tmp_path, tmp_path / "x.safetensors")


def test_what_does_not_fit(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="signs"):
        train_transformer(models.read_bundle(tiny), tmp_path, tmp_path / "run", CONFIG)
    for changes, words in (
        ({"size": "XL"}, "tiny, small, B, L"),
        ({"task_odds": "1,2"}, "numbers for"),
    ):
        with pytest.raises(UsageError, match=words):
            MaskedRun(dataclasses.replace(CONFIG, **changes), two_classes(), 10, tmp_path, "cpu")
    (tmp_path / "tokens.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="not a file of tokens"):
        TokenSet.load(tmp_path / "tokens.safetensors")
