"""Files whose tokens a generator codes."""

import dataclasses
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from neurocodec import models
from neurocodec.bitstream.reader import Reader
from neurocodec.bitstream.writer import Writer
from neurocodec.codec.compress import compress
from neurocodec.codec.decompress import decompress
from neurocodec.codec.tokens import (
    EXTENDED_GENERATED_PICTURES,
    EXTENDED_PICTURES,
    GENERATED_LATENTS,
    LATENTS,
    OF_PICTURES,
)
from neurocodec.codec.verify import verify
from neurocodec.errors import FormatError, ModelError, UsageError
from tests import reference_reader
from tests.conftest import write_clip
from tests.generators import random_parts

BUNDLES = ["tiny_generated", "tiny_motion_generated"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mkv", 6, 40, 24)


def entropy_model(file: Path) -> int:
    with Reader(file) as reader:
        return reader.header.entropy_model


def payloads(file: Path) -> list[bytes]:
    with Reader(file) as reader:
        gops = [reader.read_gop(entry) for entry in reader.gops]
    return [found[0].tokens for found in gops if found is not None]


@pytest.mark.parametrize("name", BUNDLES)
def test_entropy_models_agree_on_the_tokens(
    name: str, clip: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = str(request.getfixturevalue(name))
    motion = models.read_bundle(model).is_motion
    found = {}
    options = {"model": model, "gop": 5, "quality": 40, "effort": "fast"}
    for entropy, steps in ((None, 4), ("generator", 1), ("generator", 16), ("adaptive", 4)):
        out = tmp_path / f"{entropy}-{steps}.nc"
        given = None if entropy == "adaptive" else steps
        compress(clip, out, entropy=entropy, steps=given, **options)  # type: ignore[arg-type]
        adaptive = EXTENDED_PICTURES if motion else LATENTS
        generated = EXTENDED_GENERATED_PICTURES if motion else GENERATED_LATENTS
        assert entropy_model(out) == (adaptive if entropy == "adaptive" else generated)
        if entropy != "adaptive":
            assert {data[9 if motion else 0] for data in payloads(out)} == {steps}
        report = verify(out, model, tokens=True)
        assert (report.frames, report.damage) == (6, [])
        found[entropy, steps] = (report.tokens, out)
    tokens = [tokens for tokens, _ in found.values()]
    assert tokens.count(tokens[0]) == 4
    files = {out.read_bytes() for _, out in found.values()}
    assert len(files) == 4
    videos = []
    for out in (found[None, 4][1], found["adaptive", 4][1]):
        decompress(out, out.with_suffix(".y4m"), model=model)
        videos.append(out.with_suffix(".y4m").read_bytes())
    assert videos[0] == videos[1]


@pytest.mark.parametrize("aim", [{"psnr": 30.0}, {"bitrate": 400.0}])
def test_aims_with_a_generator(
    aim: dict[str, float], clip: Path, tiny_generated: Path, tmp_path: Path
) -> None:
    """The quantizer's steps that are tried, which the generator sees, are those the file says."""
    model, out = str(tiny_generated), tmp_path / "a.nc"
    compress(clip, out, model=model, gop=5, **aim)  # type: ignore[arg-type]
    generated = verify(out, model, tokens=True)
    assert (generated.frames, generated.damage) == (6, [])
    data = reference_reader.hashes(tiny_generated.read_bytes(), out.read_bytes())
    assert generated.tokens == data
    if "psnr" in aim:  # where the entropy model has no say in the steps
        compress(clip, tmp_path / "b.nc", model=model, gop=5, entropy="adaptive", **aim)  # type: ignore[arg-type]
        assert generated.tokens == verify(tmp_path / "b.nc", model, tokens=True).tokens


def test_unknown_entropy_and_steps_are_refused(
    clip: Path, tiny_generated: Path, tmp_path: Path
) -> None:
    model, out = str(tiny_generated), tmp_path / "out.nc"
    with pytest.raises(UsageError, match="none is used"):
        compress(clip, out, model=model, entropy="adaptive", steps=4)
    for steps in (0, 17, -1):
        with pytest.raises(UsageError, match="give 1 to 16"):
            compress(clip, out, model=model, steps=steps)
    with pytest.raises(UsageError, match="give generator or adaptive"):
        compress(clip, out, model=model, entropy="huffman")
    assert not out.exists()


@pytest.mark.parametrize("name", ["tiny", "tiny_motion"])
def test_a_bundle_without_a_generator_is_refused(
    name: str, clip: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model, out = request.getfixturevalue(name), tmp_path / "out.nc"
    with pytest.raises(ModelError, match="has no generator") as refused:
        compress(clip, out, model=str(model), entropy="generator")
    assert str(model) in str(refused.value)
    assert not out.exists()
    compress(clip, out, model=str(model), gop=5, effort="fast")
    generated = {LATENTS: GENERATED_LATENTS, EXTENDED_PICTURES: EXTENDED_GENERATED_PICTURES}
    other = with_entropy_model(out, tmp_path / "other.nc", generated[entropy_model(out)])
    for use in (
        lambda: verify(other, str(model), tokens=True),
        lambda: decompress(other, tmp_path / "other.mp4", model=str(model)),
    ):
        with pytest.raises(ModelError, match="has no generator"):
            use()
    assert verify(other).damage == []  # its sections are whole


def test_entropy_models_that_do_not_fit_are_refused(
    clip: Path, tiny_generated: Path, tmp_path: Path
) -> None:
    model = str(tiny_generated)
    compress(clip, tmp_path / "a.nc", model=model, gop=5)
    for number in (*OF_PICTURES, 6, 255):
        other = with_entropy_model(tmp_path / "a.nc", tmp_path / "b.nc", number)
        why = "does not go with" if number in OF_PICTURES else "is not known"
        with pytest.raises(FormatError, match=f"entropy model {number} {why}"):
            verify(other, model, tokens=True)


def with_entropy_model(file: Path, target: Path, number: int) -> Path:
    with Reader(file) as reader, target.open("wb") as out:
        writer = Writer(out)
        writer.header(dataclasses.replace(reader.header, entropy_model=number))
        for entry in reader.gops:
            found = reader.read_gop(entry)
            assert found is not None
            writer.gop(*found)
        writer.finish()
    return target


def damaged(path: Path, target: Path, damage: str) -> Path:
    """A bundle whose generator is not as it should be."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    directory, tensors = json.loads(data[8 : 8 + size]), bytearray(data[8 + size :])
    description = json.loads(directory["__metadata__"]["neurocodec"])

    def fill(name: str, value: int, format_: str) -> None:
        begin, end = directory[name]["data_offsets"]
        tensors[begin:end] = np.full(end - begin, value, format_).tobytes()[: end - begin]

    if damage == "weights":
        fill("generator.depth.0.weight", 64, "<i1")
    elif damage == "biases":
        fill("generator.depth.0.bias", -(2**31), "<i4")
    elif damage == "multipliers":
        fill("generator.depth.0.multiplier", -1, "<i4")
    elif damage == "counts":
        fill("generator.prior.more", 8192, "<u2")
    elif damage == "channels":
        description["generator"]["channels"] += 1
    elif damage == "missing":
        directory["generator.other"] = directory.pop("generator.tokens.out.bias")
    elif damage == "type":
        directory["generator.prior.coded"]["dtype"] = "BF16"
    directory["__metadata__"]["neurocodec"] = json.dumps(description)
    head = json.dumps(directory).encode()
    target.write_bytes(struct.pack("<Q", len(head)) + head + tensors)
    return target


@pytest.mark.parametrize(
    "damage", ["weights", "biases", "multipliers", "counts", "channels", "missing", "type"]
)
def test_a_damaged_generator_is_refused(
    damage: str, clip: Path, tiny_generated: Path, tmp_path: Path
) -> None:
    bundle = damaged(tiny_generated, tmp_path / "damaged.safetensors", damage)
    out = tmp_path / "out.nc"
    with pytest.raises(ModelError) as refused:
        compress(clip, out, model=str(bundle))
    assert str(refused.value).startswith(str(bundle))
    assert len(str(refused.value).splitlines()) == 1
    assert not out.exists()
    compress(clip, out, model=str(bundle), entropy="adaptive")  # which needs none


@pytest.mark.parametrize(
    "config", [{"channels": 0}, {"layers": 3}, [1], "large", {"channels": 8.5}]
)
def test_a_damaged_configuration_is_refused(
    config: object, tiny_generated: Path, tmp_path: Path
) -> None:
    data = tiny_generated.read_bytes()
    size = int.from_bytes(data[:8], "little")
    directory = json.loads(data[8 : 8 + size])
    description = json.loads(directory["__metadata__"]["neurocodec"])
    description["generator"] = config
    directory["__metadata__"]["neurocodec"] = json.dumps(description)
    head = json.dumps(directory).encode()
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + data[8 + size :])
    with pytest.raises(ModelError, match="not a neurocodec model bundle"):
        models.read_bundle(path)


def test_the_same_parts_make_the_same_bundle(tiny: Path, tmp_path: Path) -> None:
    bundle = models.read_bundle(tiny)
    for name in ("a", "b"):
        parts = random_parts(bundle.shape)
        path = tmp_path / f"{name}.safetensors"
        models.write_bundle(path, "same", bundle.tokenizer(), bundle.prior(), {}, parts)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    generator = models.read_bundle(tmp_path / "a.safetensors").generator()
    for key, table in parts.prior.items():
        np.testing.assert_array_equal(generator.prior[key], table)
