"""Convolutions by Winograd's algorithm are convolutions."""

import pytest
import torch
import torch.nn.functional as F

from neurocodec.tokenizer.winograd import Kernel, Winograd, activated


def layer(inputs: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(inputs)
    return torch.randn(outputs, inputs, 3, 3) / (3 * inputs**0.5), torch.randn(outputs)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 4), (9, 7), (23, 40), (50, 18)])
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 24), (40, 5)])
def test_a_convolution(size: tuple[int, int], inputs: int, outputs: int) -> None:
    weight, bias = layer(inputs, outputs)
    x, added = torch.randn(*size, inputs), torch.randn(*size, outputs)
    exact = F.conv2d(x.permute(2, 0, 1)[None].double(), weight.double(), bias.double(), padding=1)
    expected = exact[0].permute(1, 2, 0).float()
    conv, kernel = Winograd(), Kernel(weight, bias)
    close = {"atol": 2e-5, "rtol": 0.0}
    for _ in range(2):  # memory is used again
        torch.testing.assert_close(conv(x, kernel), expected, **close)
        torch.testing.assert_close(conv(x, kernel, silu=True), F.silu(expected), **close)
        torch.testing.assert_close(conv(x, kernel, added=added), expected + added, **close)


def test_threads_make_the_same_numbers() -> None:
    kernel, x = Kernel(*layer(16, 32)), torch.randn(70, 33, 16)
    one, three = Winograd(1), Winograd(3)
    assert torch.equal(one(x, kernel, silu=True), three(x, kernel, silu=True))


def test_silu() -> None:
    x = torch.cat([torch.linspace(-30, 30, 10001), torch.tensor([0.0, 1e-20])])
    torch.testing.assert_close(activated(x), F.silu(x.double()).float(), atol=5e-6, rtol=1e-6)
