r"""A TeX-free rasteriser of plain TikZ: \draw, \fill, \filldraw and \node with numbers for coordinates.

The second opinion on what pdfLaTeX draws, and a way to look at TikZ that a model wrote: nothing is evaluated,
expressions of plots are walked as a tree of sums and a few functions. Bounding boxes grow as PGF's do, so pictures
align.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from got_jax.errors import GotError, require
from pipelines.backends import svg
from pipelines.backends.svg import Drawing, Mark, Style

CM, PT = 72 / 2.54, 72 / 72.27  # in the points of PDF
WIDTHS = {
    "ultra thin": 0.1,
    "very thin": 0.2,
    "thin": 0.4,
    "semithick": 0.6,
    "thick": 0.8,
    "very thick": 1.2,
    "ultra thick": 1.6,
}
DASHES = {"dashed": (3.0, 3.0), "dotted": (0.0, 2.0), "densely dashed": (3.0, 2.0), "loosely dashed": (3.0, 6.0)}
COLOURS = {
    "black": (0, 0, 0), "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "gray": (0.5, 0.5, 0.5),
    "lightgray": (0.75, 0.75, 0.75), "orange": (1, 0.5, 0), "purple": (0.75, 0, 0.25), "teal": (0, 0.5, 0.5),
    "brown": (0.75, 0.5, 0.25), "cyan": (0, 1, 1), "magenta": (1, 0, 1), "violet": (0.5, 0, 0.5), "white": (1, 1, 1),
    "yellow": (1, 1, 0), "darkgray": (0.25, 0.25, 0.25), "olive": (0.5, 0.5, 0), "pink": (1, 0.75, 0.75),
}  # fmt: skip
MOST_PARTS = 5000
Point = tuple[float, float]


@dataclass
class Picture:
    """What a tikzpicture draws, in PDF points from its origin, y up; and the labels of its nodes."""

    marks: list[Mark] = field(default_factory=list)
    nodes: list[tuple[str, Point]] = field(default_factory=list)
    low: Point = (math.inf, math.inf)
    high: Point = (-math.inf, -math.inf)

    def grow(self, points: list[Point], by: float) -> None:
        """Widens the bounding box."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        self.low = (min(self.low[0], *(x - by for x in xs)), min(self.low[1], *(y - by for y in ys)))
        self.high = (max(self.high[0], *(x + by for x in xs)), max(self.high[1], *(y + by for y in ys)))


def parse(text: str) -> Picture:
    """Reads a tikzpicture.

    Raises:
        GotError: for a command, option or expression that is not known here, named.
    """
    found = re.search(r"\\begin\{tikzpicture\}(?:\[([^\]]*)\])?(.*?)\\end\{tikzpicture\}", text, re.DOTALL)
    require(found is not None, "the text holds no tikzpicture.")
    assert found is not None
    scale = 1.0
    for option in _options(found[1] or ""):
        if option.startswith("scale="):
            scale = _number(option[6:])
    picture = Picture()
    commands = [part.strip() for part in re.split(r";(?![^{]*\})", found[2]) if part.strip()]
    require(len(commands) <= MOST_PARTS, f"the picture has {len(commands)} commands, over {MOST_PARTS}.")
    for command in commands:
        m = re.match(r"\\(draw|fill|filldraw|path|node|coordinate)\b\s*(?:\[([^\]]*)\])?\s*(.*)$", command, re.DOTALL)
        require(m is not None, f"'{command[:40]}' is no command of TikZ that is read here.")
        assert m is not None
        if m[1] in ("node", "coordinate"):
            place = re.search(r"at\s*\(([^)]*)\)\s*(?:\[[^\]]*\])?\s*\{(.*)\}\s*$", m[3], re.DOTALL)
            if place:
                x, y = _point(place[1])
                picture.nodes.append((place[2], (x * scale * CM, y * scale * CM)))
            continue
        if m[1] != "path":
            _draw(picture, m[1], _options(m[2] or ""), m[3], scale)
    return picture


def _options(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(text: str) -> float:
    try:
        return float(text.strip().removesuffix("cm"))
    except ValueError:
        raise GotError(f"'{text.strip()}' is no number.") from None


def _length(text: str, scale: float) -> float:
    """A length in PDF points, scaled; a bare number is in centimetres."""
    text = text.strip()
    for unit, points in (("pt", PT), ("mm", CM / 10), ("cm", CM)):
        if text.endswith(unit):
            return _number(text[: -len(unit)]) * points * scale
    return _number(text) * CM * scale


def _point(text: str) -> Point:
    if ":" in text:
        angle, radius = map(_number, text.split(":"))
        return radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle))
    parts = text.split(",")
    require(len(parts) == 2, f"({text}) is no point.")
    return _number(parts[0]), _number(parts[1])


def _scaled(text: str, unit: float) -> Point:
    x, y = _point(text)
    return x * unit, y * unit


def _style(kind: str, options: list[str]) -> tuple[Style, list[str], dict[str, str]]:
    """A path's style, its arrows, and what is left of its options."""
    width, colour, fill, dash, opacity = WIDTHS["thin"], (0.0, 0.0, 0.0), None, (), 1.0
    arrows: list[str] = []
    rest: dict[str, str] = {}
    for option in options:
        name, _, value = option.partition("=")
        name, value = name.strip(), value.strip()
        if name in WIDTHS:
            width = WIDTHS[name]
        elif name in DASHES:
            dash = DASHES[name]
        elif name == "line width":
            width = _length(value, 1.0) / PT
        elif re.fullmatch(r"(<|latex|stealth)?-(>|latex|stealth|Latex|Stealth)?", name) and name != "-":
            arrows = [side for side, there in (("start", name[0] != "-"), ("end", name[-1] != "-")) if there]
        elif name in ("fill", "draw", "color") or (not value and _colour(name)):
            found = _colour(value or name)
            if name == "fill":
                fill = found or (0.0, 0.0, 0.0)
            else:
                colour = found or colour
                fill = colour if fill and name != "draw" else fill  # a colour alone is of lines and areas
        elif name in ("opacity", "fill opacity"):
            opacity = _number(value)
        else:
            rest[name] = value
    if dash and dash[0] == 0.0:
        dash = (width, dash[1])
    dash = tuple(v * PT for v in dash)
    stroke = None if kind == "fill" else colour
    if kind in ("fill", "filldraw") and fill is None:
        fill = colour
    return Style(fill=fill, stroke=stroke, width=width * PT, dash=dash, fill_opacity=opacity), arrows, rest


def _colour(text: str) -> tuple[float, float, float] | None:
    """A colour by name, or xcolor's mixture such as blue!20."""
    name, *parts = text.split("!")
    if name not in COLOURS:
        return None
    colour = COLOURS[name]
    for i in range(0, len(parts), 2):
        share = _number(parts[i]) / 100
        other = COLOURS.get(parts[i + 1], (1, 1, 1)) if i + 1 < len(parts) else (1, 1, 1)
        colour = tuple(a * share + b * (1 - share) for a, b in zip(colour, other, strict=True))
    return tuple(float(v) for v in colour)  # type: ignore[return-value]


STEP = re.compile(
    r"\s*(?:"
    r"(?P<cycle>--\s*cycle)|(?P<curve>\.\.\s*controls\s*\(([^)]*)\)\s*and\s*\(([^)]*)\)\s*\.\.\s*\(([^)]*)\))|"
    r"(?P<line>--\s*\(([^)]*)\))|(?P<rect>rectangle\s*\(([^)]*)\))|(?P<circle>circle\s*\(([^)]*)\))|"
    r"(?P<ellipse>ellipse\s*\(([^)]*?)and([^)]*)\))|(?P<arc>arc\s*\(([^)]*)\))|"
    r"(?P<plot>plot\s*(?:\[[^\]]*\])?\s*\((?P<px>\{[^{}]*\}|\\x)\s*,\s*\{(?P<py>[^{}]*)\}\s*\))|"
    r"(?P<move>\(([^)]*)\)))"
)


def _draw(picture: Picture, kind: str, options: list[str], body: str, scale: float) -> None:
    style, arrows, rest = _style(kind, options)
    out: list[str] = []
    corners: list[Point] = []
    at: Point = (0.0, 0.0)
    start = at
    ends: list[tuple[Point, Point]] = []  # for arrows: (from, to) of the first and last step
    unit = CM * scale

    def push(points: list[Point]) -> str:
        corners.extend(points)
        return " ".join(f"{x:.4f} {y:.4f}" for x, y in points)

    def lead(points: list[Point]) -> None:
        ends.append((points[0], points[1]))
        ends.append((points[-2], points[-1]))

    place = 0
    while place < len(body.rstrip()):
        m = STEP.match(body, place)
        require(m is not None, f"'{body[place : place + 30].strip()}' is no step of a path that is read here.")
        assert m is not None
        place = m.end()
        groups = [g for g in m.groups()[1:] if g is not None]
        which = next(n for n in ("cycle", "curve", "line", "rect", "circle", "ellipse", "arc", "plot", "move") if m[n])
        there = functools.partial(_scaled, unit=unit)
        if which == "move":
            at = start = there(groups[-1])
            alone = re.match(r"\s*(circle|ellipse|rectangle)", body[place:])  # these begin where they like
            if not alone:
                out.append(f"M{push([at])}")
        elif which == "cycle":
            out.append("Z")
            at = start
        elif which == "line":
            to = there(groups[-1])
            lead([at, to])
            out.append(f"L{push([to])}")
            at = to
        elif which == "curve":
            a, b, to = (there(g) for g in groups[-3:])
            lead([at, a, b, to])
            out.append(f"C{push([a, b, to])}")
            at = to
        elif which == "rect":
            x, y = there(groups[-1])
            out.append(f"M{push([at])}L{push([(x, at[1])])}L{push([(x, y)])}L{push([(at[0], y)])}Z")
        elif which in ("circle", "ellipse"):
            rx = _length(groups[-1 if which == "circle" else -2], scale)
            ry = rx if which == "circle" else _length(groups[-1], scale)
            out.append(_ellipse(at, rx, ry, push))
        elif which == "arc":
            parts = groups[-1].split(":")
            require(len(parts) == 3, f"arc ({groups[-1]}) is not start:end:radius.")
            radii = parts[2].split("and")
            rx = _length(radii[0], scale)
            ry = _length(radii[-1], scale)
            a, b = math.radians(_number(parts[0])), math.radians(_number(parts[1]))
            centre = at[0] - rx * math.cos(a), at[1] - ry * math.sin(a)
            points = _arc_points(centre, rx, ry, a, b)
            for i in range(0, len(points), 3):
                out.append(f"C{push(points[i : i + 3])}")
            if points:
                at = points[-1]
        else:
            points = _plot(m["px"], m["py"], rest, unit)
            lead(points[:2] + points[-2:])
            if "smooth" in rest:
                curve = _smooth(points)
                out.append(
                    f"M{push(points[:1])}" + "".join(f"C{push(curve[i : i + 3])}" for i in range(0, len(curve), 3))
                )
            else:
                out.append(f"M{push(points[:1])}L{push(points[1:])}")
    if not corners:
        return
    picture.grow(corners, style.width / 2 if style.stroke else 0.0)
    picture.marks.append(Mark(style, svg.UNIT, (), path="".join(out)))
    for side in arrows:
        if ends and style.stroke:
            tail, tip = (ends[0][1], ends[0][0]) if side == "start" else ends[-1]
            picture.marks.append(_tip(tail, tip, style))


def _ellipse(centre: Point, rx: float, ry: float, push: Callable[[list[Point]], str]) -> str:
    points = _arc_points(centre, rx, ry, 0.0, 2 * math.pi)
    first = f"M{push([(centre[0] + rx, centre[1])])}"
    return first + "".join(f"C{push(points[i : i + 3])}" for i in range(0, len(points), 3)) + "Z"


def _arc_points(centre: Point, rx: float, ry: float, a: float, b: float) -> list[Point]:
    """Control points of an arc, three a piece, cut as PGF does."""
    require(abs(b - a) < 60, "an arc goes round too often.")
    cuts, turn = [a], math.copysign(1.0, b - a)
    while (left := math.degrees(abs(b - cuts[-1]))) > 90 + 1e-9:
        cuts.append(cuts[-1] + turn * math.radians(90 if left > 115 else 60))
    cuts.append(b)
    points: list[Point] = []
    at = lambda u, v: (centre[0] + rx * u, centre[1] + ry * v)
    for s, e in itertools.pairwise(cuts):
        pull = 4 / 3 * math.tan((e - s) / 4)
        points += [
            at(math.cos(s) - pull * math.sin(s), math.sin(s) + pull * math.cos(s)),
            at(math.cos(e) + pull * math.sin(e), math.sin(e) - pull * math.cos(e)),
            at(math.cos(e), math.sin(e)),
        ]
    return points


def _tip(tail: Point, tip: Point, style: Style) -> Mark:
    """PGF's default tip, "to": two curves that meet where the arrow ends."""
    long = math.hypot(tip[0] - tail[0], tip[1] - tail[1]) or 1.0
    ux, uy = (tip[0] - tail[0]) / long, (tip[1] - tail[1]) / long
    d = 0.45 * PT + 0.48 * style.width
    ahead = 0.75 * d + style.width / 2

    def at(x: float, y: float) -> str:
        x, y = x * d - ahead, y * d
        return f"{tip[0] + ux * x - uy * y:.3f} {tip[1] + uy * x + ux * y:.3f}"

    path = f"M{at(-3, 4)}C{at(-2.75, 2.5)} {at(0, 0.25)} {at(0.75, 0)}C{at(0, -0.25)} {at(-2.75, -2.5)} {at(-3, -4)}"
    drawn = style._replace(fill=None, dash=(), width=0.8 * style.width, cap="round", join="round")
    return Mark(drawn, svg.UNIT, (), path=path)


def _plot(px: str, py: str, rest: dict[str, str], unit: float) -> list[Point]:
    low, _, high = rest.get("domain", "-5:5").partition(":")
    count = int(_number(rest.get("samples", "25")))
    require(2 <= count <= 1000, f"samples={count} is not from 2 to 1000.")
    values = np.linspace(_number(low), _number(high), count)
    return [(evaluate(px.strip("{}"), x) * unit, evaluate(py, x) * unit) for x in values]


TENSION = 0.2775 * 0.55  # PGF's factor and TikZ's default


def _smooth(points: list[Point]) -> list[Point]:
    """Control points through the points of a plot, three a piece, as PGF's curveto handler sets them."""
    pulls = [((b[0] - a[0]) * TENSION, (b[1] - a[1]) * TENSION) for a, b in zip(points, points[2:], strict=False)]
    pulls = [(0.0, 0.0), *pulls, (0.0, 0.0)]
    curve: list[Point] = []
    for (a, b), (p, q) in zip(itertools.pairwise(points), itertools.pairwise(pulls), strict=True):
        curve += [(a[0] + p[0], a[1] + p[1]), (b[0] - q[0], b[1] - q[1]), b]
    return curve


FUNCTIONS = {
    "sin": lambda x: math.sin(math.radians(x)),
    "cos": lambda x: math.cos(math.radians(x)),
    "tan": lambda x: math.tan(math.radians(x)),
    "sqrt": math.sqrt,
    "exp": math.exp,
    "ln": math.log,
    "abs": abs,
    "deg": math.degrees,
}


def evaluate(expression: str, x: float) -> float:
    r"""A PGF expression in \x: + - * / ^, brackets, and the functions of `FUNCTIONS` (angles in degrees).

    Raises:
        GotError: for anything else.
    """
    require(len(expression) < 400, "an expression is too long.")
    try:
        tree = ast.parse(expression.replace("\\x", "(x)").replace("^", "**").strip(), mode="eval")
        return float(_value(tree.body, x, 0))
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, TypeError, MemoryError, RecursionError) as err:
        raise GotError(f"the expression '{expression[:40]}' has no value ({type(err).__name__}).") from None


def _value(node: ast.AST, x: float, depth: int) -> float:
    require(depth < 40, "an expression is nested too deeply.")
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return float(node.value)
    if isinstance(node, ast.Name) and node.id in ("x", "pi"):
        return x if node.id == "x" else math.pi
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _value(node.operand, x, depth + 1)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        a, b = _value(node.left, x, depth + 1), _value(node.right, x, depth + 1)
        if isinstance(node.op, ast.Add):
            return a + b
        if isinstance(node.op, ast.Sub):
            return a - b
        if isinstance(node.op, ast.Mult):
            return a * b
        if isinstance(node.op, ast.Div):
            return a / b
        if isinstance(node.op, ast.Pow):
            return math.pow(a, b)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FUNCTIONS
        and len(node.args) == 1
    ):
        return FUNCTIONS[node.func.id](_value(node.args[0], x, depth + 1))
    raise GotError(f"'{ast.dump(node)[:40]}' is not allowed in an expression.")


def cover(text: str, scale: float, margin_pt: float = 8.0) -> UInt8[np.ndarray, "H W"]:
    """The ink of a tikzpicture without its labels, at `scale` pixels a PDF point, aligned with LaTeX's page of it."""
    picture = parse(text)
    require(bool(picture.marks), "the picture draws nothing.")
    margin = margin_pt * PT
    width, height = (picture.high[i] - picture.low[i] + 2 * margin for i in (0, 1))
    require(max(width, height) * scale < 20000, "the picture is too large.")
    flip: svg.Matrix = (1, 0, 0, -1, margin - picture.low[0], margin + picture.high[1])
    marks = tuple(mark._replace(matrix=flip) for mark in picture.marks)
    shape = math.ceil(width * scale - 1e-3), math.ceil(height * scale - 1e-3)
    return 255 - svg.paint(Drawing(shape[0] / scale, shape[1] / scale, marks), scale).min(-1)


def agreement(one: UInt8[np.ndarray, "H W"], other: UInt8[np.ndarray, "h w"], least: int = 96) -> float:
    """Intersection over union of two pictures' ink, where they fit best: tips of arrows move the edge of a page."""
    height, width = max(one.shape[0], other.shape[0]), max(one.shape[1], other.shape[1])
    pad = lambda a: np.pad(a, ((0, height - a.shape[0]), (0, width - a.shape[1]))) > least
    a, b = pad(one), pad(other)
    spectrum = np.fft.rfft2(a.astype(np.float32)) * np.conj(np.fft.rfft2(b.astype(np.float32)))
    dy, dx = np.unravel_index(np.argmax(np.fft.irfft2(spectrum, s=a.shape)), a.shape)
    b = np.roll(b, (int(dy), int(dx)), (0, 1))
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0
