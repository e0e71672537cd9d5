"""The SVG drawer: shapes, nesting, clips, text and dashes come out where the standard puts them."""

from __future__ import annotations

import numpy as np
import pytest

from got_jax.errors import GotError
from pipelines import fonts
from pipelines.backends import svg


def head(inside: str, size: int = 100, more: str = "") -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}" {more}>{inside}</svg>'


def ink(inside: str, **changes) -> np.ndarray:
    drawing = svg.parse(head(inside, **changes))
    return svg.cover([(drawing, 0, 0, 1.0)], 100, 100) > 127


def test_colours_are_those_that_are_asked_for():
    pixels = svg.paint(svg.parse(head('<rect width="60" height="100" fill="#5070dd"/>')))
    assert pixels[50, 20].tolist() == [0x50, 0x70, 0xDD]
    assert pixels[50, 90].tolist() == [255, 255, 255]
    half = svg.paint(svg.parse(head('<rect width="60" height="100" fill="rgb(255,0,0)" fill-opacity="0.5"/>')))
    assert np.abs(half[50, 20].astype(int) - [255, 127, 127]).max() <= 2


def test_areas_of_circles_ellipses_and_arcs():
    for shape in (
        '<circle cx="50" cy="50" r="30"/>',
        '<ellipse cx="50" cy="50" rx="30" ry="30"/>',
        '<path d="M20 50A30 30 0 0 1 80 50A30 30 0 0 1 20 50Z"/>',
        '<path d="M50 20c16.57 0 30 13.43 30 30s-13.43 30-30 30s-30-13.43-30-30s13.43-30 30-30z"/>',
    ):
        assert ink(shape).sum() == pytest.approx(np.pi * 900, rel=0.01)
    small = ink('<path d="M50 50L80 50A30 30 0 0 1 50 80Z"/>')
    large = ink('<path d="M50 50L80 50A30 30 0 1 0 50 80Z"/>')
    assert small.sum() == pytest.approx(np.pi * 900 / 4, rel=0.03)
    assert large.sum() == pytest.approx(np.pi * 900 * 3 / 4, rel=0.03)


def test_nested_pictures_scale_and_clip():
    inner = '<svg x="20" y="10" width="40" height="40" viewBox="0 0 10 10"><rect width="100" height="5"/></svg>'
    found = np.argwhere(ink(inner))
    assert found.min(0).tolist() == [10, 20]
    assert found.max(0).tolist() == [29, 59]
    whole = '<svg viewBox="0 0 1000 1000"><rect x="100" y="100" width="100" height="100"/></svg>'
    assert np.argwhere(ink(whole)).min(0).tolist() == [10, 10]


def test_transforms_uses_and_clip_paths():
    defs = '<defs><g id="g"><rect width="10" height="10"/></g>'
    defs += '<clipPath id="c"><rect width="50" height="9"/></clipPath></defs>'
    found = np.argwhere(ink(defs + '<use href="#g" transform="translate(30 20) scale(2)"/>'))
    assert (found.min(0).tolist(), found.max(0).tolist()) == ([20, 30], [39, 49])
    assert ink(defs + '<g clip-path="url(#c)"><rect width="100" height="100"/></g>').sum() == 450
    turned = np.argwhere(ink('<rect width="40" height="10" transform="rotate(90 50 50)"/>'))
    assert (turned.min(0).tolist(), turned.max(0).tolist()) == ([0, 90], [39, 99])


def test_dashes_leave_gaps_on_lines_and_curves():
    solid = ink('<path d="M0 50H100" stroke="black" stroke-width="4" fill="none"/>').sum()
    dashed = ink('<path d="M0 50H100" stroke="black" stroke-width="4" stroke-dasharray="5 5" fill="none"/>').sum()
    assert dashed == pytest.approx(solid / 2, rel=0.1)
    ring = '<circle cx="50" cy="50" r="40" stroke="black" stroke-width="4" fill="none" {}/>'
    assert ink(ring.format('stroke-dasharray="6,3"')).sum() == pytest.approx(
        ink(ring.format("")).sum() * 2 / 3, rel=0.1
    )


def test_text_stands_at_its_anchor():
    font = fonts.typeface(fonts.choose("train", "sans", "normal", "en")[0])
    places = {}
    for anchor in ("start", "middle", "end"):
        drawing = svg.parse(head(f'<text x="50" y="50" font-size="20" text-anchor="{anchor}">HHH</text>'))
        places[anchor] = np.argwhere(svg.cover([(drawing, 0, 0, 1.0)], 100, 100, [font]) > 127)
    assert places["start"][:, 1].min() >= 50
    assert places["end"][:, 1].max() <= 50
    assert places["middle"][:, 1].mean() == pytest.approx(50, abs=1.5)
    assert all(abs(place[:, 0].max() - 49) <= 1 for place in places.values()), "the baseline is at y"
    drawing = svg.parse(head('<text x="1" y="50">\u0e01</text>'))
    with pytest.raises(GotError, match="no font of the engine shows"):
        svg.cover([(drawing, 0, 0, 1.0)], 100, 100, [font])


def test_scripts_images_and_styles_draw_nothing():
    hostile = '<script>alert(1)</script><image href="file:///etc/passwd" width="9" height="9"/><style>x</style>'
    assert not svg.parse(head(hostile)).marks
    for text, says in (
        ("<svg><g></svg>", "not well formed"),
        ("<html/>", "not an <svg>"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><svg/>', "with entities"),
        (head("<g>" * 80 + "</g>" * 80), "nested too deeply"),
    ):
        with pytest.raises(GotError, match=says):
            svg.parse(text)


@pytest.mark.parametrize(("direction", "way"), [("ltr", 1), ("rtl", -1)])
def test_labels_above_and_below_an_atom_are_stacked(direction, way):
    """SmilesDrawer's vertical text begins next to its atom; an index stays beside its letter."""
    css = f"writing-mode: vertical-rl; letter-spacing: -1px; direction: {direction};"
    made = svg.parse(
        '<svg width="100" height="100"><style>.element-1 { font: 14px Arial; }</style>'
        f'<text x="50" y="40" class="element-1" style="{css}"><tspan>N</tspan>'
        '<tspan>H<tspan baseline-shift="sub" class="sub-1">2</tspan></tspan></text></svg>'
    )
    first, second = made.marks
    assert [run[0] for run in first.runs] == ["N"]
    assert [run[0] for run in second.runs] == ["H", "2"]
    assert [(mark.matrix[4], mark.matrix[5]) for mark in made.marks] == [(50, 40 + way * 7), (50, 40 + way * 20)]
    assert {(mark.style.size, mark.style.anchor, mark.style.baseline) for mark in made.marks} == {
        (14.0, "middle", "central")
    }
