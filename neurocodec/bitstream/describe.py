"""What is in a file, as plain values: the answer of ``neurocodec info``."""

from __future__ import annotations

from typing import Any

from .reader import Reader
from .sections import VERSION


def describe(reader: Reader) -> dict[str, Any]:
    """Times in seconds, sizes in bytes. duration is that of the frames at their own times."""
    h = reader.header
    frames = reader.frames
    with_video = [gop for gop in reader.gops if gop.video]
    duration = float(frames / h.frame_rate)
    last = reader.read_gop(with_video[-1]) if with_video else None
    if last is not None and with_video[0].video:
        ticks = last[1][-1] - with_video[0].video.first_pts
        duration = float(ticks * h.time_base + 1 / h.frame_rate)
    return {
        "file": str(reader.path),
        "format_version": VERSION,
        "bytes": reader.size,
        "width": h.width,
        "height": h.height,
        "frames": frames,
        "duration": round(duration, 6),
        "frame_rate": str(h.frame_rate),
        "time_base": str(h.time_base),
        "sample_aspect": str(h.sample_aspect),
        "colour": {
            "primaries": h.colour.primaries,
            "transfer": h.colour.transfer,
            "matrix": h.colour.matrix,
            "range": "full" if h.colour.full_range else "limited",
        },
        "bits_per_pixel": round(8 * reader.size / max(1, frames * h.width * h.height), 6),
        "bitrate_kbps": round(8 * reader.size / 1000 / duration, 3) if duration else None,
        "quality": h.quality,
        "gop_frames": h.gop_frames,
        "gops": len(with_video),
        "entropy_model": h.entropy_model,
        "model": {"name": h.model_name, "hash": h.model_hash.hex()},
        "audio": [
            {
                "codec": t.codec,
                "sample_rate": t.sample_rate,
                "channels": t.channels,
                "language": t.language or "unknown",
            }
            for t in h.tracks
        ],
        "metadata": h.metadata,
        "complete": reader.complete,
    }
