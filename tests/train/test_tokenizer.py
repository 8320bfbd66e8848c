import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurocodec import models
from neurocodec.codec.compare import compare
from neurocodec.codec.compress import compress
from neurocodec.codec.frames import pad_planes
from neurocodec.errors import DataError, DivergenceError, InputError, UsageError
from neurocodec.tokenizer.config import SIZES
from neurocodec.train import objective, run
from neurocodec.train.data import Batches, load_sources
from neurocodec.train.export import export
from neurocodec.train.objective import annealed
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


def test_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, tmp_path / "run")
    before = trainer.model.encoder.stem.conv.weight.detach().clone()
    trainer.model.encoder.stem.conv.weight.register_hook(lambda g: g * float("inf"))
    with pytest.raises(DivergenceError, match="gradient is not finite at step 0"):
        trainer.train_step(torch.rand(2, 6, 5, 16, 16))
    assert torch.equal(trainer.model.encoder.stem.conv.weight, before)
    saved = torch.load(tmp_path / "run" / "not-finite-0.pt", weights_only=True)
    assert saved["planes"].shape == (2, 6, 5, 16, 16)


def test_samples_in_0_to_255_are_refused(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, tmp_path)
    for batch in (torch.rand(2, 6, 5, 16, 16) * 255, torch.rand(2, 6, 5, 16, 16) * 2 - 1):
        with pytest.raises(ValueError, match=r"not in 0\.\.1"):
            trainer.train_step(batch)


PAPER = dataclasses.replace(
    CONFIG, size="tiny signs", steps=6, rate=0.0, recon=5.0, perceptual=0.1, perceptual_start=1,
    adversarial=0.1, adversarial_start=2, discriminator="4,8", beta1=0.0,
)  # fmt: skip


@pytest.fixture
def signs(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = dataclasses.replace(SIZES["tiny"], quantizer="signs", latent_dim=96, stages=4, bits=8)
    monkeypatch.setitem(SIZES, "tiny signs", tiny)


def test_objective_of_the_paper(signs: None, data: Path, tmp_path: Path) -> None:
    """Every term starts when it is to, and all of it resumes to the bit."""
    pytest.importorskip("efficientnet_lite_pytorch")
    trainer = Trainer(PAPER, tmp_path / "run")
    batch = Batches(load_sources(data, 5, 32), 2, 5, 32).batch(0)
    always = {"loss", "bpp", "mse", "norm", "recon", "commitment", "sharp", "diverse"}
    later = {"perceptual"}, {"fooled", "d_loss", "r1", "lecam"}
    for terms in (always, always | later[0], always | later[0] | later[1]):
        figures = trainer.train_step(batch)
        assert set(figures) == terms
        assert all(np.isfinite(v) for v in figures.values())
    train_tokenizer(data, tmp_path / "whole", PAPER)
    train_tokenizer(data, tmp_path / "parts", dataclasses.replace(PAPER, steps=4))
    learning_rate = Trainer.learning_rate
    assert load_checkpoint(tmp_path / "parts")["done"] == 4
    with pytest.MonkeyPatch.context() as patch:  # as that of a run of six steps stopped at four
        patch.setattr(Trainer, "learning_rate", lambda self, i: learning_rate(trainer, i))
        train_tokenizer(data, tmp_path / "again", dataclasses.replace(PAPER, steps=4))
    train_tokenizer(data, tmp_path / "again", PAPER, resume=True)
    whole, again = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "again")
    for part in ("model", "average", "discriminator"):
        assert all(torch.equal(whole[part][k], again[part][k]) for k in whole[part])


def test_r1_may_come_now_and_then_and_counts_as_much_more(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: list[float] = []
    penalty = torch.zeros((), requires_grad=True)  # what weighs it is its gradient

    def r1(logits: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
        assert clips.requires_grad
        return penalty + 0

    monkeypatch.setattr(objective, "r1_penalty", r1)
    monkeypatch.setattr(objective, "autocast", lambda device: pytest.fail("bf16 on a CPU"))
    config = dataclasses.replace(
        CONFIG, steps=5, adversarial=0.1, r1=2.0, r1_every=3, discriminator="4,8", save_every=9,
        validate_every=9,
    )  # fmt: skip
    monkeypatch.setattr(run, "LOG_EVERY", 5)
    trainer = Trainer(config, tmp_path / "run")
    batch = Batches(load_sources(data, 5, 32), 2, 5, 32).batch(0)
    for i in range(5):
        penalty.grad = None
        trainer.out.mkdir(exist_ok=True)
        figures = trainer.train_step(batch)
        assert ("r1" in figures) == (i % 3 == 0)
        if penalty.grad is not None:
            weights.append(penalty.grad.item())
    assert weights == [6.0, 6.0]
    train_tokenizer(data, tmp_path / "logged", config)
    entries = [json.loads(x) for x in (tmp_path / "logged/log.jsonl").read_text().splitlines()]
    (entry,) = (e for e in entries if "loss" in e)
    assert {"r1", "d_loss"} <= set(entry)  # of the steps that have one


def test_squared_error_and_the_adversary_have_weights_of_their_own(
    data: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        CONFIG, distortion=0.25, adversarial=0.1, adversary_rate=5.0, discriminator="4,8"
    )
    trainer = Trainer(config, tmp_path / "run")
    batch = Batches(load_sources(data, 5, 32), 2, 5, 32).batch(0)
    step = torch.tensor([0.1, 0.1])
    out = trainer.model(batch, step)
    costs = [objective.rate_distortion(out, batch, step, w).item() for w in (0.0, 0.25, 1.0)]
    bits = out.bits.mean().item() / (batch[0, 0].numel() * 4)
    assert costs[0] == pytest.approx(bits, rel=1e-5)
    assert costs[1] - costs[0] == pytest.approx((costs[2] - costs[0]) / 4, rel=1e-4)
    loss, _ = trainer.objective.loss(out, batch, step, 0)
    plain = dataclasses.replace(config, distortion=1.0)
    more, _ = Trainer(plain, tmp_path / "plain").objective.loss(out, batch, step, 0)
    assert (more - loss).item() == pytest.approx(0.75 * (costs[2] - costs[0]), rel=1e-3)
    trainer.train_step(batch)
    (group,) = trainer.objective.optimizer.param_groups
    assert group["lr"] == pytest.approx(5 * trainer.learning_rate(0))


def test_fine_steps_are_spared_the_perceptual_loss(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their clips cost what they would without it; those of coarse steps cost in full."""
    steps = torch.tensor([0.1, 0.25, 0.5, 0.35355, 0.9])
    expected = torch.tensor([0.0, 0.0, 1.0, 0.5, 1.0])
    assert torch.allclose(objective.coarse(steps, 0.5), expected, atol=1e-4)
    assert (objective.coarse(steps, 0.0) == 1).all()

    def load(name: str, device: torch.device) -> object:
        return None

    def distance(features: object, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.full((len(a),), 2.0)

    monkeypatch.setattr("neurocodec.train.tokenizer.load_features", load)
    monkeypatch.setattr(objective, "distance", distance)
    settings = {"perceptual": 0.1, "perceptual_from": 0.5, "distortion": 0.25, "crop": 64}
    trainer = Trainer(dataclasses.replace(CONFIG, **settings), tmp_path / "run")
    trainer.objective.features = object()  # type: ignore[assignment]
    batch = Batches(load_sources(data, 5, 48), 2, 5, 48).batch(0)
    for pair, weights_of_d, share in (
        ((0.1, 0.2), (1.0, 1.0), 0.0),
        ((0.1, 0.6), (1.0, 0.25), 0.5),
        ((0.5, 0.6), (0.25, 0.25), 1.0),
    ):
        step = torch.tensor(pair)
        out = trainer.model(batch, step)
        loss, parts = trainer.objective.loss(out, batch, step, 0)
        cost = objective.rate_distortion(out, batch, step, torch.tensor(weights_of_d))
        assert parts["perceptual"].item() == pytest.approx(2.0 * share)
        assert loss.item() == pytest.approx(cost.item() + 0.1 * 2.0 * share, rel=1e-5)


def test_a_decoder_can_learn_alone(data: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, learns="decoder", steps=2, ema=0.0)
    trainer = Trainer(config, tmp_path / "run")
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    batch = Batches(load_sources(data, 5, 32), 2, 5, 32).batch(0)
    for _ in range(2):
        trainer.out.mkdir(exist_ok=True)
        trainer.train_step(batch)
    changed = {k for k, v in trainer.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(name.startswith("decoder.") for name in changed)
    with pytest.raises(UsageError, match="give all or decoder"):
        Trainer(dataclasses.replace(config, learns="encoder"), tmp_path / "other")


def test_entropy_weights_are_annealed() -> None:
    config = TrainConfig(entropy_boost=3.0, entropy_steps=2000)
    assert [annealed(config, n) for n in (0, 1000, 2000, 5000)] == [3.0, 2.0, 1.0, 1.0]


@pytest.mark.parametrize("size", ["tiny", "two levels"])
def test_inflation_keeps_what_becomes_of_images(
    size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = dataclasses.replace(SIZES["tiny"], channels=(8, 16), full_kernels=True)
    monkeypatch.setitem(SIZES, "two levels", two)
    config = dataclasses.replace(CONFIG, size=size, frames=1)
    trainer = Trainer(config, tmp_path / "images")
    (tmp_path / "images").mkdir()
    planes, step = pad_planes(moving_picture(1, 32, 32)), torch.tensor([0.1])
    for _ in range(3):
        trainer.train_step(planes)
    trainer.average = {k: v.detach().clone() for k, v in trainer.model.named_parameters()}
    trainer.save()
    video = Trainer(dataclasses.replace(config, frames=5), tmp_path / "video")
    video.start_from(tmp_path / "images")
    with torch.no_grad():
        before, after = (t.model(planes, step).planes for t in (trainer, video))
        torch.testing.assert_close(after, before, atol=2e-3, rtol=1e-3)
        # a latent frame now depends on the last frame of its group and nothing before
        network = video.model.encoder
        network.correction.zero_()
        network.analysis.zero_()
        clip = pad_planes(moving_picture(9, 32, 32))
        other = clip.clone()
        other[:, :, :8] = 0.5
        z = [network(x, step)[:, :, 2] for x in (clip, other)]
        torch.testing.assert_close(z[0], z[1])
        assert z[0].abs().max() > 1e-4
    kernel = video.model.encoder.latent_blocks[0].conv2.conv.weight
    assert kernel[:, :, -1].any()
    assert not kernel[:, :, :-1].any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": "huge"}, "tiny"),
        ({"frames": 6}, "multiple of 4"),
        ({"crop": 40}, "multiple of 16"),
        ({"discriminator": "8,x"}, "widths"),
        ({"perceptual": 1.0, "crop": 16}, "32 or more"),
        ({"perceptual": 1.0, "features": "vgg"}, "efficientnet"),
        ({"accumulate": 0}, "1 or more"),
        ({"r1_every": 0}, "1 or more"),
    ],
)
def test_settings_that_do_not_fit(changes: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        Trainer(dataclasses.replace(CONFIG, **changes), tmp_path)


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
