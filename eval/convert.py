r"""GOT's formatted answers in the spellings that other benchmarks' scorers read: LaTeX tables as HTML.

OmniDocBench and olmOCR-bench give LaTeX tables nothing (EVALUATION_FACTS.md 2.5, 2.6). The reader is tolerant, since a
model writes its input: an environment without an end goes to the end of the text, a span without a number counts 1.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, field

BEGIN = re.compile(r"\\begin\s*\{(tabular[x*]?|longtable)\}")
TOKEN = re.compile(
    r"(?P<begin>\\begin\s*\{(?P<env>[^{}]*)\})|(?P<end>\\end\s*\{[^{}]*\})|(?P<open>\\\(|\\\[)|(?P<close>\\\)|\\\])|"
    r"(?P<row>\\\\(?:\s*\[[^\]]*\])?|\\tabularnewline\b|\\cr\b)|(?P<escape>\\[&%$#_{}])|(?P<cell>&)|(?P<group>\{)|"
    r"(?P<ungroup>\})|(?P<other>\\[a-zA-Z]+\*?|\\.|[^\\&{}]+|\\)",
    re.DOTALL,
)
RULES = re.compile(
    r"\\(?:hline|toprule|midrule|bottomrule|endhead|endfirsthead|endfoot|endlastfoot|centering|raggedright|noalign)\b"
    r"(?:\s*\[[^\]]*\])?|\\(?:cline|cmidrule|specialrule|addlinespace|rowcolor|cellcolor|vspace|arrayrulecolor)\b"
    r"(?:\s*(?:\([^)]*\)|\[[^\]]*\]|\{[^{}]*\}))*"
)
FONTS = re.compile(
    r"\\(?:textbf|textit|emph|textrm|textsf|texttt|underline|textsc|text|makecell|thead|shortstack|small)\s*"
    r"(?:\[[^\]]*\])?\s*\{"
)
SWITCHES = re.compile(r"\\(?:bf|it|rm|sf|tt|bfseries|itshape|small|footnotesize|scriptsize|tiny|large|normalsize)\b\s*")
MATH = re.compile(r"\\\(.*?\\\)|\\\[.*?\\\]|\$[^$]+\$", re.DOTALL)
MOST_SPAN = 200
MOST_DEPTH = 20


@dataclass
class Cell:
    """Text over some rows and columns."""

    text: str
    rows: int = 1
    columns: int = 1


@dataclass
class _Table:
    rows: list[list[Cell]] = field(default_factory=list)


def tables_to_html(text: str) -> str:
    """The text with every LaTeX table as an HTML table on one line; the rest as it was."""
    out, at = [], 0
    while found := BEGIN.search(text, at):
        out.append(text[at : found.start()])
        body, at = _body(text, found.end(), found[1])
        out.append(to_html(body, starred=found[1] != "tabular" and found[1] != "longtable"))
    return "".join([*out, text[at:]])


def _body(text: str, start: int, name: str) -> tuple[str, int]:
    """What stands in an environment that begins before `start`, and where the text goes on after it."""
    depth, at = 1, start
    mark = re.compile(rf"\\(begin|end)\s*\{{{re.escape(name)}\}}")
    while found := mark.search(text, at):
        depth += 1 if found[1] == "begin" else -1
        at = found.end()
        if depth == 0:
            return text[start : found.start()], at
    return text[start:], len(text)


def to_html(body: str, starred: bool = False, depth: int = 0) -> str:
    """An HTML table of what stands between a tabular's \\begin and \\end."""
    _, body = _columns(body, starred)
    rows = _rows(body, depth)
    lines = []
    for row in _covered(rows):
        cells = "".join(f"<td{_spans(cell)}>{_shown(cell.text, depth)}</td>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _columns(body: str, starred: bool) -> tuple[str, str]:
    """(column letters, the rest): options and, for tabular* and tabularx, a width stand before them."""
    body = re.sub(r"^\s*\[[^\]]*\]", "", body)
    if starred:
        _, body = _argument(body)
        body = re.sub(r"^\s*\[[^\]]*\]", "", body)
    return _argument(body)


def _argument(text: str) -> tuple[str, str]:
    """A leading {...} and what follows it; nothing and the text if there is none."""
    start = len(text) - len(text.lstrip())
    if not text[start:].startswith("{"):
        return "", text
    depth, at = 0, start
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
        if depth == 0:
            return text[start + 1 : at - 1], text[at:]
    return text[start + 1 :], ""


def _rows(body: str, nested: int) -> list[list[Cell]]:
    """Rows of cells as they are written: covered places are there, empty."""
    rows: list[list[Cell]] = []
    parts, text, depth = [], [], 0
    for found in TOKEN.finditer(body):
        kind = found.lastgroup if found.lastgroup != "env" else "begin"
        if kind == "cell" and depth == 0:
            parts.append("".join(text))
            text = []
        elif kind == "row" and depth == 0:
            rows.append([_cell(part) for part in [*parts, "".join(text)]])
            parts, text = [], []
        else:
            depth = max(0, depth + {"begin": 1, "open": 1, "group": 1}.get(kind or "", 0))
            depth = max(0, depth - {"end": 1, "close": 1, "ungroup": 1}.get(kind or "", 0))
            text.append(found[0])
    last = [_cell(part) for part in [*parts, "".join(text)]]
    if len(last) > 1 or last[0].text:
        rows.append(last)
    return [row for row in rows if len(row) > 1 or row[0].text or row[0].columns > 1 or len(rows) == 1]


def _cell(text: str) -> Cell:
    cell = Cell(RULES.sub("", text).strip())
    while found := re.match(r"\\(multicolumn|multirow)\b\s*(?:\[[^\]]*\]\s*)?", cell.text):
        count, rest = _argument(cell.text[found.end() :])
        rest = re.sub(r"^\s*\[[^\]]*\]", "", rest)
        rest = _argument(rest)[1] if rest.lstrip()[:1] == "{" else rest.lstrip()[1:]
        rest = re.sub(r"^\s*\[[^\]]*\]", "", rest)
        inner, after = _argument(rest)
        number = min(MOST_SPAN, max(1, int(count))) if count.strip().isdigit() else 1
        if found[1] == "multicolumn":
            cell.columns = number
        else:
            cell.rows = number
        cell.text = (inner + after).strip()
    return cell


def _covered(rows: list[list[Cell]]) -> list[list[Cell]]:
    """Without the empty places that LaTeX writes under a cell of several rows."""
    below: dict[int, int] = {}  # column -> rows still covered
    out = []
    for i, row in enumerate(rows):
        column, kept, started = 0, [], {}
        for cell in row:
            cell.rows = min(cell.rows, len(rows) - i)
            if below.get(column, 0) and not cell.text:
                column += cell.columns
                continue
            kept.append(cell)
            if cell.rows > 1:
                started |= {column + x: cell.rows for x in range(cell.columns)}
            column += cell.columns
        below = {c: n - 1 for c, n in below.items() if n > 1} | {c: n - 1 for c, n in started.items()}
        out.append(kept)
    return out


def _spans(cell: Cell) -> str:
    rows = f' rowspan="{cell.rows}"' if cell.rows > 1 else ""
    return rows + (f' colspan="{cell.columns}"' if cell.columns > 1 else "")


def _shown(text: str, depth: int) -> str:
    """A cell's text as HTML: formulas stay as they are, inner tables become tables, other LaTeX loses its commands."""
    if depth < MOST_DEPTH and (found := BEGIN.search(text)):
        body, at = _body(text, found.end(), found[1])
        inner = to_html(body, found[1] not in ("tabular", "longtable"), depth + 1)
        return _shown(text[: found.start()], depth) + inner + _shown(text[at:], depth)
    return _outside_math(
        text, lambda part: html.escape(_plain(part), quote=False), lambda part: html.escape(part, False)
    )


def _outside_math(text: str, plain: Callable[[str], str], math: Callable[[str], str]) -> str:
    out, at = [], 0
    for found in MATH.finditer(text):
        out += [plain(text[at : found.start()]), math(found[0])]
        at = found.end()
    return "".join([*out, plain(text[at:])])


def _plain(text: str) -> str:
    """LaTeX's text marks taken off."""
    text = SWITCHES.sub("", text)
    while found := FONTS.search(text):
        inner, rest = _argument(text[found.end() - 1 :])
        text = text[: found.start()] + inner + rest
    text = re.sub(r"\\\\(?:\[[^\]]*\])?", " ", text)
    text = re.sub(r"\\([&%$#_{}])", r"\1", text)
    text = re.sub(r"(?<!\\)[{}]", "", text) if "\\" not in text else text
    return re.sub(r"[ \t\n]+", " ", text.replace("~", " "))


def dollars(text: str) -> str:
    r"""Formulas between $ instead of \( \), and $$ instead of \[ \]."""
    text = re.sub(r"\\\((.+?)\\\)", lambda m: f"${m[1].strip()}$", text, flags=re.DOTALL)
    return re.sub(r"\\\[(.+?)\\\]", lambda m: f"$${m[1].strip()}$$", text, flags=re.DOTALL)
