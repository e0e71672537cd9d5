"""Draws the SVG that MathJax, ECharts, Verovio and SmilesDrawer write: their subset of the language, with our fonts.

MuPDF's own SVG reader misplaces nested <svg> elements and centred text; resvg takes longer than the renderer before
it and reads the machine's fonts. Here an SVG becomes a list of marks (`parse`), which MuPDF's rasteriser fills and
strokes (`cover`, `paint`). Scripts, images, links and style sheets are never followed.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8

from got_jax.errors import GotError, require
from pipelines.fonts import Typeface
from pipelines.typeset import opacity, show_run

Matrix = tuple[float, float, float, float, float, float]
Colour = tuple[float, float, float]
UNIT: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
NAMED = {"black": "#000000", "white": "#ffffff", "red": "#ff0000", "grey": "#808080", "gray": "#808080"}
UNSEEN = {"placeholder", "debug"}  # of Verovio's classes
IGNORED = {"desc", "defs", "style", "script", "image", "foreignObject", "title", "mask", "linearGradient", "metadata"}


class Style(NamedTuple):
    """What children inherit; a colour of None draws nothing."""

    fill: Colour | None = (0.0, 0.0, 0.0)
    stroke: Colour | None = None
    fill_opacity: float = 1.0
    stroke_opacity: float = 1.0
    width: float = 1.0
    cap: str = "butt"
    join: str = "miter"
    dash: tuple[float, ...] = ()
    even_odd: bool = False
    size: float = 16.0
    bold: bool = False
    italic: bool = False
    anchor: str = "start"
    baseline: str = ""
    color: Colour = (0.0, 0.0, 0.0)


Run = tuple[str, float, float]  # characters; their size and how far they are raised, in sizes of the text


class Mark(NamedTuple):
    """A path or a run of text with its place, style and the clips that hold it in."""

    style: Style
    matrix: Matrix
    clips: tuple[tuple[str, Matrix], ...]
    path: str = ""
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """A parsed SVG: its size and its marks, bottom first. `base` is how far below its top the baseline lies."""

    width: float
    height: float
    marks: tuple[Mark, ...] = field(repr=False)
    base: float = 0.0


def multiply(outer: Matrix, inner: Matrix) -> Matrix:
    """The matrix that applies `inner` first."""
    a, b, c, d, e, f = inner
    A, B, C, D, E, F = outer
    return A * a + C * b, B * a + D * b, A * c + C * d, B * c + D * d, A * e + C * f + E, B * e + D * f + F


def parse(svg: str, ex: float = 8.0) -> Drawing:
    """Reads an SVG. `ex` is the length of that unit in pixels (MathJax's sizes are in it).

    Raises:
        GotError: for what is no SVG.
    """
    require("<!DOCTYPE" not in svg and "<!ENTITY" not in svg, "an SVG with entities is not read; remove its DOCTYPE.")
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as err:
        raise GotError(f"the SVG is not well formed ({err}).") from None
    for element in root.iter():
        element.tag = str(element.tag).rsplit("}", 1)[-1]
    require(root.tag == "svg", f"the picture is a <{root.tag}>, not an <svg>.")
    box = [float(v) for v in NUMBER.findall(root.get("viewBox", ""))]
    css = _css(root.get("style", ""))
    width = _length(css.get("width") or root.get("width", ""), box[2] if box else 100.0, ex)
    height = _length(css.get("height") or root.get("height", ""), box[3] if box else 100.0, ex)
    matrix = UNIT
    if len(box) == 4 and box[2] and box[3]:
        matrix = (width / box[2], 0.0, 0.0, height / box[3], -box[0] * width / box[2], -box[1] * height / box[3])
    walker = _Walker({e.get("id", ""): e for e in root.iter() if e.get("id")}, (width, height))
    style = _styled(Style(), root.attrib)
    for sheet in root.iter("style"):
        walker.sizes |= {name: float(size) for name, size in CLASS_SIZE.findall(sheet.text or "")}
    walker.outlined = any(e.tag == "style" and "path" in (e.text or "") and "{stroke:" in e.text for e in root.iter())  # type: ignore[operator]
    walker.children(root, style, matrix, (), 0)
    depth = NUMBER.search(css.get("vertical-align", ""))
    return Drawing(width, height, tuple(walker.marks), height + float(depth[0]) * ex if depth else height)


GLYPHS = Style(stroke=(0.0, 0.0, 0.0), width=0.0)  # MathJax's: filled, with a stroke of no width


def glyphs(made: dict[str, Any]) -> Drawing:
    """A drawing of black glyphs and rules from `mathjax.js`' list of them: what `parse` makes of the same SVG."""
    outlines = made["outlines"]
    clips = [(outline, tuple(matrix)) for outline, matrix in made["clips"]]
    marks = tuple(
        Mark(GLYPHS, tuple(matrix), tuple(clips[i] for i in within), path=outlines[number])
        for number, within, matrix in made["marks"]
    )
    return Drawing(made["width"], made["height"], marks, made["base"])


DEEPEST = 60
CLASS_SIZE = re.compile(r"\.([\w-]+)\s*\{\s*font:\s*([\d.]+)px")
BOLD = frozenset({"tempo", "reh", "fing", "ending"})  # Verovio's style sheet sets them so


class _Walker:
    """Flattens a tree of elements into marks."""

    def __init__(self, named: dict[str, ElementTree.Element], size: tuple[float, float]) -> None:
        self.named, self.size = named, size
        self.marks: list[Mark] = []
        self.outlined = False  # Verovio's style sheet strokes every shape
        self.sizes: dict[str, float] = {}  # of the font by class, in SmilesDrawer's style sheet

    def children(self, element: Any, style: Style, matrix: Matrix, clips: tuple, depth: int) -> None:
        require(depth < DEEPEST, "the SVG is nested too deeply.")
        for child in element:
            self.element(child, style, matrix, clips, depth + 1)

    def element(self, element: Any, style: Style, matrix: Matrix, clips: tuple, depth: int) -> None:
        tag, told = element.tag, element.attrib
        if told:
            if _hidden(tag, told):
                return
            style = _styled(style, told)
            if "transform" in told:
                matrix = multiply(matrix, _transform(told["transform"]))
            if "clip-path" in told:
                for child in self.named.get(_reference(told["clip-path"]), ()):
                    clips = (*clips, (_outline(child), matrix))
        elif tag in IGNORED:
            return
        if tag in ("g", "a", "symbol"):
            if self.outlined and "class" in told and not BOLD.isdisjoint(told["class"].split()):
                style = style._replace(bold=True)
            self.children(element, style, matrix, clips, depth)
            for child in self.named.get(_reference(told["mask"]), ()) if "mask" in told else ():
                if child.get("fill") == "black":  # what a mask hides: paper is laid over it
                    erased = style._replace(fill=None, stroke=None, join="erase")
                    self.marks.append(Mark(erased, matrix, clips, path=_outline(child)))
        elif tag == "svg":
            x, y, width, height = (_length(told.get(name, ""), 0.0) for name in ("x", "y", "width", "height"))
            outline = f"M{x} {y}h{width}v{height}h{-width}Z"
            if width and height:
                clips = (*clips, (outline, matrix))
            matrix = multiply(matrix, (1, 0, 0, 1, x, y))
            box = [float(v) for v in NUMBER.findall(told.get("viewBox", ""))]
            if len(box) == 4 and box[2] and box[3]:  # without a size of its own it fills the picture
                xs, ys = (width or self.size[0]) / box[2], (height or self.size[1]) / box[3]
                if told.get("preserveAspectRatio") != "none":
                    xs = ys = min(xs, ys)
                matrix = multiply(matrix, (xs, 0, 0, ys, -box[0] * xs, -box[1] * ys))
            self.children(element, style, matrix, clips, depth)
        elif tag in ("use", "text"):
            x, y = _length(told.get("x", ""), 0.0), _length(told.get("y", ""), 0.0)
            placed = multiply(matrix, (1, 0, 0, 1, x, y))
            if tag == "text":
                self.text(element, style, placed, clips)
                return
            name = next((v for k, v in told.items() if k.endswith("href")), "")
            found = self.named.get(name.lstrip("#"))
            if found is not None:
                require(depth < DEEPEST, "the SVG is nested too deeply.")
                self.element(found, style, placed, clips, depth + 1)
        elif path := _outline(element):
            if self.outlined and "stroke" not in told:
                style = _outlined(style)
            self.marks.append(Mark(style, matrix, clips, path=path))

    def text(self, element: Any, style: Style, matrix: Matrix, clips: tuple) -> None:
        """The runs of a text on one line; what is marked as a sub- or superscript is small and moved."""
        css = _css(element.get("style", ""))
        style = style._replace(size=self.sizes.get(element.get("class", ""), style.size))
        stacked = css.get("writing-mode", "").startswith("vertical")
        backwards = style.anchor == "end" and css.get("direction") == "rtl" and not stacked

        def gather(node: Any, size: float, raised: float) -> list[Run]:
            shift = {"super": 0.35, "sub": -0.2}.get(node.get("baseline-shift", ""), 0.0)
            size, raised = (size * 0.65, raised + shift) if shift else (size, raised)
            runs = [(node.text, size, raised)] if node.text and node.text.strip() else []
            for child in node:
                runs += gather(child, size, raised)
                if child.tail and child.tail.strip():
                    runs.append((child.tail, size, raised))
            return runs

        parts = [gather(child, 1.0, 0.0) for child in element] if backwards else []
        if backwards:
            ordered = [
                part if "plaintext" in child.get("style", "") else part[::-1]
                for child, part in zip(element, parts, strict=True)
            ]
            runs = [run for part in ordered[::-1] for run in part]
        else:
            runs = gather(element, 1.0, 0.0)
        if runs:
            for child in element.iter():  # Verovio styles a text's only part in tspans
                style = _styled(style, child.attrib) if child is not element else style
            if self.outlined:
                style = style._replace(stroke=None)
            if not stacked:
                self.marks.append(Mark(style, matrix, clips, runs=tuple(runs)))
                return
            # SmilesDrawer's labels above or below their atom: downwards, or from right to left upwards.
            way = -1.0 if css.get("direction") == "rtl" else 1.0
            step = style.size + _length(css.get("letter-spacing", ""), 0.0)
            style = style._replace(anchor="middle", baseline="central")
            lines: list[list[Run]] = []
            for run in runs:
                if run[1] < 1 and lines:
                    lines[-1].append(run)
                else:
                    lines.append([run])
            for i, line in enumerate(lines):
                placed = multiply(matrix, (1, 0, 0, 1, 0, way * (i * step + style.size / 2)))
                self.marks.append(Mark(style, placed, clips, runs=tuple(line)))


def _hidden(tag: str, told: dict[str, str]) -> bool:
    return (
        tag in IGNORED
        or ("class" in told and not UNSEEN.isdisjoint(told["class"].split()))
        or told.get("visibility") == "hidden"
        or told.get("display") == "none"
    )


def _reference(text: str) -> str:
    """The id in url(#id)."""
    found = re.search(r"#([^'\")]+)", text)
    return found[1] if found else ""


@functools.lru_cache(maxsize=256)
def _outlined(style: Style) -> Style:
    return style._replace(stroke=style.color)


def _length(text: str, default: float, ex: float = 8.0) -> float:
    found = NUMBER.match(text.strip())
    if not found:
        return default
    unit = text.strip()[found.end() :]
    return float(found[0]) * {"ex": ex, "em": 2 * ex, "pt": 4 / 3}.get(unit, 1.0) if unit != "%" else default


def _css(text: str) -> dict[str, str]:
    pairs = (part.split(":", 1) for part in text.split(";") if ":" in part)
    return {name.strip(): value.strip() for name, value in pairs}


@functools.lru_cache(maxsize=1024)
def _colour(text: str, current: Colour) -> tuple[Colour | None, float]:
    text = NAMED.get(text, text)
    if text.startswith("#"):
        digits = text[1:] if len(text) == 7 else "".join(2 * ch for ch in text[1:4])
        return tuple(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)), 1.0  # type: ignore[return-value]
    if text.startswith("rgb"):
        values = [float(v) for v in NUMBER.findall(text)]
        return tuple(v / 255 for v in values[:3]), values[3] if len(values) > 3 else 1.0  # type: ignore[return-value]
    if text in ("none", "transparent"):
        return None, 1.0
    return current, 1.0  # currentColor, and gradients, which only SmilesDrawer uses: from the colour to itself


STYLED = frozenset(
    "style color fill stroke fill-opacity stroke-opacity opacity stroke-width stroke-linecap stroke-linejoin "
    "text-anchor stroke-dasharray fill-rule dominant-baseline font-size font-weight font-style direction".split()
)


def _styled(style: Style, told: dict[str, str]) -> Style:
    if STYLED.isdisjoint(told):
        return style
    return _restyled(style, tuple(item for item in told.items() if item[0] in STYLED))


@functools.lru_cache(maxsize=4096)
def _restyled(style: Style, told: tuple[tuple[str, str], ...]) -> Style:
    values = dict(told)
    if "style" in values:
        values |= _css(values.pop("style"))
    changes: dict[str, Any] = {}
    if "color" in values:
        changes["color"] = _colour(values["color"], style.color)[0] or style.color
    current = changes.get("color", style.color)
    for name in ("fill", "stroke"):
        if name in values:
            changes[name], alpha = _colour(values[name], current)
            changes[f"{name}_opacity"] = alpha
        if f"{name}-opacity" in values:
            changes[f"{name}_opacity"] = float(values[f"{name}-opacity"])
    if "opacity" in values:
        part = float(values["opacity"])
        for name in ("fill_opacity", "stroke_opacity"):
            changes[name] = changes.get(name, getattr(style, name)) * part
    if "stroke-width" in values:
        changes["width"] = _length(values["stroke-width"], 1.0)
    names = {"stroke-linecap": "cap", "stroke-linejoin": "join", "text-anchor": "anchor"}
    changes |= {mine: values[theirs] for theirs, mine in names.items() if theirs in values}
    if "stroke-dasharray" in values:
        changes["dash"] = tuple(float(v) for v in NUMBER.findall(values["stroke-dasharray"]))
    if "fill-rule" in values:
        changes["even_odd"] = values["fill-rule"] == "evenodd"
    if "dominant-baseline" in values:
        changes["baseline"] = values["dominant-baseline"]
    if "font-size" in values:
        changes["size"] = _length(values["font-size"], style.size)
    if "font-weight" in values:
        changes["bold"] = values["font-weight"] in ("bold", "600", "700", "bolder")
    if "font-style" in values:
        changes["italic"] = values["font-style"] in ("italic", "oblique")
    if values.get("direction") == "rtl":  # SmilesDrawer's labels that end at their atom
        changes["anchor"] = "end"
    return style._replace(**changes) if changes else style


@functools.lru_cache(maxsize=4096)
def _transform(text: str) -> Matrix:
    matrix = UNIT
    for name, inside in re.findall(r"(\w+)\s*\(([^)]*)\)", text):
        v = [float(n) for n in NUMBER.findall(inside)]
        if name == "translate":
            step: Matrix = (1, 0, 0, 1, v[0], v[1] if len(v) > 1 else 0.0)
        elif name == "scale":
            step = (v[0], 0, 0, v[1] if len(v) > 1 else v[0], 0, 0)
        elif name == "rotate":
            cos, sin = math.cos(math.radians(v[0])), math.sin(math.radians(v[0]))
            x, y = (v[1], v[2]) if len(v) > 2 else (0.0, 0.0)
            step = (cos, sin, -sin, cos, x - cos * x + sin * y, y - sin * x - cos * y)
        elif name == "matrix":
            step = (v[0], v[1], v[2], v[3], v[4], v[5])
        else:
            continue
        matrix = multiply(matrix, step)
    return matrix


def _outline(element: Any) -> str:
    """The path of a shape; nothing for an element that is none."""
    tag = element.tag
    if tag == "path":
        return element.get("d", "")
    if tag in ("polygon", "polyline"):
        return "M" + element.get("points", "") + ("Z" if tag == "polygon" else "")
    get = lambda name: _length(element.get(name, ""), 0.0)
    if tag == "rect":
        x, y, w, h = get("x"), get("y"), get("width"), get("height")
        return f"M{x} {y}h{w}v{h}h{-w}Z"
    if tag == "line":
        return f"M{get('x1')} {get('y1')}L{get('x2')} {get('y2')}"
    if tag in ("circle", "ellipse"):
        rx, ry = (get("r"), get("r")) if tag == "circle" else (get("rx"), get("ry"))
        x, y = get("cx"), get("cy")
        return f"M{x - rx} {y}a{rx} {ry} 0 1 0 {2 * rx} 0a{rx} {ry} 0 1 0 {-2 * rx} 0Z"
    return ""


COMMAND = re.compile(r"([MmLlHhVvCcSsQqTtAaZz])([^MmLlHhVvCcSsQqTtAaZz]*)")
TAKES = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7}


Step = tuple[str, tuple[tuple[float, float], ...]]  # M, L, C, Q or Z with absolute points


def _steps(data: str) -> Iterator[Step]:
    """A path in absolute lines and curves."""
    x = y = left = top = 0.0
    bend: tuple[float, float] | None = None  # the last curve's control point
    for name, v in _commands(data):
        upper, (ox, oy) = name.upper(), ((x, y) if name.islower() else (0.0, 0.0))
        kept, bend = bend, None
        if upper == "Z":
            yield "Z", ()
            x, y = left, top
        elif upper in "HV":
            x, y = (v[0] + ox, y) if upper == "H" else (x, v[0] + oy)
            yield "L", ((x, y),)
        elif upper == "A":
            yield from _arc(x, y, v[0], v[1], v[2], v[3], v[4], v[5] + ox, v[6] + oy)
            x, y = v[5] + ox, v[6] + oy
        else:
            points = [(v[i] + ox, v[i + 1] + oy) for i in range(0, len(v), 2)]
            if upper in "ST":
                points.insert(0, (2 * x - kept[0], 2 * y - kept[1]) if kept else (x, y))
            if upper in "CSQT":
                bend = points[-2]
            x, y = points[-1]
            if upper == "M":
                left, top = x, y
            yield {"S": "C", "T": "Q"}.get(upper, upper), tuple(points)


def _commands(data: str) -> Iterator[tuple[str, list[float]]]:
    """The letters of a path with their numbers; a letter that goes on is told again."""
    for letter, numbers in COMMAND.findall(data):
        takes = TAKES.get(letter.upper())
        if takes is None:
            yield letter, []
            continue
        values = [float(number) for number in NUMBER.findall(numbers)]
        if len(values) == takes:
            yield letter, values
            continue
        for at in range(0, len(values) - takes + 1, takes):
            yield letter, values[at : at + takes]
            letter = "L" if letter == "M" else "l" if letter == "m" else letter


def _path(data: str):  # mupdf.FzPath
    """A path of MuPDF. Glyphs come again and again and are kept; a line is drawn once."""
    return _kept(data) if len(data) > 60 else _made(data)


LINE = re.compile(r"M\s*[-\d.]+[\s,]+[-\d.]+\s*L\s*[-\d.]+[\s,]+[-\d.]+\s*")
CORNERS = re.compile(r"M[-\d.,\s]+(?:L[-\d.,\s]+)*Z?")


def _made(data: str):  # mupdf.FzPath
    from pymupdf import mupdf

    path = mupdf.FzPath()
    into = path.m_internal  # for the functions of C, ll_fz_..., without a class around each call
    if CORNERS.fullmatch(data):  # the commonest by far: nothing but corners in absolute places
        x, y, *rest = map(float, NUMBER.findall(data))
        mupdf.ll_fz_moveto(into, x, y)
        for at in range(0, len(rest), 2):
            mupdf.ll_fz_lineto(into, rest[at], rest[at + 1])
        if data.endswith("Z"):
            mupdf.ll_fz_closepath(into)
        return path
    add = {"M": mupdf.ll_fz_moveto, "L": mupdf.ll_fz_lineto, "C": mupdf.ll_fz_curveto, "Q": mupdf.ll_fz_quadto}
    for name, points in _steps(data):
        if name == "Z":
            mupdf.ll_fz_closepath(into)
        elif len(points) == 1:
            add[name](into, *points[0])
        else:
            add[name](into, *itertools.chain.from_iterable(points))
    return path


_kept = functools.lru_cache(maxsize=4096)(_made)


MOST_DASHES = 20000


@functools.lru_cache(maxsize=256)
def _dashed(data: str, dash: tuple[float, ...]):  # mupdf.FzPath
    """A path cut into dashes (MuPDF's binding cannot set them); curves become short lines."""
    lines: list[list[tuple[float, float]]] = []
    for name, points in _steps(data):
        if name == "M":
            lines.append([points[0]])
        elif not lines:
            continue
        elif name == "Z":
            lines[-1].append(lines[-1][0])
        elif name == "L":
            lines[-1].append(points[0])
        else:
            corners = [lines[-1][-1], *points]
            for t in np.linspace(0, 1, 17)[1:]:
                inner = corners
                while len(inner) > 1:  # de Casteljau
                    inner = [(p[0] + (q[0] - p[0]) * t, p[1] + (q[1] - p[1]) * t) for p, q in itertools.pairwise(inner)]
                lines[-1].append((float(inner[0][0]), float(inner[0][1])))
    from pymupdf import mupdf

    path, count = mupdf.FzPath(), 0
    into = path.m_internal
    dash = dash * 2 if len(dash) % 2 else dash
    for line in lines:
        turn, left = 0, max(dash[0], 1e-3)
        for (x, y), (to_x, to_y) in itertools.pairwise(line):
            long, at = math.hypot(to_x - x, to_y - y), 0.0
            while at < long and count < MOST_DASHES:
                end = min(long, at + left)
                if turn % 2 == 0:
                    a, b = at / long, end / long
                    mupdf.ll_fz_moveto(into, x + (to_x - x) * a, y + (to_y - y) * a)
                    mupdf.ll_fz_lineto(into, x + (to_x - x) * b, y + (to_y - y) * b)
                    count += 1
                left -= end - at
                at = end
                if left <= 1e-9:
                    turn += 1
                    left = max(dash[turn % len(dash)], 1e-3)
    return path


def _arc(
    x: float, y: float, rx: float, ry: float, turn: float, large: float, sweep: float, to_x: float, to_y: float
) -> Iterator[Step]:
    """An elliptical arc as cubic curves (SVG 1.1, appendix F.6)."""
    rx, ry = abs(rx), abs(ry)
    if not rx or not ry or (x, y) == (to_x, to_y):
        yield "L", ((to_x, to_y),)
        return
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    dx, dy = (x - to_x) / 2, (y - to_y) / 2
    px, py = cos * dx + sin * dy, -sin * dx + cos * dy
    grow = (px / rx) ** 2 + (py / ry) ** 2
    if grow > 1:
        rx, ry = rx * math.sqrt(grow), ry * math.sqrt(grow)
    under = (rx * ry) ** 2 - (rx * py) ** 2 - (ry * px) ** 2
    root = math.sqrt(max(0.0, under / ((rx * py) ** 2 + (ry * px) ** 2))) * (-1 if bool(large) == bool(sweep) else 1)
    cx, cy = root * rx * py / ry, -root * ry * px / rx
    start = math.atan2((py - cy) / ry, (px - cx) / rx)
    span = math.atan2((-py - cy) / ry, (-px - cx) / rx) - start
    if sweep and span < 0:
        span += 2 * math.pi
    elif not sweep and span > 0:
        span -= 2 * math.pi
    mx, my = cos * cx - sin * cy + (x + to_x) / 2, sin * cx + cos * cy + (y + to_y) / 2
    parts = max(1, math.ceil(abs(span) / (math.pi / 2) - 1e-9))
    step = span / parts
    pull = 4 / 3 * math.tan(step / 4)
    at = lambda u, v: (mx + cos * rx * u - sin * ry * v, my + sin * rx * u + cos * ry * v)
    for i in range(parts):
        a, b = start + i * step, start + (i + 1) * step
        yield (
            "C",
            (
                at(math.cos(a) - pull * math.sin(a), math.sin(a) + pull * math.cos(a)),
                at(math.cos(b) + pull * math.sin(b), math.sin(b) - pull * math.cos(b)),
                at(math.cos(b), math.sin(b)),
            ),
        )


CAPS = {"butt": 0, "round": 1, "square": 2}
JOINS = {"miter": 0, "round": 1, "bevel": 2}


def _draw(
    device: Any,
    space: Any,
    drawing: Drawing,
    matrix: Matrix,
    fonts: Sequence[Typeface],
    black: bool,
    paper: Colour = (1.0, 1.0, 1.0),
) -> None:
    """Sends a drawing's marks to a device. `black`: every colour is, so that only coverage counts."""
    from pymupdf import mupdf

    params = mupdf.FzColorParams()
    for mark in drawing.marks:
        style = mark.style
        whole = multiply(matrix, mark.matrix)
        ctm = mupdf.FzMatrix(*whole)
        thin = style.width * math.sqrt(abs(whole[0] * whole[3] - whole[1] * whole[2])) < 0.05  # px: Verovio's glyphs
        for outline, place in mark.clips:
            where = mupdf.FzMatrix(*multiply(matrix, place))
            mupdf.fz_clip_path(device, _path(outline), 0, where, mupdf.FzRect(mupdf.FzRect.Fixed_INFINITE))
        fill = (0.0,) if black and style.fill else style.fill
        if mark.runs:
            text = _text(mark, fonts)
            if style.stroke and style.width and not black:
                lines = _stroke(style.width, style.cap, style.join)
                mupdf.fz_stroke_text(device, text, lines, ctm, space, _ink(style.stroke), style.stroke_opacity, params)
            if fill:
                mupdf.fz_fill_text(device, text, ctm, space, list(fill), style.fill_opacity, params)
        else:
            path = _path(mark.path)
            if style.join == "erase" and not black:
                mupdf.fz_fill_path(device, path, 0, ctm, space, _ink(paper), 1.0, params)
            if fill and style.fill_opacity and not LINE.fullmatch(mark.path):  # a line has no inside
                even_odd = int(style.even_odd)
                mupdf.fz_fill_path(device, path, even_odd, ctm, space, _ink(fill), style.fill_opacity, params)
            if style.stroke and style.stroke_opacity and not thin:
                colour = _ink((0.0,) if black else style.stroke)
                path = _dashed(mark.path, style.dash) if any(style.dash) else path
                mupdf.fz_stroke_path(
                    device,
                    path,
                    _stroke(style.width, style.cap, style.join),
                    ctm,
                    space,
                    colour,
                    style.stroke_opacity,
                    params,
                )
        for _ in mark.clips:
            mupdf.fz_pop_clip(device)


@functools.lru_cache(maxsize=256)
def _stroke(width: float, cap: str, join: str):  # mupdf.FzStrokeState
    from pymupdf import mupdf

    state = mupdf.fz_new_stroke_state()
    state.m_internal.linewidth = width
    state.m_internal.start_cap = state.m_internal.end_cap = state.m_internal.dash_cap = CAPS.get(cap, 0)
    state.m_internal.linejoin = JOINS.get(join, 0)
    return state


@functools.lru_cache(maxsize=1024)
def _ink(colour: Colour | tuple[float]):  # float*
    """A colour as MuPDF's binding takes it; kept, since nothing frees it."""
    from pymupdf import mupdf

    values = mupdf.new_floats(len(colour))
    for i, value in enumerate(colour):
        mupdf.floats_setitem(values, i, value)
    return values


def _text(mark: Mark, fonts: Sequence[Typeface]):  # mupdf.FzText
    """A run in the first font that shows it all, or character by character in whatever font does."""
    from pymupdf import mupdf

    style, text = mark.style, mupdf.FzText()
    wanted = "bold" if style.bold else "italic" if style.italic else "normal"
    fonts = sorted(fonts, key=lambda font: font.face.style != wanted)
    pieces: list[tuple[Typeface, str, float, float]] = []
    for run, size, raised in mark.runs:
        for character in run.replace("\n", " ").replace("\u00a0", " "):
            font = next((font for font in fonts if character in font.advances), None)
            if font is None:
                raise GotError(f"no font of the engine shows {character!r}; remove it from the picture's text.")
            if pieces and pieces[-1][0] is font and pieces[-1][2:] == (size, raised):
                pieces[-1] = (font, pieces[-1][1] + character, size, raised)
            else:
                pieces.append((font, character, size, raised))
    width = sum(font.width(piece) * size for font, piece, size, _ in pieces) * style.size
    x = -width * {"middle": 0.5, "end": 1.0}.get(style.anchor, 0.0)
    y = {"central": 0.36, "middle": 0.36, "hanging": 0.8, "text-before-edge": 0.8}.get(style.baseline, 0.0) * style.size
    for font, piece, size, raised in pieces:
        x = show_run(text, font, piece, style.size * size, x, y - raised * style.size)
    return text


def cover(
    placed: Iterable[tuple[Drawing, float, float, float]],
    width_px: int,
    height_px: int,
    fonts: Sequence[Typeface] = (),
) -> UInt8[np.ndarray, "H W"]:
    """The ink of drawings as a coverage map, as `typeset.coverage` gives it.

    Args:
        placed: drawings with their left and top in pixels, and their scale.
    """

    def draw(device: Any, grey: Any) -> None:
        for drawing, left, top, scale in placed:
            _draw(device, grey, drawing, (scale, 0, 0, scale, left, top), fonts, black=True)

    return opacity(draw, width_px, height_px)


def paint(
    drawing: Drawing,
    scale: float = 1.0,
    fonts: Sequence[Typeface] = (),
    paper: Colour = (1.0, 1.0, 1.0),
    margin_px: float = 0.0,
) -> UInt8[np.ndarray, "H W 3"]:
    """The drawing in its colours on paper of one colour."""
    import pymupdf
    from pymupdf import mupdf

    width, height = (max(1, round(side * scale + 2 * margin_px)) for side in (drawing.width, drawing.height))
    space = mupdf.FzColorspace(mupdf.FzColorspace.Fixed_RGB)
    pixels = mupdf.FzPixmap(space, mupdf.FzIrect(0, 0, width, height), mupdf.FzSeparations(), 0)
    mupdf.fz_clear_pixmap_with_value(pixels, 255)
    device = mupdf.fz_new_draw_device(mupdf.FzMatrix(), pixels)
    if paper != (1.0, 1.0, 1.0):
        whole = _path(f"M0 0h{width}v{height}h{-width}Z")
        mupdf.fz_fill_path(device, whole, 0, mupdf.FzMatrix(), space, _ink(paper), 1.0, mupdf.FzColorParams())
    _draw(device, space, drawing, (scale, 0, 0, scale, margin_px, margin_px), fonts, black=False, paper=paper)
    mupdf.fz_close_device(device)
    samples = np.frombuffer(pymupdf.Pixmap("raw", pixels).samples, np.uint8)
    return samples.reshape(height, width, 3).copy()
