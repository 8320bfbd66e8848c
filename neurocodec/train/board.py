"""Scalars and pictures for TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


class Board:
    """Event files in ``folder``, made at the first entry. What an earlier part of the run wrote at
    step ``since`` or later is superseded."""

    def __init__(self, folder: Path, since: int) -> None:
        self.folder, self.since = folder, since
        self._writer: Any = None
        self._missing = importlib.util.find_spec("tensorboard") is None

    def _open(self) -> Any:
        if self._writer is None and not self._missing:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=self.since)
        return self._writer

    def add(self, entry: dict[str, Any]) -> None:
        """An entry of the log. Numbers become scalars, named after what else the entry says."""
        writer = self._open()
        if writer is None:
            return
        entry = dict(entry)
        step, clip, quality = entry.pop("step"), entry.pop("val", None), entry.pop("q", None)
        name = "train" if clip is None else f"val/{clip}/q{quality}"
        for key, value in entry.items():
            writer.add_scalar(f"{name}/{key}", value, step)

    def show(self, name: str, picture: Image.Image, step: int) -> None:
        writer = self._open()
        if writer is not None:
            writer.add_image(name, np.asarray(picture), step, dataformats="HWC")

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
