"""The transformer in exact arithmetic, and sampling with it: the same everywhere."""

import hashlib
import json
import math
import os
import subprocess
import sys
from collections import Counter

import pytest
import torch

from neurocodec.generate import exact, start
from neurocodec.generate.exact import LOGIT, ExactTransformer, exponentials
from neurocodec.generate.sample import _draw, _log, _Random, gumbel_table, log_table, sample
from neurocodec.generate.transformer import TASKS, given_cells
from tests.generate.conftest import CONFIG, fixed_transformer

NONE = torch.zeros(CONFIG.cells, dtype=torch.bool)
BLANK = torch.zeros(2, CONFIG.cells, dtype=torch.int64)
# of tokens drawn with seed 5; changes only where what a seed means is changed on purpose
GOLDEN = "4956a2d13d764852"
BUNDLED_GOLDEN = "eb1fac720498ced4"  # of the bundle tiny-gen, with seed 1


def drawn_hash() -> str:
    model = ExactTransformer(fixed_transformer())
    drawn = sample(model, BLANK, torch.tensor([0, 2]), NONE, steps=6, guidance=0.7, seed=5)
    return hashlib.sha256(json.dumps(drawn.tolist()).encode()).hexdigest()[:16]


def test_a_seed_means_the_same_tokens_for_ever() -> None:
    assert drawn_hash() == GOLDEN


def test_a_seed_means_the_same_tokens_of_the_bundled_model() -> None:
    model = start(None, "cpu")
    labels = torch.tensor([model.label("disc-rise"), model.label(None)])
    drawn = model.draw(labels, steps=3, seed=1)
    found = hashlib.sha256(json.dumps(drawn.tolist()).encode()).hexdigest()[:16]
    assert found == BUNDLED_GOLDEN


def test_a_seed_means_the_same_tokens_with_other_kernels() -> None:
    """Matrix products, sums and elementary functions by the plainest code of libraries."""
    plain = {
        "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "2",
        "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Prescott",
    }  # fmt: skip
    code = "from tests.generate.test_sample import drawn_hash; print(drawn_hash())"
    ended = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | plain, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert ended.stdout.strip() == GOLDEN


def test_exact_logits_are_those_of_the_network() -> None:
    model = fixed_transformer()
    random = torch.Generator().manual_seed(1)
    tokens = torch.randint(1 << CONFIG.bits, (2, CONFIG.cells), generator=random)
    masked = torch.rand(tokens.shape, generator=random) < 0.5
    label, task = torch.tensor([1, CONFIG.classes]), torch.tensor([0, 3])
    ours = ExactTransformer(model)(tokens, masked, label, task)
    for a, b in zip(ours, model(tokens, masked, label, task), strict=True):
        assert torch.equal(a, a.round())
        assert (a / LOGIT - b).abs().max() < 0.02 * b.std()


def test_the_order_of_sums_does_not_matter() -> None:
    """The same network with its hidden units in another order, and another batch around it."""
    model, other = fixed_transformer(), fixed_transformer()
    order = torch.randperm(4 * CONFIG.width, generator=torch.Generator().manual_seed(2))
    for layer in other.blocks.layers:
        layer.linear1.weight.copy_(layer.linear1.weight[order])
        layer.linear1.bias.copy_(layer.linear1.bias[order])
        layer.linear2.weight.copy_(layer.linear2.weight[:, order])
    tokens = torch.arange(3 * CONFIG.cells).view(3, -1) % (1 << CONFIG.bits)
    masked, zeros = tokens % 3 == 0, torch.zeros(3, dtype=torch.int64)
    a = ExactTransformer(model)(tokens, masked, zeros, zeros)
    b = ExactTransformer(other)(tokens[:1], masked[:1], zeros[:1], zeros[:1])
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x[:1], y)


def test_tables_do_not_depend_on_the_last_bit_of_a_library() -> None:
    """No entry lies so near a tie that an error of many units in the last place could move it."""
    unit = exact.ACTIVATION
    values = {
        "exp": [math.exp(-i / LOGIT) * exact.EXP_ONE for i in range(1, len(exact.exp_table()))],
        "gelu": [
            x * (1 + math.erf(x / math.sqrt(2))) / 2 * unit
            for x in (i / 1024 for i in range(-8192, 8193))
        ],
        "log": [math.log((2048 + i) / 4096) * 4096 for i in range(len(log_table()))],
        "gumbel": [
            -math.log(-math.log((i + 0.5) / 4096)) * 4096 for i in range(len(gumbel_table()))
        ],
    }
    for name, entries in values.items():
        nearest = min(abs(v - math.floor(v) - 0.5) for v in entries)
        assert nearest > 1e-8, name


def test_numbers_are_drawn_by_their_logits() -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = (p.log() * LOGIT).round().double().expand(100, 100, 4)
    found, log_p = _draw(logits, _Random(3))
    counts = Counter(found.flatten().tolist())
    for i, share in enumerate(p.tolist()):
        assert counts[i] / 10000 == pytest.approx(share, abs=0.02)
        assert log_p[found == i][0] / 4096 == pytest.approx(math.log(share), abs=0.01)


def test_logarithms_and_exponentials() -> None:
    x = torch.tensor([1, 2, 3, 1000, 123456789])
    assert _log(x).double() / 4096 == pytest.approx(x.double().log(), abs=2e-3)
    assert exponentials(torch.tensor([0.0, LOGIT, 1e6])).tolist() == [65536, 24109, 0]


def test_known_cells_stay_and_all_others_are_drawn() -> None:
    model = ExactTransformer(fixed_transformer())
    known = given_cells("predict", CONFIG.grid).flatten()
    tokens = BLANK + 77
    drawn = sample(model, tokens, torch.tensor([0, 1]), known, "predict", steps=3)
    assert (drawn[:, known] == 77).all()
    assert (drawn[:, ~known] != 77).float().mean() > 0.9
    again = sample(model, tokens + 0, torch.tensor([0, 1]), known, "predict", steps=3)
    assert torch.equal(drawn, again)
    other = sample(model, tokens, torch.tensor([0, 1]), known, "predict", steps=3, seed=1)
    assert not torch.equal(drawn, other)


def test_every_step_settles_as_many_as_the_cosine_says() -> None:
    model, left = ExactTransformer(fixed_transformer()), []

    class Watched:
        config = model.config

        def __call__(self, tokens, masked, label, task):  # type: ignore[no-untyped-def]
            left.append(int(masked[0].sum()))
            return model(tokens, masked, label, task)

    sample(Watched(), BLANK, torch.tensor([0, 1]), NONE, steps=4)  # type: ignore[arg-type]
    cells = CONFIG.cells
    assert left == [math.floor(cells * math.cos(math.pi / 2 * i / 4)) for i in range(4)]


def test_guidance_draws_away_from_no_class() -> None:
    """With a class that is as none, guidance changes nothing; with another one it does."""
    network = fixed_transformer()
    network.classes.weight[0] = network.classes.weight[CONFIG.classes]
    model = ExactTransformer(network)
    for label, same in ((0, True), (1, False)):
        a, b = (
            sample(model, BLANK, torch.tensor([label] * 2), NONE, steps=3, guidance=w)
            for w in (0.0, 4.0)
        )
        assert torch.equal(a, b) is same


def test_confidence_alone_settles_without_temperature() -> None:
    """A cell of which the model is sure is settled first."""
    order = []

    class Sure:
        config = CONFIG

        def __call__(self, tokens, masked, label, task):  # type: ignore[no-untyped-def]
            order.append(masked[0].clone())
            logits = [torch.zeros(*tokens.shape, 2**k, dtype=torch.float64) for k in (9, 1)]
            for group in logits:
                group[:, 11, 0] = 20 * LOGIT
            return logits

    sample(Sure(), BLANK, torch.tensor([0, 1]), NONE, steps=8, temperature=0.0)  # type: ignore[arg-type]
    assert order[0][11]
    assert not order[1][11]
    assert TASKS[0] == "generate"
