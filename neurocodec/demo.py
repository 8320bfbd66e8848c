"""The demonstration: a clip of scikit-image's photographs goes through the codec and back."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from skimage import data

from .bitstream.payloads import Colour
from .codec.compare import Quality, compare
from .codec.compress import Stats, compress
from .codec.decompress import DecodeStats, decompress
from .codec.video import Video
from .media.frame import Frame, MediaInfo, to_video_frame
from .media.reader import MediaReader
from .tokenizer.patch import planes_from_yuv, yuv_from_planes
from .train.data import camera_motion
from .train.picture import rgb

SIDE = 256  # pixels
RATE = 25  # frames per second
FRAMES_PER_PHOTO = 30
_SOUND_RATE = 48000


@dataclass(frozen=True)
class DemoResult:
    source: Path
    compressed: Path
    decoded: Path
    picture: Path  # source beside decoded
    encode: Stats
    decode: DecodeStats
    quality: Quality


def demo_frames() -> list[Frame]:
    """A camera moving over two photographs, with a cut between. The same every time."""
    frames: list[Frame] = []
    rng = np.random.default_rng(7)
    for photo in (data.astronaut(), data.coffee()):
        tensor = torch.from_numpy(photo.copy()).permute(2, 0, 1)
        planes = camera_motion(tensor, FRAMES_PER_PHOTO, SIDE, rng)
        y, u, v = yuv_from_planes((planes.clamp(0, 1) * 255).round().byte())
        for t in range(FRAMES_PER_PHOTO):
            frames.append(Frame(y[t], u[t], v[t], len(frames)))
    return frames


def write_source(path: Path) -> None:
    """The demo clip as an ordinary .mp4: H.264, and a beep in AAC."""
    frames = demo_frames()
    base = Fraction(1, RATE)
    info = MediaInfo(SIDE, SIDE, Fraction(1), Fraction(RATE), base, Colour(2, 2, 5, True))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = SIDE, SIDE, "yuv420p"
        video.codec_context.color_range, video.codec_context.colorspace = 2, 5
        video.codec_context.time_base = base
        sound = container.add_stream("aac", rate=_SOUND_RATE)
        sound.codec_context.layout = "mono"
        for frame in frames:
            container.mux(video.encode(to_video_frame(frame, info)))
        container.mux(video.encode(None))
        times = np.arange(_SOUND_RATE * len(frames) // RATE) / _SOUND_RATE
        beep = 0.2 * np.sin(2 * np.pi * 880 * times) * (times % 1 < 0.2)
        wave = av.AudioFrame.from_ndarray(beep[None].astype(np.float32), "fltp", "mono")
        wave.sample_rate, wave.pts = _SOUND_RATE, 0
        container.mux(sound.encode(wave))
        container.mux(sound.encode(None))


def _picture(frame: Frame) -> torch.Tensor:
    planes = planes_from_yuv(*(plane[None] for plane in frame.planes))
    return rgb(planes[:, 0].float() / 255)


def write_side_by_side(source: Path, compressed: Path, target: Path) -> None:
    """The middle frame of a photograph: source on the left, decoded on the right."""
    wanted = FRAMES_PER_PHOTO // 2
    with MediaReader(source, audio="none") as reader, Video(compressed) as video:
        pictures = [f for f in reader if isinstance(f, Frame)]
        decoded = list(video)
    pair = torch.cat([_picture(pictures[wanted]), _picture(decoded[wanted])], 2)
    array = (pair * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(array)).save(target)


def run_demo(folder: Path, quality: int = 50, device: str = "auto") -> DemoResult:
    """Make, compress, decode and compare the demo clip in ``folder``, replacing older results."""
    folder.mkdir(parents=True, exist_ok=True)
    source, compressed = folder / "source.mp4", folder / "demo.nc"
    decoded, picture = folder / "decoded.mp4", folder / "side-by-side.png"
    write_source(source)
    encode = compress(source, compressed, quality=quality, device=device, overwrite=True)
    decode = decompress(compressed, decoded, device=device, overwrite=True)
    write_side_by_side(source, compressed, picture)
    found = compare(source, compressed)
    return DemoResult(source, compressed, decoded, picture, encode, decode, found)
