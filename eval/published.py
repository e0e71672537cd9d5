"""What papers print of GOT and its rivals (`eval/data/published.json`: arXiv 2409.01704, tables 1 to 5)."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Rows = tuple[tuple[str, Mapping[str, float]], ...]


@functools.lru_cache(maxsize=1)
def _file() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "data" / "published.json").read_text(encoding="utf-8"))


def rows(table: str) -> dict[str, Rows]:
    """Published lines by group: ("GOT 580M", {"bleu": ...}).

    Groups are languages ("fox_page", "scene"), kinds of content ("formatted"), or "" where there is but one.
    """
    found = _file()[table]
    if isinstance(found, list):
        return {
            group: tuple((_name(entry), entry[group]) for entry in found if group in entry) for group in ("en", "zh")
        }
    if table == "formatted":
        return {kind: tuple((name, values[kind]) for name, values in found.items()) for kind in found["GOT single"]}
    return {"": tuple((name, values) for name, values in found.items() if isinstance(values, dict))}


def _name(entry: dict[str, Any]) -> str:
    return " ".join(filter(None, (entry["method"], entry["size"])))


def fine_grained() -> dict[str, dict[str, Rows]]:
    """Table 4: {"region" | "color": {"en" | "zh": rows}}."""
    found = _file()["fine_grained"]
    made: dict[str, dict[str, Rows]] = {kind: {"en": (), "zh": ()} for kind in ("region", "color")}
    for i, column in enumerate(found["columns"]):
        place, method = column.split(" ", 1)
        language, kind = place.split("_")
        values = {name: numbers[i] for name, numbers in found.items() if name != "columns"}
        made[kind][language] += ((method, values),)
    return made


def charts(table: str) -> Rows:
    """Table 5: lines of "chartqa_se" or "plotqa_se"."""
    found = _file()["chart"]
    return tuple(
        (method, {name: numbers[i] for name, numbers in found[table].items()})
        for i, method in enumerate(found["columns"])
    )
