import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from neurocodec import models
from neurocodec.codec.compare import compare
from neurocodec.codec.compress import compress
from neurocodec.codec.frames import pad_planes
from neurocodec.errors import DataError, DivergenceError, InputError
from neurocodec.tokenizer.config import SIZES
from neurocodec.train.export import export
from neurocodec.train.run import load_checkpoint
from neurocodec.train.tokenizer import (
    TrainConfig,
    Trainer,
    train_tokenizer,
)
from tests.conftest import moving_picture, write_clip

CONFIG = TrainConfig(
    size="tiny", steps=4, batch=2, frames=5, crop=32, warm_up=2, save_every=2, validate_every=2
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for i, (width, height) in enumerate(((64, 48), (48, 48), (80, 64))):
        write_clip(folder / f"{i}.mkv", 12, width, height)
    return folder


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run)["model"]


def test_a_run_leaves_checkpoint_log_and_pictures(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_tokenizer(data, run, CONFIG)
    state = load_checkpoint(run)
    assert state["done"] == 4
    assert state["config"] == dataclasses.asdict(CONFIG)
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    validated = {(e["step"], e["q"]) for e in entries if e.get("val") == "mean"}
    assert validated == {(s, q) for s in (0, 2, 4) for q in (10, 50, 90)}
    # source, decoded and depth map side by side; one row a quality
    with Image.open(run / "validation-000004.png") as picture:
        assert picture.size == (3 * 64, 3 * 48)


def test_resumed_run_equals_an_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    train_tokenizer(data, tmp_path / "whole", CONFIG)
    stopped = Trainer.train_step
    calls = 0

    def dies_at_third(self: Trainer, planes: torch.Tensor) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return stopped(self, planes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", dies_at_third)
        with pytest.raises(KeyboardInterrupt):
            train_tokenizer(data, tmp_path / "parts", CONFIG)
    assert load_checkpoint(tmp_path / "parts")["done"] == 2
    train_tokenizer(data, tmp_path / "parts", CONFIG, resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("quantizer", ["levels", "signs"])
def test_the_loss_falls(quantizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = dataclasses.replace(SIZES["tiny"], quantizer=quantizer)
    monkeypatch.setitem(SIZES, "small test", small)
    config = dataclasses.replace(CONFIG, size="small test", steps=100, warm_up=5)
    trainer = Trainer(config, tmp_path)
    clip = pad_planes(moving_picture(9, 32, 32))
    batch = torch.cat([clip[:, :, :5], clip[:, :, 4:]])
    trainer.model.init_stages(batch, (0.03, 0.9))
    step = torch.tensor([0.3, 0.08])

    def loss() -> float:
        with torch.no_grad():
            out = trainer.model(batch, step)
            return trainer.objective.loss(out, batch, step, 0)[0].item()

    before = loss()
    for _ in range(25):
        trainer.train_step(batch)
    assert loss() < 0.97 * before


def test_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, tmp_path)
    batch = torch.full((1, 6, 5, 16, 16), float("nan"))
    with pytest.raises(DivergenceError, match="step 0"):
        trainer.train_step(batch)
    assert (
        torch.load(tmp_path / "not-finite-0.pt", weights_only=True)["planes"].shape == batch.shape
    )


def test_a_run_is_not_overwritten_nor_resumed_from_nothing(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(InputError, match="no checkpoint"):
        train_tokenizer(data, run, CONFIG, resume=True)
    train_tokenizer(data, run, dataclasses.replace(CONFIG, steps=1))
    with pytest.raises(DataError, match="holds a run already"):
        train_tokenizer(data, run, CONFIG)


def test_exported_run_compresses(data: Path, tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "mine.safetensors"
    train_tokenizer(data, run, CONFIG)
    export(run, bundle, data, 2, 9, 32)
    found = models.read_bundle(bundle)
    assert found.name == "mine"
    assert found.card["steps"] == 4
    assert found.prior()["nonzero"].sum() > 0
    out = tmp_path / "out.nc"
    compress(data / "0.mkv", out, model=str(bundle), quality=80)
    assert compare(data / "0.mkv", out, str(bundle)).psnr > 28
    again = tmp_path / "again.safetensors"
    export(run, again, data, 2, 9, 32)
    assert (
        models.read_bundle(again).prior()["nonzero"].tobytes() == found.prior()["nonzero"].tobytes()
    )
