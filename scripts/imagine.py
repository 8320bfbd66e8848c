"""How well a generative bundle goes on with clips, beside doing nothing.

    python -m scripts.imagine predict MODEL [CLIP...] [--each 8] [--frames 11]
    python -m scripts.imagine conceal MODEL CLIP... [--losses 24] [--frames 65] [--gop 9]

predict: frames that follow the first five, of held-out made-up clips (EACH of each class, with and
without the class told) and of the given ones, reduced to the model's size; against the fifth frame
again and again. conceal: of .nc files of the clips, coded with the default model, LOSSES GOPs are
left out, one at a time, drawn by a seed and never the first of a file; each file is decoded in
every way there is to conceal it. PSNR is (6 Y + U + V) / 8 of each frame, the distance is ST-LPIPS
(pip install 'neurocodec[perceptual]'); both are means over the frames imagined or lost. A table in
Markdown is printed.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

import neurocodec
from neurocodec.bench.perceptual import distance
from neurocodec.bitstream.payloads import IndexEntry
from neurocodec.bitstream.reader import Reader
from neurocodec.bitstream.sections import HEAD_BYTES
from neurocodec.codec.conceal import CONCEALERS, Concealer
from neurocodec.codec.decoder import Decoder
from neurocodec.codec.frames import crop_planes
from neurocodec.generate import clips, start
from neurocodec.generate.conceal import Imagining
from neurocodec.generate.model import Generative
from neurocodec.media.frame import Frame, Planes
from neurocodec.media.reader import MediaReader
from neurocodec.tokenizer.patch import planes_from_yuv
from neurocodec.train.picture import rgb_clips
from neurocodec.train.shapes import HELD_OUT, planes_from_rgb, render

Score = tuple[float, float]  # dB, distance


def psnr(a: Planes, b: Planes) -> float:
    """(6 Y + U + V) / 8 in dB."""
    errors = [np.mean((x.astype(np.float64) - y) ** 2) for x, y in zip(a, b, strict=True)]
    db = [10 * np.log10(255**2 / max(float(e), 1e-3)) for e in errors]
    return float(np.dot(db, (6, 1, 1)) / 8)


def _rgb(planes: Tensor) -> np.ndarray:
    """(6, T, H/2, W/2) in 0..1 -> (T, H, W, 3) uint8."""
    rgb = (rgb_clips(planes[None])[0] + 1) / 2
    return np.asarray((rgb.permute(1, 2, 3, 0).clamp(0, 1) * 255).round().byte())


def score(found: Tensor, wanted: Tensor) -> Score:
    """Of planes (6, T, H/2, W/2) in 0..1, means over T."""
    size = (2 * found.shape[3], 2 * found.shape[2])
    pairs = zip(crop_planes(found[None], size), crop_planes(wanted[None], size), strict=True)
    db = [psnr(a, b) for a, b in pairs]
    far = [distance(a, b) for a, b in zip(_rgb(found), _rgb(wanted), strict=True)]
    return float(np.mean(db)), float(np.mean(far))


def _row(name: str, count: int, ways: Sequence[Sequence[Score]]) -> str:
    means = [np.mean(np.array(way), 0) for way in ways]
    return f"| {name} | {count} | " + " | ".join(f"{db:.2f} dB, {d:.3f}" for db, d in means) + " |"


# -- prediction -----------------------------------------------------------------------------------


def _predicted(model: Generative, clip: Tensor, label: int, frames: int, seed: int) -> list[Score]:
    """Of imagined frames, and of the last given frame repeated."""
    given = model.given
    found = clips.predict(model, clip, label, frames, given, seed=seed).planes[:, given:]
    wanted = clip[:, given : given + frames]
    still = clip[:, given - 1 : given].expand_as(wanted)
    return [score(found, wanted), score(still, wanted)]


def predict(model: Generative, files: list[Path], each: int, frames: int) -> None:
    print("| clips | number | imagined | last frame repeated |\n|---|---|---|---|")
    window = model.given + frames
    made_up = [
        (name, planes_from_rgb(render(name, HELD_OUT + 50_000 + i, window, model.size[0])))
        for name in model.classes
        for i in range(each)
    ]
    for told in (True, False):
        scores = [
            _predicted(model, clip, model.label(name if told else None), frames, seed)
            for seed, (name, clip) in enumerate(made_up)
        ]
        what = "made-up, class told" if told else "made-up, class not told"
        print(_row(what, len(scores), list(zip(*scores, strict=True))), flush=True)
    for path in files:
        clip, _ = clips.read_clip(path, model.size, window)
        ways = _predicted(
            model, clip, model.label(None), min(frames, clip.shape[1] - model.given), 0
        )
        print(_row(path.stem, 1, [[way] for way in ways]), flush=True)


# -- concealment ----------------------------------------------------------------------------------


def _frames(path: Path, most: int) -> list[Planes]:
    found: list[Planes] = []
    with MediaReader(path, audio="none") as reader:
        for item in reader:
            if isinstance(item, Frame):
                found.append(item.planes)
            if len(found) == most:
                break
    return found


def _tensor(frames: Sequence[Planes]) -> Tensor:
    """(6, T, H/2, W/2) in 0..1, of frames with even sides."""
    y, u, v = (np.stack(plane) for plane in zip(*frames, strict=True))
    return planes_from_yuv(y, u, v).float() / 255


def _entry(coded: Path, number: int) -> IndexEntry:
    with Reader(coded) as reader:
        entry = reader.gops[number].video
    assert entry is not None
    return entry


def _lost(coded: Path, number: int, concealer: Concealer) -> list[Planes]:
    """Frames that stand for GOP ``number`` of a file, a bit of which is wrong."""
    data = bytearray(coded.read_bytes())
    data[_entry(coded, number).offset + HEAD_BYTES + 20] ^= 1
    damaged = coded.with_suffix(".damaged.nc")
    damaged.write_bytes(data)
    with Reader(damaged) as reader:
        decoder = Decoder(reader, conceal=concealer)
        items = decoder.frames(reader.gops[number - 1 : number + 1])
        return [x.planes for x in items if isinstance(x, Frame) and x.concealed]


def conceal(model: Generative, files: list[Path], losses: int, frames: int, gop: int) -> None:
    ways: dict[str, Concealer] = {"imagined": Imagining(model), **CONCEALERS}
    found: dict[str, list[list[Score]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        places: list[tuple[Path, Path, int]] = []
        for path in files:
            coded, rate = Path(folder) / f"{path.stem}.nc", _rate(path)
            neurocodec.compress(path, coded, gop=gop, audio="none", duration=(frames - 0.5) / rate)
            with Reader(coded) as reader:
                places += [(path, coded, i) for i in range(1, len(reader.gops))]
        drawn = sorted(random.Random(0).sample(places, min(losses, len(places))))
        for path, coded, number in drawn:
            first = sum(_entry(coded, i).frames for i in range(number))
            count = _entry(coded, number).frames
            wanted = _tensor(_frames(path, first + count)[first:])
            scores = [score(_tensor(_lost(coded, number, way)), wanted) for way in ways.values()]
            found.setdefault(path.stem, []).append(scores)
        whole = len(places)
    print(f"| clip | GOPs | {' | '.join(ways)} |\n|---|---|{'---|' * len(ways)}")
    for name, rows in found.items():
        print(_row(name, len(rows), list(zip(*rows, strict=True))))
    rows = [row for each in found.values() for row in each]
    print(_row(f"all, {len(rows)} of {whole} drawn", len(rows), list(zip(*rows, strict=True))))


def _rate(path: Path) -> float:
    with MediaReader(path, audio="none") as reader:
        return float(reader.info.frame_rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["predict", "conceal"])
    parser.add_argument("model")
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--losses", type=int, default=24)
    parser.add_argument("--frames", type=int, help="11 to predict, or the first 65 of each clip")
    parser.add_argument("--gop", type=int, default=9)
    options = parser.parse_args()
    if options.what == "conceal" and not options.clips:
        parser.error("conceal needs clips")
    if len({path.stem for path in options.clips}) < len(options.clips):
        parser.error("two clips have the same name")
    model = start(options.model, "cpu", 1)
    if options.what == "predict":
        predict(model, options.clips, options.each, options.frames or 11)
    else:
        conceal(model, options.clips, options.losses, options.frames or 65, options.gop)


if __name__ == "__main__":
    main()
