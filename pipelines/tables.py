"""The tables engine: tables set by LaTeX or as HTML, answered as LaTeX, HTML or markdown.

Source: GOT paper 3.3.1 (LaTeX tables rendered by LaTeX); DeepSeek-OCR answers tables as HTML.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import UInt8

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import require
from pipelines import fonts, grids, seals
from pipelines.backends import latex
from pipelines.backends.latex import clean
from pipelines.blocks import drawn
from pipelines.documents import draw_font
from pipelines.formula_grammar import Grammar
from pipelines.grids import Cell, Grid, Look
from pipelines.paper import photograph, plain, to_png
from pipelines.prose import HALF, UNSPACED, Languages, Prose, check_languages, weighted
from pipelines.sheet import date
from pipelines.tries import Unusable, generator
from pipelines.vocabulary import Vocabulary, shortened

KINDS = ("text", "name", "count", "decimal", "percent", "money", "date", "error", "formula", "mark", "code", "long")
KIND_SHARES = (0.14, 0.1, 0.14, 0.2, 0.09, 0.06, 0.05, 0.05, 0.06, 0.03, 0.04, 0.04)


@dataclass(frozen=True)
class Source:
    """A table before it is drawn: the grid, who draws it, and how the answer spells it."""

    grid: Grid
    renderer: str
    form: str
    language: str
    style: dict[str, Any]

    def body(self) -> str | None:
        """LaTeX of the page, if that draws it."""
        if self.renderer == "html":
            return None
        return latex_body(grids.to_latex(self.grid), self.style)


@dataclass(frozen=True)
class Tables:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out", of texts and fonts.
        languages: (language, weight) pairs, of "en" and "zh".
        form: "latex", "html" or "markdown": how answers spell tables. Markdown has no spanning cells.
        html: share of tables that are drawn as HTML; LaTeX draws the others.
        rows, columns: fewest and most.
        spans: share of tables with cells over several rows or columns.
        effects: share of pictures that look printed and scanned.
        block: how many examples one run of LaTeX sets; pictures do not depend on it.
    """

    split: str = "train"
    languages: Languages = HALF
    form: str = "latex"
    html: float = 0.3
    rows: tuple[int, int] = (2, 14)
    columns: tuple[int, int] = (2, 8)
    spans: float = 0.4
    effects: float = 0.5
    block: int = 96

    tools: ClassVar[tuple[str, ...]] = ("latex",)

    def __post_init__(self) -> None:
        check_languages("tables", self.languages, ("en", "zh"))
        require(self.form in grids.FORMS, f"tables: form is '{self.form}'; choose latex, html or markdown.")
        for name, (low, high) in (("rows", self.rows), ("columns", self.columns)):
            require(1 <= low <= high, f"tables: {name} is {low, high}; it must be two ascending numbers from 1 on.")
        require(self.block >= 1, f"tables: block is {self.block}; it must be at least 1.")

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        source, page, turn = drawn(self, "tables", latex.FIGURE, seed, index)
        rng = generator("tables paper", seed, index)
        ink = html_ink(source.grid, source.style) if page is None else page.cover(source.style["scale"])
        text = grids.FORMS[source.form][0](source.grid)
        meta: dict[str, Any] = {
            "engine": "tables",
            "kind": source.renderer,
            "form": source.form,
            "language": source.language,
            "style": source.style,
            **({"ink": zlib.crc32(ink.tobytes())} if page is None else seals.seal(page, ink)),
        }
        if source.form != "latex" or source.renderer == "html":
            assert source.grid.look is not None
            meta["look"] = source.grid.look.as_lists()
        if turn:
            meta["redrawn"] = turn
        if rng.random() < self.effects:
            pixels, meta["effects"] = photograph(ink, rng)
        else:
            pixels = plain(ink)
        return Example((to_png(pixels),), prompts.FORMAT, text, meta)

    def compose(self, rng: np.random.Generator) -> Source:
        """A table to draw."""
        language = weighted(rng, self.languages)
        renderer = "html" if rng.random() < self.html else "latex"
        font = draw_font(rng, self.split, language, ("serif", "sans"), "normal")
        spans = self.form != "markdown" and rng.random() < self.spans
        writer = Writer(rng, self.split, font, language, renderer)
        grid = writer.grid(self.rows, self.columns, spans)
        style: dict[str, Any] = {"renderer": renderer}
        if renderer == "latex":
            style |= {
                "scale": float(rng.uniform(1.5, 3.2)),
                "size": str(rng.choice(["small", "normalsize", "footnotesize", "large"])),
                "font": str(
                    rng.choice(["", "", r"\sffamily", r"\fontfamily{ptm}\selectfont", r"\fontfamily{ppl}\selectfont"])
                ),
                "stretch": float(np.round(rng.uniform(0.95, 1.5), 2)),
                "gap_pt": float(np.round(rng.uniform(3, 9), 1)),
            }
        else:
            style |= {
                "scale": float(rng.uniform(1.3, 2.4)),
                "font": font.face.name,
                "padding_px": float(np.round(rng.uniform(2, 7), 1)),
                "borders": str(rng.choice(["all", "rows", "none"], p=[0.55, 0.3, 0.15])),
                "striped": bool(rng.random() < 0.3),
                "head": str(rng.choice(["none", "grey", "dark"], p=[0.5, 0.35, 0.15])),
            }
        return Source(grid, renderer, self.form, language, style)


def latex_body(tabular: str, style: dict[str, Any]) -> str:
    r"""A tabular in its fonts and gaps."""
    return (
        f"\\{style['size']}{style['font']}\\renewcommand{{\\arraystretch}}{{{style['stretch']}}}"
        f"\\setlength{{\\tabcolsep}}{{{style['gap_pt']}pt}}%\n{tabular}"
    )


class Writer:
    """Fills a table with what looks like someone's data."""

    def __init__(
        self, rng: np.random.Generator, split: str, font: fonts.Typeface, language: str, renderer: str
    ) -> None:
        self.rng, self.language, self.renderer = rng, language, renderer
        self.prose = Prose(split).paragraphs(rng, font, language)
        self.spaced = language not in UNSPACED
        self.grammar = Grammar(rng, language)
        self.words = Vocabulary(rng, language)
        self.real = rng.random() < 0.7  # names and heads as tables have them, or any words

    def phrase(self, low: int, high: int) -> str:
        """A few words that LaTeX's fonts have."""
        for _ in range(20):
            words = [w for w in map(clean, next(self.prose)) if w.strip()]
            count = int(self.rng.integers(low, high + 1)) * (1 if self.spaced else 2)
            start = int(self.rng.integers(0, max(1, len(words) - count)))
            text = (" " if self.spaced else "").join(words[start : start + count]).strip(" ,.;:，。；：、()（）\"'|\\")
            text = text.lstrip("[*").lstrip()  # after \\ these would be LaTeX's own
            if text and not set(text) & set("\\|<>~^"):
                return shortened(text, 60)
        raise Unusable("the prose gives no phrase.")

    def head(self) -> str:
        if self.real:
            return clean(self.words.head())
        text = self.phrase(1, 2)
        return text[:1].upper() + text[1:]

    def column(self, kind: str, rows: int) -> list[str]:
        """The cells of a column."""
        rng = self.rng
        scale, digits = float(np.exp(rng.uniform(0, 9))), int(rng.integers(1, 4))
        if kind == "name" and self.real:
            names = self.words.names(self.words.kind(), rows)
            return [clean(names[i % len(names)]) for i in range(rows)]
        make = {
            "text": lambda: self.phrase(1, 4),
            "name": lambda: self.phrase(1, 2).title() if self.spaced else self.phrase(1, 2),
            "count": lambda: f"{int(rng.uniform(0, scale)):,}" if digits > 1 else str(int(rng.uniform(0, scale))),
            "decimal": lambda: f"{rng.normal(0, scale / 50 + 1):.{digits}f}",
            "percent": lambda: f"{rng.uniform(0, 100):.{digits - 1}f}%",
            "money": lambda: (
                f"${rng.uniform(1, scale):,.2f}" if self.language == "en" else f"{rng.uniform(1, scale):,.2f}元"
            ),
            "date": lambda: date(rng, self.language),
            "error": lambda: rf"\( {rng.normal(0, 10):.{digits}f} \pm {rng.uniform(0, 2):.{digits}f} \)",
            "formula": lambda: rf"\( {self.symbol()} \)",
            "mark": lambda: str(rng.choice(["+", "-", "x", "yes", "no"] if self.spaced else ["是", "否", "+", "-"])),
            "code": lambda: f"{rng.choice(list('ABCDKMNRX'))}{rng.integers(1, 99)}-{rng.integers(100, 999)}",
            "long": lambda: self.phrase(5, 12),
        }[kind]
        empty = 0.25 if rng.random() < 0.12 else 0.02
        return ["" if rng.random() < empty else make() for _ in range(rows)]

    def symbol(self) -> str:
        """A formula; as HTML only what sub- and superscripts can show."""
        if self.renderer == "html":
            base = self.grammar.pick(list("xyznmkpqrst"))
            return base + self.grammar.pick(["_{1}", "_{2}", "^{2}", "_{i}", "_{0}", "^{3}", ""])
        return self.grammar.relation(0) if self.rng.random() < 0.4 else self.grammar.symbol()

    def grid(self, rows: tuple[int, int], columns: tuple[int, int], spans: bool) -> Grid:
        """A table with heads, maybe with cells that span."""
        rng = self.rng
        height = int(rng.integers(rows[0], rows[1] + 1))
        width = int(rng.integers(columns[0], columns[1] + 1))
        kinds = [str(rng.choice(["text", "name", "code"], p=[0.2, 0.65, 0.15]))]
        kinds += [str(kind) for kind in rng.choice(KINDS, width - 1, p=KIND_SHARES)]
        if rng.random() < 0.5:  # results: one kind of number all over
            kinds[1:] = [str(rng.choice(["decimal", "percent", "count", "error"]))] * (width - 1)
        body = [self.column(kind, height) for kind in kinds]
        table: list[list[Cell]] = [[Cell(body[j][i]) for j in range(width)] for i in range(height)]
        heads: list[list[Cell]] = [[Cell(self.head()) for _ in range(width)]]
        partial = ""
        if spans and width >= 3 and rng.random() < 0.65:
            heads, partial = self._double_head(heads[0], width)
        if spans and height >= 4 and (rng.random() < 0.5 or not partial):
            self._groups(table, height)
        cells = tuple(tuple(row) for row in [*heads, *table])
        return _with_group_rules(Grid(cells, self._look(kinds, len(heads), len(cells), partial)))

    def _double_head(self, singles: list[Cell], width: int) -> tuple[list[list[Cell]], str]:
        """A head of two rows: groups of columns over single ones."""
        rng = self.rng
        upper, lower, ranges = [Cell(singles[0].text, rows=2)], [], []
        at = 1
        while at < width:
            wide = min(int(rng.integers(1, 4)), width - at)
            if wide == 1:
                upper.append(Cell(singles[at].text, rows=2))
            else:
                upper.append(Cell(self.head(), columns=wide))
                lower += singles[at : at + wide]
                ranges.append(f"{at + 1}-{at + wide}")
            at += wide
        if not lower:
            return [singles], ""
        return [upper, lower], ",".join(ranges)

    def _groups(self, table: list[list[Cell]], height: int) -> None:
        """Neighbouring rows share a first cell."""
        at = 0
        while at < height:
            tall = min(int(self.rng.integers(1, 4)), height - at)
            if tall > 1:
                table[at][0] = Cell(table[at][0].text or self.head(), rows=tall)
                for below in range(at + 1, at + tall):
                    table[below] = table[below][1:]
            at += tall

    def _look(self, kinds: list[str], heads: int, rows: int, partial: str) -> Look:
        rng = self.rng
        numeric = {"count", "decimal", "percent", "money", "error"}
        align = str(rng.choice(["c", "by kind", "l"], p=[0.4, 0.45, 0.15]))
        letters = [("r" if kind in numeric else "l") if align == "by kind" else align for kind in kinds]
        letters = [
            f"p{{{rng.integers(3, 6)}cm}}" if kind == "long" else a for kind, a in zip(kinds, letters, strict=True)
        ]
        if kinds[0] != "long" and align != "c":
            letters[0] = "l"
        how = str(rng.choice(["booktabs", "ruled", "grid", "bare"], p=[0.4, 0.25, 0.27, 0.08]))
        rules = [""] * (rows + 1)
        if how == "booktabs":
            rules[0], rules[heads], rules[-1] = "toprule", "midrule", "bottomrule"
            between, bars = "cmidrule(lr)", "none"
        else:
            between, bars = "cline", {"grid": "all", "ruled": str(rng.choice(["none", "inner"])), "bare": "none"}[how]
            if how != "bare":
                rules[0] = rules[heads] = rules[-1] = "hline"
            if how == "grid":
                rules = ["hline"] * (rows + 1)
        if partial:
            rules[1] = ",".join(f"{between} {span}" for span in partial.split(","))
        return Look(grids.columns_of(letters, bars), tuple(rules), heads if rng.random() < 0.4 else 0)


def _with_group_rules(grid: Grid) -> Grid:
    """The grid with full rules made partial where a cell from above goes through them."""
    assert grid.look is not None
    rules, open_until, column_of = list(grid.look.rules), [0] * (len(grid.rows) + 1), grid.width
    for i, line in enumerate(grid.places()):
        for at, cell in line:
            if cell.rows > 1 and at == 0:
                for below in range(i + 1, i + cell.rows):
                    open_until[below] = max(open_until[below], at + cell.columns)
    for i, first in enumerate(open_until):
        if first and rules[i] == "hline":
            rules[i] = f"cline {first + 1}-{column_of}"
    return dataclasses.replace(grid, look=dataclasses.replace(grid.look, rules=tuple(rules)))


def html_ink(grid: Grid, style: dict[str, Any]) -> UInt8[np.ndarray, "H W"]:
    """The table as MuPDF sets its HTML, cut to what is there."""
    import pymupdf

    look = grid.look
    assert look is not None
    face = next(face for face in fonts.faces() if face.name == style["font"])
    typeface = fonts.typeface(face)
    archive = pymupdf.Archive(typeface.sfnts[0], "face.ttf")
    pad = style["padding_px"]
    border = {
        "all": "td{border:1px solid black}",
        "rows": "td{border-top:1px solid black;border-bottom:1px solid black}",
        "none": "",
    }[style["borders"]]
    css = (
        "@font-face{font-family:face;src:url(face.ttf)} "
        f"table{{border-collapse:collapse}} td{{font-family:face;font-size:12px;padding:{pad}px}} {border}"
    )
    shown = lambda text: re.sub(r"\\\( (.*?) \\\)", lambda m: _scripts(m[1]), _escaped(text))
    lines = []
    for i, line in enumerate(grid.places()):
        ground = "#d8d8d8" if i == 0 and style["head"] == "grey" else "#eeeeee" if style["striped"] and i % 2 else ""
        cells = []
        for at, cell in line:
            spans = f' rowspan="{cell.rows}"' if cell.rows > 1 else ""
            spans += f' colspan="{cell.columns}"' if cell.columns > 1 else ""
            letter = [c for c in look.columns if c != "|"][at][:1]
            side = {"c": "center", "r": "right"}.get("c" if cell.columns > 1 else letter, "left")
            paint = f"background-color:{ground};" if ground else ""
            if i == 0 and style["head"] == "dark":
                paint = "background-color:#303030;color:white;"
            cells.append(f'<td{spans} style="{paint}text-align:{side}">{shown(cell.text) or "&#160;"}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    story = pymupdf.Story(f"<table>{''.join(lines)}</table>", user_css=css, archive=archive, em=12)
    more, filled = story.place(pymupdf.Rect(8, 8, 720, 1400))
    if more or filled[2] > 721:
        raise Unusable("the HTML table does not fit a page.")
    box = pymupdf.Rect(0, 0, 728, filled[3] + 8)
    made = _story_pixels(story, box, style["scale"])
    seen = made > 12
    ys, xs = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(ys):
        raise Unusable("the HTML table shows nothing.")
    edge = round(8 * style["scale"])
    cut = made[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    return np.ascontiguousarray(cv2.copyMakeBorder(cut, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=0))


def _story_pixels(story: Any, box: Any, scale: float) -> UInt8[np.ndarray, "H W"]:
    import io

    import pymupdf

    buffer = io.BytesIO()
    writer = pymupdf.DocumentWriter(buffer)
    device = writer.begin_page(box)
    story.draw(device)
    writer.end_page()
    writer.close()
    page = pymupdf.open("pdf", buffer.getvalue())[0]
    made = page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), colorspace=pymupdf.csGRAY, alpha=False)
    return 255 - np.frombuffer(made.samples, np.uint8).reshape(made.height, made.width)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _scripts(formula: str) -> str:
    """A formula of letters with sub- and superscripts, and plus-minus, as HTML."""
    formula = formula.replace(r"\pm", "±")
    formula = re.sub(
        r"([_^])\{(\w+)\}", lambda m: f"<{(tag := 'sub' if m[1] == '_' else 'sup')}>{m[2]}</{tag}>", formula
    )
    return re.sub(r"(?<![<\w/])([a-z])(?![\w>])", r"<i>\1</i>", formula)


def proof(example: Example) -> str:
    """What is wrong with an example: its answer must read back as a grid whose picture is the one shown."""
    meta = example.meta
    grid = grids.read(meta["form"], example.text)
    if "look" in meta:
        look = meta["look"]
        grid = Grid(grid.rows, Look(tuple(look["columns"]), tuple(look["rules"]), look["bold"]))
    if grids.FORMS[meta["form"]][0](grid) != example.text:
        return "the answer does not read back as it was written"
    style = meta["style"]
    if style["renderer"] == "html":
        same = zlib.crc32(html_ink(grid, style).tobytes()) == meta["ink"]
    else:
        page = latex.one(latex_body(grids.to_latex(grid), style))
        same = not seals.broken(page, page.cover(style["scale"]), meta)
    return "" if same else "the answer's picture is another"
