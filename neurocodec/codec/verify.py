"""Checking a file without synthesising a picture; needs no torch."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from .. import models
from ..bitstream.reader import Reader
from .tokens import decode_tokens, hash_tokens


@dataclass
class Report:
    """tokens: GOP number -> hash, see ``hash_tokens``. damage: one line a fault."""

    gops: int = 0
    frames: int = 0
    tokens: dict[str, str] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify(path: str | os.PathLike[str], model: str | None = None, tokens: bool = False) -> Report:
    """Check every section's CRC; with ``tokens`` decode and hash the tokens of each GOP.

    Raises InputError, FormatError and, with ``tokens``, ModelError.
    """
    report = Report()
    with Reader(path) as reader:
        entropy = None
        if tokens:
            bundle = models.find_for(reader.header.model_hash, reader.header.model_name, model)
            entropy = bundle.entropy(reader.header.entropy_model)
        for entry in reader.gops:
            for _ in reader.audio_sections(entry):
                pass  # what is damaged is noted
            found = reader.read_gop(entry)
            if found is None:
                continue
            report.gops += 1
            report.frames += found[0].frames
            if entropy is not None:
                latents = decode_tokens(reader.header, found[0], entropy)
                report.tokens[str(entry.number)] = hash_tokens(latents)
        report.damage = reader.damage
    return report
