"""TEDS: how alike two HTML tables are, by tree edit distance; TEDS-S: by their structure alone.

Sources: PubTabNet `metric.py` (1911.10683) and OmniDocBench's cleaning before it; EVALUATION_FACTS.md 2.3.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from apted import APTED
from apted import Config as Costs
from rapidfuzz.distance import Levenshtein

UNWRAPPED = ("thead", "tbody", "tfoot", "span", "sup", "sub", "div", "p", "b", "i", "strong", "em", "u", "font")


@dataclass
class _Node:
    tag: str
    spans: tuple[str, str]
    content: list[str]
    children: list[_Node] = field(default_factory=list)


class _Costs(Costs):
    valuecls = float

    def rename(self, node1: Any, node2: Any) -> float:
        if (node1.tag, node1.spans) != (node2.tag, node2.spans):
            return 1.0
        return Levenshtein.normalized_distance(node1.content, node2.content) if node1.tag == "td" else 0.0


def teds(predicted: str, truth: str, structure_only: bool = False) -> float:
    """Tree edit distance similarity of two documents' first tables, in 0..1; 0 where either has no `body/table`.

    To the letter of PubTabNet: `th` is another tag than `td` and its text is not looked at, `thead` and `tbody` are
    nodes, and the distance is divided by the number of all elements in the larger table, those within cells too.
    """
    tables = [_first_table(text) for text in (predicted, truth)]
    if tables[0] is None or tables[1] is None:
        return 0.0
    nodes = max(sum(1 for _ in table.iterdescendants()) for table in tables)
    if nodes == 0:
        return 1.0
    trees = [_tree(table, structure_only) for table in tables]
    return 1.0 - float(APTED(trees[0], trees[1], _Costs()).compute_edit_distance()) / nodes


def _first_table(text: str) -> Any:
    from lxml import html

    if not text.strip():
        return None
    root = html.fromstring(text, parser=html.HTMLParser(remove_comments=True, encoding="utf-8"))
    found = root.xpath("body/table")
    return found[0] if found else None


def _tree(element: Any, structure_only: bool) -> _Node:
    spans = element.get("rowspan", "1"), element.get("colspan", "1")
    if element.tag == "td":
        return _Node("td", spans, [] if structure_only else _content(element))
    children = [_tree(child, structure_only) for child in element if isinstance(child.tag, str)]
    return _Node(str(element.tag), spans, [], children)


def _content(cell: Any) -> list[str]:
    """Characters, and the tags of elements within the cell."""
    tokens = list(cell.text or "")
    for child in cell:
        tokens += [f"<{child.tag}>", *_content(child), f"</{child.tag}>", *(child.tail or "")]
    return tokens


def cleaned(text: str) -> str:
    """A table as OmniDocBench compares it: table, tr and td with their spans, text in NFKC; as a whole document.

    Nothing ("") where the text holds no table.
    """
    from lxml import html

    if not text.strip():
        return ""
    root = html.fromstring(f"<div>{text}</div>", parser=html.HTMLParser(remove_comments=True, encoding="utf-8"))
    tables = root.xpath("//table")
    if not tables:
        return ""
    table = tables[0]
    table.tail = None
    for element in list(table.iter()):
        if element.tag == "th":
            element.tag = "td"
        if element is not table and element.tag in UNWRAPPED:
            element.drop_tag()
            continue
        for name in set(element.attrib) - {"rowspan", "colspan"}:
            del element.attrib[name]
        for name in ("rowspan", "colspan"):
            if element.get(name) == "1":
                del element.attrib[name]
    for element in table.iter():
        element.text, element.tail = _plain(element.text), _plain(element.tail)
    body = html.tostring(table, encoding="unicode")
    return f"<html><body>{body}</body></html>"


def _plain(text: str | None) -> str | None:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip() if text else text
