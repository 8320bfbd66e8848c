"""The codecs of a benchmark, one class each: what is run to encode and to decode.

Streams are elementary ones (Annex B, AV1 OBU), so that no container is counted, and carry no text
about their encoder (up to 2 KB where x264 and x265 may write it). Still pictures are whole files,
as is ours. Every codec keeps its own GOP and B-frames unless the suite says "matched", and its
own, mostly perceptual, tuning unless it says "psnr".
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .. import __version__, models
from ..errors import ModelError
from .ffmpeg import Ffmpeg

PYTHON = (sys.executable, "-P", "-m")  # -P: the current folder is no place for modules


@dataclass(frozen=True)
class Setting:
    """A codec as the suite asks for it."""

    codec: str
    preset: str | None = None
    gop: str = "default"
    tune: str = "default"

    @property
    def label(self) -> str:
        """For people: "x265 medium, tuned for PSNR"."""
        tune = ", tuned for PSNR" if self.tune == "psnr" else ""
        gop = ", our GOP" if self.gop == "matched" else ""
        return " ".join(filter(None, (self.codec, self.preset))) + gop + tune

    @property
    def slug(self) -> str:
        """The same for file names."""
        return re.sub(r"[^a-z0-9]+", "-", self.label.lower())


@dataclass(frozen=True)
class Dial:
    """What sets a codec's rate: from coarse (few bits) to fine.

    probes: two values to learn from how rate follows the dial. step: the finest the codec takes.
    """

    name: str
    coarse: float
    fine: float
    probes: tuple[float, float]
    step: float = 1

    def clamp(self, value: float) -> float:
        """The nearest value that the codec takes."""
        low, high = sorted((self.coarse, self.fine))
        return min(max(round(value / self.step) * self.step, low), high)


class Codec(ABC):
    """Commands of one codec with one setting. They run in the folder of the results."""

    dial: ClassVar[Dial]
    suffix: ClassVar[str]
    still: ClassVar[bool] = False  # takes one frame only
    default_preset: ClassVar[str | None] = None

    def __init__(
        self, setting: Setting, ffmpeg: Ffmpeg, our_gop: int, model: str | None, tune: str | None
    ) -> None:
        """our_gop: frames, for a "matched" setting. model, tune: of our own codec."""
        self.setting, self.ffmpeg = setting, ffmpeg
        self.our_gop, self.model, self.tune = our_gop, model, tune
        self.preset = setting.preset or self.default_preset
        self.matched = setting.gop == "matched"
        self.for_psnr = setting.tune == "psnr"

    @abstractmethod
    def missing(self) -> str | None:
        """Why this codec cannot run on this machine; None if it can."""

    @abstractmethod
    def encode(self, source: Path, value: float, stream: Path) -> list[str]:
        """Command that makes ``stream`` of the y4m file ``source``."""

    @abstractmethod
    def decode(self, stream: Path, target: Path) -> list[str]:
        """Command that makes a y4m file of a stream."""

    @abstractmethod
    def identity(self) -> dict[str, str]:
        """Names and versions of everything that decides what is written."""

    def encoder_version(self, log: str) -> str | None:
        """The encoder's version as its own output tells it."""
        return None


class FfmpegCodec(Codec):
    """A codec that ffmpeg knows. muxer, demuxer: of the stream."""

    encoder: ClassVar[str]
    muxer: ClassVar[str]
    demuxer: ClassVar[str | None] = None  # ffmpeg is to find out if None
    version_pattern: ClassVar[str | None] = None

    @abstractmethod
    def options(self, value: float) -> list[str]:
        """Of the encoder."""

    def missing(self) -> str | None:
        if self.encoder in self.ffmpeg.encoders:
            return None
        return f"ffmpeg {self.ffmpeg.version} has no {self.encoder}"

    def encode(self, source: Path, value: float, stream: Path) -> list[str]:
        return [
            *self._start(), "-i", str(source), "-an", "-c:v", self.encoder,
            *self.options(value), "-f", self.muxer, str(stream),
        ]  # fmt: skip

    def decode(self, stream: Path, target: Path) -> list[str]:
        # as deep as it was coded: Y4m rounds to 8 bits, where ffmpeg would dither
        kind = ["-f", self.demuxer] if self.demuxer else []
        return [
            *self._start(), *kind, "-i", str(stream), "-fps_mode", "passthrough",
            "-strict", "-1", "-f", "yuv4mpegpipe", str(target),
        ]  # fmt: skip

    def _start(self) -> list[str]:
        return [self.ffmpeg.path, "-hide_banner", "-nostdin", "-y"]

    def identity(self) -> dict[str, str]:
        return {"ffmpeg": self.ffmpeg.version}

    def encoder_version(self, log: str) -> str | None:
        found = re.search(self.version_pattern, log) if self.version_pattern else None
        return found[1].strip() if found else None

    def _gop(self) -> list[str]:
        return ["-g", str(self.our_gop)] if self.matched else []


class X264(FfmpegCodec):
    encoder, muxer, demuxer, suffix = "libx264", "h264", "h264", ".264"
    dial = Dial("crf", 51, 8, (37, 23), 0.5)
    default_preset = "medium"

    def options(self, value: float) -> list[str]:
        tune = ["-tune", "psnr"] if self.for_psnr else []
        no_text = ["-bsf:v", "filter_units=remove_types=6"]  # SEI
        return ["-preset", str(self.preset), *tune, "-crf", f"{value:g}", *self._gop(), *no_text]


class X265(FfmpegCodec):
    encoder, muxer, demuxer, suffix = "libx265", "hevc", "hevc", ".265"
    dial = Dial("crf", 51, 8, (38, 24), 0.5)
    default_preset = "medium"
    version_pattern = r"HEVC encoder version (\S+)"

    def options(self, value: float) -> list[str]:
        tune = ["-tune", "psnr"] if self.for_psnr else []
        return [
            "-preset", str(self.preset), *tune, "-crf", f"{value:g}", *self._gop(),
            "-x265-params", "info=0",
        ]  # fmt: skip


class SvtAv1(FfmpegCodec):
    encoder, muxer, demuxer, suffix = "libsvtav1", "obu", "obu", ".obu"
    dial = Dial("crf", 63, 5, (52, 34))  # it is tuned for PSNR by default
    default_preset = "6"
    version_pattern = r"SVT-AV1 Encoder Lib (\S+)"

    def options(self, value: float) -> list[str]:
        return ["-preset", str(self.preset), "-crf", f"{value:g}", *self._gop()]


class VVenC(FfmpegCodec):
    encoder, muxer, demuxer, suffix = "libvvenc", "vvc", "vvc", ".266"
    dial = Dial("qp", 58, 10, (40, 28))
    default_preset = "medium"
    version_pattern = r"libvvenc version: (\S+)"

    def options(self, value: float) -> list[str]:
        tune = ["-qpa", "0"] if self.for_psnr else []  # no perceptual adaptation of the QP
        # ffmpeg does not hand -g on to this encoder
        gop = ["-vvenc-params", f"intraperiod={self.our_gop}"] if self.matched else []
        return ["-preset", str(self.preset), *tune, "-qp", f"{value:g}", *gop]


class WebP(FfmpegCodec):
    encoder, muxer, suffix, still = "libwebp", "webp", ".webp", True
    dial = Dial("quality", 0, 100, (20, 80))

    def options(self, value: float) -> list[str]:
        return ["-quality", f"{value:g}", "-compression_level", "6"]


class Avif(FfmpegCodec):
    encoder, muxer, suffix, still = "libaom-av1", "avif", ".avif", True
    dial = Dial("crf", 63, 5, (45, 25))
    default_preset = "4"  # aom's cpu-used

    def options(self, value: float) -> list[str]:
        return ["-still-picture", "1", "-cpu-used", str(self.preset), "-crf", f"{value:g}"]


class Jpeg(FfmpegCodec):
    """libjpeg-turbo through Pillow, progressive and optimised: ffmpeg's own JPEG is larger."""

    encoder, muxer, suffix, still = "mjpeg", "mjpeg", ".jpg", True
    dial = Dial("quality", 1, 98, (20, 80))

    def missing(self) -> str | None:
        return None

    def options(self, value: float) -> list[str]:
        raise NotImplementedError

    def encode(self, source: Path, value: float, stream: Path) -> list[str]:
        return [*PYTHON, "neurocodec.bench.jpeg", str(source), f"{value:g}", str(stream)]

    def identity(self) -> dict[str, str]:
        from PIL import __version__ as pillow
        from PIL import features

        return {**super().identity(), "pillow": pillow, "libjpeg": str(features.version("jpg"))}


class Neurocodec(Codec):
    """Ours, as a user runs it. A preset is an effort."""

    suffix = ".nc"
    dial = Dial("quality", 0, 100, (20, 80))

    def missing(self) -> str | None:
        try:
            models.find(self.model, self.tune)
        except ModelError as error:
            return str(error)
        return None

    def encode(self, source: Path, value: float, stream: Path) -> list[str]:
        return [
            *PYTHON, "neurocodec", "compress", str(source), str(stream), "--audio", "none",
            "-q", f"{value:g}", "--gop", str(self.our_gop), "-y", *self._model(),
            *(["--tune", self.tune] if self.tune else []),
            *(["--effort", self.setting.preset] if self.setting.preset else []),
        ]  # fmt: skip

    def decode(self, stream: Path, target: Path) -> list[str]:
        return [
            *PYTHON, "neurocodec", "decompress", str(stream), str(target), "--strict", "-y",
            *self._model(),
        ]  # fmt: skip

    def _model(self) -> list[str]:
        return ["--model", self.model] if self.model else []

    def identity(self) -> dict[str, str]:
        from .versions import code_hash

        bundle = models.find(self.model, self.tune)
        return {
            "neurocodec": __version__,
            "code": code_hash(),
            "model": f"{bundle.name} {bundle.hash.hex()}",
            "gop": str(self.our_gop),
        } | ({"tune": self.tune} if self.tune else {})


CODECS: dict[str, type[Codec]] = {
    "neurocodec": Neurocodec,
    "x264": X264,
    "x265": X265,
    "svt-av1": SvtAv1,
    "vvenc": VVenC,
    "jpeg": Jpeg,
    "webp": WebP,
    "avif": Avif,
}


def make_codec(
    setting: Setting, ffmpeg: Ffmpeg, our_gop: int, model: str | None, tune: str | None = None
) -> Codec:
    """model: name or path of our bundle; a path is made absolute, for programs run elsewhere.
    tune: of our own codec."""
    if model and Path(model).suffix == ".safetensors":
        model = str(Path(model).absolute())
    return CODECS[setting.codec](setting, ffmpeg, our_gop, model, tune)
