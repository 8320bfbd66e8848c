"""Lists of files, shards, and clips decoded as they are needed."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurocodec.errors import DataError
from neurocodec.train.data import load_sources
from neurocodec.train.listing import list_media
from neurocodec.train.stream import StreamBatches, hold_out
from tests.conftest import write_clip

webdataset = pytest.importorskip("webdataset")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    for i in range(5):
        (data / f"class{i % 2}").mkdir(exist_ok=True)
        write_clip(data / f"class{i % 2}" / f"{i}.mkv", 12 + i, 64, 48)
    (data / "class0" / "broken.mp4").write_bytes(b"not a video")
    (data / "notes.md").write_text("no clip")
    return data


@pytest.fixture(scope="module")
def shard(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the WebDataset library writes it."""
    path = tmp_path_factory.mktemp("shards") / "a-000.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for i in range(3):
            clip = (folder / f"class{i % 2}" / f"{i}.mkv").read_bytes()
            label = {"cls": b"moving"} if i == 2 else {}
            writer.write({"__key__": f"walk/{i}", "mkv": clip, "json": b"{}", **label})
    return path


def test_folders_lists_and_shards_name_the_same_clips(
    folder: Path, shard: Path, tmp_path: Path
) -> None:
    entries = list_media(folder)
    assert [(e.name, e.label) for e in entries] == [
        ("0", "class0"), ("2", "class0"), ("4", "class0"), ("broken", "class0"),
        ("1", "class1"), ("3", "class1"),
    ]  # fmt: skip
    listed = tmp_path / "list.txt"
    listed.write_text(f"{folder}/class1/3.mkv\n\n{folder}/class0/0.mkv\n{shard}\n")
    found = list_media(listed)
    assert [(e.name, e.label) for e in found] == [
        ("3", "class1"), ("0", "class0"), ("0", "walk"), ("1", "walk"), ("2", "moving"),
    ]  # fmt: skip
    a, b = (load_sources(data, 5, 32).videos for data in (folder, shard.parent))
    assert len(b) == 3
    assert torch.equal(a[0], b[0])  # the same file, alone and in the shard


def test_what_cannot_be_listed(folder: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("gone.mkv\n")
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"x" * 2000)
    for data, words in ((listed, "gone.mkv"), (broken, "tar shard"), (tmp_path / "a", "not a")):
        with pytest.raises(DataError, match=words):
            list_media(data)
    with pytest.raises(DataError, match="none of 1 files"):
        StreamBatches(list_media(folder)[3:4], 1, 5, 32).batch(0)
    with pytest.raises(DataError, match="no video"):
        StreamBatches([], 1, 5, 32)


def test_every_file_once_an_epoch_and_the_broken_one_skipped(folder: Path) -> None:
    batches = StreamBatches(list_media(folder), 6, 12, 32, seed=1)
    for index in range(2):
        labels = [batches.labelled(index, k)[1] for k in range(6)]
        # one of the five good files stands in for the broken one
        assert sorted(labels) in ([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1])
    assert batches.skipped == 1
    assert batches.classes == ["class0", "class1"]
    clip, _ = batches.labelled(0, 0)
    assert clip.shape == (6, 12, 16, 16)
    assert 0 <= clip.min() <= clip.max() <= 1


def test_order_depends_on_the_seed_and_can_be_resumed_anywhere(folder: Path) -> None:
    entries = list_media(folder)
    whole = StreamBatches(entries, 4, 5, 32, seed=3, workers=3).iterate(0)
    first = [next(whole) for _ in range(5)]
    whole.close()
    resumed = StreamBatches(entries, 4, 5, 32, seed=3).iterate(3)  # in the middle of an epoch
    assert torch.equal(next(resumed), first[3])
    assert torch.equal(next(resumed), first[4])
    resumed.close()
    part = StreamBatches(entries, 4, 5, 32, seed=3).iterate(2, slice(2, 4))  # of the second rank
    assert torch.equal(next(part), first[2][2:])
    part.close()
    other = StreamBatches(entries, 4, 5, 32, seed=4)
    assert not torch.equal(other.batch(0), first[0])


def test_decoded_clips_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = StreamBatches(list_media(folder), 2, 5, 32, workers=2)
    asked = []
    labelled = StreamBatches.labelled

    def counted(self: StreamBatches, index: int, place: int) -> tuple[torch.Tensor, int]:
        asked.append((index, place))
        return labelled(self, index, place)

    monkeypatch.setattr(StreamBatches, "labelled", counted)
    stream = batches.iterate(0)
    next(stream)
    assert len(asked) <= 2 + 2 + 2  # a batch, as many ahead, and one a worker
    stream.close()


def test_long_videos_are_entered_anywhere(tmp_path: Path) -> None:
    write_clip(tmp_path / "long.mkv", 200, 64, 48, codec="libx264")
    batches = StreamBatches(list_media(tmp_path), 8, 5, 32)
    clips = batches.batch(0)
    assert len({float(clip.sum()) for clip in clips}) == 8


def test_held_out_files_leave_the_training_set(folder: Path) -> None:
    entries = list_media(folder)
    held = hold_out(entries, 2, 5, 32)
    assert held.names == ["2", "3"]  # and "broken", which is none
    assert not {"2", "3", "broken"} & {e.name for e in entries}


def test_links_in_a_shard_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("a.mkv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        clip = write_clip(tmp_path / "b.mkv", 6, 64, 48).read_bytes()
        info = tarfile.TarInfo("b.mkv")
        info.size = len(clip)
        tar.addfile(info, io.BytesIO(clip))
    assert [e.name for e in list_media(tmp_path / "a.tar")] == ["b"]


def test_layouts_of_data_sets(tmp_path: Path) -> None:
    """ImageNet, Kinetics-600 and UCF-101 as they come, and a list of UCF-101's own."""
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    clips = {
        "imagenet": ["n01440764/n01440764_10026.JPEG", "n01443537/n01443537_2.JPEG"],
        "kinetics": ["riding a bike/-3B32lodo2M_000059_000069.mp4", "yoga/__NrybzYzUg_1_11.mp4"],
        "ucf": ["ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "YoYo/v_YoYo_g25_c05.avi"],
    }
    for data_set, names in clips.items():
        for name in names:
            path = tmp_path / data_set / name
            path.parent.mkdir(parents=True)
            if path.suffix == ".JPEG":
                photo.save(path)
            else:
                codec = "mpeg4" if path.suffix == ".avi" else "libx264"
                write_clip(path, 6, 48, 48, codec=codec)
        frames = 1 if data_set == "imagenet" else 5
        batches = StreamBatches(list_media(tmp_path / data_set), 1, frames, 32)
        assert batches.classes == [name.split("/")[0] for name in names]
        found = [batches.labelled(i, 0) for i in range(2)]
        assert sorted(label for _, label in found) == [0, 1]
        assert all(clip.shape == (6, frames, 16, 16) for clip, _ in found)
        assert batches.skipped == 0
    split = tmp_path / "ucf" / "trainlist01.txt"
    split.write_text(f"{clips['ucf'][1]} 101\n")
    (entry,) = list_media(split)
    assert (entry.label, entry.name) == ("YoYo", "v_YoYo_g25_c05")
