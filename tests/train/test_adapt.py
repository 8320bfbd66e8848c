"""A bundle fine-tuned to footage is better on it, and still has its generator."""

import dataclasses
from pathlib import Path

import pytest
import torch

from neurocodec import models
from neurocodec.codec.compress import compress
from neurocodec.codec.frames import pad_planes
from neurocodec.codec.verify import verify
from neurocodec.errors import DataError, UsageError
from neurocodec.models import generator_parts
from neurocodec.train.adapt import adapt, configuration
from neurocodec.train.data import FOOTAGE_CLIPS, load_footage, load_sources
from neurocodec.train.listing import list_media
from neurocodec.train.motion_run import MotionRun, MotionTrainConfig
from neurocodec.train.objective import rate_distortion
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.cli.test_errors import check
from tests.conftest import moving_picture, write_clip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for i in range(2):
        (tmp_path / "data").mkdir(exist_ok=True)
        write_clip(tmp_path / "data" / f"{i}.mkv", 12, 64, 48)
    return tmp_path / "data"


def cost(bundle: models.Bundle) -> float:
    planes = pad_planes(moving_picture(9, 64, 48))
    step = torch.tensor([0.1])
    with torch.no_grad():
        return rate_distortion(bundle.tokenizer()(planes, step), planes, step).item()


def test_adapted_is_better_and_codes(tiny_generated: Path, data: Path, tmp_path: Path) -> None:
    bundle = models.read_bundle(tiny_generated)
    target = adapt(
        bundle, data, tmp_path / "run", 40, clips=2, frames=5, crop=32, learning_rate=2e-3
    )
    adapted = models.read_bundle(target)
    assert cost(adapted) < 0.98 * cost(bundle)
    assert adapted.card["adapted"] == {"from": bundle.hash.hex(), "steps": 40}
    before, after = generator_parts(bundle), generator_parts(adapted)
    assert before is not None
    assert after is not None
    assert all((after.arrays[k] == v).all() for k, v in before.arrays.items())
    assert all((after.prior[k] == v).all() for k, v in before.prior.items())
    out = tmp_path / "a.nc"
    compress(data / "0.mkv", out, model=str(target))
    verify(out, str(target), tokens=True)


def test_it_starts_from_the_bundle(
    cli: Cli,  # noqa: F811
    tiny_motion: Path,
    tmp_path: Path,
) -> None:
    """Of the other family; a step of the smallest learning rate changes next to nothing."""
    data = tmp_path / "data"
    data.mkdir()
    write_clip(data / "large.mkv", 24, 160, 160)
    ended = cli(
        "train", "adapt", "--from", tiny_motion, "--data", data, "--out", tmp_path / "run",
        "--steps", "1", "--count", "4", "--clips", "1", "--device", "cpu",
    )  # fmt: skip
    assert ended.status == 0
    assert "adapted.safetensors" in ended.out
    before = models.read_bundle(tiny_motion).tokenizer().state_dict()
    after = models.read_bundle(tmp_path / "run" / "adapted.safetensors").tokenizer().state_dict()
    assert all((after[k] - v).abs().max() < 0.01 for k, v in before.items())
    assert any(v.abs().max() > 0.1 for v in before.values())


def test_unknown_shape(tiny: Path) -> None:
    bundle = models.read_bundle(tiny)
    odd = dataclasses.replace(bundle, config=dataclasses.replace(bundle.config, channels=(24,)))
    with pytest.raises(UsageError, match="size"):
        configuration(odd, 1)
    assert generator_parts(bundle) is None


def test_a_generator_can_be_kept(
    cli: Cli,  # noqa: F811
    tiny_motion_generated: Path,
    tiny_generated: Path,
    tmp_path: Path,
) -> None:
    """And that of another kind of tokens cannot."""
    run = MotionRun(MotionTrainConfig(size="tiny"), tmp_path / "run", "cpu")
    run.out.mkdir()
    run.save()
    out = tmp_path / "new.safetensors"
    export = ("models", "export", run.out, "-o", out, "-y")
    assert cli(*export, "--generator", tiny_motion_generated).status == 0
    kept = models.read_bundle(out)
    before = generator_parts(models.read_bundle(tiny_motion_generated))
    after = generator_parts(kept)
    assert before is not None
    assert after is not None
    assert all((after.arrays[k] == v).all() for k, v in before.arrays.items())
    assert kept.card["generator of"] == models.read_bundle(tiny_motion_generated).hash.hex()
    check(cli(*export, "--generator", "tiny-gen"), 2, "has no generator")
    check(cli(*export, "--generator", tiny_generated), 2, "for other tokens")
    assert cli(*export, "--generator", tiny_motion_generated, "--tokenizer", out).status == 2


def test_footage_is_as_large_as_it_will_be_coded_and_from_all_over(tmp_path: Path) -> None:
    """Training data is halved, and of each video the beginning is enough; one's own is not."""
    data = tmp_path / "data"
    data.mkdir()
    write_clip(data / "camera.mkv", 100, 304, 288)
    (video,) = load_sources(data, 9, 32).videos
    assert tuple(video.shape[2:]) == (72, 72)
    found = load_footage(data, 9, 160)
    assert len(found.videos) == FOOTAGE_CLIPS
    assert {tuple(v.shape[2:]) for v in found.videos} == {(144, 152)}
    assert len({v[:, 0].float().mean().item() for v in found.videos}) > 3
    for i in range(FOOTAGE_CLIPS):
        write_clip(data / f"d{i}.mkv", 12, 64, 48)
    names = load_footage(data, 9, 32).names
    assert names == ["camera", *(e.name for e in list_media(data)[1:FOOTAGE_CLIPS])]
    with pytest.raises(DataError, match="no video of 99 frames"):
        load_footage(data, 99, 32)


def test_what_a_bundle_is_tuned_for_is_aimed_at_when_it_is_adapted() -> None:
    found = {
        name: configuration(models.find(name), 5) for name in ("motion-small", "motion-ms-ssim")
    }
    assert [c.distortion for c in found.values() if isinstance(c, MotionTrainConfig)] == [
        "mse",
        "ms-ssim",
    ]
