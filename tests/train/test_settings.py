"""Configurations as TOML, what a dry run says, TensorBoard."""

import dataclasses
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from neurocodec.errors import InputError, UsageError
from neurocodec.generate.transformer import SIZES as TRANSFORMERS
from neurocodec.tokenizer.config import SIZES
from neurocodec.train.board import Board
from neurocodec.train.cost import STATE_BYTES, estimate
from neurocodec.train.masked import MaskedConfig
from neurocodec.train.objective import TrainConfig
from neurocodec.train.settings import (
    build,
    environment,
    parse_assignments,
    read_recipe,
    recipes,
    to_toml,
)


def test_configuration_survives_toml(tmp_path: Path) -> None:
    config = TrainConfig(size="tiny", rate=0.25, recompute=True, discriminator="8,16")
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config))
    assert build(TrainConfig, read_recipe(str(file))) == config


OF_TRANSFORMERS = ("imagenet", "kinetics-600", "ucf-101")


def test_recipes_of_the_package_are_complete() -> None:
    assert {"paper", "paper-images", "perceptual"} <= set(recipes())
    assert set(OF_TRANSFORMERS) <= set(recipes())
    for name in OF_TRANSFORMERS:
        masked = build(MaskedConfig, read_recipe(name))
        assert masked.size in TRANSFORMERS
        assert sum(masked.odds()) == 1
    for name in set(recipes()) - set(OF_TRANSFORMERS):
        config = build(TrainConfig, read_recipe(name))
        assert config.size in SIZES
        assert config.adversarial > 0
    paper = build(TrainConfig, read_recipe("paper"))
    published = {
        "recon": 5.0, "perceptual": 0.1, "adversarial": 0.1, "r1": 10.0, "lecam": 0.001,
        "commitment": 0.25, "entropy": 0.1, "entropy_boost": 3.0, "entropy_steps": 2000,
        "beta1": 0.0, "learning_rate": 1e-4, "ema": 0.999, "batch": 256, "frames": 17, "crop": 128,
    }  # fmt: skip
    assert {name: getattr(paper, name) for name in published} == published


def test_mistakes_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("size = ")
    for name, words in ((str(bad), "not TOML"), (str(tmp_path / "no.toml"), "No such"),
                        ("nothing", "perceptual")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            read_recipe(name)
    for values, words in (
        ({"sise": "tiny"}, "no such setting"),
        ({"steps": 1.5}, "type int"),
        ({"recompute": 1}, "type bool"),
    ):
        with pytest.raises(UsageError, match=words):
            build(TrainConfig, values)
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_assignments(("steps",))


def test_assignments() -> None:
    values = parse_assignments(("steps=3", "rate=0.5", "recompute=true", "features=stlpips"))
    config = build(TrainConfig, values)
    assert (config.steps, config.rate, config.recompute) == (3, 0.5, True)
    assert config.features == "stlpips"
    assert build(TrainConfig, {"rate": 2}).rate == 2.0


def test_environment_names_versions() -> None:
    found = environment(torch.device("cpu"))
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert found["ranks"] == 1


def test_dry_run_counts_what_a_step_does() -> None:
    """Against a real pass with hooks of this test's own: parameters, and multiplications of the
    convolutions, three times for forward and backward but for layers that pixels enter."""
    from neurocodec.tokenizer.model import Tokenizer

    config = TrainConfig(size="tiny", batch=2, frames=5, crop=32)
    found = estimate(config, bf16=False)
    model = Tokenizer(SIZES["tiny"])
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["state bytes"] == STATE_BYTES * found["parameters"]
    forward = 0

    def count(layer: nn.Conv3d, inputs: object, out: torch.Tensor) -> None:
        nonlocal forward
        forward += 2 * out.numel() * layer.weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv3d):
            layer.register_forward_hook(count)
    step = torch.ones(2)
    z = model.encoder(torch.zeros(2, 6, 5, 16, 16), step)
    model.decoder(z, torch.ones(2, 2, 4, 4), step)
    forward += 2 * 2 * z.numel() * 4 * 96  # the transforms beside the networks
    assert 2.5 * forward < found["operations a step"] < 3 * forward


def test_recomputing_keeps_less_and_computes_more() -> None:
    config = TrainConfig(size="base", batch=4, crop=64)
    kept, recomputed = (
        estimate(dataclasses.replace(config, recompute=value)) for value in (False, True)
    )
    assert recomputed["activation bytes"] < 0.7 * kept["activation bytes"]
    assert recomputed["operations a step"] > 1.15 * kept["operations a step"]
    halved = estimate(dataclasses.replace(config, accumulate=2))
    assert halved["activation bytes"] < 0.6 * kept["activation bytes"]
    assert halved["operations a step"] == pytest.approx(kept["operations a step"], rel=0.01)


def test_scalars_and_pictures_reach_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = Board(tmp_path, 0)
    for step in range(4):
        board.add({"step": step, "seconds": 1, "loss": 0.5 * step})
    board.add({"val": "mean", "step": 3, "q": 50, "psnr": 30.0})
    board.show("validation", Image.new("RGB", (4, 2)), 3)
    board.flush()  # and killed
    # Event files are read in the order of the seconds in their names: a later run begins later.
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 5)
    board = Board(tmp_path, 2)
    board.add({"step": 2, "seconds": 1, "loss": 7.0})
    board.close()
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    losses = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert losses == [(0, 0.0), (1, 0.5), (2, 7.0)]
    assert events.Tags()["images"] == ["validation"]
