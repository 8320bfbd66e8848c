"""Entropy coding in a process of its own: nothing differs, and its failures are told."""

from dataclasses import replace
from pathlib import Path

import pytest

import neurocodec
from neurocodec import models
from neurocodec.bitstream.payloads import VideoGop
from neurocodec.bitstream.reader import Reader
from neurocodec.codec import child, plan
from neurocodec.codec.entropy_process import EntropyProcess, Setting
from neurocodec.codec.plan import ENTROPY, decompressing, entropy_pays
from neurocodec.codec.tokens import EntropyModel, decode_tokens, hash_tokens
from neurocodec.errors import Error, ModelError


@pytest.fixture
def coded(tmp_path: Path, clip: Path, tiny_motion_generated: Path) -> tuple[Path, Path]:
    out = tmp_path / "a.nc"
    neurocodec.compress(clip, out, model=str(tiny_motion_generated), gop=5, device="cpu")
    return out, tiny_motion_generated


def opened(path: Path, model: Path) -> tuple[Setting, EntropyModel, list[VideoGop]]:
    """Of a file: what a process is told, the entropy model, and the GOPs."""
    with Reader(path) as reader:
        setting = Setting(models.read_bundle(model), reader.header)
        gops = [found[0] for gop in reader.gops if (found := reader.read_gop(gop))]
    return setting, setting.bundle.entropy(setting.header.entropy_model), gops


def test_when_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "processors", lambda: 2)
    assert entropy_pays(640, 360, 100)
    assert entropy_pays(64, 48, None)
    assert not entropy_pays(64, 48, 100)
    monkeypatch.setattr(plan, "processors", lambda: 1)
    assert not entropy_pays(640, 360, 100)


@pytest.mark.parametrize(
    ("size", "frames", "loads"),
    [((640, 360), 33, ()), ((640, 360), 200, ("torch",)), ((640, 360), None, ("torch",)),
     ((1920, 1080), 200, ())],
)  # fmt: skip
def test_who_loads_torch(
    coded: tuple[Path, Path], size: tuple[int, int], frames: int | None, loads: tuple[str, ...]
) -> None:
    out, model = coded
    with Reader(out) as reader:
        header = replace(reader.header, width=size[0], height=size[1])
    assert (
        EntropyProcess(Setting(models.read_bundle(model), header), frames)._command
        == ENTROPY + loads
    )


def test_the_same_tokens_by_torch(coded: tuple[Path, Path]) -> None:
    """There by numpy, until torch is loaded; here by torch, which came with the networks."""
    setting, entropy, gops = opened(*coded)
    expected = [hash_tokens(decode_tokens(setting.header, gop, entropy)) for gop in gops]
    with EntropyProcess(setting, None) as process:
        for _ in range(8):
            assert [hash_tokens(process.decode(gop)) for gop in gops] == expected


def test_the_same_files(
    coded: tuple[Path, Path], clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, model = coded
    neurocodec.decompress(out, tmp_path / "a.y4m", model=str(model))
    asked: list[type] = []
    send = EntropyProcess._send

    def sending(self: EntropyProcess, request: object) -> None:
        asked.append(type(request))
        send(self, request)

    monkeypatch.setattr(EntropyProcess, "_send", sending)
    monkeypatch.setattr("neurocodec.codec.coding.entropy_pays", lambda *_: True)
    monkeypatch.setattr("neurocodec.codec.decoder.entropy_pays", lambda *_: True)
    neurocodec.compress(clip, tmp_path / "b.nc", model=str(model), gop=5, device="cpu")
    neurocodec.decompress(out, tmp_path / "b.y4m", model=str(model))
    assert (tmp_path / "b.nc").read_bytes() == out.read_bytes()
    assert (tmp_path / "b.y4m").read_bytes() == (tmp_path / "a.y4m").read_bytes()
    assert len(asked) == 12 + 3 + 3  # pictures, their ends, GOPs


def test_a_gop_that_is_not_wanted_any_more(coded: tuple[Path, Path]) -> None:
    setting, entropy, gops = opened(*coded)
    with EntropyProcess(setting, 15) as process:
        begun = process.decode(gops[0])
        next(begun)
        begun.close()  # type: ignore[attr-defined]
        expected = hash_tokens(decode_tokens(setting.header, gops[1], entropy))
        assert hash_tokens(process.decode(gops[1])) == expected
        beside = process._child
        assert beside is not None
        beside.kill()
        with pytest.raises(Error, match="ended by itself"):
            list(process.decode(gops[2]))
        assert hash_tokens(process.decode(gops[1])) == expected  # by another one
    assert not beside.alive


def test_what_goes_wrong_there_is_raised_here(coded: tuple[Path, Path], tmp_path: Path) -> None:
    out, model = coded
    with Reader(out) as reader:
        bundle = replace(models.read_bundle(model), path=tmp_path / "gone.safetensors")
        setting = Setting(bundle, reader.header)
        found = reader.read_gop(reader.gops[0])
    assert found is not None
    tokens = next(decode_tokens(reader.header, found[0], models.read_bundle(model).entropy(3)))
    with EntropyProcess(setting, 15) as process:
        with pytest.raises(Error, match="gone"):
            list(process.decode(found[0]))
        gop = process.gop(found[0].step)
        with pytest.raises(Error, match="gone"):
            [gop.add(tokens) for _ in range(1000)]


def test_it_ends_when_nobody_asks_any_more(coded: tuple[Path, Path]) -> None:
    setting, _, gops = opened(*coded)
    with EntropyProcess(setting, 15) as process:
        list(process.decode(gops[0]))
        assert process._child is not None
        process._child._process.stdin.close()  # type: ignore[union-attr]
        assert process._child._process.wait(20) == 0


def test_a_process_that_was_started_early_is_the_one_that_is_used(
    coded: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, model = coded
    setting, entropy, gops = opened(out, model)
    expected = [hash_tokens(decode_tokens(setting.header, gop, entropy)) for gop in gops]
    monkeypatch.setattr(plan, "processors", lambda: 2)
    with Reader(out) as reader:
        assert not decompressing(reader, None)  # a short clip
        monkeypatch.setattr(plan, "ENTROPY_PAYS", 0)
        assert not decompressing(reader, 2)  # those decode whole GOPs
        (command,) = decompressing(reader, None)
    child.start_early(command)
    ((early,),) = child._waiting.values()
    with EntropyProcess(setting, 15) as process:
        assert [hash_tokens(process.decode(gop)) for gop in gops] == expected
        assert process._child is early
    child.start_early(command)
    ((unused,),) = child._waiting.values()
    child.dismiss()
    assert not any(child._waiting.values())
    assert not unused.alive


def test_whoever_decodes_starts_it_and_ends_it(
    coded: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, model = coded
    started: list[tuple[str, ...]] = []
    start = child.start_early
    monkeypatch.setattr(plan, "processors", lambda: 2)
    monkeypatch.setattr(plan, "ENTROPY_PAYS", 0)
    monkeypatch.setattr(
        "neurocodec.codec.decompress.start_early", lambda c: (started.append(c), start(c))
    )
    neurocodec.decompress(out, tmp_path / "a.y4m", model=str(model))
    assert started == [(*ENTROPY,)]
    with pytest.raises(ModelError):
        neurocodec.decompress(out, tmp_path / "b.y4m", model=str(tmp_path / "none"))
    assert started == [ENTROPY] * 2
    assert not any(child._waiting.values())
