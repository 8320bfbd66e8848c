"""ONNX files of a tokenizer's networks: that onnxruntime gives what torch gives."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from neurocodec import models
from neurocodec.errors import Error
from neurocodec.models import onnx_export
from neurocodec.models.onnx_export import TOLERANCE, Network, check, exported, networks
from neurocodec.tokenizer.config import BETWEEN, INTER, INTRA, MOTION_SIZES, SIZES, MotionConfig
from tests.cli.conftest import Cli
from tests.cli.conftest import cli as cli
from tests.conftest import tiny_motion_tokenizer, tiny_tokenizer

# few layers: the exporter takes its time over each
CLIPS = replace(SIZES["tiny"], frame_blocks_encoder=0, frame_blocks_decoder=0)
PICTURES = MotionConfig(context=8, context_blocks=0, width=8, decoder_blocks=0)


def network(tokenizer: Any, name: str) -> Network:
    return next(found for found in networks(tokenizer) if found.name == name)


def run(data: bytes, *inputs: Tensor) -> list[Any]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})


def close(one: Any, other: Tensor) -> None:
    assert np.abs(one - other.numpy()).max() < TOLERANCE


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_networks_of_clips(name: str) -> None:
    tokenizer = tiny_tokenizer(config=CLIPS)
    data = exported(network(tokenizer, name), {})
    step = torch.tensor([0.3])
    if name == "encoder":
        planes = torch.rand(1, 6, 17, 8, 20)
        close(run(data, planes, step)[0], tokenizer.encoder(planes, step))
    else:
        latent, depth = torch.randn(1, 96, 5, 2, 5), torch.randint(13, (1, 5, 2, 5))
        close(run(data, latent, depth, step)[0], tokenizer.decoder(latent, depth, step))


@pytest.mark.parametrize("name", ["inter-context", "inter-encoder", "inter-decoder"])
def test_networks_of_pictures(name: str) -> None:
    tokenizer = tiny_motion_tokenizer(config=PICTURES)
    nets = tokenizer.inter
    data = exported(network(tokenizer, name), {})
    planes, other = torch.rand(2, 1, 6, 20, 12)
    steps, features = torch.rand(1, 1, 5, 3) + 0.01, torch.randn(1, 8, 10, 6)
    if name == "inter-encoder":
        close(run(data, planes, other)[0], nets.encoder(planes, other))
        return
    for kind in (INTER, BETWEEN):
        condition = tokenizer.condition(kind, steps, planes)
        number = torch.tensor(kind)
        if name == "inter-context":
            prediction, seen = run(data, planes, other, number, steps)
            wanted = nets.context(planes, other, condition)
            close(prediction, wanted[0])
            close(seen, wanted[1])
        else:
            latent = torch.randn(1, 96, 5, 3)
            out = run(data, latent, planes, features, number, steps)[0]
            close(out, nets.decoder(latent, planes, features, condition, steps))


@pytest.mark.parametrize("quantizer", ["levels", "signs", "codes"])
def test_dequantizer(quantizer: str) -> None:
    tokenizer = tiny_tokenizer(config=replace(CLIPS, quantizer=quantizer))
    data = exported(network(tokenizer, "dequantizer"), {})
    tokens, steps = torch.randint(-1, 2, (5, 12, 8)), torch.rand(5, 1) + 0.01
    for kind in (0, 1):
        wanted = tokenizer.lfq.dequantize(tokens, torch.zeros(5), kind, steps)
        close(run(data, tokens, torch.tensor(kind), steps)[0], wanted)


def test_dequantizer_of_cells_with_transforms() -> None:
    tokenizer = tiny_motion_tokenizer(config=MOTION_SIZES["tiny"])
    data = exported(network(tokenizer, "dequantizer"), {})
    tokens, steps = torch.randint(-1, 2, (5, 12, 8)), torch.rand(5, 1) + 0.01
    transform = torch.tensor([0, 1, 2, 3, 1])
    q = tokenizer.lfq.dequantize(tokens, None, INTRA, steps)
    wanted = tokenizer.lfq.transformed(q, transform, back=True)
    assert not torch.equal(wanted, q)
    close(run(data, tokens, transform, torch.tensor(INTRA), steps)[0], wanted)


def test_other_weights_are_noticed() -> None:
    predictor = network(tiny_tokenizer(config=CLIPS), "predictor")
    data = exported(predictor, {})
    assert check(predictor, data) < TOLERANCE
    with torch.no_grad():
        predictor.module.correction[0, 0] += 0.001  # type: ignore[index]
    with pytest.raises(Error, match="predictor: ONNX differs from torch by"):
        check(predictor, data)


def test_command(
    cli: Cli, tiny_motion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(tokenizer: Any) -> Iterator[Network]:
        yield network(tokenizer, "dequantizer")

    monkeypatch.setattr(onnx_export, "networks", one)
    call = ("models", "onnx", tiny_motion, "-o", tmp_path / "out", "--json")
    monkeypatch.setattr(onnx_export, "TOLERANCE", -1.0)
    ended = cli(*call)
    assert ended.status == 1
    assert ended.err.count("\n") == 1
    assert "dequantizer: ONNX differs from torch" in ended.err
    assert not list((tmp_path / "out").iterdir())

    monkeypatch.setattr(onnx_export, "TOLERANCE", TOLERANCE)
    with monkeypatch.context() as patch:  # what is not a number is no agreement
        patch.setattr(torch, "from_numpy", lambda x: torch.full(x.shape, torch.nan))
        assert cli(*call).status == 1

    ended = cli(*call)
    assert (ended.status, ended.err) == (0, "")
    path = tmp_path / "out" / "dequantizer.onnx"
    assert list(json.loads(ended.out)["files"]) == [str(path)]
    assert list((tmp_path / "out").iterdir()) == [path]
    model = onnx.load(path)
    onnx.checker.check_model(model)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    bundle = models.read_bundle(tiny_motion)
    assert json.loads(facts["neurocodec"]) == {"model": "tiny-motion", "hash": bundle.hash.hex()}
    ended = cli(*call)
    assert ended.status == 4
    assert "exists already" in ended.err


def test_without_the_extra(
    cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ended = cli("models", "onnx", tiny, "-o", tmp_path / "out")
    assert ended.status == 2
    assert ended.err == ("neurocodec: error: models onnx needs: pip install 'neurocodec[onnx]'\n")
    assert not (tmp_path / "out").exists()
