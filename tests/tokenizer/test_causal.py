import pytest
import torch

from neurocodec.tokenizer.causal import (
    Cache,
    CausalConv3d,
    FrameNorm,
    ResBlock,
    group_frames,
    ungroup_frames,
)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1), (1, 3, 3), (4, 1, 1)])
def test_streamed_convolution_equals_whole(kernel: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    conv = CausalConv3d(3, 5, kernel)
    x = torch.randn(2, 3, 9, 4, 4)
    cache = Cache()
    chunks = [conv(part, cache) for part in x.split([1, 4, 1, 3], 2)]
    torch.testing.assert_close(torch.cat(chunks, 2), conv(x))


def test_no_frame_sees_a_later_one() -> None:
    torch.manual_seed(0)
    block = ResBlock(8, full_kernels=True)
    torch.nn.init.normal_(block.conv2.conv.weight)
    x = torch.randn(1, 8, 6, 4, 4)
    changed = x.clone()
    changed[:, :, 4:] += 1
    before, after = block(x), block(changed)
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.equal(before[:, :, 4:], after[:, :, 4:])


def test_norm_has_statistics_of_one_frame() -> None:
    norm = FrameNorm(16)
    x = torch.randn(1, 16, 3, 4, 4) * torch.tensor([1.0, 10.0, 100.0]).view(1, 1, 3, 1, 1)
    assert norm(x).std((1, 3, 4)).allclose(torch.ones(1, 3), atol=0.05)


def test_adaptive_norm_follows_its_condition() -> None:
    norm = FrameNorm(8, condition=2)
    assert norm.modulation is not None
    torch.nn.init.ones_(norm.modulation.weight)
    x = torch.randn(1, 8, 1, 4, 4)
    condition = torch.zeros(1, 2, 1, 4, 4)
    condition[..., :2] = 1  # the left half
    y, plain = norm(x, condition), norm(x)
    assert torch.equal(y[..., 2:], plain[..., 2:])
    assert torch.allclose(y[..., :2], plain[..., :2] * 3 + 2)


def test_groups_of_frames_come_apart_again() -> None:
    x = torch.arange(2 * 3 * 9.0).view(2, 3, 9, 1, 1)
    grouped = group_frames(x, started=False)
    assert grouped.shape == (2, 12, 3, 1, 1)
    assert torch.equal(ungroup_frames(grouped, started=False), x)
    first = grouped[0, :, 0, 0, 0].view(4, 3)
    assert torch.equal(first, first[:1].expand(4, -1))  # the first frame fills its group
    later = x[:, :, 1:]
    assert torch.equal(ungroup_frames(group_frames(later, True), True), later)


def test_incomplete_group_is_refused() -> None:
    with pytest.raises(ValueError, match="whole groups"):
        group_frames(torch.zeros(1, 1, 3, 1, 1), started=False)
