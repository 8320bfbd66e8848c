"""Runs of several configurations, by however many processes there are; called by test_ranks.py."""

import sys
from pathlib import Path

import torch

from neurocodec import device
from neurocodec.codec.frames import pad_planes
from neurocodec.tokenizer.config import SIZES, TokenizerConfig
from neurocodec.train.data import Batches, Sources
from neurocodec.train.masked import MaskedConfig, MaskedRun, TokenSet
from neurocodec.train.objective import TrainConfig
from neurocodec.train.ranks import joined
from neurocodec.train.tokenizer import Trainer
from tests.conftest import moving_picture

SIGNS = TokenizerConfig(
    channels=(8, 8), refine_channels=8, latent_dim=96, quantizer="signs", stages=3, bits=4
)
COMMON = {
    "steps": 4, "batch": 4, "frames": 5, "crop": 32, "warm_up": 1, "learning_rate": 1e-3,
    "save_every": 100, "validate_every": 100, "beta1": 0.5,
}  # fmt: skip
CONFIGS = {
    "levels": TrainConfig(size="tiny", **COMMON),
    "accumulated": TrainConfig(size="tiny", accumulate=2, recompute=True, **COMMON),
    "adversarial": TrainConfig(
        size="tiny signs", adversarial=0.1, discriminator="4,8", rate=0.5, recon=5.0, **COMMON
    ),
}


MASKED = MaskedConfig(
    size="tiny", steps=4, batch=4, learning_rate=1e-3, warm_up=1, dropout=0.0, save_every=100,
    validate_every=100,
)  # fmt: skip
NAMES = [*CONFIGS, "masked"]


def run_masked(out: Path) -> MaskedRun:
    tokens = torch.arange(24 * 32).view(24, 32) * 37 % 1024
    labels, out = torch.arange(24) % 2, out / "masked"
    found = MaskedRun(MASKED, TokenSet(tokens, labels, ["a", "b"], "", (2, 4, 4)), 10, out, "cpu")
    out.mkdir(parents=True, exist_ok=True)
    found.loop(iter(lambda: None, 0), found.step, found.validate, progress=False)
    return found


def run(name: str, out: Path) -> Trainer | MaskedRun:
    """In float32: sums of gradients in bf16 depend on how a batch is divided."""
    torch.set_num_threads(1)
    device.has_fast_bf16 = lambda _: False
    if name == "masked":
        return run_masked(out)
    SIZES["tiny signs"] = SIGNS
    trainer = Trainer(CONFIGS[name], out / name, "cpu")
    trainer.out.mkdir(parents=True, exist_ok=True)
    clips = [(pad_planes(moving_picture(9, 64, 48))[0] * 255).round().byte()]
    batches = Batches(Sources(clips, ["a"], [], 0), 4, 5, 32)
    trainer.run(batches, {"a": clips[0][:, :5]}, progress=False)
    return trainer


if __name__ == "__main__":
    with joined("cpu"):
        for name in NAMES:
            run(name, Path(sys.argv[1]))
