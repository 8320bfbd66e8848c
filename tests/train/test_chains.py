from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neurocodec import models
from neurocodec.codec.frames import pad_planes
from neurocodec.codec.tokens import DEFAULT_SCALES, SCALE_ONE
from neurocodec.errors import DataError, InputError, UsageError
from neurocodec.tokenizer.config import BETWEEN, INTER, MOTION_SIZES
from neurocodec.tokenizer.motion_model import MotionTokenizer
from neurocodec.train import chains as module
from neurocodec.train.chains import ChainBatches, Chains, make_chains
from neurocodec.train.data import Sources
from neurocodec.train.motion import train_chains, train_motion
from neurocodec.train.motion_run import MotionRun, MotionTrainConfig
from tests.conftest import moving_picture

SIDE = 64
CONFIG = MotionTrainConfig(
    size="tiny", part="inter", steps=1000, batch=2, warm_up=5, learning_rate=2e-3
)


def clip(frames: int = 12) -> torch.Tensor:
    """(6, T, H/2, W/2) uint8."""
    return (pad_planes(moving_picture(frames, SIDE, SIDE))[0] * 255).round().byte()


@pytest.fixture(scope="module")
def chains() -> Chains:
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIDE", SIDE)
        return make_chains(MotionTokenizer(MOTION_SIZES["tiny"]).eval(), sources(), 2)


def sources() -> Sources:
    return Sources([clip()], ["a"], [], 0)


def test_what_is_kept_is_what_the_networks_see(chains: Chains) -> None:
    n = 2 * module.KEPT
    assert chains.planes.shape == (n, 6, SIDE // 2, SIDE // 2)
    assert chains.predictions.shape == (n, 2, 6, SIDE // 2, SIDE // 2)
    assert chains.before.shape == (n, SIDE // 8, SIDE // 8, 96)
    assert set(chains.kind.tolist()) <= {INTER, BETWEEN}
    x = chains.planes.float() / 255
    error = (chains.predictions.float().mean(1) - x).square().mean((1, 2, 3))
    other = (chains.predictions.float().mean(1) - x.roll(SIDE // 4, 3)).square().mean((1, 2, 3))
    assert (error < other).float().mean() > 0.9  # predictions are of their own pictures
    steps = {round(s, 5) for s in chains.step[: module.KEPT].tolist()}
    largest = max(steps) / min(steps)
    assert largest <= DEFAULT_SCALES[-1] / DEFAULT_SCALES[3] + 1e-3
    assert DEFAULT_SCALES[3] < SCALE_ONE


def test_chains_depend_on_the_seed_alone(chains: Chains, tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIDE", SIDE)
        tokenizer = MotionTokenizer(MOTION_SIZES["tiny"]).eval()
        again = make_chains(tokenizer, sources(), 2)
        other = make_chains(tokenizer, sources(), 2, seed=1)
    assert torch.equal(again.predictions, chains.predictions)
    assert not torch.equal(other.step, chains.step)
    chains.save(tmp_path / "c.pt")
    assert torch.equal(Chains.load(tmp_path / "c.pt").before, chains.before)


def test_crops_of_all_parts_are_of_one_place(chains: Chains) -> None:
    """Cells are marked by their place, in every part alike."""
    rows = torch.arange(SIDE // 8)
    place = (rows[:, None] * 8 + rows).byte()
    pixels = place.repeat_interleave(4, 0).repeat_interleave(4, 1)
    marked = replace(
        chains,
        planes=pixels.expand_as(chains.planes),
        predictions=pixels.half().expand_as(chains.predictions),
        before=place[None, :, :, None].expand_as(chains.before),
    )
    batch = ChainBatches(marked, 2, 32).batch(3)
    assert batch.planes.shape == (2, 6, 16, 16)
    for prediction in batch.predictions:
        assert torch.equal(prediction, (batch.planes * 255).round())
    assert torch.equal(batch.before[..., 0], (batch.planes[:, 0, ::4, ::4] * 255).round())


def test_the_loss_falls(chains: Chains, tmp_path: Path) -> None:
    run = MotionRun(CONFIG, tmp_path, "cpu")
    batch = ChainBatches(chains, 2, SIDE).batch(0)

    def loss() -> float:
        torch.manual_seed(0)
        x, before = batch.planes, batch.before
        return run.code(x, batch.predictions, batch.kind, batch.step, before, False).loss

    before = loss()
    for _ in range(15):  # at this rate it rises again after some more
        run.chain_step(batch)
    assert loss() < 0.8 * before


def test_a_run_over_chains_is_saved_and_leaves_intra_networks(
    chains: Chains, tmp_path: Path
) -> None:
    run = MotionRun(replace(CONFIG, steps=2), tmp_path, "cpu")
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    train_chains(run, ChainBatches(chains, 2, 32))
    assert (tmp_path / "checkpoint.pt").exists()
    changed = {k for k, v in run.model.state_dict().items() if not torch.equal(v, before[k])}
    assert any(k.startswith("inter.") for k in changed)
    assert not any(k.startswith("intra.") for k in changed)


def test_inter_networks_of_another_size_start_beside_a_bundles_intra_ones(
    tiny_motion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = models.read_bundle(tiny_motion)
    shape = replace(
        MOTION_SIZES["tiny"], inter_context=4, inter_context_blocks=0, inter_width=8,
        inter_decoder_blocks=0,
    )  # fmt: skip
    monkeypatch.setitem(MOTION_SIZES, "tiny", shape)
    run = MotionRun(CONFIG, tmp_path / "run", "cpu")
    run.start_from_bundle(bundle)
    old, new = bundle.tokenizer().state_dict(), run.model.state_dict()
    for name, value in old.items():
        if name.startswith("intra."):
            assert torch.equal(new[name], value), name
    assert run.model.inter.context.stem.out_channels == 4
    with pytest.raises(InputError):
        MotionRun(replace(CONFIG, part="both"), tmp_path / "b", "cpu").start_from_bundle(bundle)


def test_sources_that_are_too_small_are_refused() -> None:
    tokenizer = MotionTokenizer(MOTION_SIZES["tiny"])
    small = Sources([clip()], ["a"], [torch.rand(3, SIDE, SIDE)], 0)
    with pytest.raises(DataError, match="no video"):
        make_chains(tokenizer, small, 1)


def test_what_is_no_file_of_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a file of coded pictures"):
        Chains.load(tmp_path / "c.pt")


def test_there_must_be_a_bundle_to_make_them_with(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no bundle to make it with"):
        train_motion(tmp_path, tmp_path / "run", CONFIG, chains=tmp_path / "c.pt")
    with pytest.raises(UsageError, match="part inter alone"):
        train_motion(tmp_path, tmp_path / "run", replace(CONFIG, part="intra"), chains=tmp_path)
