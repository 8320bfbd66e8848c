import io
import itertools
from pathlib import Path

import av
import pytest

from neurocodec.bitstream.limits import MAX_TRACKS
from neurocodec.errors import UsageError
from neurocodec.media.audio import open_tracks, parse_audio

from .clips import CLICK, Sound, add_sound, click_of, copy, look, read, samples, write_clip


def test_choices() -> None:
    assert parse_audio("copy") == ("copy", 0)
    assert parse_audio("none") == ("none", 0)
    assert parse_audio("opus") == ("opus", 96)
    assert parse_audio("opus:24") == ("opus", 24)
    for choice in ("", "mp3", "opus:", "opus:5", "opus:511", "opus:24k", "copy "):
        with pytest.raises(UsageError):
            parse_audio(choice)


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("aac", ".mp4"), ("libopus", ".webm"), ("flac", ".mkv"), ("pcm_s16le", ".avi")],
)
def test_packets_are_copied(codec: str, suffix: str, tmp_path: Path) -> None:
    video = "libvpx" if suffix == ".webm" else "libx264"
    path = write_clip(tmp_path / f"a{suffix}", 12, codec=video, sounds=[Sound(codec, 0.5)])
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        expected = [(packet.pts, bytes(packet)) for packet in packets]
    info, _, got = read(path)
    assert [(packet.pts, packet.data) for packet in got] == expected
    description = info.tracks[0].description
    with av.open(io.BytesIO(description)) as container:
        assert container.streams.audio[0].codec_context.name == info.tracks[0].codec


def test_long_packets_of_pcm_are_copied(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_clip(tmp_path / "a.mkv", 25, sounds=[Sound("pcm_s16le", 1)])
    info, _, packets = read(path)
    assert len(packets[0].data) == 192_000
    assert len(info.tracks[0].description) < 70_000
    assert look(copy(path, tmp_path / "b.mkv")).clicks == pytest.approx([CLICK], abs=0.003)
    assert not caplog.records


def test_aac_of_broadcasts_loses_its_headers(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.ts", 12, sounds=[Sound("aac", 1)])
    packets = read(path)[2]
    assert packets
    assert not any(packet.data.startswith(b"\xff") for packet in packets)
    for suffix in (".mkv", ".mp4"):
        assert look(copy(path, tmp_path / f"b{suffix}")).codecs == ["aac"]
        assert click_of(tmp_path / f"b{suffix}") > 0


def test_what_matroska_cannot_hold_becomes_opus_with_a_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_clip(tmp_path / "a.avi", 25, sounds=[Sound("adpcm_ms", rate=44100)])
    info, _, _ = read(path)
    assert [track.codec for track in info.tracks] == ["opus"]
    assert [r.getMessage() for r in caplog.records] == [
        f"{path}: adpcm_ms audio cannot be copied; encoded as Opus"
    ]


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_opus(layout: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", 25, sounds=[Sound("ac3", layout=layout)])
    info, _, packets = read(path, "opus:32")
    track = info.tracks[0]
    assert (track.codec, track.sample_rate) == ("opus", 48000)
    assert track.channels == (1 if layout == "mono" else 2)
    assert sum(len(packet.data) for packet in packets) < 32000 / 8 * 1.5
    more = read(path, "opus:128")[2]
    assert sum(len(p.data) for p in more) > 2 * sum(len(p.data) for p in packets)


def test_an_edit_list_hides_sound(tmp_path: Path) -> None:
    # sound that begins before 0 is stored and hidden by the edit list of MP4
    path = write_clip(tmp_path / "a.mp4", 25, sounds=[Sound("aac", 1, start=-0.3)])
    info, _, packets = read(path)
    times = [packet.pts * info.tracks[0].time_base for packet in packets]
    assert sum(time < 0 for time in times) <= 2  # what the decoder needs to get going


def test_a_track_that_changes_its_layout_midway(tmp_path: Path) -> None:
    sounds = [Sound("ac3"), Sound("ac3", start=1, layout="5.1")]
    sounds = [Sound("ac3"), Sound("ac3", start=1, layout="5.1")]
    parts = [
        write_clip(tmp_path / f"{i}.ts", 25, start=i, sounds=[sound])
        for i, sound in enumerate(sounds)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    info, _, packets = read(joined, "opus")
    last = packets[-1]
    assert (last.pts + last.duration) * info.tracks[0].time_base == pytest.approx(2, abs=0.1)


def test_a_pause_stays_a_pause(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", 25)
        video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
        sound = add_sound(container, Sound("pcm_s16le"))
        container.mux(video.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(video.encode(None))
        for start in (0.0, 1.5):
            container.mux(sound.encode(samples(Sound("pcm_s16le", 0.8, start))))
        container.mux(sound.encode(None))
    info, _, packets = read(path, "opus")
    base = info.tracks[0].time_base
    gaps = [float((b.pts - a.pts) * base) for a, b in itertools.pairwise(packets)]
    assert max(gaps) == pytest.approx(0.7, abs=0.05)
    assert packets[-1].pts * base == pytest.approx(2.3, abs=0.05)


def test_several_tracks_keep_order_and_language(tmp_path: Path) -> None:
    sounds = [
        Sound("ac3", 0.5, language="fra"),
        Sound("aac", 0.5, language="eng", layout="mono"),
        Sound("flac", 0.5),
    ]
    path = write_clip(tmp_path / "a.mkv", 12, sounds=sounds)
    info, _, packets = read(path)
    assert [track.codec for track in info.tracks] == ["ac3", "aac", "flac"]
    assert [track.language for track in info.tracks] == ["fra", "eng", ""]
    assert [track.channels for track in info.tracks] == [2, 1, 2]
    assert {packet.track for packet in packets} == {0, 1, 2}
    assert not read(path, "none")[0].tracks


def test_a_track_without_sound_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", 25)
        video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
        add_sound(container, Sound("flac"))
        container.mux(video.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(video.encode(None))
    assert not open_tracks(path, "copy")
    assert [r.getMessage() for r in caplog.records] == [
        f"{path}: an audio track without sound was left out"
    ]


def test_no_more_tracks_than_the_format_allows(tmp_path: Path) -> None:
    sounds = [Sound("pcm_s16le", 0.05, layout="mono")] * (MAX_TRACKS + 2)
    path = write_clip(tmp_path / "a.mkv", 2, sounds=sounds)
    assert len(open_tracks(path, "copy")) == MAX_TRACKS
