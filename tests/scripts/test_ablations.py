"""The ablations: that they run, and that their own parts are what they say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from neurocodec.tokenizer.config import CODES_STEP
from neurocodec.tokenizer.model import Tokenizer
from scripts.ablations import causal, factorization, parts, vocabulary
from scripts.ablations.vocabulary import VectorQuantizer

STEP = torch.tensor(CODES_STEP)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distance without a network."""

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a.astype(float) - b).mean() / 255)

    monkeypatch.setattr(parts.perceptual, "distance", distance)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Six, one of which is held out."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        small = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(small).resize((72, 72)).save(folder / f"{i}.png")
    return folder


def clips(frames: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 6, frames, 32, 32, generator=generator)


def rows_of(file: Path) -> list[list[str]]:
    """Of a table in Markdown, without its head."""
    lines = file.read_text().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_vocabulary(photographs: Path, tmp_path: Path, no_weights: None) -> None:
    out = tmp_path / "out"
    vocabulary.main([str(photographs), str(out), "--quick"])
    rows = rows_of(out / "vocabulary.md")
    assert [row[:2] for row in rows] == [[q, n] for q in ("LFQ", "VQ") for n in ("2^4", "2^6")]
    assert all(5 < float(row[2]) < 50 for row in rows)
    with Image.open(out / "vocabulary.png") as picture:
        assert picture.width > 500


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    calls = []

    def make() -> parts.Figures:
        calls.append(1)
        return {"psnr": 30.5}

    for _ in range(2):
        assert parts.once(tmp_path / "a.json", make) == {"psnr": 30.5}
    assert len(calls) == 1


CENTRES = torch.tensor([[4.0, 0.0], [0.0, 4.0], [-4.0, 0.0], [0.0, -4.0]])


def clustered() -> Tensor:
    """Cells (1024, 2) around four places, in turn."""
    return CENTRES.repeat(256, 1) + torch.randn(1024, 2, generator=torch.Generator().manual_seed(0))


def test_codes_become_the_means_of_what_they_stand_for() -> None:
    cells, quantizer = clustered(), VectorQuantizer(2, 2)
    quantizer.init_stages(0, 0.3 * CENTRES, (0.1, 1.0))
    for _ in range(500):
        quantizer(cells, 0, STEP)
    index = quantizer.nearest(cells)
    means = torch.stack([cells[index == code].mean(0) for code in range(4)])
    assert torch.allclose(quantizer.codebook, means, atol=0.1)
    assert torch.allclose(means[quantizer.nearest(CENTRES)], CENTRES, atol=0.3)


def test_codes_that_nothing_is_near_to_start_anew() -> None:
    cells, quantizer = clustered(), VectorQuantizer(2, 4)
    quantizer.init_stages(0, torch.full((1, 2), 4.0), (0.1, 1.0))  # all of them at one place
    assert len(quantizer.nearest(cells).unique()) == 1
    for _ in range(2 * quantizer.PATIENCE):
        quantizer(cells, 0, STEP)
    assert len(quantizer.nearest(cells).unique()) == 16


def test_vq_passes_gradients_through() -> None:
    quantizer = VectorQuantizer(3, 4).eval()
    cells = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    q, _, _ = quantizer(cells, 0, STEP)
    q.square().sum().backward()
    assert torch.allclose(cells.grad, 2 * q.detach())
    tokens, depth = quantizer.quantize(cells.detach(), 0, STEP)
    assert torch.allclose(quantizer.dequantize(tokens, depth, 0, STEP), q, atol=1e-6)


def test_use() -> None:
    used, entropy = parts.use(torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), 3)
    assert used == 0.5
    assert entropy == pytest.approx(2.0)


def scattered(model: Tokenizer) -> Tokenizer:
    """What starts at zero would hide what a convolution sees."""
    torch.manual_seed(0)
    for p in model.parameters():
        p.data.normal_(0, 0.2)
    return model


@pytest.mark.parametrize("centred", [False, True])
def test_only_the_causal_one_gives_a_frame_alone_the_same_token(centred: bool) -> None:
    model = scattered(Tokenizer(parts.tokenizer_config(12)))
    if centred:
        causal.centre(model)
    x = clips(9)
    alone = parts.coded(model, x[:, :, :1])
    whole = parts.coded(model, x)
    assert whole[0].shape == x.shape
    assert (alone[1][:, 0] == whole[1][:, 0]).all().item() is not centred
    assert torch.allclose(alone[0], whole[0][:, :, :1], atol=1e-4) is not centred


def test_centred_and_causal_have_the_same_weights() -> None:
    a, b = (scattered(Tokenizer(parts.tokenizer_config(12))) for _ in range(2))
    causal.centre(b)
    assert a.state_dict().keys() == b.state_dict().keys()
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_measures_are_those_of_training() -> None:
    """What is decoded from tokens is what the network was trained to make."""
    model = scattered(Tokenizer(parts.tokenizer_config(12)))
    x = clips(5)
    with torch.no_grad():
        out = model(x, torch.full((2,), CODES_STEP))
    assert torch.allclose(parts.coded(model, x)[0], out.planes.clamp(0, 1), atol=1e-4)


def test_causal(photographs: Path, tmp_path: Path, no_weights: None, clip: Path) -> None:
    for name in ("a", "b"):
        (photographs / f"{name}.mp4").write_bytes(clip.read_bytes())
    out = tmp_path / "out"
    causal.main([str(photographs), str(out), "--quick"])
    rows = rows_of(out / "causal.md")
    assert [row[0] for row in rows] == ["causal", "centred"]
    assert rows[0][4] == rows[0][5]  # the first frame, in its clip and alone
    assert rows[0][8] == "100.0 %"


def test_factorization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factorization, "apart", factorization.trial)
    factorization.main([str(tmp_path), "--quick"])
    rows = rows_of(tmp_path / "factorization.md")
    assert [row[0] for row in rows] == ["9 + 1", "10", "9 + 9", "18"]
    assert all(0 < float(row[1]) < 12 for row in rows[:2])
    assert float(rows[3][3]) == 4 * 128 * 2**18 / 2**20


def test_nothing_to_train_on_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parts.guarded(lambda: vocabulary.main([str(tmp_path), str(tmp_path / "out"), "--quick"]))
    assert ended.value.code == 3
    assert capsys.readouterr().err.count("\n") == 1
