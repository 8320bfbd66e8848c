"""Pages for a browser that need nothing but themselves: no network, no other file."""

from __future__ import annotations

import base64
import html
import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SCRIPTS = ("chart.js", "slider.js")


def write_page(path: Path, kind: str, title: str, data: dict[str, Any]) -> None:
    """kind: "report" or "compare", the assets that make the page; data: what they show."""
    parts = {
        "title": html.escape(title),
        "style": _asset("page.css"),
        "body": _asset(f"{kind}.html"),
        "script": "\n".join(_asset(name) for name in (*_SCRIPTS, f"{kind}.js")),
        # "<" would end the script element, whatever a clip is called
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
    }
    page = _asset("page.html")
    for key, value in parts.items():
        page = page.replace("{{" + key + "}}", value)
    path.write_text(page, encoding="utf-8")


def _asset(name: str) -> str:
    file = resources.files(__package__) / "assets" / name
    return file.read_text(encoding="utf-8").strip()


def data_uri(picture: NDArray[np.uint8] | Path, quality: int) -> str:
    """A picture (H, W, 3), or a file of one, as WebP inside an address."""
    image = Image.open(picture) if isinstance(picture, Path) else Image.fromarray(picture)
    with io.BytesIO() as file, image:
        image.save(file, "WEBP", quality=quality, method=4)
        data = file.getvalue()
    return "data:image/webp;base64," + base64.b64encode(data).decode()
