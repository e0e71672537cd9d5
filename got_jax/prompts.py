"""Every prompt and answer format, written once: training, inference and evaluation all come here.

Sources: the original repository's "mpt" template and queries; the dialects of the hub's remote code and of
transformers' port (GOT_FACTS.md section 3). The trailing space of a query is part of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from got_jax import blocks
from got_jax.errors import require
from got_jax.tokenizers import Tokenizer

Dialect = Literal["training", "hub", "transformers"]
DIALECTS = ("training", "hub", "transformers")
COLOURS = ("red", "green", "blue")

SYSTEM = "You should follow the instructions carefully and explain your answers in detail."
PLAIN = "OCR: "
FORMAT = "OCR with format: "
PATCHES = "OCR with format upon the patch reference: "
PATCHES_PLAIN = "OCR upon the patch reference: "  # the hub's remote code only
PAGES = "OCR with format across multi pages: "
# Ours, after DeepSeek-OCR's annotations; answers are those of `got_jax.blocks`.
BOXES = "OCR with boxes: "  # coarse: every block is text
LAYOUT = "OCR with layout: "  # fine: titles, formulas, tables ... by name, their text as markdown
LAYOUT_BOXES = "OCR with layout and boxes: "
LOCATE = "Where is <ref>{}</ref>: "  # the boxes of a text
LOCATED = re.compile(r"Where is <ref>([^<>]+)</ref>: ")

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
IMG, IMG_END, IMG_PAD = "<img>", "</img>", "<imgpad>"


def query(
    format: bool = False,
    box: Sequence[float] | None = None,
    size: tuple[int, int] | None = None,
    color: str | None = None,
    patches: bool = False,
    pages: bool = False,
    dialect: Dialect = "training",
    boxes: bool = False,
    layout: bool = False,
    locate: str = "",
) -> str:
    """The user's line after the picture.

    Args:
        format: formatted text (markdown, LaTeX, ...) instead of plain text.
        box: (x1, y1, x2, y2) or (x, y) in pixels of the picture.
        size: (width, height) of the original picture; needed with `box`.
        color: "red", "green" or "blue": the drawn frame to read. It overrides `box`, as in the original demo.
        patches: the picture comes as tiles with a thumbnail. pages: several pages in one prompt.
        dialect: "training" (default), "hub" (same queries, indented system line) or "transformers" (a space before
            OCR wherever no box is given; colour first when both are given).
        boxes: every block with its box. layout: every block with its label, formatted. locate: a text whose boxes are
            asked for. These three are got-jax's own: released weights do not know them.

    Raises:
        GotError: for a combination or value no model was trained on.
    """
    require(dialect in DIALECTS, f"prompt dialect '{dialect}' is unknown; choose one of {', '.join(DIALECTS)}.")
    if boxes or layout or locate:
        return _blocks_query(boxes, layout, locate, any((box is not None, color, patches, pages)))
    require(not (patches and pages), "a prompt is either for tiles (patches) or for several pages; choose one.")
    require(
        not ((patches or pages) and (box is not None or color is not None)),
        "a box or colour cannot be combined with tiles or several pages; drop one of them.",
    )
    require(color is None or color in COLOURS, f"colour '{color}' is unknown; choose one of {', '.join(COLOURS)}.")
    if pages:
        text = PAGES
    elif patches:
        text = PATCHES if format or dialect != "hub" else PATCHES_PLAIN
    else:
        text = FORMAT if format else PLAIN
    region = ""
    if box is not None:
        require(size is not None, "a box needs the picture's size; pass size=(width, height).")
        region = f"{scale_box(box, size)} "  # type: ignore[arg-type]
    if dialect == "transformers":
        space = "" if box is not None else " "
        return (f"[{color}] " if color else "") + region + space + text
    if color is not None:
        region = f"[{color}] "
    return region + text


def _blocks_query(boxes: bool, layout: bool, locate: str, others: bool) -> str:
    require(not others, "layout, boxes and locate are asked of one whole picture; drop box, colour, tiles and pages.")
    if locate:
        require(not (boxes or layout), "locate asks for the boxes of a text alone; drop layout and boxes.")
        blocks.refuse_marks(locate)
        return LOCATE.format(" ".join(locate.split()))
    return LAYOUT_BOXES if layout and boxes else LAYOUT if layout else BOXES


def has_marks(query: str) -> bool:
    """Whether <ref> and <box> are marks in this query and its answer; elsewhere they are text like any other."""
    return query in (BOXES, LAYOUT, LAYOUT_BOXES) or bool(LOCATED.fullmatch(query))


def scale_box(box: Sequence[float], size: tuple[int, int]) -> list[int]:
    """Pixels -> thousandths of the original picture, truncated: int(x / width * 1000)."""
    require(len(box) in (2, 4), f"box {list(box)} has {len(box)} numbers; give x1, y1, x2, y2 (or x, y).")
    width, height = size
    scaled = [int(value / (height if i % 2 else width) * 1000) for i, value in enumerate(box)]
    require(
        all(0 <= value <= 1000 for value in scaled),
        f"box {list(box)} reaches outside the picture of {width} x {height} pixels; keep it inside.",
    )
    if len(box) == 4:
        require(
            box[0] < box[2] and box[1] < box[3],
            f"box {list(box)} is empty; give x1 < x2 and y1 < y2 in pixels.",
        )
    return scaled


def prompt_ids(
    tokenizer: Tokenizer, query: str, image_tokens: int, pictures: int = 1, dialect: Dialect = "training"
) -> list[int]:
    """Token ids of a whole prompt; `pictures` share one pair of <img> marks, `image_tokens` <imgpad> each."""
    require(dialect in DIALECTS, f"prompt dialect '{dialect}' is unknown; choose one of {', '.join(DIALECTS)}.")
    mark = tokenizer.special
    indent = " " * 8 if dialect == "hub" else ""
    return [
        mark[IM_START],
        *tokenizer.encode(f"system\n{indent}{SYSTEM}"),
        mark[IM_END],
        mark[IM_START],
        *tokenizer.encode("user\n"),
        mark[IMG],
        *[mark[IMG_PAD]] * (image_tokens * pictures),
        mark[IMG_END],
        *_text_ids(tokenizer, "\n" + query, has_marks(query)),
        mark[IM_END],
        mark[IM_START],
        *tokenizer.encode("assistant\n"),
    ]


def answer_ids(tokenizer: Tokenizer, text: str, query: str = "") -> list[int]:
    """Token ids of an answer with its closing mark: what the loss counts.

    Args:
        query: what was asked; when that asks for blocks, their marks are marks.
    """
    return [*_text_ids(tokenizer, text, has_marks(query)), tokenizer.special[IM_END]]


def _text_ids(tokenizer: Tokenizer, text: str, marks: bool) -> list[int]:
    """NFC, as Qwen's tokenizer normalises."""
    text = unicodedata.normalize("NFC", text)
    return blocks.encode(tokenizer, text) if marks else tokenizer.encode(text)


def stop_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """Ids that end an answer: <|im_end|> and <|endoftext|>."""
    return tokenizer.special[IM_END], tokenizer.special[END_OF_TEXT]
