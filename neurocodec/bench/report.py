"""Tables, figures and a page from the results of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError
from .bd import Delta
from .figures import draw_curves
from .page import data_uri, write_page
from .results import Results
from .suite import OURS
from .tables import Point, Tables, Title, shown_delta, shown_speed, shown_value

_QUALITIES = (90, 80, 65, 50)  # of WebP, tried in turn until the pictures fit


def write_report(folder: Path, picture_bytes: int) -> list[Path]:
    """Writes report.md, curves-*.svg and .png, and index.html into ``folder``; returns the paths.

    picture_bytes: most that pictures may add to index.html. Raises InputError, OutputError.
    """
    results = Results.read(folder)
    tables = Tables(results)
    if not tables.points:
        raise InputError(f"{folder}: no rate point is done yet")
    try:
        figures = draw_curves(tables, folder)
        report, page = folder / "report.md", folder / "index.html"
        report.write_text(markdown(tables))
        write_page(page, "report", _title(results), page_data(tables, picture_bytes))
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}") from None
    return [report, page, *figures]


# -- Markdown -----------------------------------------------------------------------------------


def markdown(tables: Tables) -> str:
    results = tables.results
    parts = [f"# {_title(results)}", _about(tables)]
    if tables.anchors and OURS in tables.codecs:
        parts += [
            "## Rate at equal quality (BD-rate)",
            "How much more rate neurocodec needs than each anchor, mean of the clips: +100 % is "
            "twice the rate, below zero is a saving. `~`: the anchor covers less than half of our "
            "range. Frames per second are of whole runs, with start-up, over all rate points.",
            _overview(tables, tables.mean_bd_rate),
            "## Quality at equal rate (BD-quality)",
            "How much better neurocodec is at the anchor's rate, in the metric's own unit (MS-SSIM "
            "in dB, ST-LPIPS with its sign turned); below zero is worse.",
            _overview(tables, tables.mean_bd_quality, "", 2),
            f"## BD-rate by clip, {tables.titles[0].title}",
            _by_clip(tables, tables.titles[0]),
        ]
    if OURS in tables.codecs:
        parts += ["## Our rate points, mean of the clips", _our_points(tables)]
    parts += ["## Not in these tables", _left_out(tables)]
    parts += ["## Curves", *(f"![{t.title}](curves-{t.key}.svg)" for t in tables.titles)]
    return "\n\n".join(parts) + "\n"


def _title(results: Results) -> str:
    return f"Benchmark “{results.about['suite']['name']}”"


def _about(tables: Tables) -> str:
    about, clips = tables.results.about, tables.clips
    counts = sorted({clip.frames for clip in clips})
    frames = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    machine = about["machine"]
    jobs = f", {machine['jobs']} jobs at once" if machine["jobs"] > 1 else ""
    clips_of = "1 clip of" if len(clips) == 1 else f"{len(clips)} clips of"
    return (
        f"{clips_of} {frames} frames ({', '.join(clip.name for clip in clips)}), "
        f"{_our_version(tables)}, ffmpeg {about['ffmpeg']}, {machine['processor']}, "
        f"{machine['cores']} cores{jobs}. Rates are those of whole files, sound left out; metrics "
        "are of 8-bit 4:2:0 frames, PSNR-YUV is (6 Y + U + V) / 8, means over frames. Codecs keep "
        "their own GOP, B-frames and tuning unless it says otherwise."
    )


def _our_version(tables: Tables) -> str:
    for curves in tables.points.values():
        for point in curves.get(OURS, []):
            version = point["versions"]
            name, digest = version["model"].split()
            return f"neurocodec {version['neurocodec']} with model {name} {digest[:16]}"
    return "without neurocodec"


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _speeds(tables: Tables, codec: str, clip: str | None = None) -> list[str]:
    return [shown_speed(tables.speed(codec, stage, clip)) for stage in ("encode", "decode")]


def _overview(
    tables: Tables, delta: Callable[[str, str], Delta], unit: str = " %", digits: int = 0
) -> str:
    rows = [["anchor", *(t.title for t in tables.titles), "encode fps", "decode fps"]]
    for anchor in tables.anchors:
        cells = [shown_delta(delta(anchor, t.key), unit, digits) for t in tables.titles]
        rows.append([anchor, *cells, *_speeds(tables, anchor)])
    rows.append([f"**{OURS}**", *[""] * len(tables.titles), *_speeds(tables, OURS)])
    return _table(rows)


def _by_clip(tables: Tables, title: Title) -> str:
    rows = [["clip", *tables.anchors]]
    for clip in tables.clips:
        cells = [
            shown_delta(tables.bd_rate(clip.name, anchor, title.key)) for anchor in tables.anchors
        ]
        rows.append([f"{clip.name} {clip.width}x{clip.height}", *cells])
    return _table(rows)


def _our_points(tables: Tables) -> str:
    points = (
        tables.average(OURS) if len(tables.clips) > 1 else tables.points[tables.clips[0].name][OURS]
    )
    qualities = tables.results.about["suite"]["ours"]["qualities"]
    rows = [["quality", "bits per pixel", *(t.title for t in tables.titles)]]
    for point in points:
        cells = [
            shown_value(t, point["metrics"][t.key]) if t.key in point["metrics"] else "-"
            for t in tables.titles
        ]
        rows.append([str(qualities[point["target"]]), f"{point['bpp']:.4f}", *cells])
    return _table(rows)


def _left_out(tables: Tables) -> str:
    """What is missing, and what was done to clips: nothing is dropped in silence."""
    lines = [
        f"{c.clip}, {c.codec}: {c.status}"
        for c in tables.results.curves.values()
        if c.status != "done"
    ]
    for clip, curves in tables.points.items():
        for codec, points in curves.items():
            reasons = {f"{m}: {why}" for p in points for m, why in p["missing"].items()}
            lines += [f"{clip}, {codec}, metric {reason}" for reason in sorted(reasons)]
    lines += [f"{clip.name}: {note}" for clip in tables.clips for note in clip.notes]
    return "\n".join(f"- {line}" for line in lines) or "Nothing was left out."


# -- the page -----------------------------------------------------------------------------------


def page_data(tables: Tables, picture_bytes: int) -> dict[str, Any]:
    pictures, note = _pictures(tables, picture_bytes)
    clips = [clip.name for clip in tables.clips]
    everywhere = ["", *clips]  # "": all clips
    return {
        "title": _title(tables.results),
        "about": _about(tables),
        "ours": OURS,
        "codecs": tables.codecs,
        "metrics": [vars(title) for title in tables.titles],
        "clips": [
            {
                "name": clip.name, "width": clip.width, "height": clip.height,
                "frames": clip.frames, "picture": clip.name,
            }
            for clip in tables.clips
        ],
        "points": {
            clip: {
                codec: [_page_point(p, pictures) for p in points]
                for codec, points in tables.points.get(clip, {}).items()
            }
            for clip in clips
        },
        "average": {codec: tables.average(codec) for codec in tables.codecs},
        "bd": {clip: _page_bd(tables, clip) for clip in everywhere},
        "speeds": {
            clip: {codec: _speeds(tables, codec, clip or None) for codec in tables.codecs}
            for clip in everywhere
        },
        "pictures": pictures,
        "pictures_note": note,
    }  # fmt: skip


def _page_point(point: Point, pictures: dict[str, str]) -> dict[str, Any]:
    kept = ("codec", "dial", "value", "target", "bytes", "bpp", "kbps", "metrics")
    return {
        **{key: point[key] for key in kept},
        "encode_fps": point["encode"]["fps"],
        "decode_fps": point["decode"]["fps"],
        "command": point["encode"]["command"],
        "picture": point["picture"] if point["picture"] in pictures else None,
    }


def _page_bd(tables: Tables, clip: str) -> dict[str, dict[str, str]]:
    def delta(anchor: str, key: str) -> Delta:
        return tables.bd_rate(clip, anchor, key) if clip else tables.mean_bd_rate(anchor, key)

    return {
        anchor: {t.key: shown_delta(delta(anchor, t.key)) for t in tables.titles}
        for anchor in tables.anchors
    }


def _pictures(tables: Tables, most: int) -> tuple[dict[str, str], str]:
    """Name -> address of the pictures that fit into ``most`` bytes, and what to say of the rest.

    Rate levels are given up from the finest on, where codecs look alike, before quality is.
    """
    folder = tables.results.work / "pictures"
    sources = [clip.name for clip in tables.clips if (folder / f"{clip.name}.png").exists()]
    levels: dict[int, list[str]] = {}
    for curves in tables.points.values():
        for point in (p for points in curves.values() for p in points):
            name = point["picture"]
            if point["target"] is not None and (folder / f"{name}.png").exists():
                levels.setdefault(point["target"], []).append(name)
    if not levels or most == 0:
        return {}, "Pictures come with a page made where the benchmark was run."
    for count in range(len(levels), 0, -1):
        kept = sorted(levels)[:count]
        names = [*sources, *(name for level in kept for name in levels[level])]
        left_out = (
            "" if count == len(levels) else "Higher rates are left out to keep the page small."
        )
        for quality in _QUALITIES:
            found = {n: data_uri(folder / f"{n}.png", quality) for n in names}
            if sum(map(len, found.values())) <= most:
                return found, left_out
    return {}, f"They did not fit into {most / 1e6:g} MB; see --pictures."
