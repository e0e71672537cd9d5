"""Charts by ECharts: options are written here, Node renders them to SVG, `backends.svg` draws that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipelines.backends import svg
from pipelines.backends.node import node
from pipelines.colours import ink_on
from pipelines.fonts import Typeface

NONE = "None"
PALETTES = (
    ("#5070dd", "#b6d634", "#505372", "#ff994d", "#0ca8df", "#ffd10a", "#fb628b", "#785db0", "#3fbe95"),
    ("#5470c6", "#91cc75", "#fac858", "#ee6666", "#73c0de", "#3ba272", "#fc8452", "#9a60b4", "#ea7ccc"),
    ("#c23531", "#2f4554", "#61a0a8", "#d48265", "#91c7ae", "#749f83", "#ca8622", "#bda29a", "#6e7074"),
    ("#2ec7c9", "#b6a2de", "#5ab1ef", "#ffb980", "#d87a80", "#8d98b3", "#e5cf0d", "#97b552", "#95706d"),
    ("#e01f54", "#001852", "#f5e8c8", "#b8d2c7", "#c6b38e", "#a4d8c2", "#f3d999", "#d3758f", "#dcc392"),
    ("#3fb1e3", "#6be6c1", "#626c91", "#a0a7e6", "#c4ebad", "#96dee8", "#516b91", "#59c4e6", "#edafda"),
)
RAMPS = (["#f6efa6", "#d88273", "#bf444c"], ["#e0f3f8", "#4575b4"], ["#ffffcc", "#41b6c4", "#225ea8"])


def style(rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """What the chart's dictionary does not say."""
    wide = int(rng.integers(480, 900))
    return {
        "size_px": [wide, int(wide * rng.uniform(0.55, 0.85))],
        "scale": float(np.round(rng.uniform(0.9, 1.4), 2)),
        "palette": int(rng.integers(len(PALETTES))),
        "ramp": int(rng.integers(len(RAMPS))),
        "values": bool(rng.random() < 0.55) or kind in ("pie", "donut", "heat map"),
        "legend": str(rng.choice(["top", "bottom", "right"], p=[0.5, 0.35, 0.15])),
        "title": str(rng.choice(["center", "left"], p=[0.6, 0.4])),
        "smooth": bool(rng.random() < 0.35),
        "symbol": str(rng.choice(["emptyCircle", "circle", "rect", "triangle", "diamond", "none"])),
        "lines": str(rng.choice(["solid", "dashed", "none"], p=[0.55, 0.25, 0.2])),
        "dark": bool(rng.random() < 0.07),
        "rose": bool(rng.random() < 0.15),
        "round": int(rng.choice([0, 0, 4])),
        "size": int(rng.integers(11, 15)),
    }


def draw(chart: dict[str, Any], style: dict[str, Any], typefaces: Sequence[Typeface]) -> UInt8[np.ndarray, "H W 3"]:
    """The chart's picture."""
    width, height = style["size_px"]
    made = node("echarts").call("chart", option=option(chart, style), width=width, height=height)
    paper = (0.1, 0.1, 0.13) if style["dark"] else (1.0, 1.0, 1.0)
    return svg.paint(svg.parse(made), style["scale"], typefaces, paper)


def plotted(chart: dict[str, Any], style: dict[str, Any], typefaces: Sequence[Typeface]) -> list[float]:
    """The values that the option hands to ECharts."""
    del typefaces
    found: list[float] = []
    for series in option(chart, style)["series"]:
        for item in series["data"]:
            value = item["value"] if isinstance(item, dict) else item
            if series["type"] in ("scatter", "heatmap"):
                value = value[-1]
            found += [float(v) for v in value] if isinstance(value, list) else [float(value)]
    return found


def option(chart: dict[str, Any], style: dict[str, Any]) -> dict[str, Any]:
    """The chart as an option of ECharts."""
    from pipelines.charts import series_of

    kind = style["kind"]
    names, series = series_of(chart)
    ink = "#dddddd" if style["dark"] else "#333333"
    text = {"color": ink, "fontSize": style["size"]}
    palette = list(PALETTES[style["palette"]])
    made: dict[str, Any] = {"color": palette, "textStyle": text, "series": _series(kind, names, series, style, ink)}
    title: list[dict[str, Any]] = []
    if chart["title"] != NONE:
        title.append(
            {
                "text": chart["title"],
                "left": style["title"],
                "top": 6,
                "textStyle": {"color": ink, "fontSize": style["size"] + 5},
            }
        )
    if chart["source"] != NONE:
        small = {"color": "#888888", "fontSize": style["size"] - 2, "fontWeight": "normal"}
        title.append({"text": chart["source"], "right": 8, "bottom": 4, "textStyle": small})
    made["title"] = title
    several = len(series) > 1 and kind not in ("heat map", "box")
    if several or (kind in ("pie", "donut") and style["legend"] != "right"):
        place = {
            "top": {"top": 38},
            "bottom": {"bottom": 26},
            "right": {"right": 8, "top": "middle", "orient": "vertical"},
        }
        made["legend"] = {**place[style["legend"]], "textStyle": text}
    if kind in ("pie", "donut"):
        return made
    if kind == "radar":
        most = {n: max(part[n] for part in series.values()) for n in names}
        made["radar"] = {
            "indicator": [{"name": n, "max": round(most[n] * 1.15, 2)} for n in names],
            "radius": "58%",
            "center": ["50%", "55%"],
            "axisName": {"color": ink},
        }
        return made
    side = 90 if several and style["legend"] == "right" else 30
    made["grid"] = {"left": 70, "right": side + 40, "top": 78, "bottom": 78 if style["legend"] == "bottom" else 62}
    grid = {
        "show": style["lines"] != "none",
        "lineStyle": {"type": style["lines"] if style["lines"] != "none" else "solid"},
    }
    shown = lambda name: (
        {} if name == NONE else {"name": name, "nameTextStyle": {"color": ink}, "nameLocation": "middle"}
    )
    crowded = sum(map(len, names)) * style["size"] * 0.6 > style["size_px"][0] * 0.8
    category = {
        "type": "category",
        "data": list(series) if kind == "box" else names,
        "axisLabel": {"color": ink, "interval": 0, "rotate": 30 if crowded and kind != "horizontal" else 0},
        **shown(chart["x_title"]),
        "nameGap": 44 if kind == "horizontal" else (40 if crowded else 28),
    }
    value = {"type": "value", "axisLabel": {"color": ink}, "splitLine": grid, **shown(chart["y_title"]), "nameGap": 50}
    if kind == "horizontal":
        made["grid"]["left"] = 110
        made |= {"yAxis": {**category, "nameGap": 90}, "xAxis": {**value, "nameGap": 28}}
    elif kind == "heat map":
        numbers = [v for part in series.values() for v in part.values()]
        made |= {
            "xAxis": category,
            "yAxis": {"type": "category", "data": list(series), "axisLabel": {"color": ink, "interval": 0}},
            "visualMap": {
                "min": min(numbers),
                "max": max(numbers),
                "show": False,
                "inRange": {"color": list(RAMPS[style["ramp"]])},
            },
        }
    elif kind == "scatter":
        made |= {
            "xAxis": {**value, **shown(chart["x_title"]), "nameGap": 28, "scale": True},
            "yAxis": {**value, "scale": True},
        }
    elif kind == "combined":
        made |= {
            "xAxis": category,
            "yAxis": [value, {"type": "value", "axisLabel": {"color": ink}, "splitLine": {"show": False}}],
        }
    else:
        made |= {"xAxis": category, "yAxis": {**value, "scale": kind == "box"}}
    return made


def _ramp(ramp: Sequence[str], share: float) -> list[float]:
    """The colour at a share of a ramp, as ECharts mixes it."""
    colours = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in ramp])
    places = np.linspace(0, 1, len(ramp))
    return [float(np.interp(share, places, channel)) for channel in colours.T]


def _series(
    kind: str, names: list[str], series: dict[str, Any], style: dict[str, Any], ink: str
) -> list[dict[str, Any]]:
    label = {"show": style["values"], "color": ink, "fontSize": style["size"] - 2}
    if kind in ("pie", "donut"):
        values = next(iter(series.values()))
        radius = ["35%", "58%"] if kind == "donut" else "56%"
        rose = {"roseType": "radius"} if style["rose"] else {}
        return [
            {
                "type": "pie",
                "radius": radius,
                "center": ["50%", "56%"],
                "data": [{"name": n, "value": v} for n, v in values.items()],
                "label": {"color": ink, "formatter": "{b}: {c}", "fontSize": style["size"]},
                **rose,
            }
        ]
    if kind == "radar":
        filled = {"areaStyle": {"opacity": 0.15}} if style["smooth"] else {}
        data = [{"name": line, "value": [part[n] for n in names], **filled} for line, part in series.items()]
        return [{"type": "radar", "data": data, "label": {**label, "show": style["values"]}}]
    if kind == "box":
        return [{"type": "boxplot", "data": [list(part.values()) for part in series.values()]}]
    if kind == "heat map":
        numbers = [v for part in series.values() for v in part.values()]
        low, high = min(numbers), max(numbers)
        data = [
            {
                "value": [x, y, part[n]],
                "label": {"color": ink_on(_ramp(RAMPS[style["ramp"]], (part[n] - low) / ((high - low) or 1)))},
            }
            for y, part in enumerate(series.values())
            for x, n in enumerate(names)
        ]
        return [{"type": "heatmap", "data": data, "label": {"show": True, "fontSize": style["size"] - 2}}]
    if kind == "scatter":
        part = next(iter(series.values()))
        data = [[float(n), v] for n, v in part.items()]
        return [
            {
                "type": "scatter",
                "data": data,
                "symbolSize": 10,
                "label": {**label, "show": True, "position": "top", "formatter": "{@[0]}, {@[1]}"},
            }
        ]
    made = []
    for i, (line, part) in enumerate(series.items()):
        one: dict[str, Any] = {"name": line, "data": [part[n] for n in names]}
        if kind in ("line", "lines", "area") or (kind == "combined" and i == 1):
            one |= {"type": "line", "smooth": style["smooth"], "symbol": style["symbol"], "symbolSize": 7}
            one["label"] = {**label, "position": "top"}
            if kind == "area":
                one["areaStyle"] = {"opacity": 0.35}
            if kind == "combined":
                one["yAxisIndex"] = 1
        else:
            inside = kind == "stacked"
            side = "inside" if inside else "right" if kind == "horizontal" else "top"
            one |= {"type": "bar", "label": {**label, "position": side}}
            if inside:
                palette = PALETTES[style["palette"]]
                one["label"]["color"] = ink_on(palette[i % len(palette)])
                one["stack"] = "all"
            elif style["round"]:
                one["itemStyle"] = {"borderRadius": style["round"]}
            if kind == "histogram":
                one["barCategoryGap"] = "2%"
        made.append(one)
    return made
