r"""The formatted pages engine: papers and reports with formulas, tables and figures, answered as Mathpix markdown.

Source: GOT paper 3.3.1 (full pages in markdown: English the Nougat way, Chinese the Vary way). Pages are made up block
by block and set by pdfLaTeX, so the answer is exact; `papers` reads real sources.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import require
from pipelines import geometry_scenes, grids, mmd, seals, tikz
from pipelines.backends import latex
from pipelines.backends.latex import Kind, clean
from pipelines.blocks import drawn
from pipelines.budget import tokens
from pipelines.documents import draw_font
from pipelines.formula_grammar import Grammar
from pipelines.mmd import Block
from pipelines.paper import moved, photograph, plain, to_png
from pipelines.prose import HALF, UNSPACED, Languages, Prose, check_languages, weighted
from pipelines.tables import Writer
from pipelines.tries import Unusable, generator
from pipelines.vocabulary import Vocabulary, shortened

PAGE = Kind(
    "page",
    r"\usepackage{tikz}\usepackage{geometry}\usepackage{enumitem}\newsavebox\gotpicture"
    r"\setlist{itemsep=1pt,topsep=3pt}\setlength{\emergencystretch}{3em}",
    tight=False,
    document_class=r"\documentclass[10pt,a4paper]{article}",
)
HEADS = {
    "en": "Introduction|Related work|Method|Background|Experiments|Results|Discussion|Conclusion|Data|Analysis|Model|"
    "Preliminaries|Evaluation|Ablation study|Limitations|Proof of the theorem|Notation|Applications|Overview|Summary",
    "zh": "引言|相关工作|方法|背景|实验|结果|讨论|结论|数据|分析|模型|预备知识|评价|局限性|定理的证明|符号说明|应用|"
    "概述|小结",
}
SIZES = (8, 9, 10, 10.95, 12, 14.4, 17.28, 20.74)
FIXED = {
    "en": {"abstract": "Abstract", "references": "References", "table": "Table", "figure": "Figure", "and": " and "},
    "zh": {"abstract": "摘要", "references": "参考文献", "table": "表", "figure": "图", "and": "，"},
}


@dataclass(frozen=True)
class Source:
    """A page before it is drawn: its blocks, its figures as TikZ, and how it is set."""

    blocks: tuple[Block, ...]
    figures: tuple[str, ...]
    style: dict[str, Any]
    language: str

    def body(self) -> str | None:
        """LaTeX of the page."""
        return page_latex(self.blocks, self.figures, self.style)

    def shorter(self, page: latex.Page) -> Source:
        """The blocks that end on the first page, as LaTeX's marks tell; a page with few of them is not worth it.

        Raises:
            Unusable: when less than a third would be left.
        """
        notes = [b for b in self.blocks if b.label == "footnote"]
        blocks = [b for b in self.blocks if b.label != "footnote"]
        begun = sum(at == 0 for at in page.marks)
        whole = len(blocks)
        blocks = blocks[: max(0, min(begun, whole) - 1)]
        while blocks and blocks[-1].label in ("heading", "subheading", "figure", "caption"):
            blocks.pop()
        if 3 * len(blocks) < whole:
            raise Unusable("little of the page fits.")
        marked = "\n".join(b.text + " ".join(b.items) for b in blocks)
        notes = [note for note in notes if note.text.split(":")[0] in marked]
        count = sum(b.label == "figure" for b in blocks)
        tables = sum(b.label == "table" for b in blocks)
        style = dict(self.style)
        if "looks" in style:
            style["looks"] = style["looks"][:tables]
        return dataclasses.replace(self, blocks=(*blocks, *notes), figures=self.figures[:count], style=style)


@dataclass(frozen=True)
class FormattedPages:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out", of texts.
        languages: (language, weight) pairs, of "en" and "zh".
        tables: "latex", "html" or "markdown": how answers spell tables.
        page_px: least and most of a page's height.
        columns: share of pages in two columns.
        fill: least and most share of a page that is meant to be filled.
        effects: share of pictures that look printed and scanned.
        most_tokens: of an answer, as Qwen's tokenizer counts; a longer page is written again. 0: any.
        block: how many pages one run of LaTeX sets (Chinese has a hundred font files to embed, whatever the pages);
            pictures do not depend on it.
    """

    split: str = "train"
    languages: Languages = HALF
    tables: str = "latex"
    page_px: tuple[int, int] = (1100, 1500)
    columns: float = 0.35
    fill: tuple[float, float] = (0.55, 1.1)
    effects: float = 0.6
    most_tokens: int = 0
    block: int = 64

    tools: ClassVar[tuple[str, ...]] = ("latex",)

    def __post_init__(self) -> None:
        check_languages("formatted", self.languages, ("en", "zh"))
        require(self.tables in grids.FORMS, f"formatted: tables is '{self.tables}'; choose latex, html or markdown.")
        require(self.most_tokens >= 0, f"formatted: most_tokens is {self.most_tokens}; it must be at least 0.")
        require(self.block >= 1, f"formatted: block is {self.block}; it must be at least 1.")

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        source, page, turn = drawn(self, "formatted", PAGE, seed, index)
        assert page is not None
        rng = generator("formatted paper", seed, index)
        ink = page.cover(source.style["scale"])
        meta: dict[str, Any] = {
            "engine": "formatted",
            "kind": f"{source.style['columns']} columns",
            "language": source.language,
            "style": source.style,
            "figures": list(source.figures),
            **seals.seal(page, ink),
        }
        if turn:
            meta["redrawn"] = turn
        if rng.random() < self.effects:
            pixels, meta["effects"] = photograph(ink, rng)
        else:
            pixels = plain(ink)
        meta["blocks"] = places(source, page)
        for block in meta["blocks"]:
            block["boxes"] = moved(block["boxes"], ink.shape, pixels.shape, meta.get("effects", {}))
        return Example((to_png(pixels),), prompts.FORMAT, mmd.write(source.blocks), meta)

    def compose(self, rng: np.random.Generator) -> Source:
        """A page to draw."""
        language = weighted(rng, self.languages)
        columns = 2 if rng.random() < self.columns else 1
        size = float(rng.choice([9.0, 10.0, 10.95, 12.0] if columns == 1 else [8.0, 9.0, 10.0]))
        margin = float(np.round(rng.uniform(1.6, 3.2) if columns == 1 else rng.uniform(1.4, 2.2), 2))
        style = {
            "columns": columns,
            "size_pt": size,
            "leading": float(np.round(rng.uniform(1.15, 1.45), 2)),
            "margin_cm": margin,
            "indent": bool(rng.random() < 0.6),
            "font": str(rng.choice(["lmr", "ptm", "ppl", "phv", "pnc"], p=[0.4, 0.25, 0.15, 0.1, 0.1])),
            "number": int(rng.integers(1, 400)) if rng.random() < 0.6 else 0,
            "scale": float(np.round(rng.uniform(*self.page_px) / 842, 3)),
        }
        writer = _Author(rng, self.split, language, style, self.tables)
        blocks = writer.page(float(rng.uniform(*self.fill)))
        if self.most_tokens and (count := tokens(mmd.write(blocks))) > self.most_tokens:
            raise Unusable(f"the page has {count} tokens, over {self.most_tokens}.")
        return Source(tuple(blocks), tuple(writer.figures), style, language)


class _Author:
    """Writes a page, block by block, with an eye on the room that is left."""

    def __init__(self, rng: np.random.Generator, split: str, language: str, style: dict[str, Any], tables: str) -> None:
        self.rng, self.language, self.style, self.form = rng, language, style, tables
        self.spaced = language not in UNSPACED
        font = draw_font(rng, split, language, ("serif", "sans"), "normal")
        self.prose = Prose(split).paragraphs(rng, font, language)
        self.grammar, self.words = Grammar(rng, language), Vocabulary(rng, language)
        self.cells = Writer(rng, split, font, language, "latex")
        self.figures: list[str] = []
        self.notes = self.tables = self.pictures = 0
        self.section = int(rng.integers(1, 6))
        self.sub = 0
        self.width_pt = (21.0 - 2 * style["margin_cm"]) * 28.35
        self.column_pt = (self.width_pt - 10) / 2 if style["columns"] == 2 else self.width_pt
        self.line_pt = style["size_pt"] * style["leading"]
        self.numbered = rng.random() < 0.6

    def page(self, fill: float) -> list[Block]:
        """Blocks that should fill a share of the page."""
        rng = self.rng
        room = (29.7 - 2 * self.style["margin_cm"]) * 28.35 * self.style["columns"] * fill
        blocks: list[Block] = []
        if rng.random() < 0.35:
            self.section = 0
            blocks += self.front()
        kinds = ["text", "heading", "formula", "list", "table", "figure", "subheading"]
        shares = [0.46, 0.13, 0.17, 0.07, 0.07, 0.04, 0.06]
        used = sum(map(self.height, blocks))
        last = "heading"
        while used < room:
            kind = str(rng.choice(kinds, p=shares))
            if kind != "text" and last != "text":
                kind = "text"
            made = getattr(self, f"make_{kind}")()
            blocks += made
            used += sum(map(self.height, made))
            last = kind
        if blocks[-1].label in ("heading", "subheading"):
            blocks.pop()
        if rng.random() < 0.15:
            blocks += self.references(int(rng.integers(2, 7)))
        return blocks

    def height(self, block: Block) -> float:
        """About how many points a block takes."""
        if block.label == "formula":
            rows = block.text.count(r"\\") + 1
            tall = 1.3 if r"\frac" in block.text or r"\sum" in block.text or r"\int" in block.text else 1.0
            return 18 + rows * self.line_pt * 1.5 * tall
        if block.label == "table":
            return 22 + (block.text.count("\n") + 1 + block.text.count("<tr>")) * self.line_pt
        if block.label == "figure":
            return 130.0
        texts = block.items or (block.text,)
        em = self.style["size_pt"]
        lines = 0
        for text in texts:
            math = len(re.findall(r"\\\(", text))
            printed = re.sub(r"\\[a-zA-Z]+|[{}\\()$]", "", text)
            wide = sum(1.0 if ch > "\u2e80" else 0.49 for ch in printed) * em + math * em
            lines += int(wide / self.column_pt) + 1
        extra = {"title": 40.0, "heading": 22.0, "subheading": 16.0, "authors": 20.0}.get(block.label, 3.0)
        return lines * self.line_pt * (1.6 if block.label == "title" else 1.0) + extra

    def sentence_words(self, low: int, high: int) -> list[str]:
        """Words of a paragraph that LaTeX's fonts show."""
        for _ in range(30):
            words = [w for w in map(clean, next(self.prose)) if w.strip() and not set(w) & set("\\{}$^~#_<>|*`[]&%")]
            if len(words) >= 4:
                count = int(self.rng.integers(low, high + 1)) * (1 if self.spaced else 2)
                return words[:count]
        raise Unusable("the prose gives no paragraph.")

    def text(self, low: int, high: int, math: float = 0.0, notes: list[str] | None = None) -> str:
        """Running text, with formulas between, and maybe the mark of a footnote at its end."""
        parts: list[str] = []
        for word in self.sentence_words(low, high):
            parts.append(word)
            if math and self.rng.random() < math:
                mark = ""
                if word[-1] in ".,;:，。；：" and len(word) > 1:
                    parts[-1], mark = word[:-1], word[-1]
                parts.append(rf"\( {self.grammar.inline()} \){mark}")
        made = (" " if self.spaced else "").join(parts).strip()
        made = re.sub(r"^((#+|-|\d+\.|\||\[) ?)+", "", made).strip() or self.words.head()
        if mmd.CAPTION.match(made) or made.startswith(("*", "\\", "<")):
            made = ("The " if self.spaced else "此") + made
        if notes is not None and self.rng.random() < 0.06 and not made.endswith(")"):
            self.notes += 1
            made += f"[^{self.notes}]"
            notes.append(f"[^{self.notes}]: {self.text(4, 14)}")
        return made

    def phrase(self, low: int, high: int) -> str:
        text = (" " if self.spaced else "").join(self.sentence_words(low, high))
        text = text.strip(" ,.;:，。；：、!?\"'()-")
        return shortened(text[:1].upper() + text[1:], 80) or self.words.head()

    def front(self) -> list[Block]:
        """Title, authors, abstract."""
        blocks = [Block("title", self.words.title() if self.rng.random() < 0.4 else self.phrase(4, 9))]
        if self.rng.random() < 0.8:
            names = [self.words.names("person", 1)[0] for _ in range(int(self.rng.integers(1, 5)))]
            if self.spaced:
                names = [f"{self.rng.choice(list('ABCDEFGHJKLMNPRST'))}. {name}" for name in names]
            blocks.append(Block("authors", f"*{clean(', '.join(dict.fromkeys(names)))}*"))
        if self.rng.random() < 0.7:
            blocks += [Block("heading", FIXED[self.language]["abstract"]), Block("text", self.text(40, 110))]
        return blocks

    def make_text(self) -> list[Block]:
        notes: list[str] = []
        math = float(self.rng.choice([0.0, 0.04, 0.12], p=[0.4, 0.35, 0.25]))
        block = Block("text", self.text(20, 120, math, notes))
        return [block, *(Block("footnote", note) for note in notes)]

    def make_heading(self) -> list[Block]:
        self.section, self.sub = self.section + 1, 0
        name = self.words.pick(HEADS[self.language])
        return [Block("heading", f"{self.section} {name}" if self.numbered else name)]

    def make_subheading(self) -> list[Block]:
        self.sub += 1
        name = self.phrase(1, 4)
        return [Block("subheading", f"{max(1, self.section)}.{self.sub} {name}" if self.numbered else name)]

    def make_formula(self) -> list[Block]:
        for _ in range(20):
            formula = self.grammar.display()
            if len(re.sub(r"\\[a-zA-Z]+|[{}]", "", formula)) * 5.0 < self.column_pt * (1 + formula.count(r"\\")):
                tag = rf" \tag{{{self.rng.integers(1, 40)}}}" if self.rng.random() < 0.35 else ""
                return [Block("formula", rf"\[ {formula}{tag} \]")]
        return self.make_text()

    def make_list(self) -> list[Block]:
        items = tuple(self.text(3, 22, 0.03) for _ in range(int(self.rng.integers(2, 6))))
        return [Block("list" if self.rng.random() < 0.6 else "numbered", items=items)]

    def make_table(self) -> list[Block]:
        most = 4 if self.style["columns"] == 2 else 6
        grid = self.cells.grid((2, 7), (2, most), self.form != "markdown" and self.rng.random() < 0.3)
        if (
            sum(
                max(len(c.text) for c in column)
                for column in zip(*(r for r in grid.rows if len(r) == grid.width), strict=False)
            )
            * 5.5
            > self.column_pt
        ):
            return self.make_text()
        self.tables += 1
        label = FIXED[self.language]["table"]
        caption = Block("caption", f"{label} {self.tables}: {self.phrase(3, 12)}.")
        text = grids.FORMS[self.form][0](grid)
        if self.form != "latex":
            assert grid.look is not None
            self.style.setdefault("looks", []).append(grid.look.as_lists())
        return [caption, Block("table", text)]

    def make_figure(self) -> list[Block]:
        for _ in range(10):
            picture, _ = geometry_scenes.draw(self.rng)
            size = tikz.parse(picture)
            if size.high[0] - size.low[0] < self.column_pt * 0.9 and 40 < size.high[1] - size.low[1] < 150:
                self.figures.append(picture)
                self.pictures += 1
                label = FIXED[self.language]["figure"]
                return [Block("figure"), Block("caption", f"{label} {self.pictures}: {self.phrase(3, 12)}.")]
        return self.make_text()

    def references(self, count: int) -> list[Block]:
        """A heading and numbered references."""
        blocks = [Block("heading", FIXED[self.language]["references"])]
        for i in range(1, count + 1):
            names = ", ".join(self.words.names("person", 2))
            where = self.phrase(2, 4)
            blocks.append(
                Block("reference", clean(f"[{i}] {names}. {self.phrase(4, 9)}. {where}, {self.words.year()}."))
            )
        return blocks


def colour_of(number: int) -> tuple[int, int, int]:
    """A black that the eye takes for black, another one for each block: its places are found again by it."""
    return number // 36 % 6, number // 6 % 6, number % 6


def _paint(number: int) -> str:
    red, green, blue = colour_of(number)
    return rf"\color[RGB]{{{red},{green},{blue}}}"


def page_latex(blocks: Any, figures: Any, style: dict[str, Any]) -> str:
    """The page's blocks as LaTeX, in its fonts, columns and margins."""
    size, lead = style["size_pt"], style["size_pt"] * style["leading"]
    set_up = (
        f"\\fontfamily{{{style['font']}}}"
        f"\\fontsize{{{size}}}{{{lead:.2f}}}\\selectfont"
        f"\\setlength{{\\parindent}}{{{2 * size if style['indent'] else 0}pt}}"
        f"\\setlength{{\\parskip}}{{{0 if style['indent'] else round(0.45 * size, 1)}pt}}\\setcounter{{footnote}}{{0}}"
        f"\\pagestyle{{{'plain' if style['number'] else 'empty'}}}\\setcounter{{page}}{{{style['number'] or 1}}}"
    )
    notes = {}
    for number, block in enumerate(blocks, 1):
        if block.label == "footnote":
            mark, _, text = block.text.partition(": ")
            notes[mark] = _paint(number) + grids.escape(text)
    parts, front, looks, pictures = [], [], list(style.get("looks", [])), list(figures)
    started = False
    for number, block in enumerate(blocks, 1):
        if block.label == "footnote":
            continue
        made = _block_latex(block, notes, size, looks, pictures, _paint(number))
        if not started and block.label in ("title", "authors"):
            front.append(made)
        else:
            started = True
            parts.append(made)
    head = "\n".join(front)
    margins = f"\\onecolumn\\newgeometry{{margin={style['margin_cm']}cm}}"  # begins a page, whatever was before
    if style["columns"] == 2:
        begin = f"{margins}\\twocolumn[{{{set_up}{head}}}]{set_up}\\gotbegin "
    else:
        begin = f"{margins}\\onecolumn {set_up}\\gotbegin {head}"
    return "{" + begin + "\n" + "\n\n".join(parts) + "\\clearpage}"


KINDS = {"authors": "text", "subheading": "heading", "numbered": "list"}  # names of `got_jax.blocks.LABELS`


def places(source: Source, page: latex.Page) -> list[dict[str, Any]]:
    """The page's blocks in reading order, each with its label, its markdown and its boxes in pixels of the clean page.

    A block that goes on in the next column has two boxes. The page number stands last.
    """
    scale = source.style["scale"]
    middle = page.width / 2 if source.style["columns"] == 2 else 0.0
    numbers = {colour_of(n): n for n in range(1, len(source.blocks) + 1)}
    runs: dict[int, list[tuple[float, float, float, float]]] = {}
    number = []
    for colour, box, text in page.places():
        if colour in numbers:
            runs.setdefault(numbers[colour], []).append(box)
        elif text.strip() == str(source.style["number"]) and box[1] > 0.85 * page.height:
            number = [_around([box], scale)]
    found = []
    for n, block in sorted(enumerate(source.blocks, 1), key=lambda item: item[1].label == "footnote"):
        boxes = runs.get(n, [])
        if block.label == "footnote":  # its mark stands before it
            mark = 0.9 * source.style["size_pt"]
            boxes = [(box[0] - mark * (i == 0), *box[1:]) for i, box in enumerate(boxes)]
        across = block.label in ("title", "authors")  # they stand over both columns
        columns = [boxes] if across else [[b for b in boxes if (b[0] + b[2] > 2 * middle) == side] for side in (0, 1)]
        text = "" if block.label == "figure" else mmd.write([block])
        entry = {"label": KINDS.get(block.label, block.label), "text": text}
        found.append({**entry, "boxes": [_around(part, scale) for part in columns if part]})
    if number:
        found.append({"label": "page number", "text": str(source.style["number"]), "boxes": number})
    return found


def _around(boxes: list[tuple[float, float, float, float]], scale: float) -> list[float]:
    """The smallest box round some, in pixels."""
    corners = np.array(boxes) * scale
    return [float(v) for v in (*corners[:, :2].min(0), *corners[:, 2:].max(0))]


def _block_latex(block: Block, notes: dict[str, str], size: float, looks: list, pictures: list[str], paint: str) -> str:
    inline = lambda text: _inline(text, notes)

    def big(factor: float) -> str:  # LaTeX's own sizes: every other one costs a hundred font files in Chinese
        near = min(SIZES, key=lambda s: abs(s - size * factor))
        return rf"\fontsize{{{near}}}{{{near * 1.2:.1f}}}\selectfont{{}}"

    if block.label == "title":
        return rf"\begin{{center}}{{{big(1.7)}\bfseries \gotmark {paint}{inline(block.text)}\par}}\end{{center}}"
    if block.label == "authors":
        return rf"\begin{{center}}\gotmark{paint}\textit{{{inline(block.text.strip('*'))}}}\end{{center}}"
    if block.label in ("heading", "subheading"):
        factor = 1.25 if block.label == "heading" else 1.1
        text = rf"\noindent{{{big(factor)}\bfseries \gotmark {paint}{inline(block.text)}\par}}"
        return rf"\vspace{{{0.5 * size:.1f}pt}}{text}\nopagebreak\vspace{{{0.2 * size:.1f}pt}}"
    if block.label in ("list", "numbered"):
        name = "itemize" if block.label == "list" else "enumerate"
        items = "\n".join(
            rf"\item {{}}{'' if i else chr(92) + 'gotmark '}{inline(item)}" for i, item in enumerate(block.items)
        )
        return f"{{{paint}\\begin{{{name}}}\n{items}\n\\end{{{name}}}}}"
    if block.label == "formula":
        return f"{{{paint}{_formula(block.text)}}}"
    if block.label == "table":
        if block.text.startswith(("<table", "|")):
            look = looks.pop(0)
            grid = mmd.table_of(block.text)
            grid = dataclasses.replace(
                grid, look=grids.Look(tuple(look["columns"]), tuple(look["rules"]), look["bold"])
            )
            return rf"\begin{{center}}\gotmark {paint}{grids.to_latex(grid)}\end{{center}}"
        return rf"\begin{{center}}\gotmark {paint}{block.text}\end{{center}}"
    if block.label == "figure":
        if not pictures:
            return ""
        low, high = (rf"{{{paint}\rule[{at}\gotpicture]{{.02pt}}{{.02pt}}}}" for at in (r"-\dp", r"\ht"))  # unseen
        box = rf"\sbox\gotpicture{{{pictures.pop(0)}}}{low}\usebox\gotpicture{high}"
        return rf"\begin{{center}}\gotmark {box}\end{{center}}"
    if block.label == "caption":
        return rf"\begin{{center}}{big(0.9)}\gotmark {paint}{inline(block.text)}\end{{center}}"
    if block.label == "reference":
        return rf"\noindent{{{big(0.9)}\gotmark {paint}{inline(block.text)}\par}}"
    return rf"\leavevmode\gotmark {{{paint}{inline(block.text)}}}"


def _formula(text: str) -> str:
    r"""A display; \tag needs amsmath's equation*."""
    inside = text.removeprefix("\\[").removesuffix("\\]").strip()
    return rf"\begin{{equation*}}\gotmark {inside}\end{{equation*}}"


def _inline(text: str, notes: dict[str, str]) -> str:
    """Text with its formulas and footnotes as LaTeX."""
    out, at = [], 0
    for found in re.finditer(r"\\\(.*?\\\)|\[\^\d+\]", text):
        out.append(grids.escape(text[at : found.start()]))
        mark = found[0]
        out.append(rf"\footnote{{{notes.get(mark, '')}}}" if mark.startswith("[^") else mark)
        at = found.end()
    return "".join([*out, grids.escape(text[at:])])


def proof(example: Example) -> str:
    """What is wrong with an example: its answer must read back as blocks whose page is the one shown."""
    meta = example.meta
    blocks = mmd.read(example.text)
    if mmd.write(blocks) != example.text:
        return "the answer does not read back as it was written"
    page = latex.typeset([page_latex(blocks, meta["figures"], meta["style"])], PAGE)[0]
    if isinstance(page, str):
        return f"the answer does not compile ({page})"
    if page.pages != 1:
        return f"the answer takes {page.pages} pages"
    return "the answer's picture is another" if seals.broken(page, page.cover(meta["style"]["scale"]), meta) else ""
