"""Frechet distance, precision and recall, use of codes, classes; and all of them of a bundle."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from neurocodec.bench.generation import Classifier, covered, frechet, usage
from neurocodec.train.picture import rgb_clips
from neurocodec.train.shapes import CLASSES, HELD_OUT, planes_from_rgb, render
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.conftest import write_clip
from tests.generate.conftest import tiny_gen  # noqa: F401


def test_frechet_distance_of_normal_distributions() -> None:
    """In closed form: of means apart by 3 and deviations of 1 and 2, 9 + (2 - 1)^2 a dimension."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20000, 2)), rng.normal(3, 2, size=(20000, 2))
    assert frechet(a, b) == pytest.approx(2 * (9 + 1), rel=0.03)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert frechet(a @ turn * [1, 3] @ turn.T, a * [1, 3] + 0) > 0.5  # covariances, not variances
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a[:50, :1], b[:50, :1]) == pytest.approx(10, rel=0.5)


def test_precision_and_recall_tell_missing_modes_from_noise() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 2)) * 0.1 + rng.integers(2, size=(200, 1)) * 10
    one_mode, noise = rng.normal(size=(200, 2)) * 0.1, rng.uniform(-20, 30, size=(200, 2))
    assert covered(one_mode, real) > 0.9
    assert 0.3 < covered(real, one_mode) < 0.6
    assert covered(noise, real) < 0.1


def test_use_of_codes() -> None:
    count, entropy = usage(torch.tensor([[0, 0], [3, 3], [5, 5], [9, 9]]))
    assert count == 4
    assert entropy == pytest.approx(2)


def test_classifier() -> None:
    rng = np.random.default_rng(0)
    labels = torch.arange(3).repeat(60)
    x = rng.normal(size=(180, 5)) + 4 * np.eye(5)[labels.numpy()]
    probe = Classifier(x[:90], labels[:90])
    assert probe.accuracy(x[90:], labels[90:]) > 0.95
    assert probe.accuracy(rng.permutation(x[90:]), labels[90:]) < 0.6


def test_made_up_clips() -> None:
    assert len(CLASSES) == 16
    for name in CLASSES:
        clip = render(name, HELD_OUT, 9, 32)
        assert clip.shape == (9, 32, 32, 3)
        assert np.array_equal(clip, render(name, HELD_OUT, 9, 32))
        assert not np.array_equal(clip, render(name, HELD_OUT + 1, 9, 32))
        if name != "photo":
            assert (clip[0] != clip[-1]).any(-1).mean() > 0.01  # something has moved
    rgb = (rgb_clips(planes_from_rgb(clip)[None])[0].permute(1, 2, 3, 0) + 1) * 127.5
    assert np.abs(rgb.numpy() - clip).mean() < 4  # chroma at half the size


def test_clips_do_what_their_class_says() -> None:
    def edges(name: str) -> np.ndarray:
        """Rows and columns of the shape's box, first and last frame."""
        found = []
        for picture in render(name, 3, 9, 64)[[0, -1]].astype(int):
            saturated = np.ptp(picture, axis=-1) > 60
            rows, columns = (np.flatnonzero(saturated.any(axis)) for axis in (1, 0))
            found.append([rows[0], rows[-1], columns[0], columns[-1]])
        return np.diff(found, axis=0)[0]

    for shape in ("disc", "square", "triangle"):
        top, bottom, left, right = edges(f"{shape}-rise")
        assert max(top, bottom) < -8
        assert max(abs(left), abs(right)) <= 1
        assert edges(f"{shape}-fall")[:2].min() > 8
        assert abs(edges(f"{shape}-across")[2:]).min() > 8
        top, bottom, left, right = edges(f"{shape}-grow")
        assert bottom - top > 4
        assert right - left > 4
        top, bottom, left, right = edges(f"{shape}-shrink")
        assert bottom - top < -4


def test_bench_generation(cli: Cli, tiny_gen: Path, tmp_path: Path) -> None:  # noqa: F811
    for name in "abc":
        (tmp_path / name).mkdir()
        write_clip(tmp_path / name / "clip.mkv", 12, 48, 48)
    common = ("bench", "generation", "--model", tiny_gen, "--each", "3", "--steps", "2")
    ended = cli(*common, "--data", tmp_path, "--json", "--quiet")
    assert (ended.status, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert (found["clips"], found["bits"]) == (9, 10)
    rows = found["rows"]
    assert rows["real"]["frechet"] < rows["random tokens"]["frechet"]
    coded = rows["real, from its tokens"]
    assert coded["frechet_coded"] < min(coded["frechet"], rows["random tokens"]["frechet_coded"])
    assert rows["real, from its tokens"]["codes"] == rows["tokens shuffled across space"]["codes"]
    assert rows["random tokens"]["codes"] > rows["real"]["codes"]
    ended = cli(*common, "--data", tmp_path / "a")
    assert ended.status == 3
    assert "not a folder for each class" in ended.err
    ended = cli(*common)
    assert (ended.status, "give --data" in ended.err) == (2, True)
