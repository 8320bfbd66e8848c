"""Choice of bundles, and their sizes."""

import itertools
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import neurocodec
from neurocodec import models
from neurocodec.bitstream.reader import Reader
from neurocodec.codec.effort import TUNES
from neurocodec.codec.tokens import picture_head
from neurocodec.errors import ModelError, UsageError
from neurocodec.tokenizer.config import ABSENT, MOTION_SIZES, MotionConfig, config_from_dict
from neurocodec.tokenizer.motion_model import MotionTokenizer
from tests.conftest import tiny_motion_tokenizer, write_clip


def parameters(bundle: models.Bundle) -> int:
    return sum(p.numel() for p in bundle.tokenizer().inter.parameters())


def test_the_dial_names_bundles_of_ever_larger_networks() -> None:
    assert list(models.DIAL) == ["fast", "default", "best"]
    assert models.find("default").hash == models.find().hash
    fast, default, best = (models.find(choice) for choice in models.DIAL)
    assert (fast.name, default.name, best.name) == ("motion-fast", "motion-small", "motion-base")
    assert parameters(fast) < 0.6 * parameters(default) < 0.3 * parameters(best)


@pytest.mark.parametrize("choice", ["fast", "best"])
def test_a_file_of_a_choice_says_so_and_plays(choice: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", 3, 32, 24)
    neurocodec.compress(source, tmp_path / "out.nc", model=choice)
    with Reader(tmp_path / "out.nc") as reader:
        assert reader.header.model_name == models.DIAL[choice]
    assert neurocodec.decompress(tmp_path / "out.nc", tmp_path / "back.y4m").frames == 3


def test_what_a_file_is_tuned_for_chooses_the_model_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    source, out = write_clip(tmp_path / "in.mkv", 3, 32, 24), tmp_path / "out.nc"
    found = {}
    for tune, model in itertools.product((None, "ms-ssim", "psnr"), (None, "small", "ms-ssim")):
        name = model and f"motion-{model}"
        neurocodec.compress(source, out, tune=tune, model=name, overwrite=True)
        with Reader(out) as reader:
            gop = reader.read_gop(reader.gops[0])
            assert gop is not None
            found[tune, model] = reader.header.model_name, picture_head(gop[0])[1]
    small, other = "motion-small", "motion-ms-ssim"
    assert found == {
        (None, None): (small, TUNES["balanced"]),
        (None, "small"): (small, TUNES["balanced"]),
        (None, "ms-ssim"): (other, TUNES["ms-ssim"]),
        ("ms-ssim", None): (other, TUNES["ms-ssim"]),
        ("ms-ssim", "small"): (small, TUNES["ms-ssim"]),
        ("ms-ssim", "ms-ssim"): (other, TUNES["ms-ssim"]),
        ("psnr", None): (small, TUNES["psnr"]),
        ("psnr", "small"): (small, TUNES["psnr"]),
        ("psnr", "ms-ssim"): (other, TUNES["psnr"]),
    }
    with pytest.raises(UsageError, match="tune 'ssim'"):
        neurocodec.compress(source, out, tune="ssim", overwrite=True)


def test_cards_say_what_a_bundle_is_tuned_for() -> None:
    assert models.find("motion-ms-ssim").tune == "ms-ssim"
    assert models.find("motion-small").tune is None
    for card in ({}, {"config": None}, {"config": {"distortion": ["ms-ssim"]}}):
        assert models.tune_of(card) is None


def test_inter_networks_have_their_own_sizes() -> None:
    base = MOTION_SIZES["base"]
    assert base.inter is base
    own = MOTION_SIZES["small"]
    model = MotionTokenizer(own)
    assert model.intra.context.stem.out_channels == base.context
    assert model.inter.context.stem.out_channels == own.inter_context
    assert model.inter.decoder.up.in_channels == own.inter_width
    assert len(model.inter.decoder.blocks) == own.inter_decoder_blocks


def test_configurations_without_them_are_written_as_before() -> None:
    plain = {k for k in asdict(MotionConfig()) if not k.startswith(ABSENT)}
    assert plain == set(MotionConfig().to_dict())
    for own in MOTION_SIZES.values():
        assert config_from_dict(own.to_dict()) == own


def test_sizes_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    config = replace(MOTION_SIZES["tiny"], inter_context=4, inter_width=8)
    tokenizer = tiny_motion_tokenizer(config=config)
    prior = {name: np.zeros(shape, np.uint8) for name, shape in models.prior_shapes(config).items()}
    path = tmp_path / "m.safetensors"
    models.write_bundle(path, "m", tokenizer, prior, {})
    assert models.read_bundle(path).config == config
    data = path.read_bytes()
    for name, good, bad in (
        ("inter_width", 8, 0), ("transform_kinds", 3, 6), ("stages", 12, 11), ("loop_filter", 1, 2),
    ):  # fmt: skip
        changed = data.replace(f'\\"{name}\\": {good}'.encode(), f'\\"{name}\\": {bad}'.encode())
        assert changed != data
        path.write_bytes(changed)
        with pytest.raises(ModelError):
            models.read_bundle(path)
