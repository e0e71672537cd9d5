"""The charts engine: charts by matplotlib and ECharts with what they plot, as OneChart's dictionary or as HTML.

Source: GOT paper 3.3.2 (matplotlib and pyecharts, random texts, values from a controlled distribution; the answer is
OneChart's dictionary); DeepSeek-OCR answers with an HTML table. pyecharts only writes ECharts options; they are written
here directly.
"""

from __future__ import annotations

import html
import itertools
import json
import re
import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import GotError, require
from pipelines import chart_echarts, chart_matplotlib, fonts
from pipelines.documents import draw_font
from pipelines.paper import compressed, scanned, to_png
from pipelines.prose import HALF, UNSPACED, Languages, Prose, check_languages, weighted
from pipelines.tries import Unusable, first_usable
from pipelines.vocabulary import Vocabulary, shortened

KINDS = {
    "bar": 0.14, "grouped": 0.1, "stacked": 0.08, "horizontal": 0.1, "line": 0.1, "lines": 0.1, "area": 0.05,
    "pie": 0.08, "donut": 0.04, "scatter": 0.04, "radar": 0.04, "box": 0.03, "histogram": 0.03, "heat map": 0.03,
    "combined": 0.04,
}  # fmt: skip
SERIES = {"grouped", "stacked", "lines", "radar", "heat map", "combined", "box", "area"}
NONE = "None"


@dataclass(frozen=True)
class Charts:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out", of texts and fonts.
        languages: (language, weight) pairs, of "en" and "zh".
        renderers: (renderer, weight) pairs, of "matplotlib" and "echarts".
        kinds: those that charts are drawn from; see `KINDS`.
        form: "dict" (OneChart's) or "html".
        effects: share of pictures that look printed, scanned or sent as JPEG.
    """

    split: str = "train"
    languages: Languages = HALF
    renderers: tuple[tuple[str, float], ...] = (("matplotlib", 0.4), ("echarts", 0.6))
    kinds: tuple[str, ...] = tuple(KINDS)
    form: str = "dict"
    effects: float = 0.35

    tools: ClassVar[tuple[str, ...]] = ("node", "matplotlib")

    def __post_init__(self) -> None:
        check_languages("charts", self.languages, ("en", "zh"))
        require(self.form in ("dict", "html"), f"charts: form is '{self.form}'; choose dict or html.")
        require(
            bool(self.renderers) and {name for name, _ in self.renderers} <= set(DRAWERS),
            f"charts: renderers is {self.renderers}; give (name, weight) pairs of {', '.join(DRAWERS)}.",
        )
        require(
            bool(self.kinds) and set(self.kinds) <= set(KINDS),
            f"charts: kinds is {self.kinds}; choose of {', '.join(KINDS)}.",
        )

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        return first_usable("charts", seed, index, self._example)

    def _example(self, rng: np.random.Generator) -> Example:
        language = weighted(rng, self.languages)
        renderer = weighted(rng, self.renderers)
        shares = np.array([KINDS[kind] for kind in self.kinds])
        kind = str(rng.choice(self.kinds, p=shares / shares.sum()))
        font = draw_font(rng, self.split, language, ("sans", "serif"), "normal")
        chart = _compose(rng, kind, language, _Words(rng, self.split, font, language))
        style = {**DRAWERS[renderer].style(rng, kind), "font": font.face.name, "renderer": renderer, "kind": kind}
        pixels = draw(chart, style)
        if min(pixels.min(), 255) > 200:
            raise Unusable("the chart shows nothing.")
        meta: dict[str, Any] = {
            "engine": "charts",
            "kind": f"{renderer} {kind}",
            "language": language,
            "form": self.form,
            "style": style,
            "ink": zlib.crc32(pixels.tobytes()),
        }
        if rng.random() < self.effects:
            if rng.random() < 0.5:
                pixels, meta["effects"] = scanned(pixels, rng)
            else:
                meta["effects"] = {}
                pixels = compressed(pixels, rng, meta["effects"])
        text = as_dict(chart) if self.form == "dict" else as_html(chart)
        return Example((to_png(pixels),), prompts.FORMAT, text, meta)


DRAWERS: dict[str, Any] = {"matplotlib": chart_matplotlib, "echarts": chart_echarts}


def draw(chart: dict[str, Any], style: dict[str, Any]) -> UInt8[np.ndarray, "H W 3"]:
    """The clean picture: the chart's dictionary and its style alone make it."""
    face = next(face for face in fonts.faces() if face.name == style["font"])
    return DRAWERS[style["renderer"]].draw(chart, style, font_chain(fonts.typeface(face)))


def font_chain(font: fonts.Typeface) -> list[fonts.Typeface]:
    """The font, and one that shows Chinese for what it lacks."""
    chinese = fonts.choose("train", "sans", "normal", "zh")[0]
    return [font, fonts.typeface(chinese)]


def as_dict(chart: dict[str, Any]) -> str:
    """OneChart's dictionary on one line; what is absent is the text None."""
    return json.dumps(chart, ensure_ascii=False)


def series_of(chart: dict[str, Any]) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Category names, and each series with its values; a single series has the name "" ."""
    values = chart["values"]
    nested = all(isinstance(v, dict) for v in values.values())
    series = values if nested else {"": values}
    names: dict[str, None] = {}
    for part in series.values():
        names |= dict.fromkeys(part)
    return list(names), series


def as_html(chart: dict[str, Any]) -> str:
    """DeepSeek-OCR's form: a table with a row for each category."""
    names, series = series_of(chart)
    cell = lambda value: f"<td>{html.escape(str(value), quote=False)}</td>"
    first = "" if chart["x_title"] == NONE else chart["x_title"]
    heads = list(series) if "" not in series else ["" if chart["y_title"] == NONE else chart["y_title"]]
    rows = ["".join(map(cell, [first, *heads]))]
    rows += ["".join(map(cell, [name, *(part.get(name, "") for part in series.values())])) for name in names]
    caption = "" if chart["title"] == NONE else f"<caption>{html.escape(chart['title'], quote=False)}</caption>"
    return f"<table>{caption}{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


class _Words:
    """Names and titles: real-looking ones, or any words."""

    def __init__(self, rng: np.random.Generator, split: str, font: fonts.Typeface, language: str) -> None:
        self.rng, self.spaced = rng, language not in UNSPACED
        self.vocabulary = Vocabulary(rng, language)
        self.prose = Prose(split).paragraphs(rng, font, language)
        self.real = rng.random() < 0.65

    def phrase(self, low: int, high: int) -> str:
        for _ in range(20):
            words = next(self.prose)
            count = int(self.rng.integers(low, high + 1)) * (1 if self.spaced else 2)
            start = int(self.rng.integers(0, max(1, len(words) - count)))
            text = (" " if self.spaced else "").join(words[start : start + count]).strip(" ,.;:，。；：、\"'()|")
            if text and not set(text) & set("\\{}|<>_$\n"):
                return shortened(text, 40)
        raise Unusable("the prose gives no phrase.")

    def names(self, count: int) -> list[str]:
        if self.real:
            return self.vocabulary.names(self.vocabulary.kind(), count)
        found = dict.fromkeys(shortened(self.phrase(1, 2), 14) for _ in range(count * 2))
        return list(found)[:count]

    def head(self) -> str:
        return self.vocabulary.head() if self.real or self.rng.random() < 0.4 else self.phrase(1, 3)

    def title(self) -> str:
        return self.vocabulary.title() if self.real else self.phrase(2, 7)


def _numbers(rng: np.random.Generator, count: int) -> list[float]:
    """Values of one size: levels, shares, trends, skewed ones; rounded as a chart shows them."""
    size = 10.0 ** rng.integers(0, 6)
    digits = int(rng.integers(2 if size == 1 else 1 if size == 10 else 0, 3)) if size <= 100 else 0
    how = str(rng.choice(["uniform", "normal", "trend", "skewed"]))
    if how == "uniform":
        values = rng.uniform(0.1, 1, count)
    elif how == "normal":
        values = np.abs(rng.normal(0.6, 0.12, count))
    elif how == "trend":
        values = np.linspace(rng.uniform(0.1, 0.5), rng.uniform(0.5, 1), count)[:: int(rng.choice([1, -1]))]
        values = values * rng.uniform(0.85, 1.15, count)
    else:
        values = rng.lognormal(-1.5, 0.8, count)
    values = np.maximum(values * size * 0.98, 10.0**-digits)
    return [round(float(v), digits) if digits else round(float(v)) or 1 for v in values]


def _compose(rng: np.random.Generator, kind: str, language: str, words: _Words) -> dict[str, Any]:
    """OneChart's dictionary of a chart of a kind."""
    count = int(rng.integers(3, 11))
    values: dict[str, Any]
    if kind == "histogram":
        low, width = int(rng.integers(0, 50)), int(rng.choice([1, 2, 5, 10, 20]))
        edges = [low + width * i for i in range(count + 1)]
        shape = np.exp(-(((np.arange(count) - count * rng.uniform(0.3, 0.7)) / (count * 0.3)) ** 2))
        counts = rng.poisson(shape * rng.uniform(15, 200)) + 1
        values = {f"{a}-{b}": int(n) for (a, b), n in zip(itertools.pairwise(edges), counts, strict=True)}
    elif kind == "scatter":
        xs = dict.fromkeys(str(v) for v in np.round(np.sort(rng.uniform(0, 100, count)), 1).tolist())
        values = dict(zip(xs, _numbers(rng, len(xs)), strict=True))
    elif kind == "box":
        values = {}
        for name in words.names(min(count, 7)):
            numbers = sorted({round(float(v), 1) for v in rng.normal(rng.uniform(20, 80), rng.uniform(4, 15), 9)})
            five = [numbers[0], numbers[len(numbers) // 4], numbers[len(numbers) // 2], numbers[-2], numbers[-1]]
            values[name] = dict(zip(("min", "q1", "median", "q3", "max"), sorted(five), strict=True))
    elif kind in SERIES:
        names = words.names(min(count, 8 if kind != "radar" else 7))
        lines = words.names(int(rng.integers(2, 5))) if kind != "combined" else words.names(2)
        if set(names) & set(lines):
            lines = [f"{line} {i + 1}" for i, line in enumerate(lines)]
        if kind in ("lines", "area", "combined") and rng.random() < 0.5:
            first = words.vocabulary.year()
            names = [str(first + i) for i in range(len(names))]
        if kind == "area" and rng.random() < 0.5:
            lines = lines[:1]
        table = np.array(_numbers(rng, len(names) * len(lines)), object).reshape(len(lines), -1)
        values = {line: dict(zip(names, row.tolist(), strict=True)) for line, row in zip(lines, table, strict=True)}
        if len(values) == 1:
            values = next(iter(values.values()))
    else:
        names = words.names(count)
        if kind == "line" and rng.random() < 0.5:
            first = words.vocabulary.year()
            names = [str(first + i) for i in range(count)]
        numbers = _numbers(rng, len(names))
        if kind in ("pie", "donut"):
            names = names[:8]
            shares = np.maximum(np.array(numbers[: len(names)], float), 0.04 * sum(numbers[: len(names)]))
            shares = np.round(shares / shares.sum() * 100, 1)
            shares[-1] = round(100 - shares[:-1].sum(), 1)
            numbers = shares.tolist()
        values = dict(zip(names, numbers, strict=True))
    if len(values) < 2:
        raise Unusable("too few names for a chart.")
    circular = kind in ("pie", "donut", "radar")
    maybe = lambda share, make: make() if rng.random() < share else NONE
    return {
        "title": maybe(0.9, words.title),
        "source": maybe(0.45, lambda: words.vocabulary.source() if words.real else words.phrase(1, 4)),
        "x_title": NONE if circular else maybe(0.7, words.head),
        "y_title": NONE if circular or kind == "heat map" else maybe(0.7, words.head),
        "values": values,
    }


def proof(example: Example) -> str:
    """What is wrong with an example: its dictionary must give its picture, and the picture plots its values."""
    style = example.meta["style"]
    if example.meta["form"] == "html":
        from pipelines import grids

        bare = re.sub(r"<caption>.*?</caption>", "", example.text)
        return "" if grids.to_html(grids.from_html(bare)) == bare else "the table does not read back"
    try:
        chart = json.loads(example.text)
    except ValueError:
        return "the answer is no JSON"
    try:
        if zlib.crc32(draw(chart, style).tobytes()) != example.meta["ink"]:
            return "the answer's picture is another"
    except GotError as err:
        return str(err)
    face = next(face for face in fonts.faces() if face.name == style["font"])
    names, series = series_of(chart)
    expected = sorted(float(value) for part in series.values() for value in part.values())
    plotted = sorted(DRAWERS[style["renderer"]].plotted(chart, style, font_chain(fonts.typeface(face))))
    del names
    return "" if np.allclose(expected, plotted, rtol=1e-6) else "the picture plots other values"
