import itertools
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition
from PIL import Image

from neurocodec.errors import InputError
from neurocodec.media.audio import AudioSource
from neurocodec.media.reader import MediaReader
from tests.conftest import moving_picture

from .clips import Sound, add_sound, read, samples, write_clip

UNEVEN = [0, 3003, 3004, 9009, 12012, 900000]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".mkv", "ffv1")])
def test_timestamps_survive(suffix: str, codec: str, tmp_path: Path) -> None:
    pts, base = (UNEVEN, Fraction(1, 90000)) if suffix == ".mp4" else (
        [0, 7, 100, 101, 333, 5000], Fraction(1, 1000))  # fmt: skip
    path = write_clip(tmp_path / f"a{suffix}", 6, codec=codec, pts=pts, time_base=base)
    info, frames, _ = read(path)
    assert info.time_base == base
    assert [frame.pts for frame in frames] == pts


def test_a_late_picture_stays_late(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 5, start=0.4, sounds=[Sound("aac")])
    info, frames, packets = read(path)
    assert frames[0].pts * info.time_base == Fraction(2, 5)
    assert -0.03 < packets[0].pts * info.tracks[0].time_base <= 0


def test_a_broadcast_s_clock_begins_at_0(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.ts", 5, start=1000, sounds=[Sound("mp2", 0.2, 1000.2)])
    info, frames, packets = read(path)
    assert frames[0].pts == 0
    assert [b.pts - a.pts for a, b in itertools.pairwise(frames)] == [3600] * 4
    late = packets[0].pts * info.tracks[0].time_base
    assert late == pytest.approx(0.2, abs=0.02)  # the encoder's delay


def test_joined_recordings_go_on(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.ts", 10, start=5, sounds=[Sound("mp2", 0.4, 5)])
    (tmp_path / "twice.ts").write_bytes(clip.read_bytes() * 2)
    info, once, sound = read(clip)
    _, frames, packets = read(tmp_path / "twice.ts")
    assert len(frames) == 20
    steps = [b.pts - a.pts for a, b in itertools.pairwise(frames)]
    assert max(steps) - min(steps) <= 0.05 / info.time_base
    apart = frames[10].pts - once[0].pts
    assert packets[len(sound)].pts - sound[0].pts == pytest.approx(apart, abs=2)


def test_avi_has_no_times_for_reordered_frames(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for codec in ("libx264", "mpeg4"):
        options = {"bf": "2"} if codec == "mpeg4" else {}
        path = write_clip(tmp_path / f"{codec}.avi", 12, codec=codec, options=options)
        assert [frame.pts for frame in read(path)[1]] == list(range(12))
    assert not caplog.records


def test_empty_packets_stand_for_dropped_frames(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.nut", 8, codec="mjpeg", pix_fmt="yuvj420p")
    path = tmp_path / "b.nut"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux() if p.size):
            kept = av.Packet(b"" if number in (0, 3) else bytes(packet))
            kept.pts, kept.dts, kept.time_base = packet.pts, packet.dts, packet.time_base
            kept.stream = stream
            target.mux(kept)
    info, frames, _ = read(path)
    assert [frame.pts * info.time_base * 25 for frame in frames] == [1, 2, 4, 5, 6, 7]


def test_frames_without_times_are_spaced_evenly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_clip(tmp_path / "a.h264", 5)
    info, frames, _ = read(path)
    assert [frame.pts * info.time_base * 25 for frame in frames] == [0, 1, 2, 3, 4]
    assert [r.getMessage() for r in caplog.records] == [
        f"{path}: no timestamps in it; frames are spaced evenly"
    ]
    assert len(read(path, start=0.08)[1]) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_cut_is_exact(suffix: str, tmp_path: Path) -> None:
    # 0.1 and 0.4 are no binary fractions, 0.4 is the time of a frame, and GOPs are ten frames long
    path = write_clip(tmp_path / f"a{suffix}", 50, start=3 if suffix == ".ts" else 0,
                      options={"g": "10"})  # fmt: skip
    info, whole, _ = read(path)
    for start, duration, first, count in (
        (0.0, 0.4, 0, 10),
        (0.4, None, 10, 40),
        (1.3, 0.1, 33, 2),
        (1.96, None, 49, 1),
        (0.41, 0.2, 11, 5),
    ):
        info, frames, _ = read(path, start=start, duration=duration)
        step = 1 / (25 * info.time_base)
        assert [frame.pts for frame in frames] == [i * step for i in range(count)]
        assert (frames[0].y == whole[first].y).all()
    with pytest.raises(InputError, match="no frames at 2 s or later"):
        read(path, start=2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_late_cut_is_not_decoded_from_the_beginning(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / f"a{suffix}", 300, options={"g": "10"})
    decoded = []
    timestamp = MediaReader._timestamp
    monkeypatch.setattr(
        MediaReader, "_timestamp", lambda self, f: decoded.append(f) or timestamp(self, f)
    )
    assert len(read(path, start=11, duration=0.2)[1]) == 5
    assert len(decoded) < 100


def test_sound_is_cut_with_the_picture(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 50, sounds=[Sound("aac", 2)])
    for start, duration in ((0.0, 0.4), (0.5, 0.7)):
        info, _, packets = read(path, start=start, duration=duration)
        base = info.tracks[0].time_base
        times = [packet.pts * base for packet in packets]
        assert -0.03 < times[0] < 0.03
        assert duration - 0.05 < times[-1] < duration


def test_a_declared_duration_may_lie(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mkv", 50, sounds=[Sound("ac3", 2)], options={"g": "5"})
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with MediaReader(cut) as reader:
        assert reader.expected_frames == pytest.approx(50, abs=2)
    assert 10 < len(read(cut)[1]) < 45


def test_damaged_frames_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture = tmp_path / "a.jpg"
    Image.new("L", (32, 32), 77).convert("YCbCr").save(picture)
    path = write_clip(tmp_path / "a.avi", 8, size=(32, 32), codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for packet in packets[2:6]:
        data = data.replace(packet, bytes(len(packet)))
    path.write_bytes(data)
    assert len(read(path)[1]) == 4
    assert [r.getMessage() for r in caplog.records] == [
        f"{path}: damaged frames in it were skipped"
    ]


def test_no_frame_at_all_is_refused_without_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:45])
    with pytest.raises(InputError):
        read(tmp_path / "cut.png")
    assert not caplog.records


def test_without_video_or_decoder(tmp_path: Path) -> None:
    cover = tmp_path / "cover.mp3"
    with av.open(str(cover), "w") as container:
        sound = add_sound(container, Sound("libmp3lame"))
        picture = container.add_stream("png", 1)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "rgb24"
        picture.disposition = Disposition.attached_pic
        container.mux(picture.encode(av.VideoFrame(32, 32, "rgb24")))
        container.mux(picture.encode(None))
        container.mux(sound.encode(samples(Sound("libmp3lame"))))
        container.mux(sound.encode(None))
    with av.open(str(cover)) as container:
        assert container.streams.video
    with pytest.raises(InputError, match="no video stream"):
        read(cover)
    clip = write_clip(tmp_path / "a.mp4", 3)
    clip.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(InputError, match="no decoder"):
        read(clip)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_a_picture_is_a_video_of_one_frame(suffix: str, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (200, 100, 50)).save(tmp_path / f"a{suffix}")
    with MediaReader(tmp_path / f"a{suffix}") as reader:
        assert reader.is_picture
        assert reader.expected_frames == 1
        assert (reader.info.width, reader.info.height) == (20, 10)
        assert [frame.pts for frame in reader] == [0]  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (17, 13), (1, 64), (64, 1)])
def test_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.y4m", 3, size=size, codec="wrapped_avframe")
    info, frames, _ = read(path)
    assert (info.width, info.height) == size
    for frame, made in zip(frames, moving_picture(3, *size), strict=True):
        assert all((a == b).all() for a, b in zip(frame.planes, made.planes, strict=True))


def test_shape_of_pixels_turns_with_the_picture(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 2, aspect=Fraction(4, 3))
    assert read(path)[0].sample_aspect == Fraction(4, 3)
    path = write_clip(tmp_path / "b.mp4", 2, aspect=Fraction(4, 3), rotation=(90, False))
    assert read(path)[0].sample_aspect == Fraction(3, 4)


def test_colour_description_is_kept(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 2, colour=(9, 16, 9, 2))
    colour = read(path)[0].colour
    assert (colour.primaries, colour.transfer, colour.matrix) == (9, 16, 9)
    assert colour.full_range


def test_sound_is_not_held_until_the_first_frame_is_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # decoders give no frame before they have seen some: of two in all, none before the end
    path = write_clip(tmp_path / "a.mkv", 2, rate=1, sounds=[Sound("pcm_s16le", 4)])
    read_ahead = []
    monkeypatch.setattr(AudioSource, "convert", lambda self, packet: read_ahead.append(packet))
    with MediaReader(path):
        assert not read_ahead
