from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurocodec.errors import DataError
from neurocodec.tokenizer.patch import yuv_from_planes
from neurocodec.train.data import Batches, camera_motion, load_sources, mirror, read_video
from tests.conftest import moving_picture, write_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    write_clip(data / "a.mkv", 20, 64, 48)
    write_clip(data / "deep" / "b.mkv", 20, 80, 64)
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(data / "photo.png")
    (data / "broken.mp4").write_bytes(b"not a video")
    write_clip(data / "short.mkv", 3, 64, 48)
    return data


def test_folder_is_read_and_unusable_files_are_counted(folder: Path) -> None:
    sources = load_sources(folder, frames=9, crop=32)
    assert sources.names == ["a", "b"]
    assert [v.shape[0] for v in sources.videos] == [6, 6]
    assert len(sources.photos) == 1
    assert sources.skipped == 2


def test_small_videos_keep_their_samples(tmp_path: Path) -> None:
    clip = read_video(write_clip(tmp_path / "a.mkv", 4, 64, 48), 4, 288)
    y, _, _ = yuv_from_planes(clip)
    assert np.array_equal(y[2], moving_picture(4, 64, 48)[2].y)


def test_batches_depend_on_seed_and_index_alone(folder: Path) -> None:
    sources = load_sources(folder, frames=9, crop=32)
    batches = Batches(sources, 3, 9, 32, seed=5)
    assert batches.batch(4).shape == (3, 6, 9, 16, 16)
    assert torch.equal(batches.batch(4), Batches(sources, 3, 9, 32, seed=5).batch(4))
    assert not torch.equal(batches.batch(4), batches.batch(5))
    stream = batches.iterate(4)
    assert torch.equal(next(stream), batches.batch(4))
    assert torch.equal(next(stream), batches.batch(5))
    stream.close()
    assert 0 <= batches.batch(0).min() <= batches.batch(0).max() <= 1


def test_held_out_videos_leave_the_training_set(folder: Path) -> None:
    sources = load_sources(folder, frames=9, crop=32)
    held = sources.hold_out(40)
    assert held.names == ["a"]
    assert sources.names == ["b"]


def test_camera_moves_over_a_photograph() -> None:
    rng = np.random.default_rng(3)
    photo = torch.from_numpy(rng.integers(0, 255, (3, 96, 96), dtype=np.uint8))
    clip = camera_motion(photo, 5, 32, np.random.default_rng(1))
    assert clip.shape == (6, 5, 16, 16)
    assert (clip[:, 0] - clip[:, 4]).abs().mean() > 0.01


def test_mirror_is_its_own_inverse_and_a_mirror() -> None:
    planes = torch.randint(0, 255, (6, 2, 4, 8), dtype=torch.uint8)
    assert torch.equal(mirror(mirror(planes)), planes)
    y, u, _ = yuv_from_planes(planes)
    flipped_y, flipped_u, _ = yuv_from_planes(mirror(planes))
    assert np.array_equal(flipped_y, y[:, :, ::-1])
    assert np.array_equal(flipped_u, u[:, :, ::-1])


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        load_sources(tmp_path / "missing", 9, 32)
    with pytest.raises(DataError, match="no video of 9 frames"):
        load_sources(tmp_path, 9, 32)
