import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurocodec import models
from neurocodec.codec.frames import pad_planes
from neurocodec.errors import DataError, DivergenceError, InputError, UsageError
from neurocodec.tokenizer.config import INTRA, MOTION_SIZES
from neurocodec.tokenizer.motion_model import MotionTokenizer
from neurocodec.train import motion as module
from neurocodec.train import motion_validation
from neurocodec.train.data import Batches, Sources
from neurocodec.train.export import export
from neurocodec.train.motion import train_intra, train_motion, train_windows
from neurocodec.train.motion_run import MotionRun, MotionTrainConfig, merge
from neurocodec.train.run import load_checkpoint
from neurocodec.train.tokenizer import TrainConfig, Trainer
from neurocodec.train.windows import WindowBatches, Windows, search_window
from tests.conftest import moving_picture, write_clip

CONFIG = MotionTrainConfig(
    size="tiny", steps=4, batch=2, crop=32, warm_up=2, save_every=2, validate_every=1000
)
INTRA_CONFIG = dataclasses.replace(CONFIG, part="intra")
INTER_CONFIG = dataclasses.replace(CONFIG, part="inter")


def clip(width: int = 32, height: int = 32) -> torch.Tensor:
    """(6, 9, H/2, W/2) uint8."""
    return (pad_planes(moving_picture(9, width, height))[0] * 255).round().byte()


@pytest.fixture(scope="module")
def windows() -> Windows:
    """Two windows of 32x32 pixels."""
    planes = torch.stack([clip(), clip().flip(1)]).transpose(1, 2)
    mode, fields = search_window(planes.float() / 255, 4, 0.1)
    return Windows(planes, torch.tensor([4, 4]), torch.tensor([0.1, 0.2]), mode, fields)


def pictures() -> Batches:
    return Batches(Sources([clip(64, 48), clip(48, 48)], ["a", "b"], [], 0), 2, 1, 32)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def train(config: MotionTrainConfig, out: Path, windows: Windows, resume: bool = False) -> None:
    run = MotionRun(config, out, "cpu")
    if resume:
        run.resume()
    if config.part == "intra":
        train_intra(run, pictures())
    else:
        train_windows(run, WindowBatches(windows, config.batch))


def fixed_loss(run: MotionRun, windows: Windows) -> float:
    """Over one window, without what varies from step to step."""
    batch = WindowBatches(windows, 2).batch(0)
    torch.manual_seed(0)
    step = torch.tensor([0.1, 0.05])
    first, figures = run.code_intra(batch.x[:, 0], step, None, False)
    coded = dict(run.code_inter(batch, batch.x, first, step, None, False))
    return float(np.mean([c.loss for c in coded.values()])) + sum(
        value for name, value in figures.items() if name.startswith("loss")
    )


def test_the_loss_falls(windows: Windows, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=1000, warm_up=5, learning_rate=2e-3)
    run = MotionRun(config, tmp_path, "cpu")
    before = fixed_loss(run, windows)
    batch = WindowBatches(windows, 2).batch(0)
    for _ in range(10):  # two steps of the optimizer each
        run.window_step(batch)
    assert run.done == 20
    assert fixed_loss(run, windows) < 0.97 * before


def test_intra_loss_falls(windows: Windows, tmp_path: Path) -> None:
    config = dataclasses.replace(INTRA_CONFIG, steps=1000, warm_up=5, learning_rate=2e-3)
    run = MotionRun(config, tmp_path, "cpu")
    x = pictures().batch(0)[:, :, 0]
    step = torch.tensor([0.05, 0.1])

    def loss() -> float:
        torch.manual_seed(0)
        _, figures = run.code_intra(x, step, None, False)
        return sum(figures[f"loss{kind}"] for kind in range(INTRA + 1))

    before = loss()
    for _ in range(20):
        run.intra_step(x)
    assert loss() < 0.97 * before


@pytest.mark.parametrize("part", ["both", "intra", "inter"])
def test_resumed_run_equals_an_uninterrupted_one(
    part: str, windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, part=part)
    train(config, tmp_path / "whole", windows)
    whole = load_checkpoint(tmp_path / "whole")
    assert whole["done"] == 4
    finish, calls = MotionRun.finish_step, 0

    def dies_at_fourth(self: MotionRun) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return finish(self)

    with monkeypatch.context() as patch:
        patch.setattr(MotionRun, "finish_step", dies_at_fourth)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "parts", windows)
    assert load_checkpoint(tmp_path / "parts")["done"] == 2
    torch.rand(5)  # another process has another generator
    train(config, tmp_path / "parts", windows, resume=True)
    parts = load_checkpoint(tmp_path / "parts")
    assert same(whole["model"], parts["model"])
    assert same(whole["average"], parts["average"])


def test_a_run_of_odd_steps_ends_and_is_saved(windows: Windows, tmp_path: Path) -> None:
    """A window makes two steps at once: no count need be met exactly."""
    train(dataclasses.replace(CONFIG, steps=3, save_every=1000), tmp_path, windows)
    assert load_checkpoint(tmp_path)["done"] == 4


@pytest.mark.parametrize(("part", "idle"), [("intra", "inter"), ("inter", "intra")])
def test_a_part_leaves_the_other_alone(
    part: str, idle: str, windows: Windows, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, part=part, steps=2)
    before = {
        k: v.clone() for k, v in MotionRun(config, tmp_path, "cpu").model.state_dict().items()
    }
    train(config, tmp_path, windows)
    after = load_checkpoint(tmp_path)["model"]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any(name.startswith(idle) for name in changed)
    own = slice(0, INTRA + 1) if part == "intra" else slice(INTRA + 1, None)
    assert not torch.equal(before["lfq.shrink"][own], after["lfq.shrink"][own])


def filled(value: float) -> MotionTokenizer:
    model = MotionTokenizer(MOTION_SIZES["tiny"])
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(value)
    return model


@pytest.mark.parametrize("part", ["intra", "inter"])
def test_merging_takes_exactly_the_part(part: str) -> None:
    model = filled(1.0)
    merge(model, dict(filled(2.0).named_parameters()), part)
    for name, p in model.named_parameters():
        if name.startswith("lfq."):
            taken, kept = p[: INTRA + 1], p[INTRA + 1 :]
            if part == "inter":
                taken, kept = kept, taken
            assert (taken == 2).all()
            assert (kept == 1).all()
        else:
            assert (p == (2 if name.startswith(part) else 1)).all()


def test_an_inter_run_learns_with_the_intra_run_it_is_given(
    windows: Windows, tmp_path: Path
) -> None:
    train(dataclasses.replace(INTRA_CONFIG, steps=2), tmp_path / "intra", windows)
    run = MotionRun(INTER_CONFIG, tmp_path / "inter", "cpu", tmp_path / "intra")
    run.refresh()
    other = load_checkpoint(tmp_path / "intra")["average"]
    for name, p in run.model.named_parameters():
        if name.startswith("intra"):
            assert torch.equal(p, other[name])
            assert torch.equal(run.average[name], other[name])


# -- whole runs, from files -------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for i, (width, height) in enumerate(((64, 48), (48, 48), (80, 64))):
        write_clip(folder / f"{i}.mkv", 24, width, height)
    return folder


@pytest.fixture(scope="module")
def runs(data: Path, windows: Windows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of each part, and the windows."""
    folder = tmp_path_factory.mktemp("runs")
    windows.save(folder / "windows.pt")
    validation = folder / "validation"
    validation.mkdir()
    write_clip(validation / "clip.mkv", 12, 64, 48)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIDE", 32)  # of the windows
        train_motion(data, folder / "intra", INTRA_CONFIG)
        train_motion(
            data, folder / "inter", INTER_CONFIG, validation,
            windows=folder / "windows.pt", other=folder / "intra",
        )  # fmt: skip
    return folder


@pytest.mark.parametrize("part", ["intra", "inter"])
def test_a_run_leaves_checkpoint_log_and_pictures(part: str, runs: Path) -> None:
    state = load_checkpoint(runs / part)
    assert state["done"] == 4
    assert state["config"]["part"] == part
    entries = [json.loads(line) for line in (runs / part / "log.jsonl").read_text().splitlines()]
    means = [e for e in entries if e.get("val") == "mean"]
    assert {(e["step"], e["q"]) for e in means} == {(s, q) for s in (0, 4) for q in (10, 50, 90)}
    for step in (0, 4):
        figures = [e for e in means if e["step"] == step]
        assert [e["psnr"] for e in figures] == sorted(e["psnr"] for e in figures)
        assert [e["bpp"] for e in figures] == sorted(e["bpp"] for e in figures)
        assert all(e["cost"] > e["bpp"] > 0 for e in figures)
    # source, decoded and depth map side by side; one row a quality
    with Image.open(runs / part / "validation-000004.png") as picture:
        assert picture.size == (3 * 64, 3 * 48)


def test_windows_are_made_where_there_are_none(
    data: Path, windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def make(sources: Sources, count: int, seed: int) -> Windows:
        asked.append((len(sources.videos), count, seed))
        return windows

    monkeypatch.setattr(module, "SIDE", 32)
    monkeypatch.setattr(module, "make_windows", make)
    monkeypatch.setattr(motion_validation, "QUALITIES", (50,))
    config = dataclasses.replace(CONFIG, steps=2, seed=7)
    train_motion(data, tmp_path / "run", config, count=5)
    assert (tmp_path / "run" / "windows.pt").exists()
    train_motion(data, tmp_path / "run", config, resume=True)
    assert asked == [(2, 5, 7)]  # one of three videos is held out


def test_exported_runs_make_a_bundle(runs: Path, tmp_path: Path, data: Path) -> None:
    path = tmp_path / "mine.safetensors"
    export(runs / "inter", path, data, 1, 9, 32, intra=runs / "intra")
    bundle = models.read_bundle(path)
    assert bundle.is_motion
    assert bundle.card["steps"] == bundle.card["intra"]["steps"] == 4
    assert bundle.prior()["nonzero"].sum() > 0
    state = bundle.tokenizer().state_dict()
    for part in ("intra", "inter"):
        weights = load_checkpoint(runs / part)["average"]
        names = [name for name in state if name.startswith(part)]
        assert names
        for name in names:
            torch.testing.assert_close(state[name], weights[name], atol=1e-3, rtol=0.01)


def test_an_intra_run_serves_all_sizes_of_inter_networks(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slim = dataclasses.replace(
        MOTION_SIZES["tiny"], inter_context=4, inter_width=8, inter_decoder_blocks=1
    )
    monkeypatch.setitem(MOTION_SIZES, "slim", slim)
    config = dataclasses.replace(INTER_CONFIG, size="slim")
    run = MotionRun(config, tmp_path / "inter", "cpu", runs / "intra")
    run.refresh()
    run.out.mkdir()
    run.save()
    export(run.out, tmp_path / "m.safetensors", None, 1, intra=runs / "intra")
    bundle = models.read_bundle(tmp_path / "m.safetensors")
    assert bundle.config == slim
    given = load_checkpoint(runs / "intra")["average"]
    for found in (run.average, bundle.tokenizer().state_dict()):
        for name in given:
            if name.startswith("intra"):
                torch.testing.assert_close(found[name], given[name], atol=1e-3, rtol=0.01)


def test_runs_that_do_not_fit_together_are_refused(
    data: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "mine.safetensors"
    monkeypatch.setitem(MOTION_SIZES, "other", dataclasses.replace(MOTION_SIZES["tiny"], width=24))
    other = MotionRun(dataclasses.replace(INTRA_CONFIG, size="other"), tmp_path / "other", "cpu")
    latent = Trainer(TrainConfig(size="tiny"), tmp_path / "latent", "cpu")
    for run in (other, latent):
        run.out.mkdir()
        run.save()
    with pytest.raises(InputError, match="another tokenizer"):
        export(runs / "inter", target, None, 1, intra=other.out)
    with pytest.raises(UsageError, match="part inter"):
        export(runs / "intra", target, None, 1, intra=runs / "inter")
    with pytest.raises(UsageError, match="not of the family motion"):
        export(latent.out, target, None, 1, intra=runs / "intra")
    assert not target.exists()
    with pytest.raises(InputError, match="another tokenizer"):
        MotionRun(INTER_CONFIG, tmp_path, "cpu", other.out).refresh()
    with pytest.raises(InputError, match="trains part intra"):
        train_motion(data, runs / "intra", INTER_CONFIG, resume=True)
    with pytest.raises(InputError, match="no checkpoint"):
        train_motion(data, tmp_path / "new", INTER_CONFIG, other=tmp_path / "nothing")
    with pytest.raises(DataError, match="holds a run already"):
        train_motion(data, runs / "intra", INTRA_CONFIG)


def test_settings_without_sense_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 32"):
        train_motion(data, tmp_path, dataclasses.replace(INTRA_CONFIG, crop=40))
    with pytest.raises(UsageError, match="part inter alone"):
        train_motion(data, tmp_path, CONFIG, other=tmp_path)
    with pytest.raises(UsageError, match="both, intra, inter"):
        MotionRun(dataclasses.replace(CONFIG, part="all"), tmp_path)


def test_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    run = MotionRun(INTRA_CONFIG, tmp_path, "cpu")
    with pytest.raises(DivergenceError, match="step 0"):
        run.intra_step(torch.full((1, 6, 16, 16), float("nan")))
    assert (tmp_path / "not-finite-0.pt").exists()
