"""Layout with boxes and locating: answers parse to the page's blocks, boxes hold their text and nothing else."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from renderers import need

from got_jax import prompts
from got_jax.blocks import LABELS, parse, read_boxes
from got_jax.errors import GotError
from pipelines import annotations, grounding, regions
from pipelines.grounding import Layouts, Locate
from pipelines.tries import Unusable


def size_of(example) -> tuple[int, int]:
    return Image.open(io.BytesIO(example.images[0])).size


@pytest.mark.parametrize("source", ["pages", "formatted", "posters", "scenes"])
@pytest.mark.parametrize("task", list(grounding.TASKS))
def test_answers_parse_to_the_pages_blocks(source, task):
    need(*({"formatted": ["latex"], "posters": ["latex", "node"]}.get(source, [])))
    engine = Layouts(sources=((source, 1.0),), tasks=((task, 1.0),), block=4)
    untold = [("scenes", "layout"), ("scenes", "layout and boxes"), ("formatted", "boxes"), ("posters", "boxes")]
    if (source, task) in untold:
        with pytest.raises(GotError, match="nothing that is asked for"):
            engine.example(0, 0)
        return
    fine, boxes = grounding.TASKS[task]
    for index in range(3):
        example = engine.example(0, index)
        assert example.prompt == prompts.query(layout=fine, boxes=boxes)
        told = parse(example.text)
        truth = [b for b in example.meta["blocks"] if fine or b["text"]]
        assert [b.text for b in told] == [b["text"].strip() for b in truth]
        assert {b.label for b in told} <= (set(LABELS) if fine else {"text"})
        width, height = size_of(example)
        for block, expected in zip(told, truth, strict=True):
            if not boxes:
                assert not block.boxes
                continue
            for got, box in zip(block.pixels((width, height)), expected["boxes"], strict=True):
                assert np.all(np.array(got[:2]) <= np.array(box[:2]) + 1)
                assert np.all(np.array(got[2:]) >= np.array(box[2:]) - 1)


def test_a_typeset_block_as_markdown():
    md = lambda label, text, language="en": grounding.markdown({"label": label, "text": text}, language)
    assert md("title", "A long\ntitle") == "## A long title"
    assert md("text", "one\ntwo") == "one two"
    assert md("text", "一\n二", "zh") == "一二"
    assert md("text", "用 Debian\nGNU", "zh") == "用 Debian GNU"
    assert md("table", "a 1\nb 2") == "a 1\nb 2"
    assert md("code", "x = 1\ny") == "```\nx = 1\ny\n```"


def test_located_boxes_hold_their_text():
    engine = Locate(sources=(("pages", 1.0),), absent=0.0, effects=False)
    for index in range(10):
        example = engine.example(1, index)
        text = prompts.LOCATED.fullmatch(example.prompt)[1]  # type: ignore[index]
        page = regions.source("pages", "train", effects=False).example(1, index)
        width, height = size_of(example)
        assert page.letters is not None
        letters = page.letters.boxes * np.array([width, height] * 2)
        middle = (letters[:, :2] + letters[:, 2:]) / 2
        found = read_boxes(example.text)
        assert len(found) == example.meta["places"] >= 1
        for box in found:
            edges = np.array(box) * np.array([width, height] * 2) / 1000
            inside = np.asarray(((middle >= edges[:2]) & (middle <= edges[2:])).all(1))
            told = "".join(ch for ch, there in zip(page.letters.text, inside, strict=True) if there)
            assert told == text.replace(" ", "")


def test_a_text_that_is_not_there_has_no_box():
    engine = Locate(sources=(("pages", 1.0),), absent=1.0, effects=False)
    example = engine.example(0, 0)
    assert example.text == "<box>[]</box>"
    assert read_boxes(example.text) == ()


def page_with(*lines: str):
    """A page's text with letters in a row, one unit each."""
    page = regions.source("pages", "train", effects=False).example(0, 0)
    text = "\n".join(lines)
    bare = text.replace("\n", "").replace(" ", "")
    assert page.letters is not None
    boxes = np.array([[i / 100, 0.1, (i + 1) / 100, 0.2] for i in range(len(bare))], np.float32)
    return dataclasses.replace(page, text=text, letters=page.letters._replace(text=bare, boxes=boxes))


def test_what_where_means_must_be_clear():
    assert len(grounding.places(page_with("the cat", "a cat sat"), "cat")) == 2
    assert len(grounding.places(page_with("早安世界"), "安世")) == 1
    for lines, text in ((("a cat", "cats"), "cat"), (("one two", "three one", "two"), "one two")):
        with pytest.raises(Unusable, match="inside a word or across"):
            grounding.places(page_with(*lines), text)


def test_bad_boxes_are_refused_not_clipped():
    assert annotations.thousandths((0, 0, 10, 20), (100, 200)) == (0, 0, 100, 100)
    assert annotations.thousandths((-0.5, 0, 100.5, 20), (100, 200)) == (0, 0, 1000, 100)
    for box in ((5, 5, 5, 9), (9, 0, 3, 9), (-3, 0, 9, 9), (0, 0, 104, 9)):
        with pytest.raises(Unusable, match="empty or outside"):
            annotations.thousandths(box, (100, 200))
    with pytest.raises(Unusable, match="spells a mark"):
        annotations.blocks_of([{"label": "text", "text": "<box>", "boxes": []}], (9, 9), True)


def test_what_cannot_be_asked_is_refused():
    for make, says in (
        (lambda: Layouts(tasks=(("poem", 1.0),)), "tasks is"),
        (lambda: Layouts(sources=()), "sources is"),
        (lambda: Locate(sources=(("formatted", 1.0),)), "do not know where their words"),
        (lambda: Locate(absent=1.5), "absent is 1.5"),
        (lambda: Locate(most_places=0), "most_places is 0"),
    ):
        with pytest.raises(GotError, match=says):
            make()
