r"""Tables as grids of cells, and their spellings: LaTeX's tabular, HTML, markdown. Each reads back what it writes."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from got_jax.errors import GotError, require

ESCAPES = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
UNESCAPES = {latex: ch for ch, latex in ESCAPES.items()}
MATH = re.compile(r"\\\(.*?\\\)")


@dataclass(frozen=True)
class Cell:
    r"""Text (with formulas as \( ... \)) over some rows and columns."""

    text: str
    rows: int = 1
    columns: int = 1


@dataclass(frozen=True)
class Look:
    """What the grid does not say.

    Attributes:
        columns: LaTeX's letters: l, c, r, p{3cm}, with | where a rule goes down.
        rules: for each line between rows, from the top: "", "hline", "toprule", "midrule", "bottomrule", or partial
            ones as "cline 2-3", "cmidrule(lr) 2-3", several parted by commas.
        bold: rows from the top that are set bold.
    """

    columns: tuple[str, ...]
    rules: tuple[str, ...]
    bold: int = 0

    def as_lists(self) -> dict[str, Any]:
        """The look as JSON has it."""
        return {"columns": list(self.columns), "rules": list(self.rules), "bold": self.bold}


@dataclass(frozen=True)
class Grid:
    """Rows of cells; a cell stands in the row and column where it begins, what it covers is not there again."""

    rows: tuple[tuple[Cell, ...], ...]
    look: Look | None = field(default=None, compare=False)

    @property
    def width(self) -> int:
        """Columns."""
        return max(
            (
                sum(cell.columns for cell in row) + covered
                for row, covered in zip(self.rows, self.covered(), strict=True)
            ),
            default=0,
        )

    def covered(self) -> list[int]:
        """How many places of each row cells from above cover."""
        counts = [0] * len(self.rows)
        for i, row in enumerate(self.rows):
            for cell in row:
                for below in range(i + 1, min(i + cell.rows, len(self.rows))):
                    counts[below] += cell.columns
        return counts

    def places(self) -> list[list[tuple[int, Cell]]]:
        """The cells of each row with their columns."""
        taken: set[tuple[int, int]] = set()
        found = []
        for i, row in enumerate(self.rows):
            column, line = 0, []
            for cell in row:
                while (i, column) in taken:
                    column += 1
                line.append((column, cell))
                taken |= {(i + y, column + x) for y in range(cell.rows) for x in range(cell.columns)}
                column += cell.columns
            found.append(line)
        return found


def escape(text: str) -> str:
    r"""Text for LaTeX; formulas stay."""
    out, at = [], 0
    for found in MATH.finditer(text):
        out += ["".join(ESCAPES.get(ch, ch) for ch in text[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*out, *(ESCAPES.get(ch, ch) for ch in text[at:])])


def unescape(text: str) -> str:
    """Text of LaTeX; formulas stay."""
    out, at = [], 0
    plain = lambda part: re.sub(r"\\[&%$#_{}]", lambda m: UNESCAPES[m[0]], part)
    for found in MATH.finditer(text):
        out += [plain(text[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*out, plain(text[at:])])


def to_latex(grid: Grid) -> str:
    """A tabular on several lines. Raises GotError for a grid without a look."""
    look = grid.look
    if look is None:
        raise GotError("a grid without a look cannot be set as LaTeX; give it one.")
    lines = [rf"\begin{{tabular}}{{{''.join(look.columns)}}}"]
    plain = [column for column in look.columns if column != "|"]
    bars = "".join(look.columns).startswith("|"), "".join(look.columns).endswith("|")
    inner = "|" in "".join(look.columns)[1:-1]
    covering: dict[int, list[tuple[int, int]]] = {}
    for i, line in enumerate(grid.places()):
        lines += _rule(look.rules[i])
        parts, column = [], 0
        for at, cell in sorted([*line, *((c, Cell("", 1, n)) for c, n in covering.get(i, ()))], key=lambda p: p[0]):
            text = escape(cell.text)
            if i < look.bold and text:
                text = rf"\textbf{{{text}}}"
            if cell.rows > 1:
                text = rf"\multirow{{{cell.rows}}}{{*}}{{{text}}}"
                for below in range(i + 1, i + cell.rows):
                    covering.setdefault(below, []).append((at, cell.columns))
            if cell.columns > 1:
                bar = "|" if inner or bars[0] else ""
                left = "|" if at == 0 and bars[0] else ""
                right = bar if inner or (bars[1] and at + cell.columns == len(plain)) else ""
                text = rf"\multicolumn{{{cell.columns}}}{{{left}c{right}}}{{{text}}}"
            parts.append(text)
            column += cell.columns
        lines.append(" & ".join(parts) + r" \\")
    return "\n".join([*lines, *_rule(look.rules[-1]), r"\end{tabular}"])


def _rule(rule: str) -> list[str]:
    if not rule:
        return []
    if " " not in rule:
        return [f"\\{rule}"]
    return [" ".join("\\" + re.sub(r" (\d+-\d+)", r"{\1}", part.strip()) for part in rule.split(","))]


RULES = re.compile(r"\\(hline|toprule|midrule|bottomrule)(?![a-zA-Z])|\\((?:cline|cmidrule)(?:\(\w*\))?)\{(\d+-\d+)\}")


def from_latex(text: str) -> Grid:
    """Reads a tabular of the subset that `to_latex` writes.

    Raises:
        GotError: for another environment, or groups that do not close.
    """
    found = re.fullmatch(r"\s*\\begin\{tabular\}\{((?:[^{}]|\{[^{}]*\})*)\}(.*)\\end\{tabular\}\s*", text, re.DOTALL)
    require(found is not None, "the LaTeX is no single tabular.")
    assert found is not None
    columns = tuple(re.findall(r"[lcr|]|p\{[^{}]*\}", found[1]))
    rules: list[str] = []
    rows: list[tuple[Cell, ...]] = []
    bold = 0
    covered: dict[tuple[int, int], int] = {}
    for i, line in enumerate(_split(found[2], r"\\")):
        marks = [m[1] or f"{m[2]} {m[3]}" for m in RULES.finditer(line)]
        rules.append(",".join(marks))
        body = RULES.sub("", line).strip()
        if not body:
            continue
        cells, at = [], 0
        for part in _split(body, "&"):
            part, wide, tall = part.strip(), 1, 1
            if m := re.match(r"\\multicolumn\{(\d+)\}\{[^{}]*\}\{(.*)\}$", part, re.DOTALL):
                wide, part = int(m[1]), m[2].strip()
            if m := re.match(r"\\multirow\{(\d+)\}\{\*\}\{(.*)\}$", part, re.DOTALL):
                tall, part = int(m[1]), m[2].strip()
            if m := re.match(r"\\textbf\{(.*)\}$", part, re.DOTALL):
                bold, part = i + 1, m[1]
            for below in range(i + 1, i + tall):
                covered[below, at] = wide
            if covered.get((i, at)) != wide or part:
                cells.append(Cell(unescape(part), tall, wide))
            at += wide
        rows.append(tuple(cells))
    if len(rules) == len(rows):
        rules.append("")
    return Grid(tuple(rows), Look(columns, tuple(rules), bold))


def _split(text: str, by: str) -> list[str]:
    """Parts of LaTeX between marks that stand in no group, formula or inner environment."""
    parts, depth, start, at = [], 0, 0, 0
    while at < len(text):
        if text.startswith(by, at) and depth == 0:
            parts.append(text[start:at])
            at += len(by)
            start = at
            continue
        if m := re.compile(r"\\begin\{\w+\}|\\\(|\{").match(text, at):
            depth += 1
            at = m.end()
        elif m := re.compile(r"\\end\{\w+\}|\\\)|\}").match(text, at):
            depth -= 1
            at = m.end()
        else:
            at += 2 if text[at] == "\\" else 1
    require(depth == 0, "a group of the LaTeX table does not close.")
    return [*parts, text[start:]]


def to_html(grid: Grid) -> str:
    """A <table> on one line, as PaddleOCR and DeepSeek-OCR spell them."""
    lines = []
    for row in grid.rows:
        cells = []
        for cell in row:
            spans = f' rowspan="{cell.rows}"' if cell.rows > 1 else ""
            spans += f' colspan="{cell.columns}"' if cell.columns > 1 else ""
            cells.append(f"<td{spans}>{html.escape(cell.text, quote=False)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[Cell]] = []
        self.cell: Cell | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            spans = [_span(dict(attrs).get(name)) for name in ("rowspan", "colspan")]
            self.cell = Cell("", *spans)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self.cell is not None:
            self.rows[-1].append(self.cell)
            self.cell = None

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell = Cell(self.cell.text + data, self.cell.rows, self.cell.columns)


def _span(value: str | None) -> int:
    return min(100, max(1, int(value))) if value and value.isdigit() else 1


def from_html(text: str) -> Grid:
    """Reads the cells of a <table>. Raises GotError when there is none."""
    reader = _Reader()
    reader.feed(text)
    require(bool(reader.rows), "the HTML holds no table row.")
    return Grid(tuple(map(tuple, reader.rows)))


def to_markdown(grid: Grid) -> str:
    """A table with pipes. Raises GotError for cells that span several places."""
    require(
        all(cell.rows == cell.columns == 1 for row in grid.rows for cell in row),
        "markdown has no cells over several rows or columns; use LaTeX or HTML.",
    )
    lines = ["| " + " | ".join(cell.text.replace("|", r"\|") for cell in row) + " |" for row in grid.rows]
    return "\n".join([lines[0], "|" + " --- |" * grid.width, *lines[1:]])


def from_markdown(text: str) -> Grid:
    """Reads a table with pipes. Raises GotError when there is none."""
    lines = [line.strip() for line in text.strip().splitlines()]
    require(len(lines) >= 2 and set(lines[1]) <= set("|-: "), "the markdown is no table with a line of dashes.")
    rows = []
    for line in (lines[0], *lines[2:]):
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        rows.append(tuple(Cell(cell.strip().replace(r"\|", "|")) for cell in cells))
    return Grid(tuple(rows))


FORMS = {"latex": (to_latex, from_latex), "html": (to_html, from_html), "markdown": (to_markdown, from_markdown)}


def read(form: str, text: str) -> Grid:
    """A table's grid from its spelling."""
    return FORMS[form][1](text)


def columns_of(letters: Sequence[str], bars: str) -> tuple[str, ...]:
    """LaTeX's column letters with rules: bars is "none", "inner" or "all"."""
    out: list[str] = []
    for i, letter in enumerate(letters):
        out += ["|"] if bars == "all" or (bars == "inner" and i) else []
        out.append(letter)
    return (*out, "|") if bars == "all" else tuple(out)
