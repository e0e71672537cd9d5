"""The order in which boxes are read: a page's by its columns (`order`), a scene's or a table's by rows (`rows`)."""

from __future__ import annotations

from collections.abc import Sequence

Box = Sequence[float]  # left, top, right, bottom


def order(boxes: Sequence[Box], gap: float) -> list[int]:
    """Indices of the boxes as a person reads them.

    The page is cut into strips wherever a horizontal line meets no box; strips that share a gutter are one region of
    columns, which are read one after another, each by the same rule (a recursive XY-cut that prefers columns).

    Args:
        gap: the narrowest gutter, in the boxes' unit.
    """
    return _order(list(range(len(boxes))), boxes, gap)


def rows(boxes: Sequence[Box]) -> list[int]:
    """Indices from top to bottom, and from left to right among those on one line.

    Two boxes are on one line when their middles are nearer than half the smaller one's height (PaddleOCR's own order
    compares tops with a fixed 10 px; sizes differ too much in scenes for that).
    """
    height = lambda box: (box[1] + box[3]) / 2
    found: list[list[int]] = []
    for i in sorted(range(len(boxes)), key=lambda i: height(boxes[i])):
        if found:
            last = boxes[found[-1][0]]
            smaller = min(boxes[i][3] - boxes[i][1], last[3] - last[1])
            if height(boxes[i]) - height(last) < smaller / 2:
                found[-1].append(i)
                continue
        found.append([i])
    return [i for row in found for i in sorted(row, key=lambda i: boxes[i][0])]


def _order(members: list[int], boxes: Sequence[Box], gap: float) -> list[int]:
    if len(members) < 2:
        return members
    strips = _strips(members, boxes)
    found: list[int] = []
    region: list[int] = []
    gutters: list[tuple[float, float]] = []
    for strip in strips:
        own = _gutters(strip, boxes, gap)
        shared = _shared(gutters, own, gap) if region else own
        if region and any(a < _middle(boxes[i]) < b for i in strip for a, b in _inner(gutters)):
            shared = []  # what stands in a gutter, such as a page number, belongs to no column
        if region and not shared:
            found += _columns(region, gutters, boxes, gap)
            region, shared = [], own
        if not shared:
            found += sorted(strip, key=lambda i: (boxes[i][1], boxes[i][0]))
            continue
        region, gutters = region + strip, shared
    return found + (_columns(region, gutters, boxes, gap) if region else [])


def _strips(members: list[int], boxes: Sequence[Box]) -> list[list[int]]:
    """Groups parted by horizontal lines that meet no box, from top to bottom."""
    groups: list[list[int]] = []
    bottom = float("-inf")
    for i in sorted(members, key=lambda i: boxes[i][1]):
        slack = 0.2 * (boxes[i][3] - boxes[i][1])  # lines of print may touch
        if not groups or boxes[i][1] + slack >= bottom:
            groups.append([])
        groups[-1].append(i)
        bottom = max(bottom, boxes[i][3])
    return groups


def _gutters(members: list[int], boxes: Sequence[Box], gap: float) -> list[tuple[float, float]]:
    """Where vertical lines meet no box: between the boxes, and for one box alone to both of its sides."""
    spans = sorted((boxes[i][0], boxes[i][2]) for i in members)
    found, right = [(float("-inf"), spans[0][0])], spans[0][1]
    for left, end in spans[1:]:
        if left - right >= gap:
            found.append((right, left))
        right = max(right, end)
    found.append((right, float("inf")))
    inner = found[1:-1]
    return found if inner else [found[0], found[-1]]


def _shared(one: list[tuple[float, float]], other: list[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Gutters that run through both; only where at least one has boxes to both sides."""
    both = []
    for a, b in one:
        for c, d in other:
            low, high = max(a, c), min(b, d)
            if high - low >= gap:
                both.append((low, high))
    return both if _inner(both) else []


def _inner(gutters: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The gutters that have columns to both sides."""
    return [(a, b) for a, b in gutters if a > float("-inf") and b < float("inf")]


def _middle(box: Box) -> float:
    return (box[0] + box[2]) / 2


def _columns(members: list[int], gutters: list[tuple[float, float]], boxes: Sequence[Box], gap: float) -> list[int]:
    """Each column by the same rule, from left to right."""
    cuts = [(a + b) / 2 for a, b in _inner(gutters)]
    columns: list[list[int]] = [[] for _ in range(len(cuts) + 1)]
    for i in members:
        columns[sum(_middle(boxes[i]) > cut for cut in cuts)].append(i)
    columns = [column for column in columns if column]
    if len(columns) == 1:
        return sorted(columns[0], key=lambda i: (boxes[i][1], boxes[i][0]))
    return [i for column in columns for i in _order(column, boxes, gap)]
