"""Make the golden files of a format version: a bundle, small .nc files and hashes of their tokens.

    python -m scripts.make_golden          (from the root of the repository)
    python -m scripts.make_golden MODEL    (one file made with a bundle that comes with the package)
    python -m scripts.make_golden motion   (GOLDEN/motion: those of the family "motion")
    python -m scripts.make_golden generated   (GOLDEN/generated: those with a generator)

Every later version of the program must decode them to the same tokens, so a file that has been
released is never rewritten: the script stops where there are any. But the family "motion" and the
generators have not been released, and may change until they are: whoever changes entropy model 1, 2
or 3 makes its files again with the last two of these commands, which overwrite them.
"""

from __future__ import annotations

import itertools
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
from neurocodec.codec.frames import GopEnd
from neurocodec.codec.gop_stream import tokenize_pictures
from neurocodec.codec.latents import GopTokenizer
from neurocodec.codec.tokens import PictureCoder, PictureTokens
from neurocodec.codec.verify import verify
from neurocodec.demo import write_source
from neurocodec.entropy.adaptive import ContextModel, Prior, TokenShape, empty_prior, trained_prior
from neurocodec.entropy.binary import BitEncoder
from neurocodec.entropy.motion import MOTION_PREFIX
from neurocodec.tokenizer.config import SIZES, MotionConfig, step_of_quality
from neurocodec.tokenizer.model import Tokenizer
from neurocodec.tokenizer.motion_model import MotionTokenizer
from tests.conftest import (
    moving_picture,
    tiny_motion_tokenizer,
    tiny_tokenizer,
    two_scenes,
    write_clip,
    write_y4m,
)
from tests.generators import SMALL, SMALL_MOTION, random_parts

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
CONFIG = replace(SIZES["tiny"], latent_dim=48, stages=6)  # for a bundle of 240 KB
MOTION = GOLDEN / "motion"
GENERATED = GOLDEN / "generated"
MOTION_CONFIG = MotionConfig(
    bits=4, stages=6, width=8, context=6, decoder_blocks=1, loop_filter=1
)  # 140 KB
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


def learned_motion_prior(
    tokenizer: MotionTokenizer, shapes: dict[str, tuple[int, int, int]]
) -> Prior:
    """As :func:`learned_prior`."""
    prior: Prior = {name: np.zeros(shape, np.uint8) for name, shape in shapes.items()}
    shape, grid, frames = models.token_shape(MOTION_CONFIG), (6, 8), moving_picture(17, 64, 48)
    gathered = PictureCoder(shape, prior, grid, 17)
    for quality in (20, 50, 80):
        items = tokenize_pictures(
            frames, tokenizer, step_of_quality(quality), 17, torch.device("cpu")
        )
        for is_end, pictures in itertools.groupby(items, lambda item: isinstance(item, GopEnd)):
            if is_end:
                continue
            gop = PictureCoder(shape, prior, grid, 17)
            gop.tokens.tables = gathered.tokens.tables  # which go on counting
            gop.motion.tables = gathered.motion.tables
            for picture in pictures:
                assert isinstance(picture, PictureTokens)
                gop.code(BitEncoder(), picture)
    motion = trained_prior(gathered.motion.tables, CONFIDENCE)
    return trained_prior(gathered.tokens.tables, CONFIDENCE) | {
        MOTION_PREFIX + name: table for name, table in motion.items()
    }


def of_motion() -> None:
    """GOLDEN/motion: a bundle, a clip with a cut and a picture, and hashes of their tokens."""
    torch.set_num_threads(1)
    MOTION.mkdir(exist_ok=True)
    bundle = MOTION / "tiny.safetensors"
    tokenizer = tiny_motion_tokenizer(config=MOTION_CONFIG)
    prior = learned_motion_prior(tokenizer, models.prior_shapes(MOTION_CONFIG))
    models.write_bundle(bundle, "tiny-motion-golden", tokenizer, prior, {})
    with tempfile.TemporaryDirectory() as folder:
        clip = write_y4m(Path(folder) / "clip.y4m", two_scenes(58, 42, 20, 6))
        picture = write_y4m(Path(folder) / "picture.y4m", moving_picture(1, 35, 21))
        for source, quality in ((clip, 75), (picture, 95)):
            neurocodec.compress(
                source, MOTION / f"{source.stem}.nc", quality=quality, model=str(bundle),
                gop=14, device="cpu", overwrite=True,
            )  # fmt: skip
    write_hashes(MOTION, bundle)


def of_generators() -> None:
    """GOLDEN/generated: of each family a bundle with a random generator, a clip, and hashes."""
    torch.set_num_threads(1)
    GENERATED.mkdir(exist_ok=True)
    tokens = {}
    for name, tokenizer, generator in (
        ("latents", tiny_tokenizer(config=replace(CONFIG, latent_dim=16, bits=4, stages=4)), SMALL),
        ("pictures", tiny_motion_tokenizer(config=MOTION_CONFIG), SMALL_MOTION),
    ):
        bundle, target = GENERATED / f"{name}.safetensors", GENERATED / f"{name}.nc"
        shapes = models.prior_shapes(tokenizer.config)
        prior: Prior = {key: np.zeros(size, np.uint8) for key, size in shapes.items()}
        parts = random_parts(models.token_shape(tokenizer.config), config=generator)
        models.write_bundle(bundle, f"{name}-golden", tokenizer, prior, {}, parts)
        with tempfile.TemporaryDirectory() as folder:
            clip = write_y4m(Path(folder) / "clip.y4m", two_scenes(58, 42, 8, 5))
            neurocodec.compress(
                clip, target, quality=60, model=str(bundle), gop=7, steps=3, device="cpu",
                overwrite=True,
            )  # fmt: skip
        tokens[target.name] = verify(target, str(bundle), tokens=True).tokens
    (GENERATED / "tokens.json").write_text(json.dumps(tokens, indent=1) + "\n")


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
    if sys.argv[1:] == ["motion"]:
        of_motion()
        return
    if sys.argv[1:] == ["generated"]:
        of_generators()
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
