"""The command line, called in this process, and a file to call it on."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import neurocodec
from neurocodec.cli import run
from tests.media.clips import Sound, write_clip


@dataclass
class Ended:
    status: int
    out: str
    err: str


Cli = Callable[..., Ended]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    def call(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["neurocodec", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ended(int(ended.value.code or 0), out, err)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "clip.mp4"
    return write_clip(path, 12, sounds=[Sound("aac", 0.48)])


@pytest.fixture(scope="session")
def compressed(clip: Path, tiny: Path) -> Path:
    path = clip.with_name("clip.nc")
    neurocodec.compress(clip, path, model=str(tiny), gop=5)
    return path
