"""Headless Chromium through chromedriver's HTTP interface (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1120,1700", "--force-color-profile=srgb",
)  # fmt: skip


def missing() -> str | None:
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            return f"{name} is not installed (Debian: chromium, chromium-driver)"
    return None


class Browser:
    """One browser with a profile of its own, and no way to any host."""

    def __enter__(self) -> Browser:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True
        )
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            found = re.search(r"started successfully on port (\d+)", line)
            if found:
                self._base = f"http://127.0.0.1:{found[1]}"
                break
        offline = "--host-resolver-rules=MAP * ~NOTFOUND"
        options = {"args": [*FLAGS, offline, f"--user-data-dir={self._profile.name}"]}
        always = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        found = self._call("POST", "/session", {"capabilities": {"alwaysMatch": always}})
        self._base += f"/session/{found['sessionId']}"
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.communicate()
            self._profile.cleanup()

    def _call(self, method: str, path: str, values: dict[str, Any] | None = None) -> Any:
        data = None if values is None else json.dumps(values).encode()
        request = urllib.request.Request(
            self._base + path, data, {"Content-Type": "application/json"}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path) -> None:
        self._call("POST", "/url", {"url": page.resolve().as_uri()})

    def run(self, script: str) -> Any:
        """What a JavaScript function body returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def hover(self, selector: str, x: float, y: float) -> None:
        """Move the mouse to a place of an element, in shares of its size."""
        box = self.run(
            f"const b = document.querySelector({json.dumps(selector)}); b.scrollIntoView();"
            "const r = b.getBoundingClientRect(); return [r.left, r.top, r.width, r.height];"
        )
        at = {"x": round(box[0] + x * box[2]), "y": round(box[1] + y * box[3])}
        move = {"type": "pointerMove", "duration": 0, **at}
        self._call("POST", "/actions", {"actions": [
            {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"},
             "actions": [move, {**move, "x": at["x"] + 1}]}
        ]})  # fmt: skip

    def screenshot(self, target: Path) -> None:
        target.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def log(self) -> list[str]:
        """What the page said on the console, errors included, since the last call."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]
