"""Charts by matplotlib; figures are made without pyplot, so nothing is kept between them."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from pipelines.colours import ink_on
from pipelines.fonts import Typeface

NONE = "None"
PALETTES = (
    "tab10",
    "Set1",
    "Set2",
    "Set3",
    "Dark2",
    "Paired",
    "Pastel1",
    "Accent",
    "viridis",
    "cividis",
    "plasma",
    "cool",
)
MAPS = ("viridis", "Blues", "YlOrRd", "coolwarm", "Greens", "magma", "PuBu")


def style(rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """What the chart's dictionary does not say."""
    wide = float(rng.uniform(4.2, 7.5))
    return {
        "size_in": [round(wide, 2), round(wide * float(rng.uniform(0.6, 0.95)), 2)],
        "dpi": int(rng.integers(80, 140)),
        "palette": str(rng.choice(PALETTES)),
        "map": str(rng.choice(MAPS)),
        "grid": str(rng.choice(["", "y", "both"], p=[0.45, 0.35, 0.2])),
        "spines": bool(rng.random() < 0.6),
        "values": bool(rng.random() < 0.55) or kind in ("pie", "donut", "heat map"),
        "legend": str(rng.choice(["best", "upper right", "upper left", "outside"], p=[0.5, 0.15, 0.15, 0.2])),
        "marker": str(rng.choice(["o", "s", "^", "D", ""])),
        "hatch": bool(rng.random() < 0.1),
        "ground": str(rng.choice(["white", "#eaeaf2", "#f7f7f0", "#222222"], p=[0.7, 0.12, 0.1, 0.08])),
        "title_place": str(rng.choice(["center", "left"], p=[0.8, 0.2])),
        "bar_width": float(np.round(rng.uniform(0.45, 0.85), 2)),
        "font_pt": float(np.round(rng.uniform(8, 11), 1)),
        "edge": bool(rng.random() < 0.25),
    }


def draw(chart: dict[str, Any], style: dict[str, Any], typefaces: Sequence[Typeface]) -> UInt8[np.ndarray, "H W 3"]:
    """The chart's picture."""
    with _uncollected():
        return _drawn(chart, style, typefaces)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Python's collector waits: a figure is a web of cycles that it would walk again and again while it grows."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _drawn(chart: dict[str, Any], style: dict[str, Any], typefaces: Sequence[Typeface]) -> UInt8[np.ndarray, "H W 3"]:
    from pipelines.backends.agg import Canvas

    with _settings(style):
        figure, _ = _figure(chart, style)
        canvas = Canvas(figure, typefaces)
        canvas.draw()
        return np.asarray(cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2RGB))


def plotted(chart: dict[str, Any], style: dict[str, Any], typefaces: Sequence[Typeface]) -> list[float]:
    """The values that the figure's own objects hold: heights of bars, points of lines, angles of wedges."""
    with _settings(style):
        _, axes = _figure(chart, style)
    kind = style["kind"]
    if kind in ("bar", "grouped", "stacked", "histogram"):
        return [float(patch.get_height()) for patch in axes.patches]
    if kind == "horizontal":
        return [float(patch.get_width()) for patch in axes.patches]
    if kind in ("pie", "donut"):
        return [(w.theta2 - w.theta1) / 3.6 for w in axes.patches if hasattr(w, "theta1")]
    if kind == "heat map":
        return [float(v) for v in axes.images[0].get_array().ravel()]
    if kind == "scatter":
        return [float(y) for _, y in axes.collections[0].get_offsets()]
    if kind == "box":
        five = axes.got_box
        return [float(v) for stats in five for v in (stats[k] for k in ("whislo", "q1", "med", "q3", "whishi"))]
    if kind == "combined":
        other = axes.got_twin
        return [float(p.get_height()) for p in axes.patches] + [float(y) for y in other.lines[0].get_ydata()]
    lines = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    return [float(y) for line in lines for y in (line[:-1] if kind == "radar" else line)]


def _settings(style: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
    """matplotlib with the style's settings."""
    import matplotlib

    dark = style["ground"] == "#222222"
    ink = "#eeeeee" if dark else "#222222"
    values: Any = {
        "axes.titley": 1.0,
        "font.size": style["font_pt"],
        "text.parse_math": False,
        "text.hinting": "none",  # FreeType's own hinter takes a tenth of the whole
        "axes.unicode_minus": False,
        "axes.facecolor": style["ground"],
        "figure.facecolor": style["ground"] if dark else "white",
        "text.color": ink,
        "axes.labelcolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.edgecolor": ink,
        "axes.spines.top": style["spines"],
        "axes.spines.right": style["spines"],
        "legend.facecolor": style["ground"],
    }
    return matplotlib.rc_context(values)


def _figure(chart: dict[str, Any], style: dict[str, Any]) -> tuple[Any, Any]:
    import matplotlib
    from matplotlib.figure import Figure

    from pipelines.charts import series_of

    kind = style["kind"]
    names, series = series_of(chart)
    figure = Figure(figsize=style["size_in"], dpi=style["dpi"])
    figure.subplots_adjust(**_margins(chart, style, names, series))
    axes: Any = figure.add_subplot(projection="polar" if kind == "radar" else None)
    colours = matplotlib.colormaps[style["palette"]]
    count = max(len(series), len(names))
    colour = [colours(i % colours.N if colours.N < 30 else i / count) for i in range(count + 1)]
    lists = {name: [part[n] for n in names] for name, part in series.items()} if kind != "box" else {}
    edge = {"edgecolor": "black", "linewidth": 0.6} if style["edge"] else {}
    DRAW[kind](axes, names, lists, series, colour, style, edge)
    if chart["title"] != NONE:
        box, wide = axes.get_position(), 72 * style["size_in"][0]
        room = 1 - box.x0 if style["title_place"] == "left" else min(box.x0 + box.x1, 2 - box.x0 - box.x1)
        most = sum(1.0 if ch > "\u2e80" else 0.8 for ch in chart["title"]) * 1.2 * style["font_pt"]
        axes.set_title(chart["title"], loc=style["title_place"], wrap=most > room * wide)  # it measures word by word
    if kind not in ("pie", "donut", "radar"):
        flip = kind == "horizontal"
        if chart["x_title"] != NONE:
            (axes.set_ylabel if flip else axes.set_xlabel)(chart["x_title"])
        if chart["y_title"] != NONE:
            (axes.set_xlabel if flip else axes.set_ylabel)(chart["y_title"])
        if style["grid"] and kind != "heat map":
            axes.grid(axis="both" if style["grid"] == "both" else ("x" if flip else "y"), alpha=0.35)
            axes.set_axisbelow(True)
    if len(series) > 1 and kind not in ("heat map", "box"):
        handles, texts = axes.get_legend_handles_labels()
        if kind == "combined":
            more = axes.got_twin.get_legend_handles_labels()
            handles, texts = handles + more[0], texts + more[1]
        if style["legend"] == "outside":
            figure.legend(handles, texts, loc="lower center", ncols=min(4, len(texts)))
        else:
            axes.legend(handles, texts, loc=style["legend"] if kind != "radar" else "upper right", framealpha=0.7)
    if chart["source"] != NONE:
        figure.text(0.01, 0.004, chart["source"], fontsize=style["font_pt"] * 0.8, va="bottom", color="#777777")
    return figure, axes


def _margins(
    chart: dict[str, Any], style: dict[str, Any], names: list[str], series: dict[str, Any]
) -> dict[str, float]:
    """Room around the plot, from the lengths of texts: matplotlib's layout engine takes as long as drawing."""
    kind, pt = style["kind"], style["font_pt"]
    width, height = (72 * side for side in style["size_in"])
    long = lambda text: sum(1.0 if ch > "\u2e80" else 0.56 for ch in text) * pt
    numbers = [v for part in series.values() for v in part.values()]
    ticks = list(series) if kind == "heat map" else names if kind == "horizontal" else [f"{max(numbers):g}00"]
    shown = list(series) if kind == "box" else names
    left, right, top, bottom = 10.0, 12.0, 8.0, 8.0
    if kind in ("pie", "donut", "radar"):
        left = right = min(width * 0.22, 14 + max(map(long, names)))
        top = bottom = 2.4 * pt
    else:
        left += max(map(long, ticks)) + (1.8 * pt if chart["y_title"] != NONE or kind == "horizontal" else 0)
        sloped = kind != "horizontal" and sum(map(len, shown)) > 45
        bottom += min(0.3 * height, 0.6 * max(map(long, shown)) + pt) if sloped else 1.6 * pt
        bottom += 1.7 * pt if chart["x_title"] != NONE or kind == "horizontal" else 0
        right += 4.5 * pt if kind == "combined" else 0
    top += 2.0 * pt if chart["title"] != NONE else 0
    bottom += 1.4 * pt if chart["source"] != NONE else 0
    bottom += 2.2 * pt if style["legend"] == "outside" and len(series) > 1 else 0
    left, right = min(left, 0.4 * width), min(right, 0.3 * width)
    return {"left": left / width, "right": 1 - right / width, "top": 1 - top / height, "bottom": bottom / height}


def _categories(axes: Any, names: list[str], upright: bool = True) -> None:
    places = list(range(len(names)))
    long = upright and sum(map(len, names)) > 45
    if upright:
        axes.set_xticks(places, names, rotation=35 if long else 0, ha="right" if long else "center")
    else:
        axes.set_yticks(places, names)


def _bars(axes, names, lists, series, colour, style, edge) -> None:
    horizontal, stacked = style["kind"] == "horizontal", style["kind"] == "stacked"
    wide = style["bar_width"] / (1 if stacked else len(lists))
    base = np.zeros(len(names))
    for i, (name, values) in enumerate(lists.items()):
        at = np.arange(len(names)) + (0.0 if stacked else (i - (len(lists) - 1) / 2) * wide)
        paint = colour[i] if len(lists) > 1 or style["hatch"] else colour[: len(names)] if style["edge"] else colour[0]
        options = {"color": paint, "label": name or None, **edge}
        if style["hatch"]:
            options |= {"hatch": ["//", "..", "xx", "\\\\"][i % 4], "edgecolor": "black", "linewidth": 0.5}
        if horizontal:
            bars = axes.barh(at, values, height=wide, **options)
        else:
            bars = axes.bar(at, values, width=wide, bottom=base if stacked else None, **options)
        if style["values"]:
            told = axes.bar_label(
                bars,
                [f"{v:g}" for v in values],
                label_type="center" if stacked else "edge",
                fontsize=style["font_pt"] * 0.75,
            )
            for text, bar in zip(told, bars, strict=True) if stacked and not style["hatch"] else ():
                text.set_color(ink_on(bar.get_facecolor()))
        base = base + values
    _categories(axes, names, not horizontal)
    if style["values"] and not stacked:
        axes.margins(**{"x" if horizontal else "y": 0.12})


def _lines(axes, names, lists, series, colour, style, edge) -> None:
    for i, (name, values) in enumerate(lists.items()):
        marker = style["marker"] if style["kind"] != "area" else ""
        axes.plot(range(len(names)), values, color=colour[i], marker=marker, label=name or None, linewidth=1.8)
        if style["kind"] == "area":
            axes.fill_between(range(len(names)), values, color=colour[i], alpha=0.4)
        if style["values"] and len(lists) <= 2:
            for x, y in enumerate(values):
                axes.annotate(
                    f"{y:g}", (x, y), (0, 4), textcoords="offset points", ha="center", fontsize=style["font_pt"] * 0.75
                )
    _categories(axes, names)


def _pie(axes, names, lists, series, colour, style, edge) -> None:
    values = next(iter(lists.values()))
    ring = {"width": 0.45} if style["kind"] == "donut" else {}
    wedges, _, told = axes.pie(
        values,
        labels=names,
        colors=colour[: len(names)],
        autopct="%1.1f%%",
        pctdistance=0.78 if ring else 0.65,
        normalize=True,
        textprops={"fontsize": style["font_pt"] * 0.9},
        wedgeprops={"edgecolor": "white", **ring},
    )
    for text, wedge in zip(told, wedges, strict=True):
        text.set_color(ink_on(wedge.get_facecolor()))


def _scatter(axes, names, lists, series, colour, style, edge) -> None:
    values = next(iter(lists.values()))
    xs = [float(name) for name in names]
    axes.scatter(xs, values, color=colour[0], marker=style["marker"] or "o", s=36)
    for x, y in zip(xs, values, strict=True):
        axes.annotate(f"({x:g}, {y:g})", (x, y), (3, 4), textcoords="offset points", fontsize=style["font_pt"] * 0.7)


def _radar(axes, names, lists, series, colour, style, edge) -> None:
    angles = np.linspace(0, 2 * np.pi, len(names), endpoint=False)
    for i, (name, values) in enumerate(lists.items()):
        axes.plot([*angles, angles[0]], [*values, values[0]], color=colour[i], label=name or None)
        axes.fill([*angles, angles[0]], [*values, values[0]], color=colour[i], alpha=0.2)
    axes.set_xticks(angles, names)


def _box(axes, names, lists, series, colour, style, edge) -> None:
    keys = {"min": "whislo", "q1": "q1", "median": "med", "q3": "q3", "max": "whishi"}
    stats = [{theirs: part[mine] for mine, theirs in keys.items()} for part in series.values()]
    axes.got_box = stats
    made = axes.bxp(stats, showfliers=False, patch_artist=True, positions=range(len(series)))
    for patch, paint in zip(made["boxes"], colour, strict=False):
        patch.set_facecolor(paint)
    _categories(axes, list(series))
    for i, part in enumerate(series.values()):
        for value in part.values():
            axes.annotate(
                f"{value:g}", (i, value), (14, -2), textcoords="offset points", fontsize=style["font_pt"] * 0.65
            )


def _heat(axes, names, lists, series, colour, style, edge) -> None:
    table = np.array(list(lists.values()), float)
    picture = axes.imshow(table, cmap=style["map"], aspect="auto")
    axes.set_yticks(range(len(lists)), list(lists))
    _categories(axes, names)
    for (y, x), value in np.ndenumerate(table):
        ink = ink_on(picture.cmap(picture.norm(value)))
        axes.text(x, y, f"{value:g}", ha="center", va="center", color=ink, fontsize=style["font_pt"] * 0.8)


def _histogram(axes, names, lists, series, colour, style, edge) -> None:
    values = next(iter(lists.values()))
    bars = axes.bar(range(len(names)), values, width=1.0, color=colour[0], edgecolor="white")
    if style["values"]:
        axes.bar_label(bars, fontsize=style["font_pt"] * 0.75)
    _categories(axes, names)


def _combined(axes, names, lists, series, colour, style, edge) -> None:
    (first, bars), (second, line) = lists.items()
    axes.bar(range(len(names)), bars, width=style["bar_width"], color=colour[0], label=first)
    twin = axes.twinx()
    twin.plot(range(len(names)), line, color=colour[1], marker=style["marker"] or "o", label=second)
    axes.got_twin = twin
    _categories(axes, names)


DRAW = {
    "bar": _bars, "grouped": _bars, "stacked": _bars, "horizontal": _bars, "line": _lines, "lines": _lines,
    "area": _lines, "pie": _pie, "donut": _pie, "scatter": _scatter, "radar": _radar, "box": _box, "heat map": _heat,
    "histogram": _histogram, "combined": _combined,
}  # fmt: skip
