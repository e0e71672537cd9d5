"""What paper does to print: every trace occurs, none hides the print, and the same draw gives the same bytes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipelines import fonts, paper, typeset


@pytest.fixture(scope="module")
def ink() -> np.ndarray:
    font = fonts.typeface(fonts.choose("train", "serif", "normal")[0])
    lines = [typeset.place(["Print", "on", "paper"], font, 30.0, 20, 300, y, "left") for y in (60, 120, 180, 240)]
    return typeset.coverage(lines, 320, 280)


def test_every_trace_of_paper_occurs_and_the_print_stays_legible(ink):
    seen: set[str] = set()
    colours = set()
    for seed in range(400):
        pixels, done = paper.photograph(ink, np.random.default_rng(seed))
        assert pixels.dtype == np.uint8
        colours.add(pixels.ndim)
        seen |= {name for name, value in done.items() if value}
        grey = pixels if pixels.ndim == 2 else pixels.mean(-1)
        if not done.get("skew_degrees") and "scale" not in done:
            on, off = grey[ink > 200].mean(), grey[cv2.dilate(ink, np.ones((9, 9))) == 0].mean()
            assert (on > off) == done["inverted"]
            assert abs(on - off) > 30, done
    expected = {
        "skew_degrees",
        "spread",
        "bleed",
        "scale",
        "blur_px",
        "inverted",
        "shading",
        "fold",
        "dust",
        "noise",
        "jpeg",
    }
    assert seen == expected
    assert colours == {2, 3}


def test_screens_have_no_paper(ink):
    for seed in range(60):
        _, done = paper.photograph(ink, np.random.default_rng(seed), screen=True)
        assert set(done) <= {"inverted", "jpeg"}


def test_the_same_draw_gives_the_same_bytes(ink):
    made = [paper.to_png(paper.photograph(ink, np.random.default_rng(7))[0]) for _ in range(2)]
    assert made[0] == made[1]
    coloured = np.repeat(ink[..., None], 3, -1) // np.array([1, 2, 3], np.uint8)
    read = cv2.imdecode(np.frombuffer(paper.to_png(coloured), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(read, coloured)
    pixels, done = paper.scanned(coloured, np.random.default_rng(3))
    assert pixels.shape[:2] == ink.shape
    assert set(done) <= {"grey", "blur_px", "shading", "fold", "dust", "noise", "jpeg"}


def test_coverage_is_nothing_without_ink_and_full_within_it(ink):
    assert ink.min() == 0
    assert ink.max() == 255
    assert (ink == 0).mean() > 0.7
    assert not typeset.coverage([], 40, 30).any()
