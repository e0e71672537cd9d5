r"""A document's blocks and their Mathpix markdown: written, and read back.

# title, ## headings, paragraphs, - and 1. lists, \[ formulas \], tables (LaTeX, HTML or with pipes), captions,
[^1]: footnotes, [1] references. A figure is left out, its caption stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from got_jax.errors import require
from pipelines import grids
from pipelines.grids import Grid

LABELS = (
    "title", "authors", "heading", "subheading", "text", "list", "numbered", "formula", "table", "caption", "figure",
    "footnote", "reference",
)  # fmt: skip
CAPTION = re.compile(r"(Table|Figure|表|图) ?\d+[:：.]? ")
TABLE = re.compile(r"\\begin\{tabular\}|<table>|\|")


@dataclass(frozen=True)
class Block:
    r"""A part of a page: its label, and its text as markdown has it (formulas as \( ... \), a table's own spelling).

    Attributes:
        items: of a list; `text` is then empty.
    """

    label: str
    text: str = ""
    items: tuple[str, ...] = ()


def write(blocks: Sequence[Block]) -> str:
    """The markdown; blocks are parted by blank lines, figures are left out, footnotes stand last."""
    parts = []
    for block in [*(b for b in blocks if b.label != "footnote"), *(b for b in blocks if b.label == "footnote")]:
        if block.label == "figure":
            continue
        if block.label == "list":
            parts.append("\n".join(f"- {item}" for item in block.items))
        elif block.label == "numbered":
            parts.append("\n".join(f"{i}. {item}" for i, item in enumerate(block.items, 1)))
        else:
            mark = {"title": "# ", "heading": "## ", "subheading": "### "}.get(block.label, "")
            parts.append(mark + block.text)
    return "\n\n".join(parts)


def read(text: str) -> list[Block]:
    """Blocks of what `write` wrote; figures come back empty before their captions.

    Raises:
        GotError: for a list whose numbers are not 1, 2, 3 ...
    """
    blocks: list[Block] = []
    for part in text.split("\n\n"):
        lines = part.split("\n")
        if part.startswith("# "):
            blocks.append(Block("title", part[2:]))
        elif part.startswith("## "):
            blocks.append(Block("heading", part[3:]))
        elif part.startswith("### "):
            blocks.append(Block("subheading", part[4:]))
        elif all(line.startswith("- ") for line in lines):
            blocks.append(Block("list", items=tuple(line[2:] for line in lines)))
        elif all(re.match(r"\d+\. ", line) for line in lines):
            numbers = [int(line.split(".", 1)[0]) for line in lines]
            require(numbers == list(range(1, len(lines) + 1)), "the items of a list are not numbered one by one.")
            blocks.append(Block("numbered", items=tuple(line.split(". ", 1)[1] for line in lines)))
        elif part.startswith("\\["):
            blocks.append(Block("formula", part))
        elif TABLE.match(part):
            blocks.append(Block("table", part))
        elif m := CAPTION.match(part):
            if m[1] in ("Figure", "图"):
                blocks.append(Block("figure"))
            blocks.append(Block("caption", part))
        elif part.startswith("[^"):
            blocks.append(Block("footnote", part))
        elif re.match(r"\[\d+\] ", part):
            blocks.append(Block("reference", part))
        elif len(blocks) == 1 and blocks[0].label == "title" and part.startswith("*") and part.endswith("*"):
            blocks.append(Block("authors", part))
        else:
            blocks.append(Block("text", part))
    return blocks


def table_of(text: str) -> Grid:
    """The grid of a table in any of its spellings."""
    if text.startswith("<table"):
        return grids.from_html(text)
    return grids.from_markdown(text) if text.startswith("|") else grids.from_latex(text)


def plain_words(text: str) -> list[str]:
    """What is printed of markdown, as words without marks: to compare with a page's own text."""
    text = re.sub(
        r"\\\[.*?\\\]|\\\(.*?\\\)|\\begin\{tabular\}\{.*?\}|\\[a-zA-Z]+|<[^>]*>|\[\^\d+\]", " ", text, flags=re.DOTALL
    )
    return re.findall(r"[\u3400-\u9fff]|[^\W_]+", text)


def pieces(text: str) -> list[str]:
    """Markdown cut where it may be: words with the space after them, Chinese characters, whole formulas."""
    return re.findall(r"\\\(.*?\\\)\s*|[\u3400-\u9fff]|[^\s\u3400-\u9fff\\]+\s*|\\|\s+", text, flags=re.DOTALL)
