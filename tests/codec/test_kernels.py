"""Compiled functions are made by several processes where none has been, and all are listed."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from neurocodec.codec import kernels
from neurocodec.codec.child import environment
from neurocodec.codec.kernels import listed, made_ready, make, share_of
from neurocodec.compiled import notice
from neurocodec.entropy.integer import _buckets
from neurocodec.files import locked
from neurocodec.vectors import product
from scripts.list_kernels import types_as_text


@pytest.mark.skipif(product.stats.cache_path is None, reason="no folder to keep them")  # type: ignore[attr-defined]
def test_all_that_a_codec_calls_are_listed() -> None:
    """Of what is found in the cache, which has them since the tests began."""
    ended = subprocess.run(
        [sys.executable, "-m", "scripts.list_kernels", "medium"],
        env=environment() | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    called = set(ended.stdout.splitlines())
    expected = {" ".join(line) for line in listed()}
    assert called <= expected, called - expected
    assert len(called) >= len(expected) - 3  # those of other efforts


@pytest.mark.parametrize("shares", [1, 2, 5])
def test_each_is_made_by_one(shares: int) -> None:
    found = [line for share in range(shares) for line in share_of(share, shares)]
    assert sorted(found) == sorted(listed())


def test_types_are_read_as_they_are_written() -> None:
    _buckets(np.zeros(3, np.int64))
    (types,) = _buckets.signatures  # type: ignore[attr-defined]
    assert ("entropy.integer._buckets", types_as_text(types)) in listed()
    make("entropy.integer._buckets", types_as_text(types))
    assert _buckets.signatures == [types]  # type: ignore[attr-defined]
    for _, text in listed():
        assert types_as_text(tuple(kernels.types_of(text))) == text


KILLED: list[int] = []
KILL = 9


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which shares are started, on a machine with three processors, where nothing is made."""
    shares: list[int] = []

    def start(share: int, count: int) -> subprocess.Popen[bytes]:
        assert count == 3
        shares.append(share)
        code = f"import os; os.kill(os.getpid(), {KILL})" if share in KILLED else "exit(1)"
        return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)

    KILLED.clear()
    monkeypatch.setattr(kernels, "_start", start)
    monkeypatch.setattr(kernels, "processors", lambda: 3)
    monkeypatch.setattr(kernels, "folder_of_cache", lambda: tmp_path)
    return shares


def test_they_are_made_once_even_if_one_cannot_be(
    started: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(notice, "given", False)
    for _ in range(2):
        with made_ready():
            pass
        assert started == [0, 1, 2]
    assert len(list(tmp_path.glob("kernels-*"))) == 1
    monkeypatch.setattr(kernels, "_state", lambda: "another compiler")
    with made_ready():
        pass
    assert started == [0, 1, 2] * 2


def test_they_are_not_taken_for_made_where_a_process_is_killed(
    started: list[int], tmp_path: Path
) -> None:
    KILLED.append(1)
    with made_ready():
        pass
    assert not list(tmp_path.glob("kernels-*"))
    with pytest.raises(KeyboardInterrupt), made_ready():
        raise KeyboardInterrupt
    assert started == [0, 1, 2] * 2


@pytest.mark.parametrize(("count", "folder"), [(1, True), (3, False)])
def test_one_processor_or_no_folder(
    count: int, folder: bool, started: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "processors", lambda: count)
    monkeypatch.setattr(kernels, "folder_of_cache", lambda: tmp_path if folder else None)
    with made_ready():
        pass
    assert started == []


def test_others_wait_meanwhile(tmp_path: Path) -> None:
    order: list[str] = []
    entered = threading.Event()

    def other() -> None:
        entered.set()
        with locked(tmp_path / "lock"):
            order.append("second")

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    with locked(tmp_path / "no folder" / "lock"):  # nobody waits where there can be no lock
        pass
