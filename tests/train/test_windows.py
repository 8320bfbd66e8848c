from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from neurocodec.codec.frames import pad_planes
from neurocodec.errors import DataError, InputError
from neurocodec.tokenizer.motion import DIRECT
from neurocodec.train import windows as module
from neurocodec.train.data import Sources
from neurocodec.train.windows import (
    FRAMES,
    LENGTHS,
    WindowBatches,
    Windows,
    make_windows,
    search_window,
)
from tests.conftest import moving_picture

SIDE = 48


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIDE", SIDE)
        yield


def sources(frames: int = 18, width: int = 64, height: int = 48) -> Sources:
    videos = [
        (pad_planes(moving_picture(frames, w, height))[0] * 255).byte() for w in (width, width + 16)
    ]
    return Sources(videos, ["a", "b"], [], 0)


@pytest.fixture(scope="module")
def windows() -> Windows:
    return make_windows(sources(), 6, seed=3)


def test_windows_are_frames_and_their_motion(windows: Windows) -> None:
    assert windows.planes.shape == (6, FRAMES, 6, SIDE // 2, SIDE // 2)
    assert windows.planes.dtype == torch.uint8
    assert set(windows.length.tolist()) <= set(LENGTHS)
    cells = SIDE // 8
    assert windows.mode.shape == (6, FRAMES - 1, cells, cells)
    assert windows.fields.shape == (6, FRAMES - 1, 2, cells, cells, 2)
    assert windows.mode.max() <= DIRECT
    assert windows.fields.any()


def test_windows_are_the_same_for_a_seed(windows: Windows) -> None:
    again = make_windows(sources(), 2, seed=3)
    for name in ("planes", "length", "step", "mode", "fields"):
        assert torch.equal(getattr(again, name), getattr(windows, name)[:2])
    x = windows.planes[:4].float() / 255
    mode, fields = search_window(x, int(windows.length[0]), float(windows.step[0]))
    assert torch.equal(mode, windows.mode[:4])
    assert torch.equal(fields, windows.fields[:4])


def test_windows_come_back_from_their_file(windows: Windows, tmp_path: Path) -> None:
    file = tmp_path / "windows.pt"
    windows.save(file)
    assert [p.name for p in tmp_path.iterdir()] == ["windows.pt"]
    batch = WindowBatches(Windows.load(file), 2).batch(5)
    assert torch.equal(batch.x, WindowBatches(windows, 2).batch(5).x)


@pytest.mark.parametrize("content", [b"", b"not windows", None])
def test_another_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "windows.pt"
    if content is None:
        torch.save({"something": torch.zeros(1)}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match="not a file of training windows"):
        Windows.load(file)


def test_batches_depend_on_seed_and_index_alone(windows: Windows) -> None:
    batches = WindowBatches(windows, 3, seed=1)
    stream = batches.iterate(2)
    for index in (2, 3):
        one, other = next(stream), WindowBatches(windows, 3, seed=1).batch(index)
        assert one.length == other.length
        for name in ("x", "step", "mode", "fields"):
            assert torch.equal(getattr(one, name), getattr(other, name))
    stream.close()
    found = [batches.batch(i) for i in range(8)]
    assert any(not torch.equal(found[0].x, b.x) for b in found[1:])
    assert all(b.x.min() >= 0 and b.x.max() <= 1 for b in found)


def test_the_windows_of_a_batch_have_one_length(windows: Windows) -> None:
    mixed = Windows(**{**windows.__dict__, "length": torch.tensor([8, 4, 8, 4, 8, 1])})
    batches = WindowBatches(mixed, 4)
    for i in range(10):
        batch = batches.batch(i)
        fitting = mixed.planes[mixed.length == batch.length].float() / 255
        assert all((fitting == x).flatten(1).all(1).any() for x in batch.x)


def test_sources_too_small_or_short_are_left_out() -> None:
    short, small = sources(frames=6), sources(width=32, height=32)
    usable = sources()
    mixed = Sources([*short.videos, *small.videos, *usable.videos], list("abcdef"), [], 0)
    assert torch.equal(make_windows(mixed, 1).planes, make_windows(usable, 1).planes)
    for useless in (short, small):
        with pytest.raises(DataError, match="no video of 9 frames"):
            make_windows(useless, 1)


def test_photographs_alone_will_do() -> None:
    photo = torch.randint(0, 255, (3, 96, 96), dtype=torch.uint8)
    made = make_windows(Sources([], [], [photo], 0), 1)
    assert made.planes.shape == (1, FRAMES, 6, SIDE // 2, SIDE // 2)
