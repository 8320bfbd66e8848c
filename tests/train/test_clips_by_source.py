from pathlib import Path

from neurocodec.train.listing import list_media
from scripts.clips_by_source import class_of, main


def test_videos_of_a_source_are_a_class(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "video").mkdir(parents=True)
    rows = ["file\tsource\tlicence", "photo/1.jpg\tgithub:a/b@1:x.jpg\tCC0"]
    for i in range(6):
        (data / "video" / f"{i}.mp4").write_bytes(b"")
        source = f"github:owner/name@{i}:clip {i}.mp4" if i < 4 else "debian:other 1.2:/usr/x.mp4"
        rows.append(f"video/{i}.mp4\t{source}\tMIT")
    (data / "MANIFEST.tsv").write_text("\n".join(rows) + "\n")
    for _ in range(2):
        main(str(data), str(out), "3")
    found = list_media(out)
    assert {entry.label for entry in found} == {"owner-name"}
    assert len(found) == 4


def test_classes_are_names_of_folders() -> None:
    assert class_of("debian:opencv-doc 4.6.0+dfsg-12:/usr/share/a.avi") == "opencv-doc"
    assert class_of("../..") == "unnamed"
    assert class_of("github:a/b.github.io@81b4:video/x.mp4") == "a-b.github.io"
