import numpy as np
import pytest
import torch

from neurocodec.tokenizer.patch import (
    CHROMA_WEIGHT,
    dct_matrix,
    group_basis,
    planes_from_yuv,
    psnr,
    repeat_last_frame,
    shuffle,
    unshuffle,
    weighted_error,
    yuv_from_planes,
)
from tests.conftest import moving_picture


def test_planes_keep_every_sample() -> None:
    frames = moving_picture(3, 32, 16)
    stacks = [np.stack([frame.planes[i] for frame in frames]) for i in range(3)]
    planes = planes_from_yuv(*stacks)
    assert planes.shape == (6, 3, 8, 16)
    for stack, back in zip(stacks, yuv_from_planes(planes), strict=True):
        assert np.array_equal(stack, back)


def test_space_to_depth_and_back() -> None:
    x = torch.randn(2, 6, 3, 8, 12)
    assert unshuffle(x).shape == (2, 96, 3, 2, 3)
    assert torch.equal(shuffle(unshuffle(x)), x)


def test_dct_is_orthonormal() -> None:
    m = dct_matrix(8)
    assert torch.allclose(m @ m.T, torch.eye(8, dtype=m.dtype), atol=1e-12)


def test_full_basis_reconstructs_perfectly_and_short_ones_keep_low_frequencies() -> None:
    analysis, synthesis = group_basis(384)
    assert torch.allclose(synthesis @ analysis, torch.eye(384), atol=1e-5)
    analysis, synthesis = group_basis(24)
    flat = torch.ones(384)  # a flat grey patch in all four frames
    assert torch.allclose(synthesis @ (analysis @ flat), flat, atol=1e-5)


def test_prediction_starts_as_repetition_of_the_last_frame() -> None:
    analysis, synthesis = group_basis(384)
    group = torch.randn(4, 96)
    predicted = synthesis @ (repeat_last_frame(analysis, synthesis) @ (analysis @ group.flatten()))
    assert torch.allclose(predicted.view(4, 96), group[3].expand(4, -1), atol=1e-4)


def test_psnr_weighs_luma_six_to_one() -> None:
    a = torch.zeros(6, 2, 4, 4)
    b = a.clone()
    b[:4] += 0.1  # 20 dB
    b[4] += 0.01  # 40 dB
    assert psnr(a, b) == pytest.approx((20, 40, 100, (6 * 20 + 40 + 100) / 8), abs=1e-3)


def test_errors_of_chroma_weigh_more() -> None:
    a = torch.zeros(2, 6, 4, 4)
    b = a.clone()
    b[0, 1, 2, 3] = 0.5
    b[1, 4, 0, 0] = b[1, 5, 0, 0] = 0.5
    assert weighted_error(a, b).tolist() == [0.25, 2 * CHROMA_WEIGHT * 0.25]
    assert weighted_error(a[:, :, None], b[:, :, None]).tolist() == weighted_error(a, b).tolist()
