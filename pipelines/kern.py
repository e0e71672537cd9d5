"""Humdrum **kern as far as piano systems need it: read, cut to systems, cleaned, counted, and made up.

Source: the **kern representation (David Huron, humdrum.org); GrandStaff (two staves, single systems).
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from got_jax.errors import GotError, require

NOTE = re.compile(r"(\d+)(\.*)([a-gA-G]+)([#\-n]*)")
KEPT = re.compile(r"[\[\]_(){}]|\d+\.*|[a-gA-G]+|[#\-n]+|r|[LJkK]|q|;")
KEYS = {  # sharps (above 0) or flats -> signature
    0: "*k[]", 1: "*k[f#]", 2: "*k[f#c#]", 3: "*k[f#c#g#]", 4: "*k[f#c#g#d#]", 5: "*k[f#c#g#d#a#]",
    -1: "*k[b-]", -2: "*k[b-e-]", -3: "*k[b-e-a-]", -4: "*k[b-e-a-d-]", -5: "*k[b-e-a-d-g-]",
}  # fmt: skip
METERS = ((4, 4), (3, 4), (2, 4), (6, 8), (2, 2), (3, 8), (12, 8), (9, 8))


@functools.lru_cache(maxsize=65536)
def clean_token(token: str) -> str:
    """Durations, pitches, accidentals, ties, slurs, beams, rests; no stems, editorial marks, ornaments."""
    if token == "." or token.startswith(("*", "=", "!")):
        return token
    notes = []
    for part in token.split(" "):
        tied = "".join(ch for ch in part if ch in "[({")
        core = re.search(r"\d+\.*", part)
        pitch = re.search(r"([a-gA-G])\1*|r", part)
        if not pitch:
            return "."
        accidental = re.search(r"[a-gA-G](#+|-+|n)", part)
        beams = "".join(ch for ch in part if ch in "LJkK")
        closing = "".join(ch for ch in part if ch in "])}_")
        length = core[0] if core else ("q" if "q" in part else "")
        grace = "q" if "q" in part and core else ""
        rest = pitch[0] == "r"
        mark = "" if rest or not accidental else accidental[1]
        notes.append(("" if rest else tied) + length + pitch[0] + mark + grace + ("" if rest else closing) + beams)
    return " ".join(notes)


def notes(text: str) -> Counter[tuple[int, str, int]]:
    """How often each (staff from the left, letter with its accidental, octave) is written; ties count each note."""
    found: Counter[tuple[int, str, int]] = Counter()
    kinds: list[str] = []
    for line in text.splitlines():
        cells = line.split("\t")
        if line.startswith("**"):
            kinds = cells
            continue
        if line.startswith(("*", "=", "!")) or not line:
            continue
        for column, cell in enumerate(cells):
            if column < len(kinds) and kinds[column] != "**kern":
                continue
            staff = sum(kind == "**kern" for kind in kinds[:column])
            for part in cell.split(" "):
                m = re.search(r"([a-g])\1*|([A-G])\2*", part)
                if not m or "r" in part:
                    continue
                letters = m[0]
                octave = 3 + len(letters) if letters.islower() else 4 - len(letters)
                accidental = re.search(r"[a-gA-G](#+|-+)", part)
                found[staff, letters[0].lower() + (accidental[1] if accidental else ""), octave] += 1
    return found


@dataclass
class Score:
    """A score's kern spines, measure by measure.

    Attributes:
        measures: lines of each, without the bar line. heads: clef, key and meter of each spine where a measure begins.
    """

    spines: int
    measures: list[list[list[str]]] = field(default_factory=list)
    heads: list[list[list[str]]] = field(default_factory=list)


def read(text: str) -> Score:
    """Takes a score apart. Measures in which spines split or change places are left empty.

    Raises:
        GotError: when there are no **kern spines.
    """
    columns: list[int] = []
    score: Score | None = None
    heads: list[dict[str, str]] = []
    current: list[list[str]] = []
    start: list[list[str]] = []
    broken = False
    width = 0
    for line in text.splitlines():
        cells = line.split("\t")
        if not line or line.startswith("!"):
            continue
        if line.startswith("**"):
            columns = [i for i, cell in enumerate(cells) if cell == "**kern"]
            width, score = len(cells), Score(len(columns))
            heads = [{} for _ in columns]
            start = [[] for _ in columns]
            continue
        require(score is not None, "the score begins without **kern spines.")
        assert score is not None
        if any(cell in ("*^", "*v", "*x", "*+", "*-") for cell in cells):
            if any(cell != "*-" and cell != "*" for cell in cells):
                broken = True
            continue
        if len(cells) != width:
            broken = True
            if line.startswith("=") and len(cells) != width:
                current, start = [], [list(h.values()) for h in heads]
            continue
        kept = [cells[i] for i in columns]
        if line.startswith("="):
            if broken or any(any(c != "." for c in row) for row in current):
                score.measures.append([] if broken else current)
                score.heads.append(start)
            current, start, broken = [], [list(h.values()) for h in heads], False
        elif line.startswith("*"):
            for head, cell in zip(heads, kept, strict=True):
                for kind, pattern in (("clef", r"\*clef"), ("key", r"\*k\["), ("meter", r"\*M\d")):
                    if re.match(pattern, cell):
                        head[kind] = cell
                        ordered = {k: head[k] for k in ("clef", "key", "meter") if k in head}
                        head.clear()
                        head.update(ordered)
            if current:
                broken = True  # a change within a measure
            start = [list(h.values()) for h in heads]
        else:
            row = [clean_token(cell) for cell in kept]
            if any(cell != "." for cell in row):
                current.append(row)
    require(score is not None and score.spines > 0, "the text holds no **kern spines.")
    assert score is not None
    return score


def system(score: Score, first: int, count: int, spines: tuple[int, ...]) -> str:
    """Some measures of some spines as a score of its own, bars counted from 1; nothing where they are not whole."""
    measures = score.measures[first : first + count]
    if len(measures) < count or not all(measures):
        return ""
    heads = [score.heads[first][spine] for spine in spines]
    if any(len(head) != 3 for head in heads) or any(score.heads[first + i] != score.heads[first] for i in range(count)):
        return ""
    lines = ["\t".join(["**kern"] * len(spines))]
    lines += ["\t".join(head[i] for head in heads) for i in range(3)]
    for number, measure in enumerate(measures, 1):
        lines.append("\t".join([f"={number}"] * len(spines)))
        for row in measure:
            cells = [row[spine] for spine in spines]
            if any(cell != "." for cell in cells):
                lines.append("\t".join(cells))
    lines += ["\t".join(["=="] * len(spines)), "\t".join(["*-"] * len(spines))]
    return loosened("\n".join(lines))


def loosened(text: str) -> str:
    """The system without the ties, slurs and beams that begin or end outside it."""
    rows = [line.split("\t") for line in text.splitlines()]
    for column in range(len(rows[0])):
        for opening, closing in (("(", ")"), ("{", "}"), ("[", "]"), ("L", "J")):
            stack: list[int] = []
            for i, row in enumerate(rows):
                cell = row[column]
                if cell.startswith(("*", "=", "!")):
                    continue
                for _ in range(cell.count(closing) if closing not in "J]" else min(1, cell.count(closing))):
                    if stack:
                        stack.pop()
                    else:
                        row[column] = row[column].replace(closing, "").replace("_", "")
                if opening in cell:
                    stack += [i] * (cell.count(opening) if opening in "({" else 1)
            for i in stack:
                rows[i][column] = rows[i][column].replace(opening, "")
        for row in rows:
            row[column] = row[column].replace("{", "").replace("}", "")
    return "\n".join("\t".join(row) for row in rows)


@functools.lru_cache(maxsize=2)
def files(folder: str) -> tuple[Path, ...]:
    """The .krn files of a folder and those below. Raises GotError when there is none."""
    found = tuple(sorted(Path(folder).rglob("*.krn")))
    require(bool(found), f"{folder} holds no score (*.krn); give a folder of them.")
    return found


@functools.lru_cache(maxsize=512)
def load(path: Path) -> Score:
    """A file's score. Raises GotError when it cannot be read or has no whole measure."""
    try:
        score = read(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as err:
        raise GotError(f"{path}: {err.strerror}") from None
    except GotError as err:
        raise GotError(f"{path}: {err}") from None
    require(any(score.measures), f"{path}: no measure of it is whole.")
    return score


def rejected(folder: str) -> tuple[str, ...]:
    """Why files of a folder are left out."""
    bad = []
    for path in files(folder):
        try:
            load(path)
        except GotError as err:
            bad.append(str(err))
    return tuple(bad)


class Composer:
    """Makes up valid piano music: rhythms that fill their measures, chords and scales of a key, beams, ties, slurs."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.key = int(rng.choice(list(KEYS)))
        self.meter = METERS[int(rng.choice(len(METERS), p=[0.34, 0.22, 0.14, 0.12, 0.06, 0.05, 0.04, 0.03]))]
        self.altered = KEYS[self.key][3:-1]
        self.density = float(rng.choice([2.0, 3.0, 4.0]))

    def pitch(self, degree: int) -> str:
        """A scale step counted from middle C."""
        letter, octave = "cdefgab"[degree % 7], 4 + degree // 7
        spelt = letter * (octave - 3) if octave >= 4 else letter.upper() * (4 - octave)
        sign = re.search(rf"{letter}([#\-])", self.altered)
        mark = sign[1] if sign else ""
        if self.rng.random() < 0.06:
            mark = "n" if mark else str(self.rng.choice(["#", "-"]))
        return spelt + mark

    def rhythm(self) -> list[tuple[Fraction, str]]:
        """Lengths (in whole notes) that fill a measure, with their spelling; none crosses its beat's group."""
        top, bottom = self.meter
        compound = bottom == 8 and top % 3 == 0
        beat = Fraction(3, 8) if compound else Fraction(1, bottom)
        beats = top // 3 if compound else top
        out: list[tuple[Fraction, str]] = []
        i = 0
        while i < beats:
            left = beats - i
            if not compound and bottom != 8 and left >= 2 and i % 2 == 0 and self.rng.random() < 0.22:
                out.append((2 * beat, spell(2 * beat)))
                i += 2
                continue
            kind = "compound" if compound else "simple"
            chosen = int(np.searchsorted(_shares(kind, self.density), self.rng.random(), side="right"))
            for part in PATTERNS[kind][chosen][1]:
                if part < 0:  # a triplet's third
                    out.append((beat / 3, str(int(1 / (beat / 3)))))
                else:
                    out.append((beat * part, spell(beat * part)))
            i += 1
        return out

    def measure(self, low: int, high: int, start: int, chords: float) -> tuple[list[tuple[Fraction, str]], int]:
        """A measure of one staff as (onset, token), and the step where it ends."""
        events, at, degree = [], Fraction(0), start
        rhythm = self.rhythm()
        tokens: list[tuple[Fraction, Fraction, str]] = []
        for length, spelt in rhythm:
            if self.rng.random() < 0.09:
                tokens.append((at, length, f"{spelt}r"))
            else:
                degree = min(max(degree + LEAPS[self.rng.integers(len(LEAPS))], low), high)
                steps = {degree}
                if self.rng.random() < chords:
                    steps |= {
                        degree - int(s) for s in self.rng.choice([2, 4, 5, 7], int(self.rng.integers(1, 3)), False)
                    }
                tokens.append((at, length, " ".join(spelt + self.pitch(s) for s in sorted(steps))))
            at += length
        for onset, token in self._beamed(tokens):
            events.append((onset, token))
        return events, degree

    def _beamed(self, tokens: list[tuple[Fraction, Fraction, str]]) -> list[tuple[Fraction, str]]:
        top, bottom = self.meter
        group = Fraction(3, 8) if bottom == 8 and top % 3 == 0 else Fraction(1, 4)
        out = [(onset, token) for onset, _, token in tokens]
        i = 0
        while i < len(tokens):
            j = i
            beat = tokens[i][0] // group
            while (
                j < len(tokens)
                and tokens[j][0] // group == beat
                and tokens[j][1] < Fraction(1, 4)
                and "r" not in tokens[j][2]
            ):
                j += 1
            if j - i >= 2:
                counts = [beams(tokens[k][2]) for k in range(i, j)]
                for k in range(i, j):
                    own = counts[k - i]
                    before = min(own, counts[k - i - 1]) if k > i else 0
                    after = min(own, counts[k - i + 1]) if k < j - 1 else 0
                    mark = "L" * max(0, after - before) + "J" * max(0, before - after)
                    hooks = own - max(before, after)
                    mark += ("K" if after else "k") * hooks
                    onset, token = out[k]
                    first, *rest = token.split(" ")
                    out[k] = onset, " ".join([first + mark, *rest])
            i = max(j, i + 1)
        return out

    def system(self, measures: int) -> str:
        """A grand staff of some measures."""
        bass = "*clefF4" if self.rng.random() < 0.9 else "*clefG2"
        meter = f"*M{self.meter[0]}/{self.meter[1]}"
        lines = ["**kern\t**kern", f"{bass}\t*clefG2", f"{KEYS[self.key]}\t{KEYS[self.key]}", f"{meter}\t{meter}"]
        left = -9 if bass == "*clefF4" else 2
        right = 6
        chords = (float(self.rng.uniform(0, 0.5)), float(self.rng.uniform(0, 0.4)))
        for number in range(1, measures + 1):
            lower, left = self.measure(
                -14 if bass == "*clefF4" else -3, -1 if bass == "*clefF4" else 8, left, chords[0]
            )
            upper, right = self.measure(0, 14, right, chords[1])
            both = [dict(lower), dict(upper)]
            lines.append(f"={number}\t={number}")
            for onset in sorted({*both[0], *both[1]}):
                lines.append("\t".join(part.get(onset, ".") for part in both))
        lines += ["==\t==", "*-\t*-"]
        return self._slurred(lines)

    def _slurred(self, lines: list[str]) -> str:
        rows = [line.split("\t") for line in lines]
        for column in range(2):
            places = [i for i, row in enumerate(rows) if row[column][:1].isdigit() and "r" not in row[column]]
            at = 0
            while at + 4 < len(places):
                if self.rng.random() < 0.07:
                    end = at + int(self.rng.integers(1, 4))
                    first, last = places[at], places[end]
                    rows[first][column] = "(" + rows[first][column]
                    head, *rest = rows[last][column].split(" ")
                    rows[last][column] = " ".join([re.sub(r"([LJkK]*)$", r")\1", head, count=1), *rest])
                    at = end + 1
                elif (
                    self.rng.random() < 0.04
                    and rows[places[at]][column].count(" ") == 0
                    and all(row[column][0] in ".=" for row in rows[places[at] + 1 : places[at + 1]])  # no rest between
                ):
                    one, two = rows[places[at]][column], rows[places[at + 1]][column]
                    pitch = re.search(r"[a-gA-G]+[#\-n]*", one)
                    length = re.match(r"\d+\.*", two)
                    if pitch and length and " " not in two:
                        beam = re.search(r"[LJkK]*$", two)
                        rows[places[at]][column] = "[" + one
                        rows[places[at + 1]][column] = f"{length[0]}{pitch[0]}]{beam[0] if beam else ''}"
                        at += 2
                        continue
                at += 1
        return "\n".join("\t".join(row) for row in rows)


F = Fraction
PATTERNS: dict[str, list[tuple[float, tuple[Fraction | int, ...]]]] = {
    "simple": [
        (3.0, (F(1),)), (3.0, (F(1, 2), F(1, 2))), (1.2, (F(1, 4),) * 4), (0.7, (F(3, 4), F(1, 4))),
        (0.6, (F(1, 2), F(1, 4), F(1, 4))), (0.6, (F(1, 4), F(1, 4), F(1, 2))), (0.4, (-1, -1, -1)),
        (0.3, (F(1, 4), F(1, 2), F(1, 4))),
    ],
    "compound": [
        (2.5, (F(1),)), (3.0, (F(1, 3),) * 3), (1.5, (F(2, 3), F(1, 3))), (0.8, (F(1, 3), F(2, 3))),
        (0.7, (F(1, 6),) * 6), (0.5, (F(1, 3), F(1, 6), F(1, 6), F(1, 3))),
    ],
}  # fmt: skip


LEAPS = (-4, -2, -1, -1, 0, 1, 1, 2, 4)


@functools.cache
def _shares(kind: str, density: float) -> np.ndarray:
    """Cumulative shares of a kind's patterns; those of many notes gain with the density."""
    weights = np.cumsum([weight * (density / 3) ** len(parts) for weight, parts in PATTERNS[kind]])
    return weights / weights[-1]


@functools.cache
def spell(length: Fraction) -> str:
    """A length in whole notes as kern has it: 4, 8., 2 ..."""
    for dots in (0, 1):
        plain = length / (2 - F(1, 2**dots))
        if plain.numerator == 1:
            return f"{plain.denominator}{'.' * dots}"
    raise GotError(f"a note cannot last {length} of a whole one.")


@functools.lru_cache(maxsize=65536)
def beams(token: str) -> int:
    """How many beams a note of this token has."""
    found = re.search(r"\d+", token)
    length = int(found[0]) if found else 1
    return max(0, int(np.log2(length / (1.5 if length % 3 == 0 else 1))) - 2)
