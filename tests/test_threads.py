import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from neurocodec.codec.child import environment
from neurocodec.threads import QUIET, ahead, processors, quieten, share_of


def test_libraries_are_told_how_to_wait_unless_they_are_told_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {"OPENBLAS_NUM_THREADS": "7"})
    quieten()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"
    child = environment()
    assert (child["OMP_WAIT_POLICY"], child["OPENBLAS_NUM_THREADS"]) == ("PASSIVE", "7")


def test_a_command_tells_them_before_it_loads_them() -> None:
    """numpy reads these when it is loaded, and with it torch."""
    code = (
        "import os, sys\n"
        "from neurocodec import cli\n"
        "assert 'numpy' not in sys.modules\n"
        "sys.argv = ['neurocodec', '--version']\n"
        "try:\n    cli.run()\nfinally:\n"
        "    print(os.environ['OPENBLAS_NUM_THREADS'], os.environ['OMP_WAIT_POLICY'])"
    )
    plain = {k: v for k, v in environment().items() if k not in QUIET}
    ended = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1] == "1 PASSIVE", ended.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_all_threads_share_a_heap() -> None:
    """Two threads take small memory: with a heap for each, the second's lies in a mapping apart."""
    code = (
        "import ctypes, sys, threading\n"
        "from neurocodec.threads import quieten\n"
        "if sys.argv[1] == 'quiet':\n    quieten()\n"
        "malloc = ctypes.CDLL(None).malloc\n"
        "malloc.restype, found = ctypes.c_void_p, []\n"
        "take = lambda: found.append(malloc(ctypes.c_size_t(5000)))\n"
        "take()\n"
        "thread = threading.Thread(target=take)\nthread.start()\nthread.join()\n"
        "print(abs(found[0] - found[1]) < 1 << 28)"
    )
    plain = {k: v for k, v in environment().items() if k not in QUIET}
    said = [
        subprocess.run([sys.executable, "-c", code, how], env=plain, capture_output=True, text=True)
        for how in ("quiet", "as it is")
    ]
    assert [x.stdout.strip() for x in said] == ["True", "False"], said[0].stderr


def test_processors_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert (processors(), share_of(2), share_of(9)) == (3, 1, 1)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors() == 1


def test_same_items_in_order() -> None:
    assert list(ahead(iter(range(100)), 3)) == list(range(100))
    assert list(ahead(iter(()), 3)) == []


def test_no_further_ahead_than_allowed() -> None:
    made = []
    full = threading.Event()

    def source() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            if i == 3:  # one is taken, two wait, one is in hand
                full.set()
            yield i

    items = ahead(source(), 2)
    assert next(items) == 0
    assert full.wait(10)
    assert len(made) == 4
    items.close()
    assert len(made) <= 5


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_come_out_here(error: type[BaseException]) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise error("told")

    items = ahead(source(), 3)
    assert next(items) == 1
    with pytest.raises(error, match="told"):
        next(items)


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    items = ahead(iter(range(10**9)), 2)
    next(items)
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before
    ahead(iter(range(3)), 2).close()  # never begun
    assert threading.active_count() == before
