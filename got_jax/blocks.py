"""Text with boxes: a page's blocks as an answer spells them, and an answer read back as blocks.

    <ref>title</ref><box>[[112, 60, 890, 101]]</box>
    # A page

    <ref>figure</ref><box>[[100, 130, 480, 420]]</box>

Source: DeepSeek-OCR's fine annotations, which write <|ref|> and <|det|> for these marks. GOT's vocabulary has
<ref> and <box> (and never used them), so a mark is one token; a vocabulary without them spells the marks as text.
Boxes are left, top, right, bottom in thousandths of the picture's width and height.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from got_jax.errors import GotError, require
from got_jax.tokenizers import REGION_MARKS, Tokenizer

Box = tuple[int, int, int, int]
SPELLINGS = {
    "qwen": ("<ref>", "</ref>", "<box>", "</box>"),
    "deepseek": ("<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>"),
}
LABELS = (
    "title", "heading", "text", "formula", "table", "figure", "caption", "list", "footnote", "reference", "header",
    "footer", "page number", "code", "chart",
)  # fmt: skip
MARK = re.compile("|".join(re.escape(mark) for marks in SPELLINGS.values() for mark in marks))
_BEGUN = "|".join(re.escape(m[:n]) for marks in SPELLINGS.values() for m in marks for n in range(len(m) - 1, 1, -1))
CUT = re.compile(rf"(?:(?:<ref>|<\|ref\|>)[^<>\n]*(?:{_BEGUN}|<)?|{_BEGUN})$")  # an answer's end inside a block's head
HEAD = re.compile(
    r"(?:<ref>|<\|ref\|>)(?P<label>[^<>\n]{1,4000})(?:</ref>|<\|/ref\|>)"
    r"(?:(?:<box>|<\|det\|>)(?P<boxes>[^<>]*)(?:</box>|<\|/det\|>)?)?"
)
NUMBERS = re.compile(r"\[\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*\]")


@dataclass(frozen=True)
class Block:
    """A part of a page.

    Attributes:
        label: one of `LABELS`, or what a model wrote. boxes: where it stands, more than one if it goes on in the next
            column. text: what stands there, empty for a figure.
    """

    label: str
    boxes: tuple[Box, ...] = ()
    text: str = ""

    def pixels(self, size: tuple[int, int]) -> tuple[tuple[float, float, float, float], ...]:
        """The boxes in pixels of a picture of `size` (width, height)."""
        width, height = size
        return tuple(
            (a * width / 1000, b * height / 1000, c * width / 1000, d * height / 1000) for a, b, c, d in self.boxes
        )


def write(blocks: Iterable[Block], boxes: bool = True, spelling: str = "qwen") -> str:
    """Blocks as an answer: marks, then the text on the next line; blank lines between.

    Args:
        boxes: with their boxes, or labels alone.

    Raises:
        GotError: for a text or label that holds a mark, or a box that is none.
    """
    require(spelling in SPELLINGS, f"spelling '{spelling}' is unknown; choose one of {', '.join(SPELLINGS)}.")
    begin, end, _, _ = SPELLINGS[spelling]
    parts = []
    for block in blocks:
        require(bool(block.label.strip()), "a block has no label; give each one of the labels.")
        refuse_marks(block.label + block.text)
        head = f"{begin}{block.label}{end}{write_boxes(block.boxes, spelling) if boxes else ''}"
        parts.append(f"{head}\n{block.text}" if block.text else head)
    return "\n\n".join(parts)


def write_boxes(boxes: Sequence[Box], spelling: str = "qwen") -> str:
    """Boxes between their marks: <box>[[x1, y1, x2, y2], ...]</box>. Raises GotError for one that is none."""
    for box in boxes:
        require(
            len(box) == 4 and 0 <= box[0] < box[2] <= 1000 and 0 <= box[1] < box[3] <= 1000,
            f"box {list(box)} is none: give left, top, right, bottom in thousandths, ascending.",
        )
    _, _, begin, end = SPELLINGS[spelling]
    return f"{begin}{[[int(v) for v in box] for box in boxes]}{end}"


def refuse_marks(text: str) -> None:
    """Raises GotError for a text that spells a mark: it could not be told from one."""
    if found := MARK.search(text):
        raise GotError(f"the text {text[:60]!r} holds the mark {found[0]}; leave it out.")


def parse(answer: str) -> tuple[Block, ...]:
    """The blocks of an answer in either spelling, in order; nothing for an answer without them.

    Whatever a model writes is read: an answer that ends in the middle keeps what is whole, and boxes that are none
    (fewer than four numbers, outside the picture, empty or inverted) are left out. Text before the first block becomes
    a block of label "text".
    """
    heads = list(HEAD.finditer(answer))
    if not heads:
        return ()
    found = []
    if before := _bare(answer[: heads[0].start()]):
        found.append(Block("text", (), before))
    for head, follow in zip(heads, [*heads[1:], None], strict=True):
        text = answer[head.end() : follow.start() if follow else len(answer)]
        label = head["label"].strip()
        if label:
            found.append(Block(label, read_boxes(head["boxes"] or ""), _bare(text)))
    return tuple(found)


def read_boxes(text: str) -> tuple[Box, ...]:
    """Every box in a text that is one, in order."""
    boxes = []
    for numbers in NUMBERS.findall(text):
        x1, y1, x2, y2 = (int(v) for v in numbers)
        if 0 <= x1 < x2 <= 1000 and 0 <= y1 < y2 <= 1000:
            boxes.append((x1, y1, x2, y2))
    return tuple(boxes)


def _bare(text: str) -> str:
    """A block's text without marks that a broken answer left in it, whole or cut at the answer's end."""
    return MARK.sub("", CUT.sub("", text)).strip()


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text whose <ref> and <box> marks are marks: one id each where the vocabulary has them."""
    ids: list[int] = []
    for part in re.split(f"({'|'.join(map(re.escape, REGION_MARKS))})", text):
        ids += [tokenizer.special[part]] if part in tokenizer.special else tokenizer.encode(part)
    return ids


def spell(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of ids, with <ref> and <box> marks spelt out; other marks stand for nothing."""
    names = {tokenizer.special[mark]: mark for mark in REGION_MARKS if mark in tokenizer.special}
    out, run = [], []
    for i in map(int, ids):
        if i in names:
            out += [tokenizer.decode(run), names[i]]
            run = []
        else:
            run.append(i)
    return "".join([*out, tokenizer.decode(run)])
