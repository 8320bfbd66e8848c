"""What is done on a GPU, where there is one: the same tokens, and pictures that are as near as
those of other processors."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import neurocodec
from neurocodec.codec.verify import verify
from neurocodec.generate import start
from neurocodec.media.reader import MediaReader
from neurocodec.tokenizer.motion import LUMA_TAPS, MARGIN, Phases
from neurocodec.train.run import load_checkpoint
from neurocodec.train.tokenizer import TrainConfig, train_tokenizer
from tests.conftest import moving_picture, write_clip, write_y4m

GPU = "cuda"
pytestmark = pytest.mark.usefixtures("on_a_gpu")


def luma(path: Path) -> np.ndarray:
    with MediaReader(path) as reader:
        return np.stack([frame.y for frame in reader if hasattr(frame, "y")]).astype(np.float64)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(((a - b) ** 2).mean(), 1e-9)))


@pytest.mark.parametrize("model", ["motion-small", "magvit2-small"])
def test_files_go_from_one_device_to_the_other(model: str, tmp_path: Path) -> None:
    """Encoded on either and decoded on both, each file is as good, to 0.05 dB of the source."""
    source = write_y4m(tmp_path / "source.y4m", moving_picture(17, 128, 96))
    original = luma(source)
    for first in (GPU, "cpu"):  # and the other decodes it, too
        coded = tmp_path / f"{first}.nc"
        neurocodec.compress(source, coded, model=model, device=first, gop=17)
        found = {}
        for second in (GPU, "cpu"):
            decoded = tmp_path / f"{first}-{second}.y4m"
            neurocodec.decompress(coded, decoded, device=second)
            found[second] = luma(decoded)
        assert psnr(found[GPU], found["cpu"]) > 50
        last = [psnr(found[device][-1], original[-1]) for device in (GPU, "cpu")]
        assert last[0] == pytest.approx(last[1], abs=0.05)


def test_jobs_share_it(tmp_path: Path) -> None:
    source = write_y4m(tmp_path / "source.y4m", moving_picture(12, 96, 64))
    coded = tmp_path / "coded.nc"
    neurocodec.compress(source, coded, device=GPU, gop=4, jobs=2)
    assert not verify(coded, tokens=True).damage
    stats = neurocodec.decompress(coded, tmp_path / "decoded.y4m", device=GPU, jobs=2)
    assert stats.frames == 12
    assert psnr(luma(tmp_path / "decoded.y4m"), luma(source)) > 30


def test_a_seed_means_the_same_tokens() -> None:
    drawn = []
    for device in (GPU, "cpu"):
        model = start(None, device)
        labels = torch.tensor([model.label("disc-rise"), model.label(None)])
        drawn.append(model.draw(labels, steps=3, seed=1).cpu())
    assert torch.equal(*drawn)


def test_samples_between_pixels() -> None:
    planes = torch.rand(2, 40, 56, generator=torch.Generator().manual_seed(0))
    field = torch.arange(16).view(1, 4, 4, 1).repeat(2, 1, 1, 2)
    windows = [
        Phases(x, LUMA_TAPS, MARGIN, torch.float32).windows(field.to(x.device), 8, 16).cpu()
        for x in (planes, planes.cuda())
    ]
    assert torch.allclose(*windows, atol=1e-5)


@pytest.mark.parametrize("recipe", ["plain", "adversarial"])
def test_training_goes_on_where_it_stopped(recipe: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for i, (width, height) in enumerate(((64, 48), (48, 48), (80, 64))):
        write_clip(data / f"{i}.mkv", 12, width, height)
    config = TrainConfig(
        size="tiny", steps=4, batch=2, frames=5, crop=32, warm_up=2, save_every=2,
        validate_every=4,
    )  # fmt: skip
    if recipe == "adversarial":
        config = dataclasses.replace(config, adversarial=0.1, r1=10.0, discriminator="8,16")
    run = tmp_path / "run"
    train_tokenizer(data, run, dataclasses.replace(config, steps=2), device=GPU)
    train_tokenizer(data, run, config, resume=True, device=GPU)
    state = load_checkpoint(run)
    assert state["done"] == 4
    assert all(torch.isfinite(w).all() for w in state["model"].values())
