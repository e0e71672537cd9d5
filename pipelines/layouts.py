"""Layouts of whole pages: a plain page, a book's, a paper's, a newspaper's, a slide, a listing, vertical writing.

A layout fills a `Sheet` block by block in reading order; the order of its calls is the order of the answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from got_jax.errors import require
from pipelines.corpora import NEWLINE
from pipelines.sheet import Rule, Sheet, date, labels, maybe
from pipelines.stationery import form, invoice, letter, receipt
from pipelines.typeset import Line, break_lines, place_down


def plain(sheet: Sheet) -> None:
    """Maybe a title, one or two columns of paragraphs, maybe a page number."""
    rng = sheet.rng
    margin = sheet.width_px * rng.uniform(0.05, 0.14)
    top = margin
    inner = sheet.width_px - 2 * margin
    if maybe(rng, 0.4):
        size = sheet.size_px * rng.uniform(1.3, 2.0)
        top = sheet.title(2, 9, margin, inner, top, size)
        top += size
    columns = 2 if maybe(rng, 0.35) else 1
    _columns(sheet, margin, inner, top, sheet.height_px - margin, columns)
    if maybe(rng, 0.4):
        _page_number(sheet, margin)


def _columns(
    sheet: Sheet,
    left: float,
    width: float,
    top: float,
    bottom: float,
    count: int,
    headings: float = 0.0,
    ruled: bool = False,
) -> None:
    """Fills columns with paragraphs, which run on from one to the next column's own beginning."""
    rng, size = sheet.rng, sheet.size_px
    gutter = size * rng.uniform(1.6, 2.6)
    column = (width - gutter * (count - 1)) / count
    align = "justify" if maybe(rng, 0.65) else "left"
    indent = float(rng.choice([0.0, rng.uniform(1, 2.5)])) * size if sheet.spaced else 2.0 * size * maybe(rng, 0.8)
    gap = sheet.leading_px * float(rng.choice([0.0, rng.uniform(0.3, 0.8)]))
    section = 0
    for number in range(count):
        x, y = left + number * (column + gutter), top
        if ruled and number:
            sheet.rules.append(Rule(x - gutter / 2, top, x - gutter / 2 + 1, bottom, 180))
        while y + size * 1.2 <= bottom:
            if headings and maybe(rng, headings) and y + 5 * sheet.leading_px < bottom:
                section += 1
                words = sheet.phrase(1, 4, sheet.head)
                mark = f"{section}." if sheet.spaced else f"{section}. "
                y += sheet.leading_px * 0.4
                y = sheet.flow(
                    [mark, *words], x, column, y, label="title", font=sheet.head, size=size * 1.1, bottom=bottom
                )
                y += sheet.leading_px * 0.2
            y = sheet.flow(sheet.words(), x, column, y, align=align, indent=indent, bottom=bottom) + gap


def _page_number(sheet: Sheet, margin: float) -> None:
    rng = sheet.rng
    number = int(rng.integers(1, 999))
    spelt = f"第{number}页" if sheet.language == "zh" else f"{labels(sheet)['page']} {number}"
    text = str(rng.choice([f"{number}", f"- {number} -", spelt]))
    align = str(rng.choice(["center", "right", "left"], p=[0.7, 0.2, 0.1]))
    size = sheet.size_px * 0.9
    line = sheet.row(
        [(text, margin, sheet.width_px - 2 * margin, align)], sheet.height_px - margin * 0.55 - size, size=size
    )
    sheet.rows("page number", [line])


def book(sheet: Sheet) -> None:
    """A running head, maybe a chapter's title, indented paragraphs, a page number."""
    rng = sheet.rng
    margin = sheet.width_px * rng.uniform(0.09, 0.14)
    inner = sheet.width_px - 2 * margin
    top = margin
    if maybe(rng, 0.6):
        size = sheet.size_px * 0.85
        title = sheet.short(2, 5, inner * 0.6, size_px=size)
        align = str(rng.choice(["center", "left", "right"]))
        sheet.rows("header", [sheet.row([(title, margin, inner, align)], margin * 0.5, size=size)])
        if maybe(rng, 0.4):
            sheet.rule(margin, margin * 0.5 + size * 1.5, margin + inner, level=150)
    if maybe(rng, 0.35):
        size = sheet.size_px * rng.uniform(1.4, 2.0)
        top += sheet.leading_px * rng.uniform(1, 4)
        top = sheet.title(1, 5, margin, inner, top, size)
        top += sheet.leading_px
    _columns(sheet, margin, inner, top, sheet.height_px - margin, 1)
    _page_number(sheet, margin)


def paper(sheet: Sheet) -> None:
    """Title, authors, abstract, two columns with numbered headings."""
    rng = sheet.rng
    margin = sheet.width_px * rng.uniform(0.06, 0.1)
    inner = sheet.width_px - 2 * margin
    size = sheet.size_px * rng.uniform(1.5, 2.0)
    top = sheet.title(4, 10, margin, inner, margin, size)
    top += sheet.leading_px * 0.5
    names = ", ".join(sheet.short(2, 2, inner / 4) for _ in range(int(rng.integers(1, 4))))
    sheet.rows("text", [sheet.row([(names, margin, inner, "center")], top)])
    top += sheet.leading_px * 2
    if maybe(rng, 0.8):
        small = sheet.size_px * 0.92
        sheet.rows("title", [sheet.row([(labels(sheet)["abstract"], margin, inner, "center")], top, sheet.head, small)])
        top += sheet.leading_px * 1.1
        inset = inner * 0.09
        top = sheet.flow(
            sheet.words(),
            margin + inset,
            inner - 2 * inset,
            top,
            size=small,
            align="justify",
            bottom=top + 9 * sheet.leading_px,
        )
        top += sheet.leading_px
    _columns(sheet, margin, inner, top, sheet.height_px - margin, 2, headings=0.3)
    _page_number(sheet, margin)


def newspaper(sheet: Sheet) -> None:
    """A masthead, a date line, a headline over three or four ruled columns."""
    rng = sheet.rng
    margin = sheet.width_px * rng.uniform(0.035, 0.06)
    inner = sheet.width_px - 2 * margin
    size = sheet.size_px * rng.uniform(2.2, 3.2)
    top = margin
    sheet.rows(
        "header",
        [sheet.row([(sheet.short(1, 3, inner, sheet.head, size), margin, inner, "center")], top, sheet.head, size)],
    )
    top += size * 1.35
    sheet.rule(margin, top, margin + inner, 2)
    top += sheet.size_px * 0.5
    number = f"{labels(sheet)['number']} {rng.integers(1, 9999)}"
    cells = [(date(rng, sheet.language), margin, inner, "left"), (number, margin, inner, "right")]
    sheet.rows("header", [sheet.row(cells, top)])
    top += sheet.leading_px * 1.1
    sheet.rule(margin, top, margin + inner)
    top += sheet.size_px * 0.8
    size = sheet.size_px * rng.uniform(1.5, 2.2)
    top = sheet.title(4, 9, margin, inner, top, size, str(rng.choice(["left", "center"])))
    top += sheet.size_px * 0.7
    columns, bottom = int(rng.integers(3, 5)), sheet.height_px - margin
    _columns(sheet, margin, inner, top, bottom, columns, headings=0.12, ruled=maybe(rng, 0.6))


def slide(sheet: Sheet) -> None:
    """A title and bullets, wider than high."""
    rng = sheet.rng
    margin = sheet.width_px * rng.uniform(0.05, 0.09)
    inner = sheet.width_px - 2 * margin
    base = sheet.size_px
    size = base * rng.uniform(1.3, 1.7)
    top = sheet.title(2, 6, margin, inner, margin, size, str(rng.choice(["left", "center"])))
    if maybe(rng, 0.4):
        sheet.rule(margin, top, margin + inner, 3, int(rng.choice([120, 255])))
    top += base
    bullet = str(rng.choice(["•", "-", "–", "*"]))
    bullet = bullet if bullet in sheet.body.advances else "-"
    while top + 2 * sheet.leading_px < sheet.height_px - margin:
        inset = base * 1.6 * int(maybe(rng, 0.25))
        words = sheet.phrase(3, 14)
        words = [bullet, *words] if sheet.spaced else [f"{bullet} ", *words]
        bottom = sheet.height_px - margin * 0.7
        top = sheet.flow(words, margin + inset, inner - inset, top, label="list", bottom=bottom) + base * 0.5
    if maybe(rng, 0.5):
        number, foot = str(rng.integers(1, 80)), sheet.height_px - margin * 0.6
        sheet.rows("page number", [sheet.row([(number, margin, inner, "right")], foot, size=base * 0.6)])


def listing(sheet: Sheet) -> None:
    """Source code as it stands, its indentation kept; lines too long for the page end with it."""
    margin = sheet.width_px * sheet.rng.uniform(0.03, 0.07)
    columns = int((sheet.width_px - 2 * margin) / (sheet.size_px * sheet.body.width("n")))
    top, lines = margin, []
    while top + sheet.size_px * 1.2 < sheet.height_px - margin:
        (code,) = sheet.words()
        for text in code.split(NEWLINE):
            text = text[:columns].rstrip()
            if top + sheet.size_px * 1.2 >= sheet.height_px - margin:
                break
            if text:
                y = top + 0.9 * sheet.size_px
                lines.append(Line(text, (text,), (margin,), (y,), sheet.size_px, sheet.body.face))
            top += sheet.leading_px
        top += sheet.leading_px
    sheet.rows("code", lines)


def vertical(sheet: Sheet) -> None:
    """Chinese or Japanese in columns from right to left."""
    rng, size = sheet.rng, sheet.size_px
    margin = sheet.width_px * rng.uniform(0.07, 0.12)
    step = size * rng.uniform(1.4, 2.0)
    deep = sheet.height_px - 2 * margin
    left = sheet.width_px - margin - size
    ruled = maybe(rng, 0.2)
    while left > margin:
        lines: list[Line] = []
        for words in break_lines(sheet.words(), sheet.body, deep / size, spaced=False):
            if left <= margin:
                break
            lines.append(place_down(words, sheet.body, size, left, margin))
            if ruled:
                x = left - (step - size) / 2
                sheet.rules.append(Rule(x, margin, x + 1, margin + deep, 120))
            left -= step
        sheet.rows("text", lines)


LAYOUTS: dict[str, Callable[[Sheet], None]] = {
    "plain": plain,
    "book": book,
    "paper": paper,
    "newspaper": newspaper,
    "letter": letter,
    "invoice": invoice,
    "slide": slide,
    "receipt": receipt,
    "form": form,
    "listing": listing,
    "vertical": vertical,
}
# How often each is drawn.
SHARES = {
    "plain": 0.18, "book": 0.2, "paper": 0.14, "newspaper": 0.1, "letter": 0.08, "invoice": 0.06, "slide": 0.06,
    "receipt": 0.05, "form": 0.05, "listing": 0.05, "vertical": 0.1,
}  # fmt: skip


def suits(name: str, language: str) -> bool:
    """Listings are English; only Chinese and Japanese are written downwards."""
    return (name != "listing" or language == "en") and (name != "vertical" or language in ("zh", "ja"))


def choose(rng: np.random.Generator, language: str, names: tuple[str, ...]) -> str:
    """One of the layouts that suit the language, by its share."""
    unknown = [name for name in names if name not in LAYOUTS]
    require(not unknown, f"layout {', '.join(unknown)} is unknown; choose from {', '.join(LAYOUTS)}.")
    fit = [name for name in names if suits(name, language)]
    require(fit, f"no layout of {', '.join(names)} is for '{language}'; add one, e.g. book.")
    weights = np.array([SHARES[name] for name in fit])
    return str(rng.choice(fit, p=weights / weights.sum()))
