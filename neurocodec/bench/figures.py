"""Rate curves as SVG and PNG: for each metric one figure, with a panel a clip and the average."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .suite import OURS
from .tables import Point, Tables, Title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_PANEL = (4.2, 3.2)  # inches
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "neurocodec",  # the same figures give the same file
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.35,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Curves = dict[str, list[Point]]  # codec -> by rate


def draw_curves(tables: Tables, folder: Path) -> list[Path]:
    """Writes curves-METRIC.svg and .png. Raises UsageError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise UsageError("curves need: pip install 'neurocodec[bench]'") from None
    matplotlib.use("Agg")
    with matplotlib.rc_context(_STYLE):
        return [path for title in tables.titles for path in _draw(tables, title, folder)]


def _draw(tables: Tables, title: Title, folder: Path) -> list[Path]:
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    clips = [clip.name for clip in tables.clips if clip.name in tables.points]
    panels: list[tuple[str, Curves]] = [
        (clip, {c: tables.points[clip].get(c, []) for c in tables.codecs}) for clip in clips
    ]
    if len(clips) > 1:
        average = {c: tables.average(c) for c in tables.codecs}
        panels.insert(0, (f"average of {len(clips)} clips", average))
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = _PANEL[0] * columns, _PANEL[1] * rows + 0.8
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    styles = _styles(tables)
    for place, (name, curves) in zip(axes.flat, panels, strict=False):
        _panel(place, name, curves, title, styles)
    for place in axes.flat[len(panels) :]:
        place.set_axis_off()
    unit = f" ({title.unit})" if title.unit else ""
    better = "; smaller is better" if title.smaller else ""
    figure.suptitle(f"{title.title}{unit}{better}, over bits per pixel")
    handles = [Line2D([], [], label=codec, **styles[codec]) for codec in tables.codecs]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    paths = [folder / f"curves-{title.key}{suffix}" for suffix in (".svg", ".png")]
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=80)
    pyplot.close(figure)
    return paths


def _styles(tables: Tables) -> dict[str, dict[str, Any]]:
    from matplotlib import colormaps

    colours = [c for i, c in enumerate(colormaps["tab10"].colors) if i != 3]  # type: ignore[attr-defined]
    styles: dict[str, dict[str, Any]] = {}
    for i, codec in enumerate(tables.anchors):
        dashed = "our GOP" in codec or "PSNR" in codec
        styles[codec] = {
            "color": colours[i % len(colours)], "linewidth": 1.2, "marker": ".",
            "linestyle": "--" if dashed else "-",
        }  # fmt: skip
    styles[OURS] = {"color": "tab:red", "linewidth": 2.4, "marker": "o", "markersize": 4}
    return styles


def _panel(
    place: Axes,
    name: str,
    curves: Curves,
    title: Title,
    styles: dict[str, dict[str, Any]],
) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    place.set_title(name, fontsize=9)
    place.set_xscale("log")
    place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    place.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    place.xaxis.set_minor_formatter(NullFormatter())
    for codec, points in curves.items():
        pairs = [(p["bpp"], p["metrics"][title.key]) for p in points if title.key in p["metrics"]]
        if pairs:
            place.plot(*zip(*pairs, strict=True), **styles[codec])
    if title.smaller:
        place.invert_yaxis()  # better is up in every figure
