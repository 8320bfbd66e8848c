from fractions import Fraction
from pathlib import Path

import pytest

from neurocodec.media import matroska

from .clips import look, write_clip


@pytest.mark.parametrize("container", ["matroska", "webm"])
def test_the_rest_of_the_file_stays(container: str, tmp_path: Path) -> None:
    from typing import cast

    import av

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w", format=container, container_options=matroska.OPTIONS) as file:
        stream = cast(av.VideoStream, file.add_stream("libvpx-vp9", 25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["title"] = matroska.PLACEHOLDER
        for i in range(3):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = i
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    before = path.read_bytes()
    matroska.set_aspect(path, 64, 48, Fraction(64, 45))
    after = path.read_bytes()
    assert len(after) == len(before)
    assert matroska.PLACEHOLDER.encode() not in after
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert changed[-1] - changed[0] < 120
    seen = look(path)
    assert seen.aspect == Fraction(64, 45)
    assert len(seen.frames) == 3


def test_a_file_without_room_is_no_file_of_ours(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", 2)
    with pytest.raises(ValueError, match="subsection not found"):
        matroska.set_aspect(path, 64, 48, Fraction(4, 3))
