"""Tables: drawn by LaTeX and as HTML, in three spellings, each proved by drawing its answer again."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from renderers import need

from got_jax.errors import GotError
from pipelines import blocks, documents, tables
from pipelines.tables import Tables


@pytest.mark.parametrize("form", ["latex", "html", "markdown"])
def test_answers_are_proved(form):
    need("latex")
    engine = Tables(form=form, block=6, html=0.5)
    made = [engine.example(1, index) for index in range(6)]
    assert [tables.proof(example) for example in made] == [""] * 6
    assert {example.meta["kind"] for example in made} == {"latex", "html"}
    starts = {"latex": r"\begin{tabular}", "html": "<table>", "markdown": "| "}
    assert all(example.text.startswith(starts[form]) for example in made)


def test_a_wrong_answer_is_found():
    need("latex")
    example = Tables(block=2, html=0.0, languages=(("en", 1.0),)).example(5, 0)
    cell = next(word for word in example.text.split() if word.isalpha() and len(word) > 2)
    changed = dataclasses.replace(example, text=example.text.replace(cell, cell[::-1] + "x"))
    assert tables.proof(changed) == "the answer's picture is another"


def test_a_picture_does_not_depend_on_its_block():
    need("latex")
    one = [Tables(block=1, html=0.0).example(7, index) for index in (2, 3)]
    many = [Tables(block=4, html=0.0).example(7, index) for index in (2, 3)]
    assert [(e.images, e.text) for e in one] == [(e.images, e.text) for e in many]


def test_what_latex_refuses_is_drawn_again_and_counted(monkeypatch):
    need("latex")
    engine = Tables(block=2, html=0.0)
    composed: list[str] = []
    body = tables.Source.body

    def broken(source):
        composed.append("")
        return r"\frac{" if len(composed) == 1 else body(source)

    monkeypatch.setattr(tables.Source, "body", broken)
    blocks._block.cache_clear()
    try:
        assert engine.example(8, 0).meta["redrawn"] == 1
        assert "redrawn" not in engine.example(8, 1).meta
    finally:
        blocks._block.cache_clear()


def test_bad_settings_are_refused():
    for settings, says in (
        ({"form": "csv"}, "choose latex, html or markdown"),
        ({"rows": (3, 1)}, "rows is .3, 1."),
        ({"languages": (("ru", 1.0),)}, "language 'ru' is unknown"),
        ({"block": 0}, "block is 0"),
    ):
        with pytest.raises(GotError, match=says):
            Tables(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words", [["[", "The", "backslash"], ["(*", "The", "backslash", "("], ["The", "backslash", ":"]]
)
def test_a_phrase_begins_and_ends_with_a_word(words):
    rng = np.random.default_rng(0)
    font = documents.draw_font(rng, "train", "en", ("serif",), "normal")
    writer = tables.Writer(rng, "train", font, "en", "latex")
    writer.prose = itertools.repeat(words)
    assert writer.phrase(9, 9) == "The backslash"
