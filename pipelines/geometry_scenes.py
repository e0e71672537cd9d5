r"""Scenes of plane and solid geometry, written as TikZ with numbers for coordinates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

Point = tuple[float, float]
LETTERS = "ABCDEFGHKLMNPQRST"
COLOURS = ("red", "blue", "teal", "orange", "purple", "brown", "violet", "olive")
SHADES = ("gray!20", "blue!15", "red!15", "yellow!30", "teal!20", "orange!20", "lightgray")


def number(value: float) -> str:
    """Two decimals at most, no trailing zeros."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def turned(point: Point, angle: float, centre: Point = (0.0, 0.0)) -> Point:
    """The point turned about another."""
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = point[0] - centre[0], point[1] - centre[1]
    return centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y


def between(a: Point, b: Point, share: float = 0.5) -> Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def foot(p: Point, a: Point, b: Point) -> Point:
    """Where the perpendicular from p meets line ab."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    share = ((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / (dx * dx + dy * dy)
    return a[0] + share * dx, a[1] + share * dy


class Scene:
    """A picture that grows command by command.

    Attributes:
        named: shares of letters at points, of dots. colour: whether lines may have colours.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.commands: list[str] = []
        self.letters = list(LETTERS[int(rng.choice([0, 0, 0, 10])) :])
        self.lettered = rng.random() < 0.75
        self.dotted = rng.random() < 0.3
        self.coloured = rng.random() < 0.25
        self.width = str(rng.choice(["", "thick", "semithick", "line width=1pt"], p=[0.45, 0.3, 0.15, 0.1]))
        self.points: list[Point] = []

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def at(self, point: Point) -> str:
        return f"({number(point[0])},{number(point[1])})"

    def options(self, *more: str) -> str:
        listed = [o for o in (self.width, *more) if o]
        if self.coloured and self.chance(0.4) and not any(o in ("dashed", "dotted") or "fill" in o for o in more):
            listed.append(str(self.rng.choice(COLOURS)))
        return f"[{','.join(listed)}]" if listed else ""

    def sampled(self, smooth: int, plain: int) -> tuple[str, ...]:
        """How a curve is plotted: TeX is slow to compute each of its points, so most are smoothed through few."""
        return ("smooth", f"samples={smooth}") if self.chance(0.7) else (f"samples={plain}",)

    def line(self, *points: Point, closed: bool = False, options: tuple[str, ...] = ()) -> None:
        path = " -- ".join(map(self.at, points)) + (" -- cycle" if closed else "")
        self.commands.append(rf"\draw{self.options(*options)} {path};")

    def polygon(self, *points: Point) -> None:
        shade = (f"fill={self.rng.choice(SHADES)}",) if self.chance(0.12) else ()
        self.line(*points, closed=True, options=shade)

    def circle(self, centre: Point, radius: float, options: tuple[str, ...] = ()) -> None:
        self.commands.append(rf"\draw{self.options(*options)} {self.at(centre)} circle ({number(radius)});")

    def ellipse(self, centre: Point, rx: float, ry: float, options: tuple[str, ...] = ()) -> None:
        self.commands.append(
            rf"\draw{self.options(*options)} {self.at(centre)} ellipse ({number(rx)} and {number(ry)});"
        )

    def arc(self, centre: Point, radius: float, start: float, end: float, options: tuple[str, ...] = ()) -> None:
        """Degrees, counter-clockwise."""
        first = centre[0] + radius * math.cos(math.radians(start)), centre[1] + radius * math.sin(math.radians(start))
        self.commands.append(
            rf"\draw{self.options(*options)} {self.at(first)} arc ({number(start)}:{number(end)}:{number(radius)});"
        )

    def half_ellipse(self, centre: Point, rx: float, ry: float, start: int, options: tuple[str, ...] = ()) -> None:
        """The half that begins at 0 or 180 degrees."""
        first = centre[0] + (rx if start == 0 else -rx), centre[1]
        path = f"{self.at(first)} arc ({start}:{start + 180}:{number(rx)} and {number(ry)})"
        self.commands.append(rf"\draw{self.options(*options)} {path};")

    def dot(self, point: Point) -> None:
        self.commands.append(rf"\fill {self.at(point)} circle ({self.rng.choice(['1.5pt', '2pt', '1pt'])});")

    def label(self, point: Point, text: str, away: Point | None = None) -> None:
        """Text beside a point, on the side that leads away from another."""
        anchor = ""
        if away is not None:
            angle = math.degrees(math.atan2(point[1] - away[1], point[0] - away[0])) % 360
            sides = ("right", "above right", "above", "above left", "left", "below left", "below", "below right")
            anchor = f"[{sides[int((angle + 22.5) // 45) % 8]}]"
        self.commands.append(rf"\node{anchor} at {self.at(point)} {{${text}$}};")

    def name(self, point: Point, away: Point, text: str = "") -> None:
        """A letter, and maybe a dot, at a point."""
        if self.dotted:
            self.dot(point)
        if self.lettered and (text or self.letters):
            self.label(point, text or self.letters.pop(0), away)

    def names(self, *points: Point) -> None:
        """Letters at corners, outside."""
        middle = float(np.mean([p[0] for p in points])), float(np.mean([p[1] for p in points]))
        for point in points:
            self.name(point, middle)

    def right_angle(self, corner: Point, a: Point, b: Point, size: float = 0.25) -> None:
        """The small square between two sides."""
        step = lambda to: (
            (to[0] - corner[0]) / math.dist(corner, to) * size,
            (to[1] - corner[1]) / math.dist(corner, to) * size,
        )
        (ux, uy), (vx, vy) = step(a), step(b)
        p, q, r = (
            (corner[0] + ux, corner[1] + uy),
            (corner[0] + ux + vx, corner[1] + uy + vy),
            (corner[0] + vx, corner[1] + vy),
        )
        self.commands.append(rf"\draw {self.at(p)} -- {self.at(q)} -- {self.at(r)};")

    def angle(self, corner: Point, a: Point, b: Point, text: str = "", size: float = 0.5) -> None:
        """An arc between two sides, maybe with its size."""
        start = math.degrees(math.atan2(a[1] - corner[1], a[0] - corner[0]))
        end = math.degrees(math.atan2(b[1] - corner[1], b[0] - corner[0]))
        if (end - start) % 360 > 180:
            start, end = end, start
        end = start + (end - start) % 360
        self.arc(corner, size, start, end)
        if text:
            middle = math.radians((start + end) / 2)
            out = size + 0.35
            self.label((corner[0] + out * math.cos(middle), corner[1] + out * math.sin(middle)), text)

    def ticks(self, a: Point, b: Point, count: int) -> None:
        """Strokes across the middle of equal sides."""
        length = math.dist(a, b)
        ux, uy = (b[0] - a[0]) / length, (b[1] - a[1]) / length
        for i in range(count):
            shift = (i - (count - 1) / 2) * 0.1
            x, y = between(a, b)
            x, y = x + ux * shift, y + uy * shift
            p, q = (x - uy * 0.1, y + ux * 0.1), (x + uy * 0.1, y - ux * 0.1)
            self.commands.append(rf"\draw {self.at(p)} -- {self.at(q)};")

    def length(self, a: Point, b: Point, away: Point) -> None:
        """A side's length beside its middle."""
        text = str(self.rng.choice([str(self.rng.integers(2, 30)), "a", "b", "c", "x", "2x", r"\sqrt{3}", "h", "r"]))
        self.label(between(a, b), text, away)

    def text(self) -> str:
        """The whole tikzpicture."""
        scale = float(self.rng.choice([1.0, 0.8, 1.2, 0.6], p=[0.6, 0.15, 0.15, 0.1]))
        option = "" if scale == 1.0 else f"[scale={scale:g}]"
        return "\n".join([rf"\begin{{tikzpicture}}{option}", *self.commands, r"\end{tikzpicture}"])

    def degrees(self) -> str:
        return str(
            self.rng.choice([rf"{self.rng.integers(15, 120)}^{{\circ}}", r"\alpha", r"\beta", r"\theta", "1", "2", "x"])
        )


def triangle(s: Scene) -> None:
    """A triangle of some kind with a line, circle or mark that belongs to it."""
    base = s.uniform(3, 5.5)
    kind = str(s.rng.choice(["any", "right", "isosceles", "equilateral"]))
    a, b = (0.0, 0.0), (base, 0.0)
    height = s.uniform(1.8, 4)
    apex = {
        "any": (s.uniform(-0.5, base), height),
        "right": (0.0, height),
        "isosceles": (base / 2, height),
        "equilateral": (base / 2, base * math.sqrt(3) / 2),
    }[kind]
    spin = s.uniform(0, 2 * math.pi) if s.chance(0.3) else 0.0
    a, b, c = (turned(p, spin) for p in (a, b, apex))
    s.polygon(a, b, c)
    middle = (a[0] + b[0] + c[0]) / 3, (a[1] + b[1] + c[1]) / 3
    if kind == "right":
        s.right_angle(a, b, c)
    if kind in ("isosceles", "equilateral") and s.chance(0.5):
        s.ticks(a, c, 1)
        s.ticks(b, c, 1)
    extra = str(s.rng.choice(["none", "altitude", "median", "cevian", "incircle", "circumcircle", "midline", "angles"]))
    if extra == "altitude":
        h = foot(c, a, b)
        s.line(c, h, options=("dashed",) if s.chance(0.5) else ())
        s.right_angle(h, c, b if math.dist(h, b) > 0.3 else a, 0.2)
        s.name(h, c)
    elif extra in ("median", "cevian"):
        m = between(a, b, 0.5 if extra == "median" else s.uniform(0.25, 0.75))
        s.line(c, m)
        s.name(m, c)
        if extra == "median" and s.chance(0.5):
            s.ticks(a, m, 2)
            s.ticks(m, b, 2)
    elif extra == "midline":
        p, q = between(a, c), between(b, c)
        s.line(p, q)
        s.name(p, b)
        s.name(q, a)
    elif extra == "incircle":
        la, lb, lc = math.dist(b, c), math.dist(a, c), math.dist(a, b)
        whole = la + lb + lc
        centre = (la * a[0] + lb * b[0] + lc * c[0]) / whole, (la * a[1] + lb * b[1] + lc * c[1]) / whole
        s.circle(centre, math.dist(centre, foot(centre, a, b)))
        s.dot(centre)
        s.name(centre, a, "I")
    elif extra == "circumcircle":
        d = 2 * (a[0] * (b[1] - c[1]) + b[0] * (c[1] - a[1]) + c[0] * (a[1] - b[1]))
        n = [p[0] ** 2 + p[1] ** 2 for p in (a, b, c)]
        x = (n[0] * (b[1] - c[1]) + n[1] * (c[1] - a[1]) + n[2] * (a[1] - b[1])) / d
        y = (n[0] * (c[0] - b[0]) + n[1] * (a[0] - c[0]) + n[2] * (b[0] - a[0])) / d
        if math.dist((x, y), a) < 4.5:
            s.circle((x, y), math.dist((x, y), a))
            s.dot((x, y))
            s.name((x, y), a, "O")
    elif extra == "angles":
        s.angle(b, c, a, s.degrees(), 0.45)
    s.names(a, b, c)
    if s.chance(0.3):
        s.length(a, b, c)
        s.length(b, c, a)
    del middle


def quadrilateral(s: Scene) -> None:
    """A rectangle, square, parallelogram, rhombus, trapezoid or kite."""
    w, h, lean = s.uniform(2.8, 5), s.uniform(1.8, 3.5), s.uniform(0.5, 1.4)
    kind = str(s.rng.choice(["rectangle", "square", "parallelogram", "rhombus", "trapezoid", "kite", "any"]))
    corners = {
        "rectangle": [(0, 0), (w, 0), (w, h), (0, h)],
        "square": [(0, 0), (h, 0), (h, h), (0, h)],
        "parallelogram": [(0, 0), (w, 0), (w + lean, h), (lean, h)],
        "rhombus": [(0, -h / 2), (w / 2, 0), (0, h / 2), (-w / 2, 0)],
        "trapezoid": [(0, 0), (w, 0), (w - lean, h), (lean * 0.6, h)],
        "kite": [(0, -h), (w / 2.5, 0), (0, h / 2), (-w / 2.5, 0)],
        "any": [(0, 0), (w, s.uniform(-0.8, 0.5)), (w * 0.9, h), (s.uniform(-0.5, 1), h * 0.8)],
    }[kind]
    a, b, c, d = [(float(x), float(y)) for x, y in corners]
    s.polygon(a, b, c, d)
    if kind in ("rectangle", "square") and s.chance(0.6):
        s.right_angle(a, b, d)
    if s.chance(0.55):
        s.line(a, c, options=("dashed",) if s.chance(0.3) else ())
        if s.chance(0.7):
            s.line(b, d, options=("dashed",) if s.chance(0.3) else ())
            if kind != "any" and kind not in ("trapezoid", "kite"):
                s.name(between(a, c), between(a, b, 0.4), "O")
    elif s.chance(0.4):
        e = between(c, d, s.uniform(0.2, 0.8))
        s.line(a, e)
        s.line(b, e)
        s.name(e, between(a, b))
    elif kind in ("parallelogram", "trapezoid"):
        f = foot(d, a, b)
        s.line(d, f, options=("dashed",))
        s.right_angle(f, d, b, 0.2)
        s.name(f, d)
    if kind in ("square", "rhombus") and s.chance(0.5):
        for p, q in ((a, b), (b, c), (c, d), (d, a)):
            s.ticks(p, q, 1)
    s.names(a, b, c, d)
    if s.chance(0.3):
        s.length(a, b, c)
        s.length(b, c, a)


def polygon(s: Scene) -> None:
    """A regular polygon, maybe with diagonals or its circle."""
    count = int(s.rng.integers(5, 10))
    radius, start = s.uniform(1.6, 2.8), s.uniform(0, 2 * math.pi) if s.chance(0.4) else math.pi / 2
    corners = [turned((radius, 0), start + 2 * math.pi * i / count) for i in range(count)]
    s.polygon(*corners)
    how = str(s.rng.choice(["none", "star", "spokes", "circle", "diagonals"]))
    if how == "star":
        step = 2 if count < 7 else 3
        for i in range(count):
            s.line(corners[i], corners[(i + step) % count])
    elif how == "spokes":
        for corner in corners:
            s.line((0, 0), corner, options=("dashed",) if s.chance(0.1) else ())
        s.name((0, 0), corners[0], "O")
    elif how == "circle":
        s.circle((0, 0), radius)
        s.dot((0, 0))
    elif how == "diagonals":
        for i in range(2, count - 1):
            s.line(corners[0], corners[i])
    s.names(*corners)


def circle(s: Scene) -> None:
    """A circle with radii, chords, tangents, inscribed figures or sectors."""
    r = s.uniform(1.6, 2.6)
    s.circle((0, 0), r)
    s.dot((0, 0))
    s.name((0, 0), (0.3, 0.4), "O")
    on = lambda degrees: (r * math.cos(math.radians(degrees)), r * math.sin(math.radians(degrees)))
    angles = sorted(float(v) for v in s.rng.choice(np.arange(0, 360, 15), 4, replace=False))
    kinds = ["chord", "diameter", "tangent", "inscribed", "sector", "cyclic", "secants", "two chords"]
    how = str(s.rng.choice(kinds))
    p, q, t, u = (on(v) for v in angles)
    if how == "chord":
        s.line(p, t)
        m = between(p, t)
        if math.dist(m, (0, 0)) > 0.4:
            s.line((0, 0), m, options=("dashed",))
            s.right_angle(m, (0, 0), p, 0.2)
            s.name(m, (0, 0))
        s.names(p, t)
    elif how == "diameter":
        a = on(angles[0])
        b = -a[0], -a[1]
        c = on(angles[0] + s.uniform(40, 140))
        s.line(a, b)
        s.line(a, c, b)
        s.right_angle(c, a, b, 0.22)
        s.names(a, b, c)
    elif how == "tangent":
        far = (r * s.uniform(1.7, 2.4), 0.0)
        half = math.acos(r / far[0])
        a, b = turned((r, 0), half), turned((r, 0), -half)
        s.line(far, a)
        s.line((0, 0), a)
        s.right_angle(a, (0, 0), far, 0.22)
        if s.chance(0.6):
            s.line(far, b)
            s.line((0, 0), b)
            s.name(b, (0, 0))
        if s.chance(0.6):
            s.line((0, 0), far, options=("dashed",))
        s.name(a, (0, 0))
        s.name(far, (0, 0), "P")
    elif how == "inscribed":
        s.line(p, q, t, closed=True)
        s.names(p, q, t)
        if s.chance(0.4):
            s.line((0, 0), p)
            s.line((0, 0), q)
    elif how == "sector":
        s.line((0, 0), p)
        s.line((0, 0), q)
        s.angle((0, 0), p, q, s.degrees(), 0.45)
        s.names(p, q)
    elif how == "cyclic":
        s.line(p, q, t, u, closed=True)
        if s.chance(0.5):
            s.line(p, t)
            s.line(q, u)
        s.names(p, q, t, u)
    elif how == "secants":
        far = (r * 2.1, s.uniform(-0.4, 0.4))
        for turn in (14, -11):
            d = turned((-1, 0), math.radians(turn))
            half = far[0] * d[0] + far[1] * d[1]
            root = math.sqrt(max(0.1, half * half - (far[0] ** 2 + far[1] ** 2 - r * r)))
            near = far[0] + d[0] * (-half - root), far[1] + d[1] * (-half - root)
            end = far[0] + d[0] * (-half + root), far[1] + d[1] * (-half + root)
            s.line(far, end)
            s.name(end, (0, 0))
            s.name(near, (0, 0))
        s.name(far, (0, 0), "P")
    else:
        s.line(p, t)
        s.line(q, u)
        s.names(p, q, t, u)


def circles(s: Scene) -> None:
    """Two or three circles that meet, touch or nest."""
    r, q = s.uniform(1.3, 2.2), s.uniform(0.8, 1.8)
    how = str(s.rng.choice(["cross", "touch", "apart", "concentric", "venn"]))
    if how == "venn":
        names = ["A", "B", "C"]
        for i in range(int(s.rng.integers(2, 4))):
            centre = turned((1.0, 0.0), 2 * math.pi * i / 3 + math.pi / 2)
            s.circle(centre, 1.5)
            s.label((centre[0] * 1.9, centre[1] * 1.9), names[i])
        return
    apart = {"cross": r + q * 0.4, "touch": r + q, "apart": r + q + 0.8, "concentric": 0.0}[how]
    s.circle((0, 0), r)
    s.circle((apart, 0), q if how != "concentric" else r * s.uniform(0.4, 0.7))
    s.dot((0, 0))
    s.name((0, 0), (0.3, 0.4), "O_{1}" if apart else "O")
    if apart:
        s.dot((apart, 0))
        s.name((apart, 0), (apart - 0.3, 0.4), "O_{2}")
        s.line((0, 0), (apart, 0), options=("dashed",) if s.chance(0.4) else ())
    if how == "cross":
        x = (apart * apart + r * r - q * q) / (2 * apart)
        y = math.sqrt(max(0.0, r * r - x * x))
        if y > 0.3:
            s.line((x, y), (x, -y))
            s.names((x, y), (x, -y))


def lines(s: Scene) -> None:
    """Lines that cross, parallels with a transversal, rays of an angle, a number line."""
    how = str(s.rng.choice(["cross", "parallel", "angle", "number line", "star of rays"]))
    if how == "cross":
        o = (0.0, 0.0)
        ends = []
        for _ in range(int(s.rng.integers(2, 4))):
            v = turned((s.uniform(1.8, 2.8), 0), s.uniform(0, math.pi))
            s.line((-v[0], -v[1]), v)
            ends += [v, (-v[0], -v[1])]
        for end in ends:
            s.name(end, o)
        s.name(o, (0.2, 0.35), "O")
        s.angle(o, ends[0], ends[2], s.degrees() if s.chance(0.6) else "", 0.5)
    elif how == "parallel":
        gap, wide, lean = s.uniform(1.2, 2.2), s.uniform(4, 5.5), s.uniform(-1.2, 1.2)
        for i in range(2):
            s.line((0, -i * gap), (wide, -i * gap), options=("->",) if s.chance(0.2) else ())
            s.label((wide, -i * gap), ["a", "b"][i], (0, -i * gap))
        top, bottom = (wide / 2 + lean, 0.8), (wide / 2 - lean, -gap - 0.8)
        s.line(top, bottom)
        s.label(top, "c", bottom)
        share = 0.8 / (gap + 1.6)
        for i, (at, text) in enumerate(((share, "1"), (1 - share, "2"))):
            corner = between(top, bottom, at)
            s.angle(corner, (wide, -i * gap), top, s.degrees() if s.chance(0.5) else text, 0.4)
    elif how == "angle":
        o = (0.0, 0.0)
        degrees = float(s.rng.integers(25, 160))
        a, b = (s.uniform(2.5, 4), 0.0), turned((s.uniform(2.5, 4), 0), math.radians(degrees))
        s.line(o, a)
        s.line(o, b)
        s.angle(o, a, b, rf"{degrees:g}^{{\circ}}" if s.chance(0.6) else s.degrees(), 0.6)
        if s.chance(0.5):
            m = turned((s.uniform(2.2, 3.5), 0), math.radians(degrees * s.uniform(0.35, 0.65)))
            s.line(o, m, options=("dashed",) if s.chance(0.5) else ())
            s.name(m, o)
        s.name(a, o)
        s.name(b, o)
        s.name(o, between(a, b), "O")
    elif how == "number line":
        low, high = -int(s.rng.integers(1, 5)), int(s.rng.integers(2, 6))
        s.line((low - 0.6, 0), (high + 0.8, 0), options=("->",))
        for i in range(low, high + 1):
            s.line((i, -0.08), (i, 0.08))
            s.label((i, -0.05), str(i), (i, 1))
        for value in s.rng.uniform(low, high, int(s.rng.integers(1, 4))):
            s.dot((float(value), 0))
            if s.letters:
                s.label((float(value), 0.08), s.letters.pop(0), (float(value), -1))
    else:
        count = int(s.rng.integers(3, 7))
        for i in range(count):
            end = turned((s.uniform(1.5, 2.6), 0), 2 * math.pi * (i + s.uniform(-0.2, 0.2)) / count)
            s.line((0, 0), end, options=("->",) if s.chance(0.5) else ())
            s.name(end, (0, 0))
        s.name((0, 0), (0.15, 0.4), "O")


def axes(s: Scene, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Axes with arrows, names, maybe a grid and ticks."""
    if s.chance(0.2):
        for i in range(math.ceil(x[0]), math.floor(x[1]) + 1):
            s.commands.append(rf"\draw[lightgray,very thin] {s.at((i, y[0]))} -- {s.at((i, y[1]))};")
        for i in range(math.ceil(y[0]), math.floor(y[1]) + 1):
            s.commands.append(rf"\draw[lightgray,very thin] {s.at((x[0], i))} -- {s.at((x[1], i))};")
    s.commands.append(
        rf"\draw[->] {s.at((x[0], 0))} -- {s.at((x[1], 0))} node[right] {{$x$}};".replace(" node[right] {$x$}", "")
    )
    s.commands.append(rf"\draw[->] {s.at((0, y[0]))} -- {s.at((0, y[1]))};")
    s.label((x[1], 0), "x", (x[0], 0))
    s.label((0, y[1]), "y", (0, y[0]))
    s.label((0, 0), "O", (0.3, 0.3))
    if s.chance(0.4):
        for i in range(math.ceil(x[0]), math.floor(x[1])):
            if i:
                s.line((i, -0.07), (i, 0.07))
                s.label((i, 0), str(i), (i, 1))


def function(s: Scene) -> None:
    """The graph of one or two functions."""
    low, high = -s.uniform(1.8, 3), s.uniform(1.8, 3.2)
    y = (-s.uniform(1.2, 2.2), s.uniform(2, 3))
    axes(s, (low - 0.3, high + 0.3), y)
    fits = 0
    dots: list[Point] = []
    for _ in range(20):
        if fits and (fits == 2 or s.chance(0.6)):
            break
        a, b, c = (round(s.uniform(*r), 2) for r in ((-1.2, 1.2), (-1, 1), (-1, 1)))
        kinds: list[tuple[str, Callable[[float], float]]] = [
            (rf"{number(a)}*\x{b:+.2f}", lambda x, a=a, b=b: a * x + b),
            (rf"{number(a)}*\x*\x{c:+.2f}", lambda x, a=a, c=c: a * x * x + c),
            (rf"{number(a)}*(\x{b:+.2f})*(\x{b:+.2f}){c:+.2f}", lambda x, a=a, b=b, c=c: a * (x + b) ** 2 + c),
            (rf"sin({number(90 * abs(a) + 40)}*\x)", lambda x, a=a: math.sin(math.radians((90 * abs(a) + 40) * x))),
            (rf"{number(1 + abs(b))}*cos(80*\x)", lambda x, b=b: (1 + abs(b)) * math.cos(math.radians(80 * x))),
            (rf"exp({number(0.6 * abs(a) + 0.2)}*\x)", lambda x, a=a: math.exp((0.6 * abs(a) + 0.2) * x)),
            (rf"{number(a / 2)}*\x*\x*\x{c:+.2f}", lambda x, a=a, c=c: a / 2 * x**3 + c),
            (rf"abs(\x{b:+.2f}){c:+.2f}", lambda x, b=b, c=c: abs(x + b) + c),
        ]
        kind = int(s.rng.integers(len(kinds)))
        text, f = kinds[kind]
        xs = [x for x in np.linspace(low, high, 41) if y[0] - 0.2 < f(float(x)) < y[1] + 0.3]
        if len(xs) < 8:
            continue
        inside = np.linspace(xs[0], xs[-1], 25)
        if any(not y[0] - 1 < f(float(x)) < y[1] + 1 for x in inside):
            continue
        left, right = float(xs[0]), float(xs[-1])
        if kind == len(kinds) - 1:  # three points show its corner as it is
            far = round(min(-b - left, right + b), 2)
            if far < 0.5:
                continue
            left, right, sampled = -b - far, -b + far, ("samples=3",)
        else:
            sampled = s.sampled(17, 25) if kind else ("samples=2",)
        domain = f"domain={number(left)}:{number(right)}"
        s.commands.append(rf"\draw{s.options(domain, *sampled)} plot (\x, {{{text}}});")
        x = left + (right - left) / 3
        if s.chance(0.3) and all(math.dist(dot, (x, f(x))) > 0.7 for dot in dots):
            dots.append((x, f(x)))
            s.dot((x, f(x)))
            if s.letters:
                s.label((x, f(x)), s.letters.pop(0), (x, f(x) - 1))
        fits += 1
    if not fits:
        s.line((low, y[0] / 2), (high, y[1] / 2))


def conic(s: Scene) -> None:
    """An ellipse, hyperbola or parabola with its foci."""
    how = str(s.rng.choice(["ellipse", "hyperbola", "parabola"]))
    a, b = s.uniform(1.8, 2.8), s.uniform(0.9, 1.7)
    if s.chance(0.75):
        axes(s, (-a - 1, a + 1), (-b - 1, b + 1))
    if how == "ellipse":
        s.ellipse((0, 0), a, b)
        c = math.sqrt(a * a - b * b)
        if s.chance(0.5):
            t = s.uniform(0.3, 2.6)
            p = a * math.cos(t), b * math.sin(t)
            s.line((-c, 0), p, (c, 0))
            s.name(p, (0, 0), "P")
    elif how == "hyperbola":
        a = s.uniform(0.8, 1.3)
        c = math.sqrt(a * a + b * b)
        for sign in ("", "-"):
            x = rf"{{{sign}{number(a)}*sqrt(1+\x*\x/{number(b * b)})}}"
            options = s.options(f"domain={number(-b * 1.3)}:{number(b * 1.3)}", *s.sampled(11, 21))
            s.commands.append(rf"\draw{options} plot ({x}, {{\x}});")
        if s.chance(0.5):
            for side in (1, -1):
                s.line((-a * 1.5, -side * b * 1.5), (a * 1.5, side * b * 1.5), options=("dashed",))
    else:
        p = s.uniform(0.4, 0.9)
        c = p / 2
        x = rf"{{\x*\x/{number(2 * p)}}}"
        s.commands.append(rf"\draw{s.options('domain=-1.8:1.8', *s.sampled(11, 21))} plot ({x}, {{\x}});")
        s.line((-c, -1.8), (-c, 1.8), options=("dashed",))
        s.dot((c, 0))
        s.name((c, 0), (c, 1), "F")
        return
    for side, text in ((-1, "F_{1}"), (1, "F_{2}")):
        s.dot((side * c, 0))
        s.name((side * c, 0), (side * c, 1), text)


def solid(s: Scene) -> None:
    """A solid in oblique projection; hidden edges are dashed."""
    how = str(s.rng.choice(["cuboid", "pyramid", "prism", "cylinder", "cone", "sphere", "tetrahedron", "frustum"]))
    w, h, d = s.uniform(1.8, 3.2), s.uniform(1.6, 3.2), s.uniform(0.6, 1.3)
    hidden = ("dashed",)
    if how == "cuboid":
        a, b, c, e = (0, 0), (w, 0), (w, h), (0, h)
        a2, b2, c2, e2 = ((p[0] + d * 0.8, p[1] + d * 0.8) for p in (a, b, c, e))
        s.line(a, b, c, e, closed=True)
        s.line(b, b2, c2, c)
        s.line(c2, e2, e)
        for p, q in ((a, a2), (a2, b2), (a2, e2)):
            s.line(p, q, options=hidden)
        middle = (w / 2 + d * 0.4, h / 2 + d * 0.4)
        for corner in (a, b, c, e, b2, c2, e2, a2):
            s.name(corner, middle)
    elif how in ("pyramid", "prism", "tetrahedron"):
        a, b, c, e = (0, 0), (w, 0), (w + d, d), (d, d)
        if how == "pyramid":
            top = ((w + d) / 2, h + d / 2)
            s.line(top, a, b, c, closed=True)
            s.line(top, b)
            for p, q in ((a, e), (e, c), (e, top)):
                s.line(p, q, options=hidden)
            if s.chance(0.5):
                o = ((w + d) / 2, d / 2)
                s.line(top, o, options=hidden)
                s.name(o, top, "O")
            s.names(a, b, c, e, top)
        elif how == "tetrahedron":
            top = (w / 2, h)
            s.line(top, a, b, closed=True)
            c = (w + d, d * 0.9)
            s.line(b, c, top)
            s.line(a, c, options=hidden)
            s.names(top, a, b, c)
        else:
            c = (w * 0.6, -d)
            up = lambda p: (p[0], p[1] + h)
            s.line(a, c, b, up(b), up(c), up(a), closed=True)
            s.line(up(a), up(b))
            s.line(c, up(c))
            s.line(a, b, options=hidden)
            s.names(a, b, c)
            for p in (a, b, c):
                s.name(up(p), (w / 2, h / 2))
    elif how in ("cylinder", "cone", "frustum"):
        r, flat = w / 2, w * 0.14
        s.half_ellipse((0, 0), r, flat, 180)
        s.half_ellipse((0, 0), r, flat, 0, hidden)
        if how == "cone":
            s.line((-r, 0), (0, h), (r, 0))
            s.name((0, h), (0, 0), "S")
        else:
            upper = r if how == "cylinder" else r * s.uniform(0.4, 0.7)
            s.line((-r, 0), (-upper, h))
            s.line((r, 0), (upper, h))
            s.ellipse((0, h), upper, flat * upper / r)
        if s.chance(0.6):
            s.line((0, 0), (0, h), options=hidden)
            s.line((0, 0), (r, 0), options=hidden)
            s.label((r / 2, 0), "r", (r / 2, -1) if s.chance(0.5) else (r / 2, 1))
            s.label((0, h / 2), "h", (1, h / 2))
    else:
        r = s.uniform(1.5, 2.3)
        s.circle((0, 0), r)
        s.half_ellipse((0, 0), r, r * 0.28, 180)
        s.half_ellipse((0, 0), r, r * 0.28, 0, hidden)
        s.line((0, 0), (r, 0), options=hidden)
        s.dot((0, 0))
        s.name((0, 0), (0.2, -0.4), "O")
        s.label((r / 2, 0), "R", (r / 2, -1))


def curve(s: Scene) -> None:
    """A free curve with points on it, vectors, or a closed region."""
    points = [(float(i) * 1.4, s.uniform(-1.2, 1.2)) for i in range(int(s.rng.integers(3, 6)))]
    parts = [s.at(points[0])]
    for i, (p, q) in enumerate(itertools.pairwise(points)):
        one = p[0] + 0.5, p[1] + (s.uniform(-0.8, 0.8) if i == 0 else 0.0)
        parts.append(f".. controls {s.at(one)} and {s.at((q[0] - 0.5, q[1]))} .. {s.at(q)}")
    s.commands.append(rf"\draw{s.options()} {' '.join(parts)};")
    for point in points:
        if s.chance(0.7):
            s.dot(point)
            s.name(point, (point[0], point[1] - 1))
    if s.chance(0.4):
        s.line(points[0], points[-1], options=("dashed",))
    if s.chance(0.4):
        end = points[1][0] + s.uniform(0.5, 1.5), points[1][1] + s.uniform(0.5, 1.5)
        s.line(points[1], end, options=("->",))
        s.label(end, r"\vec{v}", points[1])


def vectors(s: Scene) -> None:
    """Two vectors and their sum or difference."""
    a, b = (s.uniform(2, 3.5), s.uniform(-0.3, 0.8)), (s.uniform(0.2, 1.5), s.uniform(1.4, 2.5))
    o, c = (0.0, 0.0), (a[0] + b[0], a[1] + b[1])
    s.line(o, a, options=("->",))
    s.line(o, b, options=("->",))
    s.label(between(o, a), r"\vec{a}", (a[0] / 2, 1))
    s.label(between(o, b), r"\vec{b}", (2, b[1] / 2))
    if s.chance(0.7):
        s.line(o, c, options=("->",))
        s.line(a, c, options=("dashed",))
        s.line(b, c, options=("dashed",))
        s.label(c, r"\vec{a}+\vec{b}", o)
    else:
        s.line(b, a, options=("->",))
        s.label(between(a, b), r"\vec{a}-\vec{b}", o)
    s.name(o, c, "O")


SCENES: dict[str, tuple[Callable[[Scene], None], float]] = {
    "triangle": (triangle, 0.2),
    "quadrilateral": (quadrilateral, 0.14),
    "polygon": (polygon, 0.06),
    "circle": (circle, 0.14),
    "circles": (circles, 0.06),
    "lines": (lines, 0.1),
    "function": (function, 0.1),
    "conic": (conic, 0.07),
    "solid": (solid, 0.1),
    "curve": (curve, 0.02),
    "vectors": (vectors, 0.01),
}


def draw(rng: np.random.Generator) -> tuple[str, str]:
    """A tikzpicture and the name of its scene."""
    names = list(SCENES)
    kind = str(rng.choice(names, p=[share for _, share in SCENES.values()]))
    scene = Scene(rng)
    SCENES[kind][0](scene)
    return scene.text(), kind
