"""Decoded pictures are moved and smoothed where that brings them nearer to the source."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurocodec
from neurocodec import models
from neurocodec.codec import picture_encoder
from neurocodec.codec.bilateral import bilateral, bilateral_by_shifts
from neurocodec.codec.loop_filter import apply, choose, widened
from neurocodec.codec.picture_encoder import PictureEncoder
from neurocodec.codec.pictures import PictureLoop, step_of
from neurocodec.codec.tokens import DEFAULT_SCALES
from neurocodec.entropy.loop_filter import MAX_OFFSET, OFFSET_BLOCKS, LoopFilter, blocks_of
from neurocodec.entropy.structure import regular
from neurocodec.tokenizer.config import MOTION_SIZES
from neurocodec.tokenizer.patch import luma, planes_of
from tests.conftest import moving_picture, tiny_motion_tokenizer, write_y4m
from tests.reference_synthesis import smoothed as reference

STEP = 0.3


def picture(
    h: int, w: int, noise: float, seed: int = 1, steps: float = 90
) -> tuple[Tensor, Tensor]:
    """Planes of h x w cells with stripes that differ by so much, and the same with noise in the
    left half, both in units of 1/255."""
    random = torch.Generator().manual_seed(seed)
    y = torch.full((1, 8 * h, 8 * w), 60.0)
    y[:, torch.arange(8 * h) // 6 % 2 == 1] += steps
    u, v = torch.full((2, 1, 4 * h, 4 * w), 120.0)
    source = [y, u, v]
    noisy = [x + noise * torch.randn(x.shape, generator=random) for x in source]
    for x, clean in zip(noisy, source, strict=True):
        x[..., x.shape[2] // 2 :] = clean[..., x.shape[2] // 2 :]
    return tuple(planes_of(*(x.round() / 255 for x in some)) for some in (source, noisy))  # type: ignore[return-value]


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())


def test_noise_goes_and_edges_stay() -> None:
    source, decoded = picture(8, 16, 3)
    by, found = choose(decoded, source, STEP, 1e-6)
    assert all(by.strengths)
    assert by.blocks.tolist() == [[True, True, False, False]] * 2
    assert torch.equal(found, apply(decoded, by, STEP))
    assert error(found, source) < 0.15 * error(decoded, source)
    assert torch.equal(found * 255, (found * 255).round())
    right = luma(found)[..., 64:]
    assert torch.equal(right, luma(source)[..., 64:])


def test_nothing_is_smoothed_that_is_as_it_should_be_or_not_worth_the_bits() -> None:
    source, decoded = picture(8, 16, 3)
    for target, penalty in ((decoded, 1e-6), (source, 1e3)):
        by, found = choose(decoded, target, STEP, penalty)
        assert by.strengths == (0, 0, 0)
        assert not by.blocks.any()
        assert found is decoded
    none = LoopFilter((0, 0, 0), np.zeros((2, 4), np.bool_))
    assert apply(decoded, none, STEP) is decoded


def test_slow_errors_of_flat_ground_need_the_wide_filter() -> None:
    """Waves of 32 samples, which the window of 9 does not see across."""
    y = torch.full((1, 128, 128), 100.0)
    across = torch.arange(128) * (2 * np.pi / 32)
    waves = 4 * torch.sin(across)[:, None] * torch.sin(across)
    chroma = torch.full((1, 64, 64), 120.0)
    source, decoded = (planes_of(*(x.round() / 255 for x in (some, chroma, chroma)))
                       for some in (y, y + waves))  # fmt: skip
    by, found = choose(decoded, source, STEP, 1e-6)
    assert by.wide
    assert torch.equal(found, apply(decoded, by, STEP))
    narrow = apply(decoded, replace(by, wide=False), STEP)
    assert error(found, source) < 0.6 * error(narrow, source)
    flat = luma(source)[0].mul(255).byte()
    assert torch.equal(widened(flat, 4, 3.0, 9.0), flat)


def test_strength_follows_the_noise() -> None:
    found = []
    for noise, steps in ((1, 12), (6, 30), (12, 90)):
        source, decoded = picture(8, 16, noise, steps=steps)
        found.append(choose(decoded, source, STEP, 1e-6)[0].strengths[0])
    assert found == [1, 2, 3]


def test_cells_weigh_as_the_encoder_says() -> None:
    """Flat ground without noise on one side, texture that is real on the other, in one block."""
    source, decoded = picture(4, 8, 3)
    source = source.clone()
    source[..., :8] = decoded[..., :8]  # of the first two columns of cells the noise is real
    weight = torch.ones(1, 4, 8)
    assert choose(decoded, source, STEP, 1e-6, weight)[0].blocks[0, 0]
    weight[..., :2] = 100
    assert not choose(decoded, source, STEP, 1e-6, weight)[0].blocks[0, 0]


def light(h: int, w: int, change: float) -> tuple[Tensor, Tensor]:
    """Planes of h x w cells of noise, and the same of which U is brighter to the right by up to
    so many units of 1/255."""
    random = torch.Generator().manual_seed(4)
    y = 128 + 20 * torch.randn(1, 8 * h, 8 * w, generator=random)
    u, v = 128 + 20 * torch.randn(2, 1, 4 * h, 4 * w, generator=random)
    far = u + change * torch.linspace(0, 1, 4 * w)
    return tuple(  # type: ignore[return-value]
        planes_of(*(x.round().clamp(0, 255) / 255 for x in some))
        for some in ((y, far, v), (y, u, v))
    )


def test_what_changes_slowly_is_followed_by_offsets() -> None:
    source, decoded = light(24, 32, 8)
    by, found = choose(decoded, source, STEP, 1e-5)
    assert by.strengths == (0, 0, 0)
    y, u, v = by.offsets
    assert y is None
    assert v is None
    assert u is not None
    assert u.shape in ((3, 4), (6, 8))
    assert (np.diff(u.mean(0)) >= 0).all()
    assert error(found, source) < 0.1 * error(decoded, source)
    assert torch.equal(found, apply(decoded, by, STEP))
    assert torch.equal(found[:, [0, 1, 2, 3, 5]], decoded[:, [0, 1, 2, 3, 5]])


def test_offsets_are_for_pictures_with_references_and_where_they_pay() -> None:
    source, decoded = light(24, 32, 8)
    for target, penalty, intra in ((source, 1e-5, True), (source, 1.0, False), (decoded, 0, False)):
        by, found = choose(decoded, target, STEP, penalty, None, intra)
        assert by.offsets == (None, None, None)
        assert found is decoded
    by, found = choose(decoded, source, STEP, 1e-5, None, False, False)  # not smoothed, but moved
    assert by.offsets[1] is not None
    weight = torch.full((1, 24, 32), 1e-5)  # of what nobody sees
    assert choose(decoded, source, STEP, 1e-5, weight)[0].offsets == (None, None, None)


def test_an_offset_is_limited() -> None:
    source, decoded = light(8, 8, 0)
    source[:, 4] += 90 / 255
    by, _ = choose(decoded, source, 0.1, 1e-6)
    assert by.offsets[1] is not None
    assert by.offsets[1].tolist() == [[MAX_OFFSET]]


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (57, 33)])
@pytest.mark.parametrize("shape", [(4, 3.0, 0.4), (3, 2.0, 9.0), (4, 3.0, 60.0)])
def test_other_devices_make_the_same(
    size: tuple[int, int], shape: tuple[int, float, float]
) -> None:
    plane = torch.randint(0, 256, size, generator=torch.Generator().manual_seed(2)).byte()
    ours, theirs = (f(plane, *shape).int() for f in (bilateral, bilateral_by_shifts))
    assert (ours - theirs).abs().max() <= 1
    assert (ours != theirs).float().mean() < 0.01
    exact = plane.float() + 0.3
    assert torch.allclose(bilateral(exact, *shape), bilateral_by_shifts(exact, *shape), atol=0.02)


@pytest.mark.parametrize("size", [(1, 2), (2, 4), (3, 7)])
def test_offsets_are_those_that_are_specified(size: tuple[int, int]) -> None:
    cells = tuple(2 * n if size == (1, 2) else 4 * n - 1 for n in size)  # partly of a block
    _, decoded = picture(*cells, 9)
    rows = blocks_of(cells, OFFSET_BLOCKS[0]), blocks_of(cells, OFFSET_BLOCKS[1])
    rng = np.random.default_rng(1)
    offsets = tuple(rng.integers(-9, 10, rows[i]) for i in (0, 1, 1))
    by = LoopFilter((0, 0, 0), np.zeros(blocks_of(cells), np.bool_), False, offsets)  # type: ignore[arg-type]
    ours = apply(decoded, by, 0.2)[0].double().numpy()
    theirs = reference(decoded[0].double().numpy(), (0, 0, 0), False, by.blocks, 0.2, by.offsets)
    assert np.abs(ours - theirs).max() * 255 < 1.01
    assert (np.abs(ours - theirs) * 255 > 0.5).mean() < 0.01
    assert (ours != decoded[0].double().numpy()).mean() > 0.5


@pytest.mark.parametrize("wide", [False, True])
def test_it_is_the_filter_that_is_specified(wide: bool) -> None:
    _, decoded = picture(5, 6, 9)
    by = LoopFilter((3, 1, 2), np.array([[True, False], [False, True]]), wide)
    ours = apply(decoded, by, 0.2)[0].double().numpy()
    theirs = reference(decoded[0].double().numpy(), by.strengths, wide, by.blocks, 0.2)
    assert np.abs(ours - theirs).max() * 255 < 1.01
    assert (np.abs(ours - theirs) * 255 > 0.5).mean() < 0.01
    changed = ours != decoded[0].double().numpy()
    assert changed[4:, :, :12].mean() > 0.3
    assert changed[:4, :16, :12].mean() > 0.3
    assert not changed[:4, 16:, :12].any()


def test_a_decoder_follows_and_later_pictures_see_it() -> None:
    tokenizer = tiny_motion_tokenizer(config=MOTION_SIZES["tiny"])
    args = (tokenizer, (8, 16), 0.3, DEFAULT_SCALES, torch.device("cpu"))
    encoder, decoder = PictureEncoder(*args), PictureLoop(*args)
    source, _ = picture(8, 16, 0)
    for place in regular([1], 3):
        item = encoder.encode(place, source)
        assert item.loop_filter is not None
        decoded = decoder.pictures[place.display] = decoder.decoding(item)()
        assert torch.equal(decoded, encoder.pictures[place.display])
        plain = PictureLoop(*args)
        plain.pictures = dict(decoder.pictures)
        unfiltered = plain.decoding(replace(item, loop_filter=None))()
        step = step_of(0.3, DEFAULT_SCALES, place)
        assert torch.equal(apply(unfiltered, item.loop_filter, step), decoded)
        assert not torch.equal(unfiltered, decoded)


@pytest.mark.parametrize(
    ("tune", "effort", "smooth"), [("psnr", "medium", 2), ("psnr", "fast", 1), ("grain", "slow", 0)]
)
def test_grain_is_not_smoothed(
    tune: str,
    effort: str,
    smooth: int,
    tmp_path: Path,
    tiny_motion: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, out, seen = tmp_path / "in.y4m", tmp_path / "out.nc", []

    def noting(*args: Any) -> tuple[LoopFilter, Tensor]:
        seen.append(args[-1])
        return choose(*args)

    monkeypatch.setattr(picture_encoder, "choose", noting)
    write_y4m(source, moving_picture(3, 64, 48))
    neurocodec.compress(source, out, model=str(tiny_motion), tune=tune, effort=effort)
    assert set(seen) == {smooth}
    with neurocodec.open(out, str(tiny_motion), "cpu") as video:
        assert len(list(video)) == 3


def test_models_without_one_have_none(tmp_path: Path, tiny_motion: Path) -> None:
    config = replace(MOTION_SIZES["tiny"], loop_filter=0)
    prior = {name: np.zeros(s, np.uint8) for name, s in models.prior_shapes(config).items()}
    sizes, without = [], tmp_path / "without.safetensors"
    models.write_bundle(without, "without", tiny_motion_tokenizer(config=config), prior, {})
    for name, path in (("without", without), ("with", tiny_motion)):
        assert models.read_bundle(path).shape.loop_filter == (name == "with")
        source, out = tmp_path / "in.y4m", tmp_path / f"{name}.nc"
        write_y4m(source, moving_picture(5, 64, 48))
        neurocodec.compress(source, out, model=str(path), quality=30)
        sizes.append(out.read_bytes())
        with neurocodec.open(out, str(path), "cpu") as video:
            assert len(list(video)) == 5
    assert sizes[0] != sizes[1]
