"""Training from the command line: which options go with which configuration."""

import json
from pathlib import Path
from typing import Any

import pytest

from neurocodec.train import generator, motion, motion_run, tokenizer
from tests.generators import SMALL

from .conftest import Cli
from .test_errors import check

TRAIN = ("train", "tokenizer", "--data", "data", "--out", "run")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments that either trainer is called with."""
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    for module, name in ((motion, "train_motion"), (tokenizer, "train_tokenizer")):
        monkeypatch.setattr(module, name, lambda *args, **kwargs: found.append((args, kwargs)))
    return found


def test_defaults_are_those_of_the_configuration(cli: Cli, calls: list[Any]) -> None:
    assert cli(*TRAIN).status == 0
    assert cli(*TRAIN, "--config", "motion").status == 0
    assert [args[2] for args, _ in calls] == [
        tokenizer.TrainConfig(),
        motion_run.MotionTrainConfig(),
    ]


def test_options_reach_the_trainer(cli: Cli, calls: list[Any]) -> None:
    ended = cli(
        *TRAIN, "--config", "motion", "--part", "inter", "--other", "intra", "--windows", "w.pt",
        "--count", "7", "--distortion", "ms-ssim", "--size", "tiny", "--steps", "9", "--batch", "2",
        "--learning-rate", "0.01", "--seed", "3", "--val", "clips", "--resume", "--device", "cpu",
    )  # fmt: skip
    assert ended.status == 0
    (((data, out, config, val), rest),) = calls
    assert (data, out, val) == (Path("data"), Path("run"), Path("clips"))
    assert config == motion_run.MotionTrainConfig(
        size="tiny", part="inter", distortion="ms-ssim", steps=9, batch=2,
        learning_rate=0.01, seed=3,
    )  # fmt: skip
    assert rest["other"] == Path("intra")
    assert rest["windows"] == Path("w.pt")
    assert (rest["count"], rest["resume"], rest["device"]) == (7, True, "cpu")


def test_pictures_from_inside_gops_reach_the_trainer(cli: Cli, calls: list[Any]) -> None:
    command = (*TRAIN, "--config", "motion", "--chains", "c.pt")
    assert cli(*command, "--part", "inter", "--size", "base", "--from", "motion-small").status == 0
    ((args, rest),) = calls
    assert args[2] == motion_run.MotionTrainConfig(size="base", part="inter")
    assert (rest["chains"], rest["start"].name) == (Path("c.pt"), "motion-small")
    check(cli(*command, "--part", "intra"), 2, "--chains", "part intra")
    check(cli(*command, "--part", "inter", "--windows", "w.pt"), 2, "--windows or --chains")


def test_networks_are_of_the_size_of_the_bundle_they_start_from(cli: Cli, calls: list[Any]) -> None:
    assert cli(*TRAIN, "--config", "motion", "--from", "motion-fast").status == 0
    ((args, _),) = calls
    assert args[2].size == "fast"


def test_recipe_then_settings_then_options(cli: Cli, calls: list[Any], tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('size = "tiny"\nsteps = 5\nbatch = 8\nrecompute = true\n')
    ended = cli(
        *TRAIN, "--recipe", recipe, "--set", "batch=6", "--set", "accumulate=2", "--steps", "7",
        "--images", "other",
    )  # fmt: skip
    assert ended.status == 0
    ((args, rest),) = calls
    assert args[2] == tokenizer.TrainConfig(
        size="tiny", steps=7, batch=6, accumulate=2, recompute=True
    )
    assert rest["images"] == Path("other")


@pytest.mark.parametrize(
    ("family", "name"), [("magvit2", "magvit2-small"), ("motion", "motion-small")]
)
def test_a_run_can_start_from_a_bundle(
    cli: Cli, calls: list[Any], family: str, name: str, tmp_path: Path
) -> None:
    assert cli(*TRAIN, "--config", family, "--from", name).status == 0
    ((_, rest),) = calls
    assert rest["start"].name == name
    assert cli(*TRAIN, "--from", name, "--images", tmp_path).status == 2
    assert cli(*TRAIN, "--from", "nothing").status != 0
    assert len(calls) == 1


def test_resume_auto_looks_for_a_checkpoint(cli: Cli, calls: list[Any], tmp_path: Path) -> None:
    command = ("train", "tokenizer", "--data", "data", "--out", tmp_path)
    assert cli(*command, "--resume", "auto").status == 0
    (tmp_path / "checkpoint.pt").touch()
    assert cli(*command, "--resume", "auto").status == 0
    assert cli(*command, "--resume", "--config", "motion").status == 0
    assert cli(*command).status == 0
    assert [args[4] if len(args) > 4 else rest["resume"] for args, rest in calls] == [
        False, True, True, False
    ]  # fmt: skip


def test_dry_run_needs_no_data(cli: Cli, calls: list[Any]) -> None:
    ended = cli("train", "tokenizer", "--size", "tiny", "--dry-run")
    assert ended.status == 0
    assert "activation bytes" in ended.out
    check(cli("train", "tokenizer"), 2, "--data", "--out")
    assert calls == []


def test_several_processes_where_one_is_meant(
    cli: Cli, calls: list[Any], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    check(cli(*TRAIN, "--config", "motion"), 2, "torchrun")
    check(cli(*GENERATOR, "--tokenizer", tiny), 2, "torchrun")
    assert calls == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--recipe", "nothing"), ("nothing", "paper")),
        (("--set", "sise=3"), ("sise", "no such setting")),
        (("--config", "motion", "--images", "x"), ("--images", "motion")),
        (("--part", "intra"), ("--part", "magvit2")),
        (("--windows", "w.pt"), ("--windows", "magvit2")),
        (("--distortion", "ms-ssim"), ("--distortion", "magvit2")),
        (("--config", "motion", "--frames", "9"), ("--frames", "motion")),
        (("--config", "motion", "--size", "paper"), ("--size paper", "tiny, fast, small")),
        (("--config", "motion", "--crop", "64"), ("--crop", "part both")),
        (("--config", "motion", "--other", "x"), ("--other", "part both")),
        (("--config", "motion", "--part", "intra", "--other", "x"), ("--other", "part intra")),
        (("--config", "motion", "--part", "intra", "--count", "5"), ("--count", "part intra")),
        (("--config", "diffusion"), ("diffusion",)),
    ],
)
def test_options_without_sense_are_refused(
    options: tuple[str, ...], words: tuple[str, ...], cli: Cli, calls: list[Any]
) -> None:
    check(cli(*TRAIN, *options), 3 if "--recipe" in options else 2, *words)
    assert calls == []


def test_export_takes_the_intra_run(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neurocodec.train import export

    found = {}

    def write(run: Path, target: Path, data: Path | None, clips: int, **rest: Any) -> None:
        found.update(rest, run=run)
        target.touch()

    monkeypatch.setattr(export, "export", write)
    out = tmp_path / "out.safetensors"
    assert cli("models", "export", "inter", "--intra", "intra", "-o", out).status == 0
    assert found == {"run": Path("inter"), "intra": Path("intra"), "generator": None}


GENERATOR = ("train", "generator", "--data", "data", "--out", "run")


@pytest.fixture
def generator_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(generator, "train_generator", lambda *args: found.append(args))
    return found


def test_options_reach_the_generator(
    cli: Cli, generator_calls: list[tuple[Any, ...]], tiny: Path
) -> None:
    ended = cli(
        *GENERATOR, "--tokenizer", tiny, "--tokens", "t.pt", "--clips", "7", "--frames", "9",
        "--crop", "64", "--effort", "fast", "--channels", "24", "--hidden", "5", "--blocks", "0",
        "--steps", "3", "--learning-rate", "0.01", "--seed", "2", "--validate-every", "6",
        "--resume", "--device", "cpu", "--photos", "8", "--from", tiny,
    )  # fmt: skip
    assert ended.status == 0
    ((bundle, *rest, start),) = generator_calls
    assert bundle.path == start.path == tiny
    config = generator.GeneratorTrainConfig(
        channels=24, hidden=5, blocks=0, steps=3, learning_rate=0.01, seed=2, validate_every=6
    )
    tokens = Path("t.pt")
    assert rest == [
        Path("data"), Path("run"), config, tokens, 7, 9, 64, "fast", True, "cpu", False, 8
    ]  # fmt: skip


def test_defaults_of_the_generator(
    cli: Cli, generator_calls: list[tuple[Any, ...]], tiny: Path
) -> None:
    assert cli(*GENERATOR, "--tokenizer", tiny).status == 0
    ((_, _, _, config, tokens, *_),) = generator_calls
    assert (config, tokens) == (generator.GeneratorTrainConfig(), None)
    check(cli(*GENERATOR), 2, "--tokenizer")
    check(cli(*GENERATOR, "--tokenizer", tiny, "--crop", "60"), 2, "--crop 60", "multiple of 8")
    assert len(generator_calls) == 1


def test_export_of_a_generator(
    cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def write(bundle: Any, run: Path, target: Path) -> None:
        found.append((bundle.path, run, target))
        target.touch()

    monkeypatch.setattr(generator, "add_generator", write)
    out = tmp_path / "out.safetensors"
    command = ("models", "export", "run", "-o", out, "--tokenizer", tiny)
    check(cli(*command, "--data", "data"), 2, "--data")
    check(cli(*command, "--intra", "intra"), 2, "--intra")
    assert cli(*command).status == 0
    assert found == [(tiny, Path("run"), out)]


def test_a_generator_is_shown(cli: Cli, tiny: Path, tiny_generated: Path) -> None:
    shown = [
        json.loads(cli("models", "show", path, "--json").out) for path in (tiny, tiny_generated)
    ]
    assert "generator" not in shown[0]
    assert shown[1]["generator"] == SMALL.to_dict()


def test_another_bundle_with_a_generator_is_refused(
    cli: Cli, clip: Path, tiny: Path, tiny_generated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.nc"
    assert cli("compress", clip, out, "--model", tiny_generated, "--gop", "5").status == 0
    for command in (("verify", "--tokens", out), ("decompress", out, tmp_path / "a.mp4")):
        check(cli(*command, "--model", tiny), 8, "tiny-generated", "--model")
