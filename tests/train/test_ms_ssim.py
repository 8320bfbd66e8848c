from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neurocodec import models
from neurocodec.codec.frames import pad_planes
from neurocodec.codec.tokens import PictureTokens
from neurocodec.errors import UsageError
from neurocodec.similarity import ms_ssim
from neurocodec.tokenizer.config import INTRA, MOTION_SIZES
from neurocodec.tokenizer.motion_model import CodedPicture, MotionTokenizer
from neurocodec.train import motion_run
from neurocodec.train.motion_run import MotionRun, MotionTrainConfig, cost_of
from neurocodec.train.ms_ssim import shape_steps
from neurocodec.train.token_cache import tokenized
from tests.conftest import moving_picture


def natural(side: int) -> torch.Tensor:
    """(1, S, S) in 0..1, with the spectrum that pictures have, amplitude falling as 1 / f."""
    rng = np.random.default_rng(0)
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    f[0, 0] = np.inf
    y = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) / f).real
    return torch.from_numpy((0.5 + 0.15 * y / y.std()).clip(0, 1)[None]).float()


def cost_of_noise(picture: torch.Tensor, model: MotionTokenizer, channel: int) -> float:
    """1 - MS-SSIM with noise in one channel of all cells, as large as its step says."""
    torch.manual_seed(channel)
    side = picture.shape[1] // 8
    cells = torch.zeros(1, model.config.latent_dim, side, side)
    signs = (torch.rand(side, side) < 0.5).float() * 2 - 1
    cells[0, channel] = signs * 0.02 * model.lfq.log_gain[INTRA, channel].exp()
    planes = F.pixel_shuffle(
        F.conv2d(cells, model.intra.decoder.synthesis[:, :, None, None]), 4
    )  # (1, 6, S/2, S/2)
    return float(1 - ms_ssim(picture, picture + F.pixel_shuffle(planes[:, :4], 2)[:, 0]))


def test_noise_of_all_frequencies_costs_about_the_same_with_shaped_steps() -> None:
    picture, model = natural(192), MotionTokenizer(MOTION_SIZES["base"])
    # the first channel is luma's mean, the last one of luma its highest frequency
    luma = model.intra.encoder.analysis.view(-1, 6, 16)[:, :4].abs().sum((1, 2)) > 0
    low, high = 0, int(luma.nonzero().max())
    flat = cost_of_noise(picture, model, low) / cost_of_noise(picture, model, high)
    shape_steps(model.lfq)
    shaped = cost_of_noise(picture, model, low) / cost_of_noise(picture, model, high)
    assert flat > 4
    assert 1 < shaped < flat / 3


def test_chroma_and_bases_keep_their_steps() -> None:
    model = MotionTokenizer(MOTION_SIZES["base"])
    shape_steps(model.lfq)
    luma = model.intra.encoder.analysis.view(-1, 6, 16)[:, :4].abs().sum((1, 2)) > 0
    assert (model.lfq.log_gain[:INTRA] == 0).all()
    assert (model.lfq.log_gain[INTRA:, ~luma] == 0).all()
    assert (model.lfq.log_gain[INTRA:, luma] != 0).all()


def test_of_two_decodings_of_the_same_error_the_one_that_keeps_structure_costs_less() -> None:
    y = natural(64)
    planes = torch.cat([F.pixel_unshuffle(y[None], 2), torch.full((1, 2, 32, 32), 0.5)], 1)
    faded = y.mean() + 0.8 * (y - y.mean())
    error = (faded - y).square().mean().sqrt()
    step, depth, bits = torch.tensor([0.1]), torch.zeros(1, 8, 8), torch.zeros(1)

    def cost(decoded: torch.Tensor, similarity: bool) -> float:
        out = torch.cat([F.pixel_unshuffle(decoded[None], 2), planes[:, 4:]], 1)
        coded = CodedPicture(out, depth, bits, depth, step.view(1, 1, 1, 1))
        return float(cost_of(planes, coded, step, similarity))

    brighter = y + error  # as far off, but all structure is there
    assert cost(faded, False) == pytest.approx(cost(brighter, False), rel=1e-3)
    assert cost(faded, True) > 1.2 * cost(brighter, True)
    assert cost(y, True) < 1e-3


def test_pictures_are_judged_by_ms_ssim_but_not_their_bases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []
    real = motion_run.dissimilarity

    def record(planes: torch.Tensor, coded: CodedPicture, step: torch.Tensor) -> torch.Tensor:
        judged.append(tuple(planes.shape[2:]))
        return real(planes, coded, step)

    monkeypatch.setattr(motion_run, "dissimilarity", record)
    x = torch.cat([F.pixel_unshuffle(natural(64)[None], 2), torch.full((1, 2, 32, 32), 0.5)], 1)
    for distortion, expected in (("mse", []), ("ms-ssim", [(32, 32)])):
        config = MotionTrainConfig(size="tiny", part="intra", distortion=distortion)
        MotionRun(config, tmp_path, "cpu").intra_step(x)
        assert judged == expected


def test_a_run_shapes_the_steps_of_the_bundle_it_starts_from(tmp_path: Path) -> None:
    bundle = models.find("motion-base")
    for distortion in ("mse", "ms-ssim"):
        run = MotionRun(
            MotionTrainConfig(size="base", distortion=distortion), tmp_path / distortion, "cpu"
        )
        run.start_from_bundle(bundle)
        shaped = distortion == "ms-ssim"
        assert bool((run.model.lfq.log_gain[INTRA] != 0).any()) == shaped
        assert bool((run.average["lfq.log_gain"][INTRA] != 0).any()) == shaped


def test_unknown_distortion(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mse or ms-ssim"):
        MotionRun(MotionTrainConfig(distortion="vmaf"), tmp_path, "cpu")


def test_tokens_to_learn_from_are_masked_as_a_tune_says() -> None:
    planes = pad_planes(moving_picture(3, 64, 64))
    bundle = models.find("motion-ms-ssim")

    def tokens(tune: str | None) -> list[np.ndarray]:
        found = tokenized(bundle.tokenizer(), planes, 0.1, "fast", tune)
        return [item.parts[-1].tokens for item in found if isinstance(item, PictureTokens)]

    differ = [
        not np.array_equal(a, b) for a, b in zip(tokens("ms-ssim"), tokens("balanced"), strict=True)
    ]
    assert any(differ)
    for a, b in zip(tokens(None), tokens("balanced"), strict=True):
        assert np.array_equal(a, b)
