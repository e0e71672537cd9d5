"""The glyphs engine: pure, whole letters inside the picture, every letter one the font has."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from got_jax.errors import GotError
from pipelines import fonts
from pipelines.glyphs import Glyphs


def test_examples_are_pure_functions_of_seed_and_index():
    a, b = (Glyphs().example(3, 17) for _ in range(2))
    assert (a.images, a.text) == (b.images, b.text)
    assert Glyphs().example(4, 17).images != a.images


def test_texts_and_pictures_keep_their_limits():
    engine = Glyphs(chars=(1, 3), px=64, ramp=10**9)
    faces = {face.name: face for face in fonts.faces()}
    for index in range(200):
        example = engine.example(0, index)
        assert 1 <= len(example.text) <= 3
        assert example.text == example.text.strip()
        assert set(example.text) <= set(fonts.typeface(faces[example.meta["font"]]).advances)
        assert faces[example.meta["font"]].split == "train"
        assert Image.open(io.BytesIO(example.images[0])).size == (64, 64)


def test_letters_are_not_cut():
    """Ink of random letters never touches all four edges, and there is ink at all."""
    for index in range(60):
        example = Glyphs(ramp=10**9, scrambled=1.0).example(1, index)
        pixels = np.asarray(Image.open(io.BytesIO(example.images[0])).convert("L")).astype(int)
        assert pixels.max() - pixels.min() > 60, example.text


def test_held_out_fonts_are_held_out():
    held = {Glyphs(split="held_out").example(0, i).meta["font"].split("/")[0] for i in range(60)}
    assert held <= set(fonts.HELD_OUT)


@pytest.mark.parametrize("options", [{"chars": (0, 2)}, {"chars": (3, 2)}, {"size_px": (9.0, 3.0)}, {"px": 8}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(GotError, match="glyphs: "):
        Glyphs(**options)
