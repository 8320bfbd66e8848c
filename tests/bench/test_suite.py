import tomllib
from pathlib import Path

import pytest

from neurocodec.bench.anchors import Setting
from neurocodec.bench.suite import METRICS, read_suite
from neurocodec.errors import InputError

EVAL = Path(__file__).parents[2] / "eval"


def write(folder: Path, text: str, clips: tuple[str, ...] = ("a.mp4", "b.mkv")) -> Path:
    for clip in clips:
        (folder / clip).write_bytes(b"x")
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_everything_given(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        name = "full"
        root = "."
        clips = ["b.mkv", "*.mp4"]
        frames = 9
        metrics = ["psnr", "vmaf"]
        st_lpips_every = 3
        [neurocodec]
        qualities = [90, 10]
        gop = 17
        model = "bundle.safetensors"
        [[anchors]]
        codec = "x265"
        preset = "veryslow"
        gop = "matched"
        tune = "psnr"
        [[anchors]]
        codec = "jpeg"
        """,
    )
    suite = read_suite(path)
    assert [c.name for c in suite.clips] == ["b.mkv", "a.mp4"]
    assert (suite.name, suite.frames, suite.metrics) == ("full", 9, ("psnr", "vmaf"))
    assert suite.ours.qualities == (10, 90)
    assert suite.ours.model == str(tmp_path / "bundle.safetensors")
    assert suite.anchors == (Setting("x265", "veryslow", "matched", "psnr"), Setting("jpeg"))
    labels = [s.label for s in suite.settings()]
    assert labels == ["neurocodec", "x265 veryslow, our GOP, tuned for PSNR", "jpeg"]
    assert suite.anchors[0].slug == "x265-veryslow-our-gop-tuned-for-psnr"
    assert [s.label for s in suite.settings(("jpeg",))] == ["jpeg"]
    assert [s.label for s in suite.settings((labels[1], "jpeg, neurocodec"))] == labels
    assert [s.label for s in suite.settings((labels[1],))] == labels[1:2]  # its commas are its own
    assert [s.label for s in suite.settings(("",))] == labels
    assert suite.to_dict()["clips"] == ["b.mkv", "a.mp4"]  # no folders


def test_defaults_and_root_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = write(tmp_path, 'clips = ["*"]\nroot = "gone"')
    (tmp_path / "elsewhere" / "c.mp4").write_bytes(b"x")
    suite = read_suite(path, tmp_path / "elsewhere")
    assert [c.name for c in suite.clips] == ["c.mp4"]
    assert (suite.name, suite.frames, suite.metrics, suite.anchors) == ("mine", 0, METRICS, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clips = [", "not a suite file"),
        ('name = "x"', "names no clips"),
        ('clips = ["c*.mp4"]', "no such clip; give their folder with --root"),
        ('clips = ["a.mp4"]\nframe = 3', "unknown key 'frame' in the suite"),
        ('clips = "a.mp4"', "clips in the suite must be of type list"),
        ('clips = ["a.mp4"]\nframes = -1', "frames must be 0 or more"),
        ('clips = ["a.mp4"]\nmetrics = ["ssim"]', "unknown metric 'ssim'; there are: psnr"),
        ('clips = ["a.mp4"]\n[neurocodec]\nqualities = [101]', "from 0 to 100"),
        ('clips = ["a.mp4"]\n[[anchors]]\ncodec = "x266"', "unknown codec 'x266'; there are: x264"),
        ('clips = ["a.mp4"]\n[[anchors]]\ncodec = "x265"\ngop = 9', "must be of type str"),
        ('clips = ["a.mp4"]\n[[anchors]]\ncodec = "x265"\ngop = "long"', "'default' or 'matched'"),
        ('clips = ["a.mp4"]\n[[anchors]]\ncodec = "x265"\n[[anchors]]\ncodec = "x265"', "twice"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_suite(write(tmp_path, text))


def test_a_codec_that_is_not_in_the_suite(tmp_path: Path) -> None:
    suite = read_suite(write(tmp_path, 'clips = ["a.mp4"]'))
    with pytest.raises(
        InputError, match="codec 'vvenc' is not in suite 'mine'; it has: neurocodec"
    ):
        suite.settings(("vvenc",))
    with pytest.raises(InputError, match="No such file"):
        read_suite(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted(EVAL.glob("*.toml")), ids=lambda path: path.stem)
def test_the_suites_of_the_project(path: Path, tmp_path: Path) -> None:
    """They can be read, wherever their clips are, and name no folder of one machine."""
    text = path.read_text()
    assert "/work" not in text
    assert '"/' not in text
    for i, pattern in enumerate(tomllib.loads(text)["clips"]):
        (tmp_path / pattern.replace("*", f"clip{i}")).write_bytes(b"x")
    suite = read_suite(path, tmp_path)
    assert suite.clips
    assert suite.anchors
