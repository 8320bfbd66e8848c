"""Give the training clips classes: a folder for each source, of links to its videos.

usage: python scripts/clips_by_source.py DATA FOLDER [LEAST]

DATA has MANIFEST.tsv, with a head and a line for each file: its path, source and licence. A class
is the repository or package that a source names, without its version; sources of fewer than LEAST
videos, 3 by default, are left out. ``neurocodec train transformer --data FOLDER`` reads the result.
"""

import csv
import re
import sys
from collections import defaultdict
from pathlib import Path


def class_of(source: str) -> str:
    """ "github:owner/name@version:path" -> "owner-name", which a folder may be called."""
    kind, _, rest = source.partition(":")
    place = re.split(r"[@:\s]", rest or kind)[0]
    return re.sub(r"[^A-Za-z0-9._]+", "-", place).strip("-.") or "unnamed"


def classes(manifest: Path) -> dict[str, list[str]]:
    """Class -> paths of its videos."""
    found = defaultdict(list)
    with manifest.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["file"].startswith("video/"):
                found[class_of(row["source"])].append(row["file"])
    return found


def main(data: str, folder: str, least: str = "3") -> None:
    for name, files in sorted(classes(Path(data) / "MANIFEST.tsv").items()):
        if len(files) < int(least):
            continue
        place = Path(folder) / name
        place.mkdir(parents=True, exist_ok=True)
        for file in files:
            link = place / file.replace("/", "-")
            link.unlink(missing_ok=True)  # it may be of other data
            link.symlink_to((Path(data) / file).resolve())
        print(f"{name}: {len(files)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
