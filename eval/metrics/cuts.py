r"""Formulas and tables cut out of formatted text, for GOT's table 2 (formulas, tables).

Source: GOT `eval_ocr_format.py`. A page's formulas are what stands in \( \), a line each, then what stands in \[ \];
its tables are the insides of tabular environments, of one without an end too.
"""

from __future__ import annotations

import re
from typing import Literal

Mode = Literal["paper", "correct"]
INLINE, DISPLAY = r"\\\((.*?)(?<!\\)\\\)", r"\\\[(.+?)(?<!\\)\\\]"
TABLE = re.compile(r"\\begin\{tabular\}(.+?)(?:\\end\{tabular\}|$)", re.DOTALL)


def formulas(text: str, mode: Mode) -> str:
    """`paper`: formulas over several lines are lost, and the two kinds are joined without a break, as published."""
    flags = 0 if mode == "paper" else re.DOTALL
    inline, display = ("\n".join(re.findall(kind, text, flags)) for kind in (INLINE, DISPLAY))
    if mode == "paper":
        return inline + display
    return "\n".join(part for part in (inline, display) if part)


def tables(text: str) -> str:
    """The insides of all tables, a line break between them."""
    return "\n".join(TABLE.findall(text))
