import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import skimage.io
import torch

import neurocodec
from neurocodec import models
from neurocodec.codec.tokens import GENERATED_LATENTS, GENERATED_PICTURES, GopEncoder
from neurocodec.codec.verify import verify
from neurocodec.entropy.adaptive import ContextModel, TokenShape
from neurocodec.entropy.binary import BitEncoder
from neurocodec.entropy.generator import (
    COUNT_LIMIT,
    MORE,
    NEGATIVE,
    NONZERO,
    STILL_MORE,
    GeneratorModel,
)
from neurocodec.entropy.integer import BUCKETS, LOGIT_ONE, ONE, bucket, log_activation
from neurocodec.entropy.schedule import steps_of
from neurocodec.errors import DataError, InputError, ModelMismatchError, UsageError
from neurocodec.tokenizer.config import step_of_quality
from neurocodec.train import generator as module
from neurocodec.train.export import export
from neurocodec.train.generator import (
    GeneratorRun,
    GeneratorTrainConfig,
    add_generator,
    flat_prior,
    gathered_prior,
    generator_of,
    train_generator,
)
from neurocodec.train.generator_net import GeneratorNet, log_value, shown_of
from neurocodec.train.run import load_checkpoint
from neurocodec.train.token_cache import TokenCache, crops, make_cache, quality_of, tokenized
from tests.conftest import tiny_tokenizer, write_clip
from tests.generators import SMALL, Latent, random_latents, random_net, recorded

SHAPES = [
    TokenShape("levels", 6, 4),
    TokenShape("signs", 5, 3),
    TokenShape("levels", 3, 2, 5, True),
    TokenShape("levels", 3, 2, 5, True, 3),
]
CONFIG = GeneratorTrainConfig(
    channels=8, seen=4, hidden=6, steps=4, warm_up=2, save_every=2, validate_every=4
)


def plain_net(shape: TokenShape, seed: int = 0) -> GeneratorNet:
    """As training begins, but with logits of some size."""
    torch.manual_seed(seed)
    net = GeneratorNet(SMALL, shape)
    with torch.no_grad():
        for name in ("depth.out", "tokens.out"):
            net.layer(name).weight *= 8
    return net


# -- floats and integers --------------------------------------------------------------------------


@torch.no_grad()
def float_contexts(
    net: GeneratorNet, latent: Latent, steps: int, transform: np.ndarray
) -> dict[str, list[int]]:
    """Buckets of logits by table, in the order in which they are coded; ``more`` with each bit."""
    shape = net.shape
    _, features, levels, depths = latent
    h, w = depths.shape
    static = net.static(torch.from_numpy(features.reshape(1, h, w, -1)).float() / ONE)
    depth = torch.from_numpy(depths)[None]
    tokens = torch.from_numpy(levels.astype(np.int64)).view(1, h, w, -1)
    shown = shown_of(shape, depth, tokens, torch.from_numpy(transform)[None])
    found: dict[str, list[int]] = {name: [] for name in ("coded", "nonzero", "negative", "more")}

    def keep(name: str, logits: torch.Tensor) -> None:
        whole = (logits.double() * LOGIT_ONE).round().long().numpy()
        found[name] += bucket(whole).ravel().tolist()

    order = torch.from_numpy(steps_of(h, w, steps))
    for step in range(steps):
        at, known = (order == step)[None], (order < step)[None].float()
        keep("coded", net.depth_logits(static, shown, known, at)[:, 0])
        at = at & (depth > 0)
        if not at.any():
            continue
        logits = net.token_logits(static, shown, known, at)
        own, d = tokens[at].view(-1, shape.stages, shape.bits), depth[at]
        for stage in range(int(d.max())):
            level, of_stage = own[d > stage, stage], logits[d > stage, stage]
            if shape.quantizer == "levels":
                keep("nonzero", of_stage[:, NONZERO])
            keep("negative", of_stage[:, NEGATIVE][level != 0])
            for m in range(1, 14):
                going = level.abs() >= m
                keep("more", of_stage[:, MORE if m == 1 else STILL_MORE][going])
                if shape.quantizer == "signs" or not going.any():
                    break
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 4])
def test_float_logits_are_those_of_the_integers(shape: TokenShape, steps: int) -> None:
    net = plain_net(shape)
    generator = generator_of(net, flat_prior(net))
    expected: dict[str, list[int]] = {}
    for latent in random_latents(shape, (7, 9), 1, 2):
        kind, seen, tokens, depth = latent
        transform = np.random.default_rng(2).integers(0, 4, depth.shape) * (depth > 0)
        if shape.transform_kinds:
            kind = 0
        else:
            transform *= 0
        latent = (kind, seen, np.clip(tokens, -13, 13), depth)  # without escapes
        ours = float_contexts(net, latent, steps, transform)
        theirs: dict[str, list[int]] = {name: [] for name in ours}
        for name, _, contexts in recorded(shape, generator, latent, steps, transform):
            if name in theirs:
                theirs[name] += [context % BUCKETS for context in contexts]
        for name in ours:
            if shape.quantizer == "signs" and name in ("nonzero", "more"):
                continue
            a, b = np.array(ours[name]), np.array(theirs[name])
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= 1
            expected.setdefault(name, []).extend((a == b).tolist())
    for equal in expected.values():
        assert np.mean(equal) >= 0.98
    assert len(expected) == (2 if shape.quantizer == "signs" else 4)


def test_float_logarithms_are_those_of_the_integers() -> None:
    x = torch.arange(5000)
    assert (log_value(x) * ONE).tolist() == log_activation(x.numpy()).tolist()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_cost_is_what_coding_takes(shape: TokenShape) -> None:
    """Without counting, and with tokens that need no escape."""
    net = plain_net(shape)
    model = GeneratorModel(shape, generator_of(net, flat_prior(net)))
    for table in model.tables.values():
        table.unit = 0
    coder, nats = BitEncoder(), 0.0
    for kind, seen, tokens, depth in random_latents(shape, (8, 8), 1, 2):
        tokens, transform = np.clip(tokens, -5, 5), None
        if shape.transform_kinds:
            kind, transform = 0, np.random.default_rng(2).integers(0, 4, depth.shape)
        model.code(coder, (8, 8), kind, seen, tokens, depth, transform)
        features = torch.from_numpy(seen.reshape(1, 8, 8, -1)).float() / ONE
        levels = torch.from_numpy(tokens.astype(np.int64)).view(1, 8, 8, -1)
        if transform is not None:
            transform = torch.from_numpy(transform * (depth > 0))[None]
        depths = torch.from_numpy(depth)[None]
        nats += net.cost(features, depths, levels, model.steps, transform).item()
    assert nats / np.log(2) == pytest.approx(coder.ideal_bits, rel=0.005)


def test_weights_of_nothing_leave_the_bias() -> None:
    net = plain_net(SHAPES[0])
    with torch.no_grad():
        for name in ("depth.0", "depth.out"):
            net.layer(name).weight.zero_()
            net.layer(name).bias.fill_(2.0)
    layers = generator_of(net, flat_prior(net)).layers
    for name, unit in (("depth.0", ONE), ("depth.out", LOGIT_ONE)):
        x = np.full((1, layers[name].weight.shape[0]), 100, np.int8)
        assert set(layers[name](x).ravel().tolist()) == {2 * unit}


# -- first counts -------------------------------------------------------------------------------


def test_flat_counts_take_the_network_at_its_word() -> None:
    net = plain_net(SHAPES[0])
    for name, table in flat_prior(net).items():
        assert table.shape == SMALL.table_shapes(net.shape)[name]
        assert table.sum(-1).max() <= COUNT_LIMIT
        zeros, ones = table[0, :BUCKETS].astype(float).T
        logits = (np.arange(BUCKETS) - bucket(np.array(0))) / LOGIT_ONE
        np.testing.assert_allclose(np.log(ones / zeros), logits, atol=0.1)


@pytest.fixture(scope="module")
def cache(motion: models.Bundle, data: Path) -> TokenCache:
    return make_cache(motion, data, 4, 5, 32, "fast", 0)


def test_gathered_counts(cache: TokenCache, motion: models.Bundle) -> None:
    """What held ones alone gets a count of them; what was never seen is left as it was."""
    net = random_net(motion.shape)
    flat, found = flat_prior(net), gathered_prior(net, cache, [0, 1, 2])
    empty = gathered_prior(net, cache, [])
    model = GeneratorModel(net.shape, generator_of(net, flat))
    for name, table in flat.items():
        shares = [t[..., 1] / t.sum(-1, dtype=float) for t in (table, empty[name])]
        np.testing.assert_allclose(shares[1], shares[0], atol=2e-3)
        assert empty[name].min() > 0
        assert (found[name] != table).any()
        assert found[name].sum(-1).max() <= COUNT_LIMIT
    sizes = []
    for prior in (flat, found):
        coder = BitEncoder()
        model = GeneratorModel(net.shape, generator_of(net, prior))
        for kind, seen, tokens, depth, _, _ in cache.of_clip(0):
            model.code(coder, depth.shape, kind, seen, tokens, depth)  # type: ignore[arg-type]
        sizes.append(coder.ideal_bits)
    assert sizes[1] < 0.9 * sizes[0]


# -- tokens of clips ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for i, (width, height) in enumerate(((64, 48), (48, 48))):
        write_clip(folder / f"{i}.mkv", 24, width, height)
    return folder


@pytest.fixture(scope="module")
def motion(tiny_motion: Path) -> models.Bundle:
    return models.read_bundle(tiny_motion)


@pytest.fixture(scope="module")
def latents(tiny: Path) -> models.Bundle:
    return models.read_bundle(tiny)


@pytest.mark.parametrize("family", ["latents", "motion"])
def test_a_cache_has_what_the_codec_codes(
    family: str, data: Path, request: pytest.FixtureRequest
) -> None:
    """A generator takes for the tokens of a cache what it takes for those of a file: it sees the
    same. So does the adaptive model."""
    bundle: models.Bundle = request.getfixturevalue(family)
    cache = make_cache(bundle, data, 2, 5, 32, "fast", 0)
    net = random_net(bundle.shape)
    generator = generator_of(net, flat_prior(net))
    number = GENERATED_PICTURES if bundle.is_motion else GENERATED_LATENTS
    adaptive = bundle.entropy(int(bundle.is_motion))
    generated = dataclasses.replace(adaptive, number=number, generator=generator)
    for clip, planes in enumerate(crops(data, 2, 5, 32)):
        step = round(step_of_quality(quality_of(clip)) * 65536)
        items = list(tokenized(bundle.tokenizer(), planes, step / 65536, "fast"))
        lengths = []
        for entropy in (adaptive, generated):
            gop = GopEncoder(entropy, (4, 4), 1024, step)
            for item in items:
                gop.add(item)
            lengths.append(len(gop.finish()))
        found = cache.of_clip(clip)
        model, coder = GeneratorModel(bundle.shape, generator), BitEncoder()
        for kind, seen, tokens, depth, _, _ in found:
            model.code(coder, depth.shape, kind, seen, tokens, depth)  # type: ignore[arg-type]
        if not bundle.is_motion:  # nothing but depths and tokens
            assert 4 * np.ceil(coder.ideal_bits / 32) == pytest.approx(lengths[1] - 1, abs=8)
            bits = sum(bits for *_, bits in found)
            assert 4 * np.ceil(bits / 32) == pytest.approx(lengths[0], abs=8)
            frames = ContextModel(bundle.shape, bundle.prior(), (4, 4))
            again = BitEncoder()
            for _, _, tokens, depth, _, bits in found:
                before = again.ideal_bits
                levels = tokens.reshape(4, 4, bundle.shape.stages, bundle.shape.bits)
                frames.code_frame(again, levels, depth)
                assert again.ideal_bits - before == pytest.approx(bits, rel=1e-4)
        else:  # motion and structure take the same in both
            mine = coder.ideal_bits - sum(bits for *_, bits in found)
            assert mine / 8 == pytest.approx(lengths[1] - 1 - lengths[0], abs=8)


def test_a_cache_is_kept_as_it_is(cache: TokenCache, tmp_path: Path) -> None:
    cache.save(tmp_path / "tokens.pt")
    again = TokenCache.load(tmp_path / "tokens.pt")
    assert (again.clips, again.model) == (4, cache.model)
    assert list(tmp_path.iterdir()) == [tmp_path / "tokens.pt"]
    for a, b in zip(cache.frames, again.frames, strict=True):
        assert a.kind == b.kind
        for name in ("seen", "tokens", "depth", "clip", "place", "bits"):
            assert torch.equal(getattr(a, name), getattr(b, name))
    for clip in range(4):
        items = again.of_clip(clip)
        assert [item[0] for item in items[:3]] == [0, 1, 2]
        assert len(items) == 3 + 4


@pytest.mark.parametrize("content", [b"", b"text", [1, 2], torch.zeros(2), {"frames": [1]}])
def test_what_is_no_cache_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "tokens.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match="not a file of tokens"):
        TokenCache.load(path)
    with pytest.raises(InputError, match="not a file of tokens"):
        TokenCache.load(tmp_path / "none.pt")


# -- runs ---------------------------------------------------------------------------------------


def test_the_cost_falls(cache: TokenCache, motion: models.Bundle, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=1000, learning_rate=1e-2)
    cache = dataclasses.replace(cache, motion={})
    run = GeneratorRun(config, motion.shape, cache, tmp_path, "cpu")
    frames = next(f for f in cache.frames if f.kind == 4)

    @torch.no_grad()
    def cost() -> float:
        seen = frames.seen.float() / ONE
        return run.model.cost(seen, frames.depth.long(), frames.tokens.long(), 4).item()

    before = cost()
    for _ in range(20):
        run.step((frames, torch.arange(len(frames.depth))))
    assert cost() < 0.8 * before


def test_no_weight_of_the_mask_is_learned(
    cache: TokenCache, motion: models.Bundle, tmp_path: Path
) -> None:
    """A stage's own tokens and later ones stay at 0, in the integers as well."""
    run = GeneratorRun(CONFIG, motion.shape, cache, tmp_path, "cpu")
    batches = run.batches()
    for _ in range(3):
        run.step(next(batches))
    name = "tokens.hidden"
    weight = run.model.arrays()[f"{name}.weight"]
    hidden = run.model.mask == 0
    assert hidden.any()
    assert not weight[hidden.numpy()].any()
    assert not run.model.layer(name).weight[hidden].any()


@pytest.mark.parametrize(
    ("videos", "trained"), [(0, {0, 1, 2}), (1, {0, 1, 2, 3}), (2, {0, 2}), (3, {0, 1, 3})]
)
def test_held_out_videos_are_not_trained_on(
    videos: int, trained: set[int], cache: TokenCache, motion: models.Bundle, tmp_path: Path
) -> None:
    cache = dataclasses.replace(cache, videos=videos)
    run = GeneratorRun(CONFIG, motion.shape, cache, tmp_path, "cpu")
    batches = run.batches()
    clips = set()
    for run.done in range(60):
        frames, at = next(batches)
        clips.update(frames.clip[at].tolist())
    assert clips == trained


@pytest.fixture(scope="module")
def runs(motion: models.Bundle, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a whole run, ``whole``, and of one that was stopped, ``parts``."""
    folder = tmp_path_factory.mktemp("runs")
    train_generator(motion, data, folder / "whole", CONFIG, None, 3, 5, 32, "fast")
    tokens, step, calls = folder / "whole" / "tokens.pt", GeneratorRun.step, 0

    def dies_at_fourth(self: GeneratorRun, batch: object) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return step(self, batch)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GeneratorRun, "step", dies_at_fourth)
        with pytest.raises(KeyboardInterrupt):
            train_generator(motion, data, folder / "parts", CONFIG, tokens)
    assert load_checkpoint(folder / "parts")["done"] == 2
    torch.rand(5)
    train_generator(motion, data, folder / "parts", CONFIG, tokens, resume=True)
    return folder


def test_resumed_run_equals_an_uninterrupted_one(runs: Path) -> None:
    whole, parts = load_checkpoint(runs / "whole"), load_checkpoint(runs / "parts")
    assert whole["done"] == parts["done"] == 4
    for key in ("model", "average"):
        assert whole[key].keys() == parts[key].keys()
        assert all(torch.equal(whole[key][name], parts[key][name]) for name in whole[key])


def test_a_run_leaves_tokens_checkpoint_and_log(runs: Path) -> None:
    assert TokenCache.load(runs / "whole" / "tokens.pt").clips == 3
    assert not (runs / "parts" / "tokens.pt").exists()  # those of the other were used
    entries = [json.loads(line) for line in (runs / "whole" / "log.jsonl").read_text().splitlines()]
    (entry,) = [e for e in entries if "held_out" in e]
    assert (entry["step"], entry["held_out"]) == (4, 1)
    assert entry["all"] > 0
    assert {"kind0", "kind1", "kind2", "kind3"} <= entry.keys()  # which others depends on the clip


def test_a_generator_makes_a_bundle(
    runs: Path, motion: models.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    monkeypatch.chdir(tmp_path)  # tokens are found from anywhere
    add_generator(motion, runs / "whole", path)
    bundle = models.read_bundle(path)
    assert (bundle.name, bundle.is_motion) == ("mine", True)
    assert bundle.card["generator"]["steps"] == 4
    assert str(runs) not in json.dumps(bundle.card)  # nobody else's business
    assert bundle.card["generator"]["tokenizer"] == motion.tokens_hash
    assert bundle.generator_config == CONFIG.shape(True)
    for a, b in zip(
        bundle.tokenizer().state_dict().values(),
        motion.tokenizer().state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b)
    net = GeneratorNet(CONFIG.shape(True), motion.shape)
    net.load_state_dict(load_checkpoint(runs / "whole")["average"], strict=False)
    generator = bundle.generator()
    for name, array in net.arrays().items():
        if name.endswith("bias"):
            found = generator.layers[name.removesuffix(".bias")].bias
            np.testing.assert_array_equal(found, array)

    source, out = write_clip(tmp_path / "in.mkv", 6, 40, 24), tmp_path / "out.nc"
    neurocodec.compress(source, out, model=str(path))
    report = verify(out, str(path), tokens=True)
    assert (report.frames, report.damage) == (6, [])
    neurocodec.decompress(out, tmp_path / "out.mkv", model=str(path))
    with pytest.raises(ModelMismatchError) as refused:
        neurocodec.decompress(out, tmp_path / "b.mkv", model=str(motion.path))
    assert bundle.hash.hex()[:16] in str(refused.value)
    assert motion.hash.hex()[:16] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_tokens_are_found_from_another_folder(
    motion: models.Bundle, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(runs)
    tokens = Path("whole/tokens.pt")
    train_generator(motion, Path("none"), tmp_path / "run", CONFIG, tokens)
    monkeypatch.chdir(tmp_path / "a")
    add_generator(motion, tmp_path / "run", tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").exists()


def test_tokens_are_those_of_a_bundle_whatever_generator_it_has(
    runs: Path, motion: models.Bundle, latents: models.Bundle, tmp_path: Path
) -> None:
    """A bundle that got its generator from a run can have another one, from the same tokens."""
    add_generator(motion, runs / "whole", tmp_path / "one.safetensors")
    one = models.read_bundle(tmp_path / "one.safetensors")
    assert (one.hash != motion.hash, one.tokens_hash) == (True, motion.tokens_hash)
    assert latents.tokens_hash != motion.tokens_hash
    add_generator(one, runs / "parts", tmp_path / "two.safetensors")
    prior = {name: table + (name == "coded") for name, table in motion.prior().items()}
    models.write_bundle(tmp_path / "three.safetensors", "x", motion.tokenizer(), prior, {})
    assert models.read_bundle(tmp_path / "three.safetensors").tokens_hash != motion.tokens_hash


def test_a_bundles_generator_is_trained_on(
    runs: Path, motion: models.Bundle, data: Path, tmp_path: Path
) -> None:
    """Its weights are the first ones of the run."""
    path, tokens = tmp_path / "mine.safetensors", runs / "whole" / "tokens.pt"
    add_generator(motion, runs / "whole", path)
    start = models.read_bundle(path)
    net = GeneratorNet(CONFIG.shape(True), motion.shape)
    parts = models.generator_parts(start)
    assert parts is not None
    net.load_arrays(parts.arrays)
    for name, array in net.arrays().items():
        if name.endswith("weight"):
            np.testing.assert_array_equal(array, parts.arrays[name])
        else:
            np.testing.assert_allclose(array, parts.arrays[name], rtol=1e-5, atol=1)
    still = dataclasses.replace(CONFIG, learning_rate=1e-9)
    train_generator(motion, data, tmp_path / "run", still, tokens, start=start)
    found = load_checkpoint(tmp_path / "run")["average"]
    torch.testing.assert_close(
        found["layers.tokens_out.weight"], net.layer("tokens.out").weight, rtol=0, atol=1e-6
    )
    wide = dataclasses.replace(CONFIG, channels=9)
    with pytest.raises(InputError, match="other sizes"):
        train_generator(motion, data, tmp_path / "a", wide, tokens, start=start)
    with pytest.raises(InputError, match="has no generator"):
        train_generator(motion, data, tmp_path / "b", CONFIG, tokens, start=motion)


def test_photographs_are_single_pictures(motion: models.Bundle, data: Path, tmp_path: Path) -> None:
    for file in data.iterdir():
        (tmp_path / file.name).symlink_to(file)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    for name in "ab":
        skimage.io.imsave(tmp_path / f"{name}.png", pixels)
    without = make_cache(motion, tmp_path, 2, 5, 32, "fast", 0)
    cache = make_cache(motion, tmp_path, 2, 5, 32, "fast", 0, 9)
    assert (without.clips, cache.clips, cache.videos) == (2, 4, 2)
    for clip in (0, 1):
        assert len(cache.of_clip(clip)) == len(without.of_clip(clip)) == 7
    for clip in (2, 3):
        assert [kind for kind, *_ in cache.of_clip(clip)] == [0, 1, 2]
    assert make_cache(motion, tmp_path, 2, 5, 32, "fast", 0, 1).clips == 3


def test_what_does_not_fit_together_is_refused(
    runs: Path, motion: models.Bundle, latents: models.Bundle, data: Path, tmp_path: Path
) -> None:
    target, tokens = tmp_path / "mine.safetensors", runs / "whole" / "tokens.pt"
    other = tmp_path / "other.safetensors"
    models.write_bundle(other, "other", tiny_tokenizer(1), latents.prior(), {})
    with pytest.raises(InputError, match="not a generator for other"):
        add_generator(models.read_bundle(other), runs / "whole", target)
    with pytest.raises(InputError, match="tokens of another model than tiny"):
        train_generator(latents, data, tmp_path / "run", CONFIG, tokens)
    with pytest.raises(DataError, match="holds a run already"):
        train_generator(motion, data, runs / "whole", CONFIG)
    wide = dataclasses.replace(CONFIG, channels=9)
    with pytest.raises(InputError, match="another tokenizer configuration"):
        train_generator(motion, data, runs / "whole", wide, tokens, resume=True)
    with pytest.raises(UsageError, match="say with --tokenizer"):
        export(runs / "whole", target, None, 1)
    assert not target.exists()


@pytest.mark.parametrize(
    ("family", "changes", "frames", "words"),
    [
        ("motion", {"channels": 300}, 5, "300 channels: a layer would have 3000 inputs"),
        ("motion", {"hidden": 3000}, 5, "1 to 2048"),
        ("motion", {"blocks": 99}, 5, "64 blocks"),
        ("latents", {}, 6, "6 frames: give one more than a multiple of 4"),
    ],
)
def test_settings_without_sense_are_refused_at_once(
    family: str, changes: dict[str, int], frames: int, words: str, data: Path, tmp_path: Path,
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "make_cache", None)
    config = dataclasses.replace(CONFIG, **changes)
    with pytest.raises(UsageError, match=words):
        train_generator(
            request.getfixturevalue(family), data, tmp_path / "run", config, frames=frames
        )
    assert not (tmp_path / "run").exists()


def test_the_folder_of_tokens_is_made(
    motion: models.Bundle, cache: TokenCache, data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "make_cache", lambda *_: cache)
    tokens = tmp_path / "a" / "b" / "tokens.pt"
    config = dataclasses.replace(CONFIG, steps=1)
    train_generator(motion, data, tmp_path / "run", config, tokens)
    assert tokens.exists()


def test_a_generator_may_go_on_with_transforms(motion: models.Bundle) -> None:
    """What sees and tells transforms starts from nothing: others are coded as before."""
    before = random_net(motion.shape)
    shape = dataclasses.replace(motion.shape, transform_kinds=3)
    after = random_net(shape, seed=1)
    after.load_arrays(before.arrays())
    kind, seen, tokens, depth = random_latents(motion.shape, (4, 4), 0, 1)[0]
    groups = [
        recorded(net.shape, generator_of(net, flat_prior(net)), (kind, seen, tokens, depth), 4)
        for net in (before, after)
    ]
    for (name, block, contexts), (_, same_block, others) in zip(*groups, strict=True):
        assert block == same_block
        assert np.abs(np.array(contexts) - others).max(initial=0) <= (name != "coded")
