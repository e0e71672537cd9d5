"""Layouts of letters and business papers: a letter, an invoice, a receipt, a form."""

from __future__ import annotations

import string

import numpy as np

from pipelines.fonts import Typeface
from pipelines.sheet import Rule, Sheet, amount, date, digits, labels, maybe
from pipelines.typeset import Line


def letter(sheet: Sheet) -> None:
    """Sender, date, addressee, salutation, a few paragraphs, closing and name."""
    rng, words = sheet.rng, labels(sheet)
    margin = sheet.width_px * rng.uniform(0.09, 0.14)
    inner = sheet.width_px - 2 * margin
    top = margin
    align = str(rng.choice(["right", "left"]))
    lines = []
    for i in range(int(rng.integers(2, 5))):
        text = sheet.short(1, 4, inner * 0.4) + (f" {rng.integers(1, 300)}" if i == 1 else "")
        lines.append(sheet.row([(text, margin, inner, align)], top))
        top += sheet.leading_px
    sheet.rows("text", lines)
    top += sheet.leading_px
    sheet.rows("text", [sheet.row([(date(rng, sheet.language), margin, inner, align)], top)])
    top += sheet.leading_px * 2
    lines = []
    for _ in range(int(rng.integers(2, 4))):
        lines.append(sheet.row([(sheet.short(1, 4, inner * 0.5), margin, inner, "left")], top))
        top += sheet.leading_px
    sheet.rows("text", lines)
    top += sheet.leading_px
    name = sheet.short(1, 2, inner * 0.4)
    name = name.rstrip(".,:;，。：；")
    greeting = f"{words['dear']}{name}：" if sheet.language == "zh" else f"{words['dear']} {name},"
    sheet.rows("text", [sheet.row([(greeting, margin, inner, "left")], top)])
    top += sheet.leading_px * 1.6
    bottom = sheet.height_px - margin - 4 * sheet.leading_px
    indent = 0.0 if sheet.spaced else 2 * sheet.size_px
    for _ in range(int(rng.integers(2, 6))):
        top = sheet.flow(
            sheet.words(), margin, inner, top, align=str(rng.choice(["left", "justify"])), indent=indent, bottom=bottom
        )
        top += sheet.leading_px * 0.6
    sheet.rows("text", [sheet.row([(words["closing"], margin, inner, "left")], top)])
    sheet.rows(
        "text", [sheet.row([(sheet.short(1, 2, inner * 0.4), margin, inner, "left")], top + 2 * sheet.leading_px)]
    )


def invoice(sheet: Sheet) -> None:
    """Heads, numbers, an addressee, a table of items, sums."""
    rng, words = sheet.rng, labels(sheet)
    margin = sheet.width_px * rng.uniform(0.06, 0.1)
    inner = sheet.width_px - 2 * margin
    size = sheet.size_px * rng.uniform(1.6, 2.2)
    top = margin
    cells = [
        (sheet.short(1, 3, inner * 0.5, sheet.head, size), margin, inner, "left"),
        (words["invoice"], margin, inner, "right"),
    ]
    sheet.rows("title", [sheet.row(cells, top, sheet.head, size)])
    top += size * 2
    lines = []
    for name, value in (
        ("number", f"{rng.choice(list(string.ascii_uppercase))}-{digits(rng, 6)}"),
        ("date", date(rng, sheet.language)),
        ("due", date(rng, sheet.language)),
    ):
        lines.append(sheet.row([(f"{words[name]}: {value}", margin, inner, "left")], top))
        top += sheet.leading_px
    sheet.rows("text", lines)
    top += sheet.leading_px * 0.6
    lines = [sheet.row([(f"{words['to']}:", margin, inner, "left")], top)]
    for _ in range(int(rng.integers(2, 4))):
        top += sheet.leading_px
        lines.append(sheet.row([(sheet.short(1, 4, inner * 0.5), margin, inner, "left")], top))
    sheet.rows("text", lines)
    top += sheet.leading_px * 2
    lefts, widths = margin + inner * np.array([0.0, 0.52, 0.66, 0.83]), inner * np.array([0.5, 0.12, 0.15, 0.17])
    line_height = sheet.leading_px * rng.uniform(1.15, 1.6)
    full = maybe(rng, 0.5)

    def table_row(texts: list[str], font: Typeface | None = None) -> Line:
        cells = [
            (t, float(x) + 3, float(w) - 6, "left" if i == 0 else "right")
            for i, (t, x, w) in enumerate(zip(texts, lefts, widths, strict=True))
        ]
        return sheet.row(cells, top + (line_height - sheet.size_px * 1.2) / 2, font)

    sheet.rules.append(Rule(margin, top, margin + inner, top + line_height, int(rng.choice([0, 25, 40]))))
    lines = [table_row([words["item"], words["count"], words["price"], words["sum"]], sheet.head)]
    sheet.rule(margin, top, margin + inner)
    for _ in range(int(rng.integers(3, 11))):
        if top + 6 * line_height > sheet.height_px - margin:
            break
        top += line_height
        sheet.rule(margin, top, margin + inner, level=255 if full else 90)
        lines.append(table_row([sheet.short(1, 5, inner * 0.48), str(rng.integers(1, 100)), amount(rng), amount(rng)]))
    top += line_height
    sheet.rule(margin, top, margin + inner, 2)
    for name in ("subtotal", "tax", "total"):
        lines.append(table_row(["", "", words[name], amount(rng)], sheet.head if name == "total" else None))
        top += line_height
    sheet.rows("table", lines)
    top += sheet.leading_px
    sheet.flow(sheet.words(), margin, inner, top, bottom=min(sheet.height_px - margin, top + 4 * sheet.leading_px))


def receipt(sheet: Sheet) -> None:
    """A shop's name and address, goods with prices, the sum, thanks."""
    rng, words = sheet.rng, labels(sheet)
    margin = sheet.width_px * 0.06
    inner = sheet.width_px - 2 * margin
    top = margin
    lines = [
        sheet.row(
            [(sheet.short(1, 2, inner, sheet.head, sheet.size_px * 1.3), margin, inner, "center")],
            top,
            sheet.head,
            sheet.size_px * 1.3,
        )
    ]
    sheet.rows("title", lines)
    top += sheet.leading_px * 1.5
    lines = []
    for _ in range(int(rng.integers(1, 4))):
        lines.append(sheet.row([(sheet.short(1, 3, inner * 0.9), margin, inner, "center")], top))
        top += sheet.leading_px
    moment = f"{date(rng, sheet.language)} {rng.integers(0, 24):02}:{rng.integers(0, 60):02}"
    lines.append(sheet.row([(moment, margin, inner, "center")], top))
    top += sheet.leading_px * 1.2
    sheet.rows("text", lines)
    sheet.rule(margin, top, margin + inner)
    top += sheet.leading_px * 0.3
    lines = []
    bottom = sheet.height_px - margin - 6.5 * sheet.leading_px
    for _ in range(int(rng.integers(3, 20))):
        if top > bottom:
            break
        lines.append(
            sheet.row(
                [(sheet.short(1, 4, inner * 0.62), margin, inner, "left"), (amount(rng), margin, inner, "right")], top
            )
        )
        top += sheet.leading_px
    top += sheet.leading_px * 0.1
    sheet.rule(margin, top, margin + inner)
    top += sheet.leading_px * 0.3
    for name in ("total", "cash", "change"):
        font = sheet.head if name == "total" else None
        lines.append(
            sheet.row([(words[name], margin, inner, "left"), (amount(rng), margin, inner, "right")], top, font)
        )
        top += sheet.leading_px * 1.1
    sheet.rows("table", lines)
    sheet.rows("text", [sheet.row([(words["thanks"], margin, inner, "center")], top + sheet.leading_px * 0.4)])
    sheet.height_px = int(min(sheet.height_px, top + 2.2 * sheet.leading_px + margin))


def form(sheet: Sheet) -> None:
    """A title, and fields with a value on a line or in a box."""
    rng, words = sheet.rng, labels(sheet)
    margin = sheet.width_px * rng.uniform(0.07, 0.11)
    inner = sheet.width_px - 2 * margin
    size = sheet.size_px * rng.uniform(1.4, 1.9)
    top = sheet.title(2, 5, margin, inner, margin, size)
    top += sheet.leading_px
    boxed = maybe(rng, 0.4)
    height = sheet.leading_px * rng.uniform(1.6, 2.2)
    lines = []
    for name in rng.permutation(words["fields"].split("|")):
        if top + height > sheet.height_px - margin:
            break
        value = {
            "Date of birth": date(rng, "en"), "出生日期": date(rng, "zh"),
            "Telephone": digits(rng, 9), "电话": digits(rng, 11),
            "Reference": f"{digits(rng, 3)}/{digits(rng, 4)}", "编号": digits(rng, 8),
        }.get(str(name)) or sheet.short(1, 4, inner * 0.55)  # fmt: skip
        left = margin + inner * 0.34
        y = top + (height - sheet.size_px * 1.2) / 2
        lines.append(
            sheet.row([(f"{name}:", margin + 4, inner * 0.32, "left"), (value, left + 8, inner * 0.64, "left")], y)
        )
        if boxed:
            sheet.rule(margin, top, margin + inner)
            sheet.rule(margin, top + height, margin + inner)
            for x in (margin, left, margin + inner):
                sheet.rules.append(Rule(x, top, x + 1, top + height))
        else:
            sheet.rule(left, y + sheet.size_px * 1.35, margin + inner, level=140)
        top += height
    sheet.rows("table", lines)
    top += sheet.leading_px * 0.8
    sheet.flow(sheet.words(), margin, inner, top, bottom=min(sheet.height_px - margin, top + 6 * sheet.leading_px))
