import threading
from collections.abc import Iterator

import pytest

from neurocodec.threads import ahead


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
