"""Pictures side by side: what depends on each other waits, and what comes of it is the same."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import neurocodec
from neurocodec import models
from neurocodec.bitstream.reader import Reader
from neurocodec.codec import wavefront
from neurocodec.codec.decoder import synthesizer
from neurocodec.codec.tokens import decode_tokens
from neurocodec.codec.wavefront import Wavefront, workers_for
from neurocodec.entropy.structure import Picture, mini_gop
from tests.conftest import moving_picture, write_y4m


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def loop(**more: Any) -> Any:
    """What a Wavefront asks of a loop."""
    device = torch.device("cpu")
    return SimpleNamespace(pictures={0: "I"}, alone=False, large=False, device=device, **more)


GROUP = list(mini_gop(0, 0, 8))


def test_pictures_wait_for_their_references(two_threads: None) -> None:
    made, order, at_once = loop(), [], set()
    running: set[int] = set()

    def work(picture: Picture, given: int) -> int:
        assert made.pictures.keys() >= set(picture.refs)
        running.add(picture.display)
        time.sleep(0.002 * (given % 3))
        at_once.add(frozenset(running))
        running.remove(picture.display)
        return given

    def take(picture: Picture, found: int) -> None:
        assert found == 10 * picture.display
        made.pictures[picture.display] = found
        order.append(picture.display)

    front = Wavefront(made, lambda picture, given: partial(work, picture, given), take)
    for picture in GROUP:
        front.add(picture, 10 * picture.display)
    assert len(front) == 8
    front.proceed(lambda: 4 in made.pictures)
    assert {8, 4} <= set(order)
    assert front.references() <= {0, 2, 4, 6, 8}
    front.proceed(lambda: not len(front))
    front.close()
    assert sorted(order) == list(range(1, 9))
    assert max(len(some) for some in at_once) == 2


def test_two_are_under_way(two_threads: None) -> None:
    """Each waits for the other to have begun."""
    made = loop()
    made.pictures |= {4: "P", 8: "P"}
    both = threading.Barrier(2)

    def take(picture: Picture, found: int) -> None:
        made.pictures[picture.display] = found

    front = Wavefront(made, lambda picture, given: partial(both.wait, 20), take)
    for picture in (Picture(2, (0, 4), 2), Picture(6, (4, 8), 2)):
        front.add(picture, None)
    front.proceed(lambda: not len(front))
    front.close()
    assert {2, 6} <= made.pictures.keys()


def test_a_failure_is_told(two_threads: None) -> None:
    def fails(picture: Picture, given: None) -> Callable[[], None]:
        return partial(int, "no number")

    front = Wavefront(loop(), fails, lambda picture, found: None)
    front.add(GROUP[0], None)
    with pytest.raises(ValueError, match="no number"):
        front.proceed(lambda: not len(front))
    front.close()


def test_what_can_never_be_done_ends(two_threads: None) -> None:
    front = Wavefront(loop(), lambda picture, given: partial(int), lambda picture, found: None)
    front.add(Picture(3, (1, 2), 1), None)
    front.proceed(lambda: not len(front))
    assert len(front) == 1
    front.close()


def test_how_many_threads(two_threads: None) -> None:
    assert workers_for(loop()) == 2
    for name, value in (("alone", True), ("large", True), ("device", torch.device("cuda"))):
        other = loop()
        setattr(other, name, value)
        assert workers_for(other) == 1
    torch.set_num_threads(1)
    assert workers_for(loop()) == 1


@pytest.mark.parametrize("effort", ["fast", "slow"])
def test_files_and_frames_are_the_same(
    effort: str, tmp_path: Path, tiny_motion_generated: Path, monkeypatch: pytest.MonkeyPatch,
    two_threads: None,
) -> None:  # fmt: skip
    source, model = tmp_path / "in.y4m", str(tiny_motion_generated)
    write_y4m(source, moving_picture(22, 64, 48))
    coded, decoded = [], []
    for count in (2, 1):
        monkeypatch.setattr(wavefront, "_AT_ONCE", count)
        out = tmp_path / f"{count}.nc"
        neurocodec.compress(source, out, model=model, gop=12, device="cpu", effort=effort)
        coded.append(out.read_bytes())
        neurocodec.decompress(out, out.with_suffix(".y4m"), model=model, device="cpu")
        decoded.append(out.with_suffix(".y4m").read_bytes())
    assert coded[0] == coded[1]
    assert decoded[0] == decoded[1]


def test_alone_each_picture_comes_as_soon_as_it_is_known(
    tmp_path: Path, tiny_motion_generated: Path
) -> None:
    """And its tokens are not kept: those of large pictures take memory."""
    source, out = tmp_path / "in.y4m", tmp_path / "out.nc"
    write_y4m(source, moving_picture(12, 64, 48))
    bundle = models.read_bundle(tiny_motion_generated)
    neurocodec.compress(source, out, model=str(tiny_motion_generated), device="cpu")
    with Reader(out) as reader:
        found = reader.read_gop(reader.gops[0])
        assert found is not None
        make = synthesizer(bundle, bundle.tokenizer(), torch.device("cpu"), reader.header, found[0])
        entropy = bundle.entropy(reader.header.entropy_model)
        for item in decode_tokens(reader.header, found[0], entropy):
            make(item)
            assert len(make._front) == 0
        assert make.finish() == []


def test_one_may_stop_in_the_middle(
    tmp_path: Path, tiny_motion_generated: Path, two_threads: None
) -> None:
    source, out = tmp_path / "in.y4m", tmp_path / "out.nc"
    write_y4m(source, moving_picture(20, 64, 48))
    before = threading.active_count()
    neurocodec.compress(source, out, model=str(tiny_motion_generated), device="cpu")
    with neurocodec.open(out, str(tiny_motion_generated), "cpu") as video:
        first = next(iter(video))
        assert first.y.shape == (48, 64)
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before
