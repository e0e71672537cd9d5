r"""A LaTeX source as blocks of markdown: sections, paragraphs, lists, formulas, tabulars, captions, footnotes.

Source: Nougat's LaTeXML step, by pylatexenc. What it does not know is left out: commands without text, drawings,
citations and references become `REFERENCE`.
"""

from __future__ import annotations

import re
from typing import Any

from got_jax.errors import GotError
from pipelines import tex
from pipelines.grids import Cell, Grid
from pipelines.mmd import Block

HEADS = {
    "chapter": "heading",
    "section": "heading",
    "subsection": "subheading",
    "subsubsection": "subheading",
    "paragraph": "subheading",
}
KEPT = frozenset("emph textit textbf textrm texttt textsc textsf textsl underline mbox text uppercase".split())
SYMBOLS = {
    **{mark: mark for mark in "%&$#_{}"}, " ": " ", ",": " ", "-": "", "/": "", "@": "", "ldots": "...", "dots": "...",
    "LaTeX": "LaTeX", "TeX": "TeX", "textbackslash": "\\", "ss": "ß", "o": "ø", "ae": "æ", "aa": "å", "S": "§",
    "quad": " ", "qquad": " ", "newline": " ",
}  # fmt: skip
REFERENCE = "\ue000"  # stands where the source refers to a number or a citation: only the page knows what it shows
REFERRING = frozenset("ref eqref pageref autoref cref Cref vref cite citep citet citealp parencite textcite".split())
SKIPPED = ("tikzpicture", "thebibliography", "lstlisting", "verbatim", "comment", "algorithm", "algorithmic", "picture")


def read(source: str) -> list[Block]:
    """The blocks of a source.

    Raises:
        GotError: for a source that cannot be taken apart.
    """
    from pylatexenc import latexwalker

    text = tex.plain_source(source)
    title = _argument(text, "title")
    author = _argument(text, "author")
    found = re.search(r"\\begin\s*\{document\}(.*)\\end\s*\{document\}", text, re.DOTALL)
    text = found[1] if found else text
    try:
        nodes = _walker(text).get_latex_nodes()[0]
    except (latexwalker.LatexWalkerError, RecursionError, IndexError) as err:
        raise GotError(f"the source cannot be taken apart ({type(err).__name__}).") from None
    reader = _Reader()
    if title and r"\maketitle" in text:
        reader.blocks.append(Block("title", _flat(title)))
        if author:
            names = re.split(r"\\and\b|\\\\|,", author)
            reader.blocks.append(Block("authors", f"*{', '.join(filter(None, map(_flat, names)))}*"))
    reader.walk(nodes)
    reader.end()
    blocks: list[Block] = []
    for block in reader.blocks:
        if block.text or block.items or block.label == "figure":
            blocks.append(block)
            marks = map(int, re.findall(r"\[\^(\d{1,4})\]", " ".join([block.text, *block.items])))
            notes = {mark: reader.notes[mark - 1] for mark in marks if 0 < mark <= len(reader.notes)}
            blocks += [Block("footnote", f"[^{mark}]: {note}") for mark, note in notes.items()]
    return blocks


def _walker(text: str) -> Any:
    """pylatexenc with the arguments of what it does not know."""
    from pylatexenc import latexwalker, macrospec

    known = latexwalker.get_default_latex_context_db()
    macros = [macrospec.std_macro("caption", True, 1), *(macrospec.std_macro(name, "*[[{") for name in REFERRING)]
    known.add_context_category("got", prepend=True, macros=macros)
    return latexwalker.LatexWalker(text, latex_context=known, tolerant_parsing=True)


def _argument(text: str, name: str) -> str:
    found = re.search(rf"\\{name}\s*(?:\[[^\]]*\])?\s*\{{", text)
    try:
        return text[found.end() : tex.balanced(text, found.end())] if found else ""
    except GotError:
        return ""


def _flat(text: str) -> str:
    inner = _Reader()
    inner.walk(_walker(text).get_latex_nodes()[0])
    inner.end()
    return " ".join(block.text for block in inner.blocks if block.text).strip()


class _Reader:
    """Gathers text until a block ends."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.notes: list[str] = []
        self.line: list[str] = []

    def end(self, label: str = "text") -> None:
        text = re.sub(r"\s+", " ", "".join(self.line)).strip()
        text = text.replace("``", '"').replace("''", '"').replace("---", "—").replace("--", "–").replace("~", " ")
        if text:
            self.blocks.append(Block(label, text))
        self.line = []

    def walk(self, nodes: list[Any]) -> None:
        from pylatexenc import latexwalker as lw

        for node in nodes or []:
            if isinstance(node, lw.LatexCharsNode):
                parts = re.split(r"\n\s*\n", node.chars)
                for i, part in enumerate(parts):
                    if i:
                        self.end()
                    self.line.append(part)
            elif isinstance(node, lw.LatexMathNode):
                inside = tex.mathpix(node.latex_verbatim()[len(node.delimiters[0]) : -len(node.delimiters[1])])
                self.formula(inside, node.displaytype == "display")
            elif isinstance(node, lw.LatexSpecialsNode):
                if node.specials_chars == "\n\n":
                    self.end()
                else:
                    self.line.append(node.specials_chars)
            elif isinstance(node, lw.LatexGroupNode):
                self.walk(node.nodelist)
            elif isinstance(node, lw.LatexEnvironmentNode):
                self.environment(node)
            elif isinstance(node, lw.LatexMacroNode):
                self.macro(node)

    def formula(self, inside: str, display: bool) -> None:
        if not inside:
            return
        if display:
            self.end()
            self.blocks.append(Block("formula", rf"\[ {inside} \]"))
        else:
            self.line.append(rf"\( {inside} \)")

    def macro(self, node: Any) -> None:
        name = node.macroname
        arguments = [part for part in (node.nodeargd.argnlist if node.nodeargd else []) or [] if part is not None]
        if name in HEADS and arguments:
            self.end()
            if len(arguments) == 1:  # without a star, or a short title
                self.line.append(REFERENCE)
            self.walk([arguments[-1]])
            self.end(HEADS[name])
        elif name == "footnote" and arguments:
            inner = _Reader()
            inner.walk([arguments[-1]])
            inner.end()
            self.notes.append(" ".join(block.text for block in inner.blocks))
            self.line.append(f"[^{len(self.notes)}]")
        elif name == "caption" and arguments:
            self.end()
            self.line.append(REFERENCE)
            self.walk([arguments[-1]])
            self.end("caption")
        elif name in ("par", "maketitle", "newpage", "clearpage"):
            self.end()
        elif name in REFERRING:
            self.line.append(REFERENCE)
        elif name == "\\":
            self.line.append(" ")
        elif name in SYMBOLS:
            self.line.append(SYMBOLS[name])
        elif name in KEPT and arguments:
            self.walk([arguments[-1]])
        elif name in ("'", "`", "^", '"', "~", "c", "v", "=", ".", "u", "H", "k") and arguments:
            from pylatexenc.latex2text import LatexNodes2Text

            self.line.append(LatexNodes2Text().nodelist_to_text([node]))

    def environment(self, node: Any) -> None:
        name = node.environmentname
        base = name.rstrip("*")
        if base in tex.DISPLAYS:
            inside = re.sub(r"^\\begin\{[^}]*\}|\\end\{[^}]*\}$", "", node.latex_verbatim().strip())
            self.formula(tex.mathpix(inside, name), True)
        elif base in ("itemize", "enumerate", "description"):
            self.end()
            self.blocks.append(Block("numbered" if base == "enumerate" else "list", items=tuple(_items(node))))
        elif base in ("tabular", "tabularx", "array"):
            self.end()
            table = _table(node.latex_verbatim())
            if table:
                self.blocks.append(Block("table", table))
        elif base in ("figure", "table", "figure*", "table*"):
            self.end()
            if base == "figure":
                self.blocks.append(Block("figure"))
            before = len(self.blocks)
            self.walk(node.nodelist)
            self.end()
            kept = [b for b in self.blocks[before:] if b.label in ("caption", "table")]
            self.blocks[before:] = kept
        elif base in SKIPPED:
            self.end()
        elif base == "abstract":
            self.end()
            self.blocks.append(Block("heading", "Abstract"))
            self.walk(node.nodelist)
            self.end()
        else:
            self.walk(node.nodelist)


def _items(node: Any) -> list[str]:
    from pylatexenc import latexwalker as lw

    items: list[list[Any]] = []
    for child in node.nodelist:
        if isinstance(child, lw.LatexMacroNode) and child.macroname == "item":
            items.append([])
        elif items:
            items[-1].append(child)
    out = []
    for item in items:
        inner = _Reader()
        inner.walk(item)
        inner.end()
        text = " ".join(block.text or " ".join(block.items) for block in inner.blocks)
        if text:
            out.append(text)
    return out


def _table(verbatim: str) -> str:
    """A tabular with its cells' text cleaned; nothing when it is not understood."""
    from pipelines import grids

    try:
        grid = grids.from_latex(re.sub(r"\\centering|\\small", "", verbatim))
        rows = tuple(tuple(Cell(_flat(c.text), c.rows, c.columns) for c in row) for row in grid.rows)
        return grids.to_latex(Grid(rows, grid.look))
    except (GotError, IndexError):
        return ""
