"""Clips from nothing, what follows a clip, and parts of it: what is kept, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import neurocodec
from neurocodec import models
from neurocodec.errors import InputError, ModelError, UsageError
from neurocodec.generate import clips, start
from neurocodec.generate.model import Generative, first_tokens, planes_of_tokens
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.conftest import moving_picture, write_clip
from tests.media.clips import look

HOW = {"steps": 2}


@pytest.fixture(scope="module")
def model(tiny_gen: Path) -> Generative:
    return start(str(tiny_gen), "cpu")


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    frames = moving_picture(9, 32, 32)
    return torch.stack([clips._reduced(frame, (32, 32)) for frame in frames], 1)


def test_tokens_and_back(model: Generative, clip: torch.Tensor) -> None:
    """Every cell gets a token, of its own latent frame alone, and decoding is what training saw."""
    tokens = first_tokens(model.tokenizer, clip[None], model.step)
    assert tokens.shape == (1, 3, 4, 4)
    planes = planes_of_tokens(model.tokenizer, tokens, model.step)
    trained = model.tokenizer(clip[None], torch.tensor([0.1]))  # the dial has one place
    assert (trained.depth == 1).all()
    assert (planes - trained.planes).abs().max() < 0.05
    later = clip.clone()
    later[:, 1:] = 0.3
    assert torch.equal(first_tokens(model.tokenizer, later[None], 0.8)[:, 0], tokens[:, 0])


def test_generated_clips_have_their_length(model: Generative) -> None:
    found = clips.generate(model, [0, 2], 14, **HOW)
    assert found.shape == (2, 6, 14, 16, 16)
    assert (found[0] - found[1]).abs().mean() > 1e-3
    assert torch.equal(clips.generate(model, [0, 2], 9, **HOW), found[:, :, :9])
    assert torch.equal(clips.generate(model, [0, 2], 3, **HOW), found[:, :, :3])
    assert not torch.equal(clips.generate(model, [0, 2], 9, seed=1, **HOW), found[:, :, :9])


def test_prediction_keeps_the_first_frames(model: Generative, clip: torch.Tensor) -> None:
    found = clips.predict(model, clip, 3, 7, **HOW)
    assert found.planes.shape[1] == 12
    assert found.imagined == list(range(5, 12))
    assert torch.equal(found.planes[:, :5], clip[:, :5])
    other = clips.predict(model, clip.flip(1), 3, 4, **HOW)
    assert not torch.equal(other.planes[:, 5:], found.planes[:, 5:9])
    assert clips.predict(model, clip, 3, 2, given=1, **HOW).imagined == [1, 2]
    for given in (0, 3, 9):
        with pytest.raises(UsageError, match="takes 1, 5"):
            clips.predict(model, clip, 3, 4, given=given, **HOW)
    with pytest.raises(InputError, match="has 3 frames; 5"):
        clips.predict(model, clip[:, :3], 3, 4, **HOW)


def test_interpolation_keeps_both_ends(model: Generative, clip: torch.Tensor) -> None:
    found = clips.interpolate(model, clip, 3, **HOW)
    assert found.imagined == [1, 2, 3, 4]
    kept = [0, 5, 6, 7, 8]
    assert torch.equal(found.planes[:, kept], clip[:, kept])
    assert not torch.equal(found.planes[:, 1:5], clip[:, 1:5])


def test_inpainting_keeps_the_cells_around(model: Generative, clip: torch.Tensor) -> None:
    region = clips.read_region("9,9,6,2", (32, 32))  # of one cell
    found = clips.inpaint(model, clip, 3, region, **HOW)
    changed = (found.planes != clip).any(0).any(0)
    assert changed[4:8, 4:8].any()
    changed[4:8, 4:8] = False
    assert not changed.any()
    with pytest.raises(UsageError, match="empty"):
        clips.inpaint(model, clip, 3, torch.zeros(32, 32, dtype=torch.bool), **HOW)


def test_outpainting_keeps_the_clip_in_the_middle(model: Generative, clip: torch.Tensor) -> None:
    found = clips.outpaint(model, clip, 3, **HOW)
    small = torch.nn.functional.avg_pool2d(clip.transpose(0, 1), 2).transpose(0, 1)
    assert torch.allclose(found.planes[:, :, 4:12, 4:12], small, atol=1e-6)
    assert found.planes[:, :, :4].std() > 0


def test_regions(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[32:, :] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    region = clips.read_region(str(tmp_path / "mask.png"), (32, 16))
    assert region.shape == (16, 32)
    assert region[8:].all()
    assert not region[:8].any()
    for text, words in (("1,2,x,4", "give X,Y,W,H"), ("40,0,3,3", "not inside"), ("0,0,0,1", "in")):
        with pytest.raises(UsageError, match=words):
            clips.read_region(text, (32, 32))
    (tmp_path / "no.png").write_bytes(b"no")
    with pytest.raises(InputError, match="not a picture"):
        clips.read_region(str(tmp_path / "no.png"), (32, 32))
    with pytest.raises(InputError, match="No such file"):
        clips.read_region("missing.png", (32, 32))


def test_generate_on_the_command_line(cli: Cli, tiny_gen: Path, tmp_path: Path) -> None:  # noqa: F811
    sheet, again = tmp_path / "a.png", tmp_path / "b.png"
    ended = cli("generate", sheet, "--model", tiny_gen, "-n", "3", "--steps", "2")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == f"{sheet}: 3 clips of 9 frames of 32x32\n"
    with Image.open(sheet) as picture:
        assert picture.size == (9 * 34 - 2, 3 * 34 - 2)
    cli("generate", again, "--model", tiny_gen, "-n", "3", "--steps", "2", "--seed", "0")
    assert sheet.read_bytes() == again.read_bytes()
    video = tmp_path / "a.mp4"
    arguments = ("--model", tiny_gen, "--class", "b", "-n", "4", "--frames", "11", "--steps", "2")
    assert cli("generate", video, *arguments, "--guidance", "2").status == 0
    seen = look(video)
    assert (len(seen.times), seen.frames[0].width) == (11, 66)


def test_predict_on_the_command_line(cli: Cli, tiny_gen: Path, tmp_path: Path) -> None:  # noqa: F811
    source, out = write_clip(tmp_path / "in.mkv", 12, 64, 48), tmp_path / "out.mp4"
    common = ("--model", tiny_gen, "--steps", "2", "-y")
    ended = cli("predict", source, out, "--frames", "6", *common)
    assert (ended.status, ended.out) == (0, f"{out}: 11 frames, 5 to 10 imagined\n")
    assert "resized to 32x32" in ended.err
    assert len(look(out).times) == 11
    for option, words in (
        (("--interpolate",), "9 frames, 1 to 4 imagined\n"),
        (("--inpaint", "0,0,8,8"), "9 frames, 0 to 8 imagined in part\n"),
        (("--outpaint",), "9 frames, 0 to 8 imagined in part\n"),
    ):
        ended = cli("predict", source, out, *option, *common)
        assert (ended.status, ended.out) == (0, f"{out}: {words}")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("generate", "out.gif"), 2, "write to .mp4"),
        (("generate", "-"), 2, "write to a file"),
        (("generate", "out.png", "--class", "x"), 2, "class 'x': tiny-gen has a, b, c"),
        (("generate", "out.png", "--model", "motion-small"), 7, "generates nothing"),
        (("predict", "missing.mp4", "out.mp4"), 3, "missing.mp4"),
        (("predict", "in.mkv", "out.mp4", "--interpolate", "--outpaint"), 2, "one of"),
        (("predict", "in.mkv", "out.mp4", "--outpaint", "--frames", "3"), 2, "--frames and"),
        (("predict", "in.mkv", "out.mp4", "--interpolate"), 3, "has 3 frames; 9 are needed"),
        (("predict", "in.mkv", "out.mp4", "--given", "4"), 2, "takes 1, 5"),
    ],
)  # fmt: skip
def test_what_is_refused(
    cli: Cli, tiny_gen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
    arguments: tuple[str, ...], status: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "in.mkv", 3)
    model = () if "--model" in arguments else ("--model", tiny_gen)
    ended = cli(*arguments, *model)
    assert ended.status == status
    assert words in ended.err.splitlines()[-1]
    assert ended.err.splitlines()[-1].startswith("neurocodec: error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_damaged_transformers(tiny_gen: Path, tmp_path: Path) -> None:
    bundle = models.read_bundle(tiny_gen)
    facts = bundle.transformer
    assert facts is not None
    good = facts["config"]
    for i, bad in enumerate(
        [{}, facts | {"classes": ["a"]}, facts | {"config": good | {"grid": [3, 4]}},
         facts | {"config": good | {"heads": 5}}, facts | {"config": good | {"width": 64}}, []]
    ):  # fmt: skip
        path = tmp_path / f"{i}.safetensors"
        state = start(str(tiny_gen)).transformer.state_dict()
        models.write_bundle(
            path, "bad", bundle.tokenizer(), bundle.prior(), {}, None,
            models.TransformerParts(bad, state),  # type: ignore[arg-type]
        )  # fmt: skip
        with pytest.raises(ModelError, match=r"transformer"):
            start(str(path))


def test_features_of_every_cell(
    cli: Cli,  # noqa: F811
    tiny_gen: Path,
    model: Generative,
    tmp_path: Path,
) -> None:
    source, out = write_clip(tmp_path / "in.mkv", 11, 32, 32), tmp_path / "f.npz"
    ended = cli("features", source, "-o", out, "--model", tiny_gen)
    assert (ended.status, ended.out) == (0, f"{out}: 2 windows of 3x4x4 cells\n")
    with np.load(out, allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    assert arrays["tokens"].shape == (2, 3, 4, 4)
    assert arrays["features"].shape == arrays["embeddings"].shape == (2, 3, 4, 4, 32)
    clip, _ = clips.read_clip(source, (32, 32))
    assert torch.equal(torch.from_numpy(arrays["tokens"][:1]), model.tokens(clip[None, :, :9]))
    flat = [arrays[name].reshape(96, -1) for name in ("tokens", "embeddings", "features")]
    same = np.flatnonzero((flat[0] == flat[0][0]).all(1))
    assert (flat[1][same] == flat[1][0]).all()  # an embedding is of its token alone
    assert len(np.unique(flat[2], axis=0)) == 96  # a feature also of what is around it
    assert cli("features", source, "-o", out, "--model", tiny_gen).status == 4


def test_a_bundle_of_codes_codes_files(tiny_gen: Path, tmp_path: Path) -> None:
    """The streamed decoder makes of their tokens what that of whole clips does."""
    source = write_clip(tmp_path / "in.mkv", 9, 32, 32)
    neurocodec.compress(source, tmp_path / "a.nc", model=str(tiny_gen))
    with neurocodec.open(tmp_path / "a.nc", str(tiny_gen), "cpu") as video:
        decoded = [frame.y.astype(int) for frame in video]
    model = start(str(tiny_gen), "cpu")
    clip, _ = clips.read_clip(source, (32, 32))
    whole = model.frames_of(model.planes(model.tokens(clip[None]))[0])
    assert len(decoded) == 9
    for ours, theirs in zip(decoded, whole, strict=True):
        assert np.abs(ours - theirs[0]).max() <= 3
