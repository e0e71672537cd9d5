"""Huge pictures give themselves again from their tiles; many pages keep their order and their budgets."""

from __future__ import annotations

import dataclasses
import io
import os

import numpy as np
import pytest
from PIL import Image
from renderers import need

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import GotError
from pipelines import budget, mmd, stitched
from pipelines.formatted import FormattedPages
from pipelines.stitched import ManyPages, Tiles
from pipelines.tries import Unusable, generator


@pytest.mark.parametrize("kind", stitched.KINDS)
def test_tiles_give_the_picture_again(kind):
    need("latex", "node", "matplotlib")
    engine = Tiles(kinds=((kind, 1.0),), pages=(2, 2), tile_px=512, languages=(("en", 1.0),), block=1)
    example = engine.example(0, 0)
    assert example.prompt == prompts.PATCHES
    assert stitched.proof(example) == ""
    columns, rows = example.meta["grid"]
    assert len(example.images) == columns * rows + 1 <= 13
    whole = stitched.reassembled(example)
    assert whole.shape[:2] == (512 * rows, 512 * columns)
    assert (255 - whole).any()
    swapped = (example.images[1], example.images[0], *example.images[2:])
    assert "do not give" in stitched.proof(dataclasses.replace(example, images=swapped))
    assert "do not make" in stitched.proof(dataclasses.replace(example, images=example.images[1:]))


def test_a_row_reads_its_pages_in_order():
    need("latex")
    english = (("en", 1.0),)
    engine = Tiles("train", english, (("horizontal", 1.0),), pages=(2, 2), tile_px=512, effects=0.0, block=2)
    example = engine.example(0, 1)
    pages = FormattedPages(languages=english, effects=0.0, block=4)
    first, second = (pages.example(0, 2 + i).text for i in range(2))
    assert example.text == f"{first}\n\n{second}"


def test_budgets_hold_and_pages_keep_their_order():
    need("latex")
    engine = ManyPages(pages=(2, 4), effects=0.0, block=24)
    languages = set()
    for index in range(6):
        example = engine.example(0, index)
        count = len(example.images)
        assert 2 <= count <= 4
        assert example.prompt == prompts.PAGES
        assert all(tokens < 650 for tokens in example.meta["page_tokens"])
        used = budget.row_tokens(prompts.PAGES, count, example.text)
        assert used == example.meta["tokens"] <= 8000
        assert used > 256 * count + sum(example.meta["page_tokens"])
        languages.add(tuple(example.meta["languages"]))
        pages = FormattedPages(fill=(0.15, 0.55), effects=0.0, most_tokens=649, block=24)
        assert example.text == "\n\n".join(pages.example(0, index * 4 + i).text for i in range(count))
    assert any(len(set(mixed)) == 2 for mixed in languages), "both languages in one example"


def test_budgets_hold_over_many_draws(monkeypatch):
    """GOT_DRAWS=10000 draws so many. Pages are written but not set: what LaTeX cuts makes them shorter still."""
    blank = Image.new("L", (8, 8))
    file = io.BytesIO()
    blank.save(file, "PNG")

    def written(self, seed, index):
        for turn in range(20):
            try:
                source = self.compose(generator("formatted", seed, index, turn))
                break
            except Unusable:
                continue
        text = mmd.write(source.blocks)
        return Example((file.getvalue(),), prompts.FORMAT, text, {"language": source.language})

    monkeypatch.setattr(FormattedPages, "example", written)
    engine = ManyPages()
    most = 0
    for index in range(int(os.environ.get("GOT_DRAWS", "12"))):
        example = engine.example(0, index)
        used = budget.row_tokens(example.prompt, len(example.images), example.text)
        most = max(most, used)
        assert used <= 8000
        assert max(example.meta["page_tokens"]) < 650
    print(f"at most {most} tokens")


def test_an_example_over_its_budget_is_drawn_again(monkeypatch):
    need("latex")
    asked = []
    counted = budget.row_tokens

    def counting(query, pictures, text):
        asked.append(pictures)
        return counted(query, pictures, text)

    monkeypatch.setattr(stitched, "row_tokens", counting)
    tight = ManyPages(row_tokens=1700, block=8)
    example = tight.example(0, 1)
    assert example.meta["tokens"] <= 1700
    assert example.meta["redrawn"] >= 1
    assert len(asked) == example.meta.get("redrawn", 0) + 1
    with pytest.raises(GotError, match="draws in a row cannot be used, the last: it has"):
        dataclasses.replace(tight, row_tokens=900).example(0, 1)


def test_pages_over_their_budget_are_written_again():
    rng = np.random.default_rng(0)
    engine = FormattedPages(most_tokens=300, fill=(0.5, 0.6))
    composed = lambda: [engine.compose(rng) for _ in range(20)]
    with pytest.raises(Unusable, match="over 300"):
        composed()


def test_what_cannot_be_stitched_is_refused():
    for make, says in (
        (lambda: Tiles(kinds=(("spiral", 1.0),)), "kinds is"),
        (lambda: Tiles(pages=(3, 2)), "pages .3, 2. must be"),
        (lambda: Tiles(tile_px=8), "tile_px is 8"),
        (lambda: Tiles(most_tiles=1), "most_tiles is 1"),
        (lambda: ManyPages(pages=(0, 2)), "two ascending numbers"),
        (lambda: ManyPages(page_tokens=5), "page_tokens is 5"),
    ):
        with pytest.raises(GotError, match=says):
            make()
