"""Fixtures: a tiny untrained model bundle, and short clips made up by arithmetic."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
import pytest
import torch

from neurocodec import models
from neurocodec.codec.kernels import made_ready
from neurocodec.compiled import notice
from neurocodec.entropy.adaptive import Prior, TokenShape, empty_prior
from neurocodec.media.frame import Frame
from neurocodec.tokenizer.config import MOTION_SIZES, SIZES, MotionConfig, TokenizerConfig
from neurocodec.tokenizer.model import Tokenizer
from neurocodec.tokenizer.motion_model import MotionTokenizer
from tests.generators import random_parts

GPU = torch.cuda.is_available()


@pytest.fixture(autouse=True, scope="session")
def told_of_the_compiler() -> None:
    """Whatever is compiled first, what programs say is what the test is about. All is compiled once
    for all who test."""
    notice.given = True
    with made_ready():
        pass


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def on_a_cpu() -> Iterator[None]:
    """Tests say what a CPU does, here and in processes they start; those that are for a GPU, and
    are skipped where there is none, ask for it by ``on_a_gpu``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


_VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if not GPU:
        pytest.skip("no GPU that torch can use")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if _VISIBLE is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", _VISIBLE)


@pytest.fixture(autouse=True)
def quiet_logging() -> Iterator[None]:
    """Undo what the command line sets up, so that caplog sees every record."""
    yield
    logger = logging.getLogger("neurocodec")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


def tiny_tokenizer(seed: int = 0, config: TokenizerConfig = SIZES["tiny"]) -> Tokenizer:
    """Random weights, small last layers: networks that do something but spoil little."""
    torch.manual_seed(seed)
    return _stirred(Tokenizer(config))


def tiny_motion_tokenizer(
    seed: int = 0, config: MotionConfig = MOTION_SIZES["tiny"]
) -> MotionTokenizer:
    """As :func:`tiny_tokenizer`."""
    torch.manual_seed(seed)
    return _stirred(MotionTokenizer(config))


_Module = TypeVar("_Module", bound=torch.nn.Module)


def _stirred(tokenizer: _Module) -> _Module:
    with torch.no_grad():
        for p in tokenizer.parameters():
            if p.dim() > 2 and not p.any():
                p.normal_(0, 0.01)
    return tokenizer.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a tiny model bundle, for ``--model``."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    tokenizer = tiny_tokenizer()
    config = tokenizer.config
    prior = empty_prior(TokenShape(config.quantizer, config.stages, config.bits))
    models.write_bundle(path, "tiny", tokenizer, prior, {})
    return path


@pytest.fixture(scope="session")
def tiny_motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a tiny model bundle of the family ``motion``."""
    path = tmp_path_factory.mktemp("models") / "tiny-motion.safetensors"
    tokenizer = tiny_motion_tokenizer()
    prior: Prior = {
        name: np.zeros(shape, np.uint8)
        for name, shape in models.prior_shapes(tokenizer.config).items()
    }
    models.write_bundle(path, "tiny-motion", tokenizer, prior, {})
    return path


@pytest.fixture(scope="session")
def tiny_generated(tiny: Path) -> Path:
    """Path of the bundle ``tiny`` with a generator, a random one."""
    return _with_generator(tiny)


@pytest.fixture(scope="session")
def tiny_motion_generated(tiny_motion: Path) -> Path:
    """Path of the bundle ``tiny_motion`` with a generator, a random one."""
    return _with_generator(tiny_motion)


def _with_generator(path: Path) -> Path:
    bundle = models.read_bundle(path)
    target = path.with_stem(path.stem + "-generated")
    parts = random_parts(bundle.shape)
    models.write_bundle(target, target.stem, bundle.tokenizer(), bundle.prior(), {}, parts)
    return target


def moving_picture(frames: int, width: int, height: int) -> list[Frame]:
    """A smooth pattern that moves, and a square that moves otherwise."""
    out = []
    for t in range(frames):
        y, x = np.mgrid[:height, :width].astype(np.float64)
        luma = 128 + 60 * np.sin((x + 2 * t) / 9) + 40 * np.cos((y - t) / 7)
        top, left = (3 * t) % max(1, height - 8), (5 * t) % max(1, width - 8)
        luma[top : top + 8, left : left + 8] = 230
        v, u = np.mgrid[: (height + 1) // 2, : (width + 1) // 2].astype(np.float64)
        planes = (luma, 128 + 30 * np.sin((u + t) / 11), 128 + 30 * np.cos((v + t) / 13))
        out.append(Frame(*(p.clip(0, 255).round().astype(np.uint8) for p in planes), t))
    return out


def write_clip(
    path: Path,
    frames: int = 12,
    width: int = 64,
    height: int = 48,
    rate: int = 25,
    codec: str = "ffv1",
    pix_fmt: str = "yuv420p",
    sound: str | None = None,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
) -> Path:
    """A video file of :func:`moving_picture`, with a tone where ``sound`` names an encoder."""
    base = time_base or Fraction(1, rate)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = stream.time_base = base
        tone = None
        if sound:
            tone = container.add_stream(sound, rate=48000)
            tone.codec_context.layout = "stereo"
        for i, frame in enumerate(moving_picture(frames, width, height)):
            picture = av.VideoFrame(width, height, "yuv420p")
            for plane, source in zip(picture.planes, frame.planes, strict=True):
                rows = np.zeros((plane.buffer_size // plane.line_size, plane.line_size), np.uint8)
                rows[: source.shape[0], : source.shape[1]] = source
                plane.update(rows)
            if pix_fmt != "yuv420p":
                picture = picture.reformat(format=pix_fmt)
            picture.pts, picture.time_base = (pts[i] if pts else i), base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if tone is not None:
            times = np.arange(48000 * frames // rate) / 48000
            wave = np.tile(np.sin(2 * np.pi * 440 * times).astype(np.float32) * 0.3, (2, 1))
            sound_frame = av.AudioFrame.from_ndarray(wave, "fltp", "stereo")
            sound_frame.sample_rate, sound_frame.pts = 48000, 0
            container.mux(tone.encode(sound_frame))
            container.mux(tone.encode(None))
    return path


def write_y4m(path: Path, frames: list[Frame]) -> Path:
    """Any size, at 25 frames per second, without loss."""
    height, width = frames[0].y.shape
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames:
            file.write(b"FRAME\n" + b"".join(plane.tobytes() for plane in frame.planes))
    return path


def two_scenes(width: int, height: int, first: int, second: int) -> list[Frame]:
    """:func:`moving_picture`, then a cut and another one; first, second: frames."""
    other = [
        Frame(np.rot90(f.y, 2) // 3, f.v, f.u, f.pts) for f in moving_picture(second, width, height)
    ]
    return [*moving_picture(first, width, height), *other]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mkv")
