from pathlib import Path

import av
import pytest

from neurocodec.bitstream.payloads import AudioPacket
from neurocodec.errors import InputError
from neurocodec.media.writer import open_writer

from .clips import CLICK, Sound, copy, look, read, write_clip

NEAR = 0.006  # seconds; the click lasts 0.004


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("aac", ".mp4"),
        ("aac", ".ts"),
        ("libmp3lame", ".mp4"),
        ("ac3", ".mkv"),
        ("eac3", ".mp4"),
        ("flac", ".mkv"),
        ("alac", ".mov"),
        ("libopus", ".webm"),
        ("vorbis", ".webm"),
        ("pcm_s16le", ".mov"),
        ("pcm_u8", ".mkv"),
    ],
)
def test_any_codec_into_any_container_in_time(
    codec: str, suffix: str, target: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    video = "libvpx" if suffix == ".webm" else "libx264"
    path = write_clip(tmp_path / f"a{suffix}", 25, codec=video, sounds=[Sound(codec)])
    before = look(path)
    after = look(copy(path, tmp_path / f"b{target}"))
    assert after.times[0] == 0 or (suffix == ".ts" and after.times[0] < 0.1)
    assert len(after.times) == 25
    apart = before.clicks[0] - float(before.times[0])
    assert after.clicks[0] - float(after.times[0]) == pytest.approx(apart, abs=NEAR)
    kept = after.codecs == before.codecs or "mp3" in after.codecs[0]
    assert kept == (not caplog.records)
    if not kept:
        assert [r.getMessage() for r in caplog.records] == [
            f"{before.codecs[0]} audio does not fit this container; encoded anew, stereo"
        ]
        assert after.codecs == ["opus" if target == ".webm" else "aac"]
        if suffix != ".ts":  # where the decoder's delay is not hidden
            assert first_sound(tmp_path / f"b{target}") == pytest.approx(0, abs=0.004)


def first_sound(path: Path) -> float:
    with av.open(str(path)) as container:
        return float(next(container.decode(audio=0)).time or 0)


def test_matroska_gets_no_sound_before_0(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 12, sounds=[Sound("aac", 0.5)])
    assert read(path)[2][0].pts < 0
    copy(path, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert next(container.demux(audio=0)).pts == 0


@pytest.mark.parametrize("target", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize(("late_sound", "late_picture"), [(0.2, 0.0), (0.0, 0.2)])
def test_what_begins_later_still_does(
    late_sound: float, late_picture: float, target: str, tmp_path: Path
) -> None:
    sound = Sound("aac", start=late_sound)
    path = write_clip(tmp_path / "a.mp4", 25, start=late_picture, sounds=[sound])
    seen = look(copy(path, tmp_path / f"b{target}"))
    assert float(seen.times[0]) == pytest.approx(late_picture, abs=0.001)
    assert seen.clicks[0] == pytest.approx(late_sound + CLICK, abs=NEAR)


@pytest.mark.parametrize("target", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("audio", ["copy", "opus"])
def test_a_cut_is_in_time(audio: str, target: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 40, sounds=[Sound("aac", 1.6)], options={"g": "12"})
    seen = look(copy(path, tmp_path / f"b{target}", audio=audio, start=0.24, duration=0.6))
    assert len(seen.times) == 15
    assert seen.times[0] == 0
    assert seen.clicks[0] == pytest.approx(CLICK - 0.24, abs=NEAR)


def test_tracks_and_languages(tmp_path: Path) -> None:
    sounds = [
        Sound("aac", language="deu"),
        Sound("flac", layout="mono"),
        Sound("ac3", layout="5.1"),
    ]
    path = write_clip(tmp_path / "a.mkv", 25, sounds=sounds)
    for target, codecs in {
        ".mkv": ["aac", "flac", "ac3"],
        ".mp4": ["aac", "flac", "ac3"],
        ".webm": ["opus", "opus", "opus"],
    }.items():
        seen = look(copy(path, tmp_path / f"b{target}"))
        assert seen.codecs == codecs
        assert seen.languages[0] in ("deu", "ger")
        assert seen.clicks == pytest.approx([CLICK] * 3, abs=NEAR)


def test_times_that_do_not_rise(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 12, sounds=[Sound("aac", 0.5)])
    info, frames, packets = read(path)
    for target in (".mp4", ".mkv", ".webm"):
        out = tmp_path / f"b{target}"
        writer = open_writer(out, target, info, False)
        for packet in [*packets[:5], *packets[3:]]:
            writer.audio(packet)
        for frame in frames:
            writer.write(frame)
        writer.close()
        assert len(look(out).times) == 12


def test_damaged_packets_are_left_out(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 25, sounds=[Sound("aac")])
    info, frames, packets = read(path)
    packets[3] = AudioPacket(0, packets[3].pts, packets[3].duration, b"\xff" * 40)
    writer = open_writer(tmp_path / "b.webm", ".webm", info, False)
    for packet in packets:
        writer.audio(packet)
    for frame in frames:
        writer.write(frame)
    writer.close()
    assert look(tmp_path / "b.webm").clicks[0] == pytest.approx(CLICK, abs=NEAR)


def test_a_track_whose_parameters_are_lost(tmp_path: Path) -> None:
    from dataclasses import replace

    path = write_clip(tmp_path / "a.mp4", 2, sounds=[Sound("aac", 0.1)])
    info = read(path)[0]
    for description in (b"", b"nonsense", info.tracks[0].description[:100]):
        track = replace(info.tracks[0], description=description)
        with pytest.raises(InputError, match="parameters of an audio track"):
            open_writer(tmp_path / "b.mp4", ".mp4", replace(info, tracks=(track,)), False)
