"""Discriminator and its losses against formulas; features against their packages."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d
from skimage import data

from neurocodec.bench import perceptual
from neurocodec.errors import UsageError
from neurocodec.train.adversary import (
    Discriminator,
    blur_pool,
    discriminator_loss,
    generator_loss,
    lecam_penalty,
    r1_penalty,
)
from neurocodec.train.features import distance, load_features
from neurocodec.train.ranks import Ranks


@pytest.mark.parametrize("side", [6, 7])
def test_blur_pool_is_a_binomial_filter_and_every_second_sample(side: int) -> None:
    x = torch.randn(2, 3, 5, side, side, generator=torch.Generator().manual_seed(0))
    expected = x.numpy()
    for dim in (3, 4):
        expected = convolve1d(expected, [0.25, 0.5, 0.25], dim, mode="nearest")
        expected = expected.take(range(0, side, 2), dim)
    assert torch.allclose(blur_pool(x, (3, 4)), torch.from_numpy(expected), atol=1e-6)


def test_discriminator_takes_pictures_and_clips() -> None:
    model = Discriminator((4, 8, 8))
    for frames in (1, 5):
        assert model(torch.zeros(2, 3, frames, 32, 32)).shape == (2,)


def test_losses() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 3.0])
    soft = [math.log1p(math.exp(x)) for x in (-2, 0, -1, 3)]
    assert discriminator_loss(real, fake).item() == pytest.approx(sum(soft) / 2)
    assert generator_loss(fake).item() == pytest.approx(
        (math.log1p(math.exp(1)) + math.log1p(math.exp(-3))) / 2
    )


def test_r1_is_the_squared_gradient() -> None:
    x = torch.randn(2, 3, 1, 4, 4, requires_grad=True)
    assert r1_penalty((3 * x).sum((1, 2, 3, 4)), x).item() == pytest.approx(9 * 48)


def test_lecam_pulls_towards_the_other_sides_average() -> None:
    model = Discriminator((4, 4))
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -3.0])
    model.follow(real, fake, Ranks())
    assert model.mean_real.item() == pytest.approx(0.02)
    assert model.mean_fake.item() == pytest.approx(-0.02)
    expected = np.mean([1.02**2, 3.02**2]) * 2
    assert lecam_penalty(model, real, fake).item() == pytest.approx(expected)


def test_discriminator_learns_to_tell_apart() -> None:
    torch.manual_seed(0)
    model = Discriminator((8, 16))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3, (0.0, 0.99))
    real = torch.randn(8, 3, 3, 8, 8)
    fake = real * 0.3
    for _ in range(30):
        of_real, of_fake = model(torch.cat([real, fake])).chunk(2)
        loss = discriminator_loss(of_real, of_fake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(real) > model(fake)).float().mean() > 0.9


def picture(side: int = 64) -> torch.Tensor:
    array = data.astronaut()[90 : 90 + side, 190 : 190 + side]
    return torch.from_numpy(array).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.parametrize("name", ["efficientnet", "stlpips"])
def test_distance_grows_with_noise_and_teaches(name: str) -> None:
    try:
        features = load_features(name, torch.device("cpu"))
    except UsageError as error:
        pytest.skip(str(error))
    a = picture()
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(0))
    assert distance(features, a, a).item() == pytest.approx(0, abs=1e-6)
    b = (a + 0.1 * noise).requires_grad_(True)
    near = distance(features, b, a).mean()
    assert 0 < near.item() < distance(features, a + 0.4 * noise, a).mean().item()
    near.backward()
    assert b.grad is not None
    assert b.grad.abs().sum() > 0


def test_stlpips_is_the_metric_of_the_harness() -> None:
    try:
        features = load_features("stlpips", torch.device("cpu"))
    except UsageError as error:
        pytest.skip(str(error))
    a, b = data.astronaut()[:64, :64], data.astronaut()[64:128, :64]
    x, y = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None] / 127.5 - 1 for p in (a, b))
    assert distance(features, x, y).item() == pytest.approx(perceptual.distance(a, b), rel=1e-4)


def test_efficientnet_still_knows_what_it_was_trained_for() -> None:
    """Weights and pre-processing are right: a photograph of a cat is called one."""
    try:
        features = load_features("efficientnet", torch.device("cpu"))
    except UsageError as error:
        pytest.skip(str(error))
    array = torch.from_numpy(data.chelsea().copy()).permute(2, 0, 1)[None].float()
    x = torch.nn.functional.interpolate(array[..., 75:375], (224, 224), mode="area") / 127.5 - 1
    with torch.no_grad():
        best = features._network(x * 127.5 / 128).argmax().item()  # type: ignore[attr-defined]
    assert best in range(281, 286)  # ImageNet's domestic cats


def test_unknown_features() -> None:
    with pytest.raises(UsageError, match="efficientnet"):
        load_features("vgg", torch.device("cpu"))
