"""Training from the command line: which options go with which configuration."""

from pathlib import Path
from typing import Any

import pytest

from neurocodec.train import motion, tokenizer

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
        motion.MotionTrainConfig(),
    ]


def test_options_reach_the_trainer(cli: Cli, calls: list[Any]) -> None:
    ended = cli(
        *TRAIN, "--config", "motion", "--part", "inter", "--other", "intra", "--windows", "w.pt",
        "--count", "7", "--size", "tiny", "--steps", "9", "--batch", "2", "--learning-rate", "0.01",
        "--seed", "3", "--val", "clips", "--resume", "--device", "cpu",
    )  # fmt: skip
    assert ended.status == 0
    (((data, out, config, val), rest),) = calls
    assert (data, out, val) == (Path("data"), Path("run"), Path("clips"))
    assert config == motion.MotionTrainConfig(
        size="tiny", part="inter", steps=9, batch=2, learning_rate=0.01, seed=3
    )
    assert rest["other"] == Path("intra")
    assert rest["windows"] == Path("w.pt")
    assert (rest["count"], rest["resume"], rest["device"]) == (7, True, "cpu")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--part", "intra"), ("--part", "magvit2")),
        (("--windows", "w.pt"), ("--windows", "magvit2")),
        (("--config", "motion", "--frames", "9"), ("--frames", "motion")),
        (("--config", "motion", "--size", "paper"), ("--size paper", "tiny, small")),
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
    check(cli(*TRAIN, *options), 2, *words)
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
    assert found == {"run": Path("inter"), "intra": Path("intra")}
