r"""olmOCR-bench's unit tests: facts about a page that an answer must hold.

Source: olmOCR `bench/tests.py` (EVALUATION_FACTS.md 2.6). One rule differs: formulas that are not the same text are
compared as MathJax draws them; upstream compares KaTeX's layouts in a browser, and finds one formula within another.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fuzzysearch import find_near_matches
from lxml import html
from rapidfuzz import fuzz

from got_jax.errors import GotError, require

KINDS = ("present", "absent", "order", "table", "math", "baseline")
PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "＿": "_", "–": "-", "—": "-", "‑": "-", "‒": "-",
     "−": "-", "\u00b5": "\u03bc"}
)  # fmt: skip
FOREIGN = re.compile(
    "[\u4e00-\u9fff\u3040-\u309f\u30a0-\u30ff\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff"
    "\U0001f1e0-\U0001f1ff]"
)
NEEDED = {
    "present": ("text",),
    "absent": ("text",),
    "order": ("before", "after"),
    "table": ("cell",),
    "math": ("math",),
}
MOST_REPEATS, LONGEST_NGRAM = 30, 5


@dataclass(frozen=True)
class Fact:
    """One test of the benchmark: its kind, and its other fields as in the file."""

    id: str
    kind: str
    fields: Mapping[str, Any]


def fact(row: Any) -> Fact:
    """A line of the benchmark's files.

    Raises:
        GotError: for an unknown type, or a field that is missing or of the wrong kind.
    """
    require(isinstance(row, dict), "it is no JSON object.")
    kind = row.get("type")
    require(kind in KINDS, f"its type '{kind}' is none of {', '.join(KINDS)}.")
    for name in ("id", *NEEDED.get(str(kind), ())):
        require(isinstance(row.get(name), str) and bool(row[name].strip()), f"its field '{name}' is missing or empty.")
    diffs = row.get("max_diffs", 0) or 0
    require(isinstance(diffs, int) and diffs >= 0, f"its max_diffs {diffs!r} is no number from 0 on.")
    return Fact(row["id"], str(kind), row)


def normalised(text: str) -> str:
    """As upstream compares text: no markdown marks, single spaces, NFC, plain quotes and dashes."""
    text = re.sub(r"<br/?>", " ", text)
    text = re.sub(r"\*\*(.*?)\*\*", r"\1", text)
    text = re.sub(r"__(.*?)__", r"\1", text)
    text = re.sub(r"</?[bi]>", "", text)
    text = re.sub(r"(\*\*|__)(.*?)\1", r"\2", text)
    text = re.sub(r"(\*|_)(.*?)\1", r"\2", text)
    return unicodedata.normalize("NFC", re.sub(r"\s+", " ", text)).translate(PLAIN)


def holds(test: Fact, answer: str, drawn: Callable[[str], str] = lambda formula: "") -> bool:
    """Whether an answer passes. `drawn`: a formula's picture as text, "" where it cannot be drawn."""
    fields = test.fields
    if test.kind in ("present", "absent"):
        return _text(fields, answer) == (test.kind == "present")
    if test.kind == "order":
        return _order(fields, answer)
    if test.kind == "table":
        return _table(fields, answer)
    if test.kind == "math":
        return _math(str(fields["math"]), answer, drawn)
    return baseline(answer, fields)


def _text(fields: Mapping[str, Any], answer: str) -> bool:
    """Whether the text stands in the answer, up to some differences."""
    wanted, text = normalised(fields["text"]), normalised(answer)
    if not fields.get("case_sensitive", True):
        wanted, text = wanted.lower(), text.lower()
    first, last = fields.get("first_n"), fields.get("last_n")
    if first and last:
        text = text[:first] + text[-last:]
    elif first or last:
        text = text[:first] if first else text[-(last or 0) :]
    diffs = fields.get("max_diffs", 0) or 0
    if len(text) < len(wanted) - diffs:
        return False  # a short answer would be looked for in the text instead
    return fuzz.partial_ratio(wanted, text) / 100 >= 1 - diffs / max(len(wanted), 1)


def _order(fields: Mapping[str, Any], answer: str) -> bool:
    text, diffs = normalised(answer), fields.get("max_diffs", 0) or 0
    places = [
        [m.start for m in find_near_matches(normalised(fields[name]), text, max_l_dist=diffs)]
        for name in ("before", "after")
    ]
    return bool(places[0]) and bool(places[1]) and min(places[0]) < max(places[1])


def _math(wanted: str, answer: str, drawn: Callable[[str], str]) -> bool:
    formulas: list[str] = []
    for pattern in (r"\\\((.+?)\\\)", r"\\\[(.+?)\\\]", r"\$\$(.+?)\$\$", r"\$(.+?)\$"):
        formulas += [formula.strip() for formula in re.findall(pattern, answer, re.DOTALL)]
        answer = re.sub(pattern, "", answer, flags=re.DOTALL)
    if wanted in formulas:
        return True
    picture = drawn(wanted) if formulas else ""
    return bool(picture) and any(drawn(formula) == picture for formula in formulas)


def baseline(answer: str, fields: Mapping[str, Any] | None = None) -> bool:
    """Not blank, not repeating itself at the end, no letters of other scripts; or, where told, short enough."""
    fields = fields or {}
    letters = sum(ch.isalnum() for ch in answer)
    if fields.get("max_length") is not None:
        return letters <= fields["max_length"]
    if letters == 0 or max(repeats(answer)) > fields.get("max_repeats", MOST_REPEATS):
        return False
    return not (fields.get("check_disallowed_characters", True) and FOREIGN.search(answer))


def repeats(text: str) -> list[int]:
    """How often the last 1, 2, ... 5 characters stand one after another at the end."""
    counts = []
    for size in range(1, LONGEST_NGRAM + 1):
        last, count = text[-size:], 0
        while last and len(last) == size and text[len(text) - (count + 1) * size : len(text) - count * size] == last:
            count += 1
            if (count + 1) * size > len(text):
                break
        counts.append(count)
    return counts


Place = tuple[int, int]


def _table(fields: Mapping[str, Any], answer: str) -> bool:
    """Whether a cell stands in some table beside the cells that it should stand beside."""
    diffs = fields.get("max_diffs", 0) or 0
    like = lambda a, b: fuzz.ratio(a, b) / 100 >= max(0.5, 1 - diffs / max(len(a), 1))
    grids = html_tables(answer) + ([] if fields.get("ignore_markdown_tables") else pipe_tables(answer))
    cell = normalised(fields["cell"])
    sides = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
    for grid in grids:
        for place, (text, _) in grid.items():
            if not like(cell, normalised(text)):
                continue
            wanted = {name: normalised(fields[name]) for name in sides if fields.get(name)}
            fits = all(_beside(grid, place, sides[name], text, like) for name, text in wanted.items())
            heads = {"top_heading": (-1, 0), "left_heading": (0, -1)}
            told = {name: normalised(fields[name]) for name in heads if fields.get(name)}
            fits = fits and all(_heading(grid, place, heads[name], text, like) for name, text in told.items())
            if fits:
                return True
    return False


Grid = dict[Place, tuple[str, int]]  # every place that a cell covers: its text, and a number that names the cell


def _beside(grid: Grid, place: Place, step: Place, text: str, like: Callable[[str, str], bool]) -> bool:
    """The next cell in a direction, past the cell's own other places."""
    at, own = place, grid[place][1]
    while at in grid and grid[at][1] == own:
        at = at[0] + step[0], at[1] + step[1]
    return at in grid and like(text, normalised(grid[at][0]))


def _heading(grid: Grid, place: Place, step: Place, text: str, like: Callable[[str, str], bool]) -> bool:
    """Any cell on the way to the edge: tables may have heads of several rows."""
    at, own = place, grid[place][1]
    while (at := (at[0] + step[0], at[1] + step[1])) in grid:
        if grid[at][1] != own and like(text, normalised(grid[at][0])):
            return True
    return False


def html_tables(text: str) -> list[Grid]:
    """Every <table>, cells put at all places they cover."""
    found = []
    for part in re.findall(r"<table.*?(?:</table>|$)", text, re.DOTALL | re.IGNORECASE):
        grid: Grid = {}
        for y, row in enumerate(html.fromstring(part).xpath(".//tr")):
            x = 0
            for cell in row.xpath("./td|./th"):
                while (y, x) in grid:
                    x += 1
                spans = [int(v) if (v := cell.get(name, "1")).isdigit() else 1 for name in ("rowspan", "colspan")]
                for dy in range(min(max(spans[0], 1), 200)):
                    for dx in range(min(max(spans[1], 1), 200)):
                        grid[y + dy, x + dx] = cell.text_content().strip(), y * 10_000 + x
                x += max(spans[1], 1)
        if grid:
            found.append(grid)
    return found


def pipe_tables(text: str) -> list[Grid]:
    """Every table with pipes that has a line of dashes."""
    found = []
    for part in re.findall(r"(?:^[ \t]*\|.*\|[ \t]*$\n?){2,}", text, re.MULTILINE):
        cells = (re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in part.strip().split("\n"))
        rows = [[cell.strip() for cell in row] for row in cells]
        body = [row for row in rows if not all(cell and set(cell) <= set("-: ") for cell in row)]
        if len(body) < len(rows):
            found.append({(y, x): (cell, y * 10_000 + x) for y, row in enumerate(body) for x, cell in enumerate(row)})
    return found


def draw() -> Callable[[str], str]:
    """Formulas as MathJax draws them, as text; every formula "" where Node or its packages are missing."""
    import functools

    from pipelines.backends import node

    if node.missing():
        return lambda formula: ""

    @functools.lru_cache(maxsize=10_000)
    def drawn(formula: str) -> str:
        try:
            made = node.node().call("formulas", formulas=[[formula, True]])[0]
        except GotError:
            return ""
        return re.sub(r'\s(?:id|xlink:href|href|data-[\w-]+|aria-[\w-]+)="[^"]*"', "", made.get("svg", ""))

    return drawn
