"""Word files (.docx) as blocks of markdown: headings, paragraphs, lists, HTML tables, formulas as LaTeX.

Source: DeepSeek-OCR's Word data. python-docx opens the package; formulas are Office Math, translated node by node.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

from got_jax.errors import GotError, require
from pipelines import grids
from pipelines.grids import Cell, Grid
from pipelines.mmd import Block

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
MOST_BYTES = 50_000_000
NARY = {"∑": r"\sum", "∏": r"\prod", "∫": r"\int", "∮": r"\oint", "⋃": r"\bigcup", "⋂": r"\bigcap"}
ACCENTS = {
    "\u0302": r"\hat",
    "\u0303": r"\tilde",
    "\u0304": r"\bar",
    "\u0305": r"\overline",
    "\u20d7": r"\vec",
    "\u0307": r"\dot",
}
SIGNS = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ≤≥≠±×÷∞∂∇∈→⇒≈≡·√∀∃⊂∪∩",
        r"\alpha \beta \gamma \delta \varepsilon \zeta \eta \theta \iota \kappa \lambda \mu \nu \xi \pi \rho \sigma "
        r"\tau \upsilon \varphi \chi \psi \omega \Gamma \Delta \Theta \Lambda \Xi \Pi \Sigma \Phi \Psi \Omega \leq "
        r"\geq \neq \pm \times \div \infty \partial \nabla \in \rightarrow \Rightarrow \approx \equiv \cdot \surd "
        r"\forall \exists \subset \cup \cap".split(),
        strict=False,
    )
)


def read(data: bytes) -> list[Block]:
    """The blocks of a Word file.

    Raises:
        GotError: for what is no Word file, or unpacks to more than `MOST_BYTES`.
    """
    import docx

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            size = sum(info.file_size for info in package.infolist())
        require(size <= MOST_BYTES, f"the file unpacks to {size:,} bytes, over the limit of {MOST_BYTES:,}.")
        document = docx.Document(io.BytesIO(data))
    except GotError:
        raise
    except Exception as err:  # zip, XML and python-docx have errors of their own
        raise GotError(f"it is no Word file that can be opened ({type(err).__name__}).") from None
    blocks: list[Block] = []
    items: list[tuple[str, str]] = []

    def flush() -> None:
        if items:
            blocks.append(Block(items[0][0], items=tuple(text for _, text in items)))
            items.clear()

    for element in document.element.body:
        if element.tag == f"{W}tbl":
            flush()
            blocks.append(Block("table", grids.to_html(_table(element))))
        elif element.tag == f"{W}p":
            label, text = _paragraph(element, document)
            if label in ("list", "numbered") and text:
                if items and items[0][0] != label:
                    flush()
                items.append((label, text))
                continue
            flush()
            if text:
                blocks.append(Block(label, text))
    flush()
    return blocks


def _paragraph(element: Any, document: Any) -> tuple[str, str]:
    style = element.find(f"{W}pPr/{W}pStyle")
    name = style.get(f"{W}val", "") if style is not None else ""
    named = next((s.name for s in document.styles if s.style_id == name), name) or ""
    text = _runs(element).strip()
    only_math = (
        element.find(f"{M}oMathPara") is not None and not "".join(_text(r) for r in element.iter(f"{W}t")).strip()
    )
    if only_math or (text.startswith("\\(") and text.endswith("\\)") and text.count("\\(") == 1):
        return "formula", text.replace("\\(", "\\[").replace("\\)", "\\]")
    lowered = named.lower()
    if lowered == "title":
        return "title", text
    if lowered.startswith("heading"):
        return ("heading" if lowered.endswith("1") else "subheading"), text
    if "list" in lowered:
        return ("numbered" if "number" in lowered else "list"), text
    return ("caption" if lowered == "caption" else "text"), text


def _text(element: Any) -> str:
    return element.text or ""


def _runs(element: Any) -> str:
    """A paragraph's text with its formulas."""
    out = []
    for child in element:
        if child.tag == f"{W}r":
            for part in child:
                if part.tag == f"{W}t":
                    out.append(_text(part))
                elif part.tag in (f"{W}tab", f"{W}br"):
                    out.append(" ")
        elif child.tag in (f"{W}hyperlink", f"{W}ins", f"{W}smartTag", f"{W}sdt", f"{W}sdtContent"):
            out.append(_runs(child))
        elif child.tag == f"{M}oMath":
            out.append(rf"\( {formula(child)} \)")
        elif child.tag == f"{M}oMathPara":
            out += [rf"\( {formula(part)} \)" for part in child.iter(f"{M}oMath")]
    return "".join(out)


def _table(element: Any) -> Grid:
    """Cells with their spans: gridSpan across, vMerge down."""
    rows: list[list[tuple[int, Cell, bool]]] = []  # column, cell, goes on from above
    for line in element.iterfind(f"{W}tr"):
        row, column = [], 0
        for cell in line.iterfind(f"{W}tc"):
            span = cell.find(f"{W}tcPr/{W}gridSpan")
            wide = int(span.get(f"{W}val", "1")) if span is not None else 1
            merge = cell.find(f"{W}tcPr/{W}vMerge")
            goes_on = merge is not None and merge.get(f"{W}val", "continue") == "continue"
            text = " ".join(filter(None, (_runs(p).strip() for p in cell.iterfind(f"{W}p"))))
            row.append((column, Cell(text, 1, wide), goes_on))
            column += wide
        rows.append(row)
    made = []
    for i, row in enumerate(rows):
        cells = []
        for column, cell, goes_on in row:
            if goes_on:
                continue
            tall = 1
            while i + tall < len(rows) and any(c == column and on for c, _, on in rows[i + tall]):
                tall += 1
            cells.append(Cell(cell.text, tall, cell.columns))
        made.append(tuple(cells))
    return Grid(tuple(made))


def formula(element: Any) -> str:
    """Office Math as LaTeX."""
    return " ".join(filter(None, (_math(child) for child in element))).strip()


def _part(element: Any, name: str) -> str:
    found = element.find(f"{M}{name}")
    return formula(found) if found is not None else ""


def _value(element: Any, path: str, default: str) -> str:
    found = element.find("/".join(f"{M}{part}" for part in path.split("/")))
    return found.get(f"{M}val", default) if found is not None else default


def _math(element: Any) -> str:
    tag = element.tag.removeprefix(M)
    if tag == "r":
        return "".join(
            SIGNS.get(ch, "") + " " if ch in SIGNS else ch for t in element.iter(f"{M}t") for ch in _text(t)
        ).strip()
    if tag == "f":
        return rf"\frac{{{_part(element, 'num')}}}{{{_part(element, 'den')}}}"
    if tag == "sSup":
        return f"{_part(element, 'e')}^{{{_part(element, 'sup')}}}"
    if tag == "sSub":
        return f"{_part(element, 'e')}_{{{_part(element, 'sub')}}}"
    if tag == "sSubSup":
        return f"{_part(element, 'e')}_{{{_part(element, 'sub')}}}^{{{_part(element, 'sup')}}}"
    if tag == "rad":
        degree = _part(element, "deg")
        return rf"\sqrt{f'[{degree}]' if degree else ''}{{{_part(element, 'e')}}}"
    if tag == "nary":
        sign = NARY.get(_value(element, "naryPr/chr", "∫"), r"\int")
        low, high = _part(element, "sub"), _part(element, "sup")
        limits = (f"_{{{low}}}" if low else "") + (f"^{{{high}}}" if high else "")
        return f"{sign}{limits} {_part(element, 'e')}"
    if tag == "d":
        left, right = _value(element, "dPr/begChr", "("), _value(element, "dPr/endChr", ")")
        spell = lambda ch: {"{": r"\{", "}": r"\}", "": "."}.get(ch, ch)
        inside = ", ".join(formula(e) for e in element.iterfind(f"{M}e"))
        return rf"\left{spell(left)} {inside} \right{spell(right)}"
    if tag == "acc":
        accent = ACCENTS.get(_value(element, "accPr/chr", "\u0302"), r"\hat")
        return f"{accent}{{{_part(element, 'e')}}}"
    if tag == "func":
        return f"{_part(element, 'fName')} {_part(element, 'e')}"
    if tag == "m":
        rows = [" & ".join(formula(e) for e in row.iterfind(f"{M}e")) for row in element.iterfind(f"{M}mr")]
        return r"\begin{matrix} " + r" \\ ".join(rows) + r" \end{matrix}"
    if tag.endswith("Pr"):
        return ""
    return formula(element)
