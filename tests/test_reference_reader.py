"""The package and the reader written from the specification find the same in the same bytes."""

from pathlib import Path

import numpy as np
import pytest

import neurocodec
from neurocodec import models
from neurocodec.bitstream.reader import Reader
from neurocodec.codec.tokens import LatentTokens, hash_tokens
from neurocodec.codec.verify import verify
from neurocodec.entropy.adaptive import ContextModel, Prior, TokenShape
from neurocodec.entropy.binary import BitDecoder
from tests import reference_reader
from tests.conftest import tiny_tokenizer, write_clip


def random_prior(shape: TokenShape, seed: int = 0) -> Prior:
    """One that makes large tokens likely, so that noise has escape codes in it."""
    rng = np.random.default_rng(seed)
    prior = {
        name: rng.integers(0, rng.integers(1, 256), size).astype(np.uint8)
        for name, size in shape.table_shapes().items()
    }
    for name in ("nonzero", "more"):
        prior[name][..., 0] //= 32
    return prior


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "prior.safetensors"
    tokenizer = tiny_tokenizer()
    config = tokenizer.config
    shape = TokenShape(config.quantizer, config.stages, config.bits)
    models.write_bundle(path, "prior", tokenizer, random_prior(shape), {})
    return path


@pytest.mark.parametrize(
    ("quality", "frames", "size"), [(0, 9, (40, 24)), (50, 6, (33, 41)), (100, 5, (16, 8))]
)
def test_tokens_of_a_file(
    tmp_path: Path, bundle: Path, quality: int, frames: int, size: tuple[int, int]
) -> None:
    source = write_clip(tmp_path / "in.mkv", frames, *size)
    out = tmp_path / "out.nc"
    neurocodec.compress(source, out, model=str(bundle), quality=quality, gop=5)
    data, model = out.read_bytes(), bundle.read_bytes()
    expected = verify(out, str(bundle), tokens=True).tokens
    assert len(expected) == -(-frames // 5)
    assert reference_reader.hashes(model, data) == expected
    assert reference_reader.hashes(model, data[:-1]) == expected  # found by scanning


def test_times_and_sound(tmp_path: Path, bundle: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", 7, 16, 16, sound="flac", pts=[0, 1, 2, 5, 6, 7, 9])
    out = tmp_path / "out.nc"
    neurocodec.compress(source, out, model=str(bundle), gop=3, quality=0)
    file = reference_reader.read_file(out.read_bytes())
    assert file.tracks == 1
    with Reader(out) as reader:
        for gop in reader.gops:
            packets = [(p.track, p.pts, p.duration, p.data) for p in reader.read_audio(gop)]
            assert file.audio[gop.number] == packets
            found = reader.read_gop(gop)
            if found is not None:
                theirs = file.gops[gop.number]
                assert (theirs.times, theirs.step) == (found[1], found[0].step)


@pytest.mark.parametrize(
    ("shape", "seed"),
    [
        *((TokenShape("signs", 6, 9), seed) for seed in (0, 1, 2)),
        *((TokenShape("levels", 6, 4), seed) for seed in (4, 5, 6, 18)),
        *((TokenShape("levels", 1, 1), seed) for seed in (0, 1)),
        *((TokenShape("levels", 40, 1), seed) for seed in (0, 1)),
    ],
)
def test_tokens_of_noise(shape: TokenShape, seed: int) -> None:
    """The seeds are such that every branch is reached, also that of bytes no encoder writes."""
    data = np.random.default_rng(seed).bytes(4000)
    prior = random_prior(shape, seed)
    h, w = 4, 5
    model = ContextModel(shape, prior, (h, w))
    coder = BitDecoder(data)
    ours = hash_tokens(LatentTokens(*model.code_frame(coder)) for _ in range(3))
    plain = reference_reader.Shape(shape.quantizer, shape.stages, shape.bits)
    tables = {name: table.tolist() for name, table in prior.items()}
    latents = reference_reader.decode_gop(plain, tables, 8 * w, 8 * h, 9, data)
    assert reference_reader.hash_latents(latents, plain) == ours
