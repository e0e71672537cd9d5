"""A page that is being set: blocks of lines in reading order, and the rules between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipelines.fonts import Typeface
from pipelines.typeset import Line, break_lines, place


@dataclass(frozen=True)
class Block:
    """Lines that belong together: "title", "text", "list", "table", "code", "header", "footer", "page number"."""

    label: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Rule:
    """A filled rectangle: a line, a frame's side, or a tinted ground. `level` is its ink, 0 to 255."""

    left_px: float
    top_px: float
    right_px: float
    bottom_px: float
    level: int = 255

    def draw(self, ink: UInt8[np.ndarray, "H W"]) -> None:
        """Adds the rule to a coverage map, in place; letters stay at least as dark as they are."""
        box = ink[round(self.top_px) : round(self.bottom_px), round(self.left_px) : round(self.right_px)]
        np.maximum(box, np.uint8(self.level), out=box)


@dataclass
class Sheet:
    """A page that is being set.

    Attributes:
        paragraphs: endless paragraphs as words for a font (atoms unless `spaced`).
        body, head: fonts of text and titles. size_px, leading_px: of the body.
    """

    rng: np.random.Generator
    width_px: int
    height_px: int
    body: Typeface
    head: Typeface
    paragraphs: Callable[[Typeface], Iterator[list[str]]]
    spaced: bool
    language: str
    size_px: float
    leading_px: float
    blocks: list[Block] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._prose = {font.face.name: self.paragraphs(font) for font in (self.body, self.head)}

    def boxes(self) -> list[dict[str, Any]]:
        """Every block's label, text and boxes (one: left, top, right, bottom in pixels)."""
        found = []
        for block in self.blocks:
            corners = np.array([line.box_px for line in block.lines])
            box = [*corners[:, :2].min(0), *corners[:, 2:].max(0)]
            text = "\n".join(line.text for line in block.lines)
            found.append({"label": block.label, "boxes": [[round(float(v), 1) for v in box]], "text": text})
        return found

    def words(self, font: Typeface | None = None) -> list[str]:
        """The next paragraph."""
        return next(self._prose[(font or self.body).face.name])

    def phrase(self, low: int, high: int, font: Typeface | None = None) -> list[str]:
        """A few words (in Chinese and Japanese, twice as many characters) from a paragraph's beginning."""
        words = self.words(font)
        count = int(self.rng.integers(low, high + 1)) * (1 if self.spaced else 2)
        return words[:count]

    def short(self, low: int, high: int, width_px: float, font: Typeface | None = None, size_px: float = 0.0) -> str:
        """A phrase as text that fits a width."""
        font, size_px = font or self.body, size_px or self.size_px
        lines = break_lines(self.phrase(low, high, font), font, width_px / size_px, spaced=self.spaced)
        return (" " if self.spaced else "").join(lines[0])

    def flow(
        self,
        words: list[str],
        left: float,
        width: float,
        top: float,
        *,
        label: str = "text",
        font: Typeface | None = None,
        size: float = 0.0,
        align: str = "left",
        indent: float = 0.0,
        bottom: float = np.inf,
        leading: float = 0.0,
    ) -> float:
        """Sets words as lines between `top` and `bottom` and returns where the next line would begin."""
        font, size = font or self.body, size or self.size_px
        leading = leading or self.leading_px * size / self.size_px
        lines: list[Line] = []
        broken = break_lines(words, font, width / size, indent / size, self.spaced)
        for i, line in enumerate(broken):
            if top + size * 1.2 > bottom:
                break
            how = "left" if align == "justify" and i == len(broken) - 1 else align
            lines.append(
                place(line, font, size, left, width, top + 0.9 * size, how, indent if i == 0 else 0.0, self.spaced)
            )
            top += leading
        if lines:
            self.blocks.append(Block(label, tuple(lines)))
        return top

    def title(
        self, low: int, high: int, left: float, width: float, top: float, size: float, align: str = "center"
    ) -> float:
        """Sets a phrase in the titles' font and returns where the next line would begin."""
        words = self.phrase(low, high, self.head)
        return self.flow(words, left, width, top, label="title", font=self.head, size=size, align=align)

    def row(
        self, cells: list[tuple[str, float, float, str]], top: float, font: Typeface | None = None, size: float = 0.0
    ) -> Line:
        """One line of cells (text, left, width, align), read from left to right; empty cells are left out."""
        font, size = font or self.body, size or self.size_px
        set_cells = [
            place([font.shown(text)], font, size, left, width, top + 0.9 * size, align)
            for text, left, width, align in cells
            if font.shown(text).strip()
        ]
        words = tuple(line.text for line in set_cells)
        xs, ys = tuple(line.x_px[0] for line in set_cells), tuple(line.y_px[0] for line in set_cells)
        return Line(" ".join(words), words, xs, ys, size, font.face)

    def rows(self, label: str, lines: list[Line]) -> None:
        """Adds lines as one block."""
        lines = [line for line in lines if line.words]
        if lines:
            self.blocks.append(Block(label, tuple(lines)))

    def rule(self, left: float, top: float, right: float, thick: float = 1.0, level: int = 255) -> None:
        """A horizontal line."""
        self.rules.append(Rule(left, top, right, top + thick, level))


def maybe(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def digits(rng: np.random.Generator, count: int) -> str:
    return "".join(str(d) for d in rng.integers(0, 10, count))


def amount(rng: np.random.Generator) -> str:
    """A sum of money without its currency."""
    return f"{np.exp(rng.uniform(0, 8)):,.2f}"


def date(rng: np.random.Generator, language: str = "en") -> str:
    """A day in one of the language's spellings."""
    year, month, day = int(rng.integers(1950, 2030)), int(rng.integers(1, 13)), int(rng.integers(1, 29))
    if language in ("zh", "ja"):
        return f"{year}年{month}月{day}日"
    names = "January February March April May June July August September October November December".split()
    spellings = [f"{year}-{month:02}-{day:02}", f"{day:02}.{month:02}.{year}", f"{month}/{day}/{year}"]
    if language == "en":
        spellings += [f"{day} {names[month - 1]} {year}", f"{names[month - 1]} {day}, {year}"]
    return str(rng.choice(spellings))


WORDS = {
    "en": {
        "invoice": "Invoice", "number": "No.", "date": "Date", "to": "Bill to", "item": "Description", "count": "Qty",
        "price": "Price", "sum": "Amount", "subtotal": "Subtotal", "tax": "Tax", "total": "Total", "due": "Payment due",
        "dear": "Dear", "closing": "Yours sincerely,", "abstract": "Abstract", "thanks": "Thank you for your visit!",
        "cash": "Cash", "change": "Change", "page": "Page",
        "fields": "Name|Date of birth|Address|City|Telephone|Occupation|Reference|Department|E-mail|Remarks",
    },
    "zh": {
        "invoice": "发票", "number": "编号", "date": "日期", "to": "客户", "item": "品名", "count": "数量",
        "price": "单价", "sum": "金额", "subtotal": "小计", "tax": "税额", "total": "合计",
        "due": "付款期限",
        "dear": "尊敬的", "closing": "此致敬礼", "abstract": "摘要", "thanks": "谢谢惠顾！", "cash": "现金",
        "change": "找零", "page": "第",
        "fields": "姓名|出生日期|地址|城市|电话|职业|编号|部门|电子邮件|备注",
    },
}  # fmt: skip


def labels(sheet: Sheet) -> dict[str, str]:
    """Fixed words of forms in the sheet's language; English where there are none."""
    return WORDS["zh" if sheet.language == "zh" else "en"]
