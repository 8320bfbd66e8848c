"""Make the golden files of a format version: a bundle, small .nc files and hashes of their tokens.

    python -m scripts.make_golden          (from the root of the repository)
    python -m scripts.make_golden MODEL    (one file made with a bundle that comes with the package)
    python -m scripts.make_golden extended   (of entropy models 4 and 5)

Every later version of the program must decode them to the same tokens, so a file that has been
released is never rewritten: the script stops where there are any. But entropy models 4 and 5 have
not been released, and may change until they are: whoever changes them makes their files again with
the last of these commands, which overwrites them. The files beside them, of entropy
models 1, 2 and 3, are of programs that wrote those.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import neurocodec
from neurocodec import models
from neurocodec.codec.latents import GopTokenizer
from neurocodec.codec.verify import verify
from neurocodec.demo import write_source
from neurocodec.entropy.adaptive import ContextModel, Prior, TokenShape, empty_prior, trained_prior
from neurocodec.entropy.binary import BitEncoder
from neurocodec.tokenizer.config import SIZES, step_of_quality
from neurocodec.tokenizer.model import Tokenizer
from tests.conftest import (
    moving_picture,
    tiny_tokenizer,
    two_scenes,
    write_clip,
    write_y4m,
)

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
CONFIG = replace(SIZES["tiny"], latent_dim=48, stages=6)  # for a bundle of 240 KB
MOTION = GOLDEN / "motion"
GENERATED = GOLDEN / "generated"
CONFIDENCE = 48  # of the prior, as for the bundles that come with the package
TIMES = [0, 40, 83, 120, 240, 241, 400, 440, 480, 525, 560]  # milliseconds


def learned_prior(tokenizer: Tokenizer) -> Prior:
    """Counts from clips of arithmetic, at three qualities."""
    shape = TokenShape(CONFIG.quantizer, CONFIG.stages, CONFIG.bits)
    grid = (6, 8)
    tables = ContextModel(shape, empty_prior(shape), grid).tables
    frames = moving_picture(17, 64, 48)
    groups = [frames[:1], *(frames[i : i + 4] for i in range(1, 17, 4))]
    for quality in (20, 50, 80):
        gop = GopTokenizer(tokenizer, step_of_quality(quality), torch.device("cpu"))
        model = ContextModel(shape, empty_prior(shape), grid)
        model.tables = tables  # which go on counting
        for latent in map(gop, groups):
            model.code_frame(BitEncoder(), latent.tokens, latent.depth)
    return trained_prior(tables, CONFIDENCE)


def of_extended_models() -> None:
    """In GOLDEN/motion a clip with a cut and a picture, in GOLDEN/generated a clip."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        clip = write_y4m(Path(folder) / "clip.y4m", two_scenes(58, 42, 20, 6))
        short = write_y4m(Path(folder) / "short.y4m", two_scenes(58, 42, 8, 5))
        picture = write_y4m(Path(folder) / "picture.y4m", moving_picture(1, 35, 21))
        for source, bundle, name, quality, gop, steps in (
            (clip, MOTION / "tiny", "extended-clip", 75, 14, None),
            (picture, MOTION / "tiny", "extended-picture", 95, 14, None),
            (short, GENERATED / "pictures", "extended-pictures", 60, 7, 3),
        ):
            model = bundle.with_suffix(".safetensors")
            target = model.with_name(f"{name}.nc")
            neurocodec.compress(
                source, target, quality=quality, model=str(model), gop=gop, steps=steps,
                device="cpu", overwrite=True,
            )  # fmt: skip
            hashes = target.with_name("tokens.json")
            tokens = json.loads(hashes.read_text())
            tokens[target.name] = verify(target, str(model), tokens=True).tokens
            hashes.write_text(json.dumps(tokens, indent=1) + "\n")


def write_hashes(folder: Path, bundle: Path) -> None:
    """FOLDER/tokens.json, of the files in it."""
    tokens = {
        path.name: verify(path, str(bundle), tokens=True).tokens
        for path in sorted(folder.glob("*.nc"))
    }
    (folder / "tokens.json").write_text(json.dumps(tokens, indent=1) + "\n")
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size:8} {path.name}")


def of_model(name: str) -> None:
    """GOLDEN/models/NAME.nc and NAME.json: nine frames of the demo clip, and their hashes."""
    target = GOLDEN / "models" / f"{name}.nc"
    if target.exists():
        sys.exit(f"{target} is there; golden files are never rewritten")
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "demo.mp4"
        write_source(source)
        neurocodec.compress(source, target, model=name, quality=20, duration=0.36, audio="none")
    hashes = json.dumps(verify(target, tokens=True).tokens, indent=1)
    target.with_suffix(".json").write_text(hashes + "\n")


def main() -> None:
    if sys.argv[1:] == ["extended"]:
        of_extended_models()
        return
    if len(sys.argv) > 1:
        of_model(sys.argv[1])
        return
    if any(GOLDEN.glob("*.*")):
        sys.exit(f"{GOLDEN} has files in it; golden files are never rewritten")
    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    bundle = GOLDEN / "tiny.safetensors"
    tokenizer = tiny_tokenizer(config=CONFIG)
    models.write_bundle(bundle, "tiny-golden", tokenizer, learned_prior(tokenizer), {})
    with tempfile.TemporaryDirectory() as folder:
        sound = write_clip(Path(folder) / "sound.mkv", 12, 40, 32, sound="flac")
        irregular = write_clip(
            Path(folder) / "timestamps.mkv", len(TIMES), 37, 27,
            pts=TIMES, time_base=Fraction(1, 1000),
        )  # fmt: skip
        picture = Path(folder) / "picture.png"
        luma = moving_picture(1, 35, 21)[0].y
        Image.fromarray(np.stack([luma, luma[::-1], luma[:, ::-1]], 2)).save(picture)
        for source, quality, gop, audio in (
            (sound, 60, 9, "opus:8"), (irregular, 100, 6, "none"), (picture, 80, 65, "none"),
        ):  # fmt: skip
            neurocodec.compress(
                source, GOLDEN / f"{source.stem}.nc", quality=quality, model=str(bundle),
                gop=gop, audio=audio, device="cpu",
            )  # fmt: skip
    write_hashes(GOLDEN, bundle)


if __name__ == "__main__":
    main()
