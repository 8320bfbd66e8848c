"""A tiny bundle that generates, of weights that no library had a part in."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from neurocodec import models
from neurocodec.entropy.adaptive import empty_prior
from neurocodec.generate.transformer import Transformer, TransformerConfig
from neurocodec.tokenizer.config import SIZES as TOKENIZERS
from tests.conftest import tiny_tokenizer

CONFIG = TransformerConfig(2, 32, 2, (3, 4, 4), bits=10, classes=3, dropout=0.0)
CODES = dataclasses.replace(
    TOKENIZERS["tiny"], quantizer="codes", bits=10, stages=1, channels=(16,)
)


def fixed_transformer(config: TransformerConfig = CONFIG) -> Transformer:
    model = Transformer(config).eval().requires_grad_(False)
    bits = np.random.PCG64(7)
    for name, p in model.named_parameters():
        raw = torch.from_numpy((bits.random_raw(p.numel()) >> np.uint64(40)).astype(np.float32))
        values = raw.view(p.shape) / 2**23 - 1
        p.copy_(1 + 0.2 * values if "norm" in name and name.endswith("weight") else 0.3 * values)
    return model


@pytest.fixture(scope="session")
def tiny_gen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a bundle: 9 frames of 32x32, classes a, b and c."""
    path = tmp_path_factory.mktemp("models") / "tiny-gen.safetensors"
    tokenizer = tiny_tokenizer(config=CODES)
    planes = torch.rand(4, 6, 9, 16, 16, generator=torch.Generator().manual_seed(0))
    tokenizer.init_stages(planes, (0.1, 0.5))
    facts = {"config": CONFIG.to_dict(), "classes": ["a", "b", "c"], "step": 0.8}
    models.write_bundle(
        path, "tiny-gen", tokenizer, empty_prior(models.token_shape(CODES)), {}, None,
        models.TransformerParts(facts, fixed_transformer().state_dict()),
    )  # fmt: skip
    return path
