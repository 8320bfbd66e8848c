"""Wiener filters are told: taps seldom, regions of each picture."""

import numpy as np
import pytest

from neurocodec.codec.tokens import PictureTokens, hash_tokens
from neurocodec.entropy.binary import BitDecoder, BitEncoder
from neurocodec.entropy.structure import Picture
from neurocodec.entropy.wiener import GROUPS, MAX_TAP, Wiener, WienerModel, group_of
from tests.generators import random_luma_filter, random_wiener

GRID = (9, 30)


def coded(given: list[tuple[int, Wiener]]) -> tuple[list[Wiener], float]:
    encoder = BitEncoder()
    model = WienerModel(GRID)
    for group, wiener in given:
        model.code(encoder, group, wiener)
    decoder, model = BitDecoder(encoder.finish()), WienerModel(GRID)
    return [model.code(decoder, group, None) for group, _ in given], encoder.ideal_bits


def told(wiener: Wiener) -> str:
    """Everything in it."""
    return hash_tokens([PictureTokens(Picture(0, (), 0), None, [], wiener=wiener)])


@pytest.mark.parametrize("seed", range(6))
def test_what_was_told_is_heard(seed: int) -> None:
    rng = np.random.default_rng(seed)
    given = []
    last: dict[int, Wiener] = {}
    for _ in range(30):
        group, wiener = int(rng.integers(GROUPS)), random_wiener(rng, GRID)
        if group in last and rng.random() < 0.4:
            wiener = Wiener(wiener.luma, last[group].chroma)
        given.append((group, wiener))
        last[group] = wiener.or_else(last.get(group, Wiener()))
    found, _ = coded(given)
    assert [told(wiener) for wiener in found] == [told(wiener) for _, wiener in given]
    assert {wiener.luma is None for wiener in found} == {True, False}
    assert {taps is None for wiener in found for taps in wiener.chroma} == {True, False}


def test_the_largest_taps() -> None:
    wiener = random_wiener(np.random.default_rng(8), GRID)
    assert wiener.luma is not None
    wiener.luma.taps[0] = np.where(np.arange(12) % 2, MAX_TAP, -MAX_TAP)
    wiener = Wiener(wiener.luma, (np.full(15, MAX_TAP), np.arange(-7, 8)))
    (found,), _ = coded([(1, wiener)])
    assert told(found) == told(wiener)


def test_taps_are_told_once_for_each_group() -> None:
    rng = np.random.default_rng(2)
    wiener = Wiener(random_luma_filter(rng, GRID), (rng.integers(-60, 60, 15), np.arange(15)))
    _, once = coded([(0, wiener)])
    _, twice = coded([(0, wiener), (0, wiener)])
    _, of_both = coded([(0, wiener), (1, wiener)])
    assert twice - once < 0.1 * once
    assert of_both - once > 0.8 * once


def test_planes_without_have_what_there_was_last() -> None:
    rng = np.random.default_rng(3)
    old = Wiener(random_luma_filter(rng, GRID), (np.arange(15), None))
    new = Wiener(None, (None, np.ones(15, np.int64)))
    both = new.or_else(old)
    assert both.luma is old.luma
    assert both.chroma == (old.chroma[0], new.chroma[1])
    assert not Wiener().changes
    assert old.changes
    assert new.changes


def test_groups_of_pictures() -> None:
    pictures = [
        Picture(0, (), 0),
        Picture(8, (0,), 1),
        Picture(4, (0, 8), 2),
        Picture(1, (0, 2), 4),
    ]
    assert [group_of(picture) for picture in pictures] == [0, 1, 2, 2]
