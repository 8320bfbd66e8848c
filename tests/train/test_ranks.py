"""Two processes give what one gives, and a run that was killed what an uninterrupted one gives."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from neurocodec import device
from neurocodec.errors import UsageError
from neurocodec.tokenizer.config import SIZES
from neurocodec.train.ranks import refuse_several
from neurocodec.train.run import load_checkpoint
from neurocodec.train.tokenizer import TrainConfig, Trainer
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.conftest import write_clip

from . import ranks_worker

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the runs of ``ranks_worker`` by two processes."""
    out = tmp_path_factory.mktemp("two")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *command, "-m", "tests.train.ranks_worker", out],
        cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, timeout=400,
    )  # fmt: skip
    return out


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what ``ranks_worker.run`` does to this process."""
    monkeypatch.setattr(device, "has_fast_bf16", device.has_fast_bf16)
    yield
    SIZES.pop("tiny signs", None)


def last_entry(run: Path) -> dict[str, Any]:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [e for e in entries if "loss" in e][-1]


@pytest.mark.parametrize("name", ranks_worker.NAMES)
def test_two_ranks_equal_one(name: str, two: Path, tmp_path: Path) -> None:
    ranks_worker.run(name, tmp_path)
    one, other = load_checkpoint(tmp_path / name), load_checkpoint(two / name)
    assert other["environment"]["ranks"] == 2
    for part in ("model", "average", "discriminator"):
        for key, value in one.get(part, {}).items():
            torch.testing.assert_close(other[part][key], value, atol=2e-4, rtol=1e-3)
    a, b = last_entry(tmp_path / name), last_entry(two / name)
    assert {k: b[k] for k in b if k != "seconds"} == pytest.approx(
        {k: a[k] for k in a if k != "seconds"}, rel=2e-3
    )


def test_micro_batches_equal_a_whole_batch(tmp_path: Path) -> None:
    """Also: what is computed again in the backward pass is what was forgotten."""
    whole = ranks_worker.run("levels", tmp_path).model.state_dict()
    parts = ranks_worker.run("accumulated", tmp_path).model.state_dict()
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, atol=2e-4, rtol=1e-3)


def test_batch_is_divided_evenly(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 3"):
        Trainer(TrainConfig(size="tiny", batch=4, accumulate=3), tmp_path)


def test_what_runs_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_several("this")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="without torchrun"):
        refuse_several("this")


def test_killed_run_goes_on_as_if_nothing_had_been(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    data, killed, whole = tmp_path / "data", tmp_path / "killed", tmp_path / "whole"
    data.mkdir()
    for i in range(2):
        write_clip(data / f"{i}.mkv", 12, 64, 48)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'size = "tiny"\nsteps = 120\nbatch = 1\nframes = 5\ncrop = 32\nwarm_up = 5\n'
        "save_every = 8\nvalidate_every = 1000\n"
    )
    command = ["train", "tokenizer", "--data", data, "--recipe", recipe, "--resume", "auto",
               "--threads", "1", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "neurocodec", *command, "--out", killed],
        cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    began = time.monotonic()
    while not (killed / "checkpoint.pt").exists() and time.monotonic() - began < 300:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < load_checkpoint(killed)["done"] < 120
    assert cli(*command, "--out", killed).status == 0
    assert cli(*command, "--out", whole).status == 0
    a, b = load_checkpoint(killed), load_checkpoint(whole)
    assert a["done"] == b["done"] == 120
    for part in ("model", "average"):
        assert all(torch.equal(a[part][k], b[part][k]) for k in b[part])
    lines = [
        [{**json.loads(line), "seconds": 0} for line in (run / "log.jsonl").read_text().split("\n")
         if line]
        for run in (killed, whole)
    ]  # fmt: skip
    assert lines[0] == lines[1]
