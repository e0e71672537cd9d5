"""Our canvas against matplotlib's own, which reads the same fonts from files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines import fonts

pytest.importorskip("matplotlib")


def figure():
    """Upright, turned, wrapped and stacked texts, a legend, and letters that the first font lacks."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(4, 3), dpi=97)
    axes = made.add_subplot()
    axes.bar(["fjord", "价格", "Ågy"], [1.0, 2.5, 1.7], label="sum\nof 价")
    axes.set_xticks(range(3), ["fjord", "价格", "Ågy"], rotation=35, ha="right")
    axes.set_title("a long title that has to be set on two lines or more, since it is wider", wrap=True)
    axes.set_ylabel("AV To $x$")
    axes.legend()
    made.text(0.5, 0.5, "turned", rotation=-20, color="red", alpha=0.4)
    return made


def test_texts_are_those_of_matplotlibs_own_canvas(tmp_path):
    import matplotlib
    from matplotlib import font_manager
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from pipelines.backends.agg import Canvas

    faces = [fonts.choose("train", "serif", "normal", "en")[0], fonts.choose("train", "sans", "normal", "zh")[0]]
    typefaces = [fonts.typeface(face) for face in faces]
    kept = list(font_manager.fontManager.ttflist)
    try:
        for number, font in enumerate(typefaces):
            path = tmp_path / f"{number}.ttf"
            path.write_bytes(font.sfnts[0])
            entry = font_manager.FontEntry(fname=str(path), name=f"face {number}", size="scalable")
            font_manager.fontManager.ttflist.append(entry)
        plain: Any = {"text.parse_math": False, "text.hinting": "none", "font.size": 9.3}
        with matplotlib.rc_context({**plain, "font.family": ["face 0", "face 1"]}):
            theirs = FigureCanvasAgg(figure())
            theirs.draw()
        with matplotlib.rc_context(plain):
            ours = Canvas(figure(), typefaces)
            ours.draw()
    finally:
        font_manager.fontManager.ttflist = kept
    got, want = (np.asarray(canvas.buffer_rgba()) for canvas in (ours, theirs))
    np.testing.assert_array_equal(got, want)
    assert (want[..., :3].min(-1) < 100).mean() > 0.02
