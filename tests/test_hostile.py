"""Files made to do harm: the short form of scripts/fuzz.py, and what it and reading the code found.

Whatever a file says, the answer is one of the program's own errors or a decoded file.
"""

import io
import json
import resource
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocodec import models
from neurocodec.bitstream.payloads import IndexEntry, index_to_bytes
from neurocodec.bitstream.reader import Reader
from neurocodec.bitstream.sections import HEAD_BYTES, SYNC
from neurocodec.cli import main
from neurocodec.errors import Error, ModelError, UsageError
from neurocodec.media.source import open_source
from neurocodec.models import MAX_BLOCKS, MAX_CHANNELS, read_bundle
from scripts import fuzz
from tests.bitstream.small import HEADER, SMALL
from tests.mutations import AUDIO, END, INDEX, TIMESTAMPS, VIDEO, Piece, assemble, pieces_of

PIECES = pieces_of(SMALL)


@pytest.mark.parametrize(("what", "count"), [("read", 2000), ("decode", 30), ("bundle", 60)])
def test_mutated_files(what: str, count: int) -> None:
    out = fuzz.run(what, range(count), "tests")
    assert out.findings == []
    assert sum(out.ended.values()) == count
    # damage is not only refused at the door
    assert out.ended["whole" if what == "bundle" else "damaged"] > count / 8


def test_a_finding_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fuzz, "describe", fail)
    out = fuzz.run("read", range(20), "tests")
    assert len(out.findings) == out.ended["traceback"] > 5


@settings(max_examples=150, deadline=None)
@given(
    type_=st.sampled_from([1, VIDEO, TIMESTAMPS, AUDIO, INDEX, END]),
    payload=st.binary(max_size=300),
    keep=st.integers(0, 60),
)
def test_any_payload_at_all(
    type_: int, payload: bytes, keep: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """keep: so many bytes of the true payload stand before it."""
    path = tmp_path_factory.getbasetemp() / "any.nc"
    at = next(i for i, piece in enumerate(PIECES) if piece.type == type_)
    pieces = list(PIECES)
    pieces[at] = Piece(type_, pieces[at].number, pieces[at].payload[:keep] + payload)
    path.write_bytes(assemble(pieces, indexed=type_ not in (INDEX, END)))
    refused: list[str] = []
    try:
        fuzz.read(path)
    except Error as error:
        refused.append(str(error))
    assert not refused or (type_ == 1 and "\n" not in refused[0])


def bytes_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many are read of a file while all of it is."""
    total = 0

    class Counting(io.FileIO):
        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            nonlocal total
            size = super().readinto(buffer) or 0
            total += size
            return size

    monkeypatch.setattr(Path, "open", lambda self, mode: io.BufferedReader(Counting(self, mode)))
    fuzz.read(path)
    return total


def test_a_section_listed_many_times_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a small file keeps a reader busy for as long as it likes."""
    packet = Piece(AUDIO, 0, b"\1\0\0\0" + bytes(18) + bytes(100_000))
    body = assemble([PIECES[0], packet], indexed=False)
    offset = len(body) - len(packet.to_bytes())
    index = Piece(INDEX, 0, index_to_bytes([IndexEntry(AUDIO, 0, offset)] * 1000))
    end = Piece(END, 0, len(body).to_bytes(8, "little") + bytes(12))
    path = tmp_path / "a.nc"
    path.write_bytes(body + index.to_bytes() + end.to_bytes())
    assert bytes_read(path, monkeypatch) < 1_000_000


def test_sections_within_sections_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads in a payload, each of which claims all that follows."""
    inner = b"".join(
        Piece(AUDIO, i, b"", length=24 * (1000 - i) + 100_000, crc=i).to_bytes()
        for i in range(1, 1000)
    )
    outer = Piece(AUDIO, 0, inner + bytes(200_000))
    start = assemble(PIECES[:1], indexed=False)
    offsets = [len(start) + HEAD_BYTES * i for i in range(1000)]
    index = index_to_bytes([IndexEntry(AUDIO, i, at) for i, at in enumerate(offsets)])
    at = len(start) + len(outer.to_bytes())
    end = Piece(END, 0, at.to_bytes(8, "little") + bytes(12))
    path = tmp_path / "a.nc"
    path.write_bytes(start + outer.to_bytes() + Piece(INDEX, 0, index).to_bytes() + end.to_bytes())
    # 1000 times 100 000 bytes if each was believed; scanning once more is two times the file
    assert bytes_read(path, monkeypatch) < 12_000_000


def test_scanning_reads_about_as_much_as_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small sections, each behind one byte of noise."""
    piece = Piece(77, 0, b"").to_bytes()
    path = tmp_path / "a.nc"
    path.write_bytes(assemble(PIECES[:1], indexed=False) + (b"\0" + piece) * 2000 + SYNC)
    assert bytes_read(path, monkeypatch) < 100 * path.stat().st_size


def test_a_fraction_of_a_rate_costs_no_memory(tmp_path: Path) -> None:
    """The largest and smallest rates and times that the format has."""
    header = PIECES[0].payload
    at = 36 + len(HEADER.model_name) + 12 + 8
    for rate in ((1, 2**31 - 1), (2**31 - 1, 1)):
        for base in ((1, 2**31 - 1), (2**31 - 1, 1)):
            terms = b"".join(n.to_bytes(4, "little") for n in (*rate, *base))
            payload = header[:at] + terms + header[at + 16 :]
            path = tmp_path / "a.nc"
            path.write_bytes(assemble([Piece(1, 0, payload), *PIECES[1:]]))
            with Reader(path) as reader:
                assert reader.header.frame_rate == Fraction(*rate)
                assert reader.header.time_base == Fraction(*base)
            assert fuzz.read(path) in ("whole", "damaged")


def test_escape_sequences_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;pwned\x07\x1b[2J\r\n\u202e"
    header = HEADER.__class__(**{
        **HEADER.__dict__, "model_name": evil, "metadata": {evil: evil}
    })  # fmt: skip
    path = tmp_path / "a.nc"
    path.write_bytes(assemble([Piece(1, 0, header.to_bytes()), *PIECES[1:]]))
    for command in (["info", str(path)], ["info", "--json", str(path)]):
        main.main(command, standalone_mode=False)
        out = capsys.readouterr().out
        assert "pwned" in out
        assert not set(out) & set("\x1b\x07\r\u202e")
    with pytest.raises(ModelError) as failed:
        main.main(["verify", "--tokens", str(path)], standalone_mode=False)
    assert not set(str(failed.value)) & set("\x1b\x07\r\n\u202e")


def test_names_in_a_file_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's name of a header is for messages; the bundle is found by its hash."""
    trap = tmp_path / "trap.safetensors"
    trap.write_bytes(b"")
    header = HEADER.__class__(**{**HEADER.__dict__, "model_name": str(trap)})
    path = tmp_path / "a.nc"
    path.write_bytes(assemble([Piece(1, 0, header.to_bytes()), *PIECES[1:]]))
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    with pytest.raises(ModelError, match="made with model"):
        main.main(["verify", "--tokens", str(path)], standalone_mode=False)
    assert str(path) in opened
    assert str(trap) not in opened
    opened.clear()


def rewritten(path: Path, target: Path, **tokenizer: object) -> Path:
    """A bundle whose configuration says something else."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    description = json.loads(head["__metadata__"]["neurocodec"])
    description["tokenizer"] |= tokenizer
    head["__metadata__"]["neurocodec"] = json.dumps(description)
    text = json.dumps(head).encode()
    target.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    return target


@pytest.mark.parametrize("change", [
    {"context_blocks": 1 << 40}, {"context": 1 << 40}, {"width": MAX_CHANNELS + 1},
    {"stages": 1 << 20}, {"bits": 1 << 20}, {"decoder_blocks": "8"}, {"context": 8.0},
    {"quantizer": "none"}, {"context": True}, {"width": -1}, {"context": [8]},
])  # fmt: skip
def test_sizes_of_networks_are_limited(
    change: dict[str, object], tiny_motion: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="not a neurocodec model bundle"):
        read_bundle(rewritten(tiny_motion, tmp_path / "a.safetensors", **change))


@pytest.mark.parametrize("family", ["motion", "magvit2"])
def test_networks_are_not_larger_than_their_file(
    family: str, tiny: Path, tiny_motion: Path, tmp_path: Path
) -> None:
    """Sizes within the limits, which would take 20 GB and more."""
    change: dict[str, object] = {"context": MAX_CHANNELS, "context_blocks": MAX_BLOCKS}
    if family == "magvit2":
        change = {"channels": [MAX_CHANNELS] * 3, "full_kernels": True, "latent_blocks_encoder": 64}
    source = tiny_motion if family == "motion" else tiny
    bundle = read_bundle(rewritten(source, tmp_path / "a.safetensors", **change))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="larger networks than it holds"):
        bundle.tokenizer()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert read_bundle(source).tokenizer()  # the limit is gone


def test_a_bundle_is_not_read_beyond_its_limit(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(tiny.read_bytes())
    monkeypatch.setattr(models, "MAX_BUNDLE_BYTES", path.stat().st_size - 1)
    with pytest.raises(ModelError, match="larger than the"):
        read_bundle(path)
    monkeypatch.setattr(models, "MAX_BUNDLE_BYTES", path.stat().st_size)
    assert read_bundle(path).name == "tiny"


def test_a_bundle_s_description_may_be_anything(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for text in ("[" * 100_000, "[]", "7", "1" * 10_000, '{"tokenizer": []}', '{"tokenizer": {}}'):
        head = json.dumps({"__metadata__": {"neurocodec": text}}).encode()
        path.write_bytes(len(head).to_bytes(8, "little") + head)
        with pytest.raises(ModelError, match="not a neurocodec model bundle"):
            read_bundle(path)


def test_names_that_look_like_urls_are_files() -> None:
    for name in ("http://127.0.0.1:9/a.mp4", "concat:/etc/passwd", "pipe:0"):
        with pytest.raises((Error, UsageError), match="No such file"):
            open_source(name)
