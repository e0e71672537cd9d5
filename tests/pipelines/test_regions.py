"""Regions: boxes hold their answer and no more, frames are found again by colour, data sets read as downloaded."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from renderers import need

from got_jax import prompts
from got_jax.errors import GotError
from pipelines import regions, signsets
from pipelines.prose import weighted
from pipelines.regions import Regions, dense
from pipelines.tries import generator
from pipelines.typeset import place_letters

BOX = re.compile(r"\[(\d+), (\d+), (\d+), (\d+)\] OCR: ")
PAGES = Regions(sources=(("pages", 1.0),), by=(("box", 1.0),), effects=False)


def pixels(example) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(example.images[0], np.uint8), cv2.IMREAD_COLOR_RGB))


def test_a_box_holds_the_ink_of_its_answer_alone():
    """The ink inside is as much as the answer's letters take, and none of it is cut at the box's edge."""
    kinds = set()
    for index in range(16):
        example = PAGES.example(1, index)
        kinds.add(example.meta["kind"])
        found = BOX.fullmatch(example.prompt)
        assert found, example.prompt
        shown = 255 - pixels(example).min(-1).astype(int)
        height, width = shown.shape
        left, top, right, bottom = (int(v) for v in found.groups())
        assert 0 <= left < right <= 1000
        assert 0 <= top < bottom <= 1000
        part = shown[top * height // 1000 : bottom * height // 1000, left * width // 1000 : right * width // 1000]
        assert part.max() > 100, "there is ink"
        edge = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
        assert (edge > 128).mean() < 0.06, (index, example.text)
    assert len(kinds) >= 3


def test_boxes_of_letters_hold_no_others():
    for index in range(6):
        page = regions.source("pages", "train", effects=False).example(4, index)
        shape = pixels(page).shape[:2]
        finder = regions._Finder(page, shape, 0.4)
        region = finder.region(np.random.default_rng(index))
        assert page.letters is not None
        letters = page.letters.boxes * np.array([shape[1], shape[0]] * 2)
        middle = (letters[:, :2] + letters[:, 2:]) / 2
        inside = np.asarray(((middle >= region.box[:2]) & (middle <= region.box[2:])).all(1))
        told = "".join(ch for ch, there in zip(page.letters.text, inside, strict=True) if there)
        assert told == re.sub(r"[ \n]", "", region.text)


@pytest.mark.parametrize("source", ["pages", "scenes", "formatted"])
def test_frames_are_found_again_by_their_colour(source):
    need(*(["latex"] if source == "formatted" else []))
    engine = Regions(sources=((source, 1.0),), by=(("colour", 1.0),), block=8)
    colours, several = set(), 0
    for index in range(8):
        example = engine.example(2, index)
        assert regions.proof(example) == ""
        colour = example.meta["colour"]
        assert example.prompt == prompts.query(source == "formatted", color=colour)
        colours.add(colour)
        picture = pixels(example)
        seen = [name for name in regions.PAINTS if regions.find_frame(picture, name) is not None]
        assert len(seen) == example.meta["frames"]
        several += len(seen) > 1
    assert len(colours) >= 2
    assert several


def test_a_frame_that_is_missing_or_elsewhere_is_a_fault():
    example = Regions(sources=(("pages", 1.0),), by=(("colour", 1.0),)).example(0, 0)
    blank = dataclasses.replace(example, images=(regions.to_png(np.full((90, 90, 3), 255, np.uint8)),))
    assert "no frame" in regions.proof(blank)
    moved = dataclasses.replace(example, meta={**example.meta, "box": [v + 5 for v in example.meta["box"]]})
    assert "elsewhere" in regions.proof(moved)


@given(st.lists(st.text("ab ", min_size=1, max_size=12), min_size=1, max_size=5))
def test_lines_know_their_letters(texts):
    text = "\n".join(texts)
    bare = text.replace("\n", "").replace(" ", "")
    letters = place_letters([], 10, 10)._replace(text=bare)
    rows = regions.lines_of(text, letters)
    assert [row.text for row in rows] == texts
    assert [bare[row.first : row.last] for row in rows] == [line.replace(" ", "") for line in texts]
    for row in rows:
        for start, end, first, last in regions.words_of(row.text, row.first):
            assert row.text[start:end] == bare[first:last]


def test_what_cannot_be_drawn_is_refused():
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"sources": (("books", 1.0),)}, "sources is"),
        ({"by": ()}, "by is"),
        ({"jitter": 2.0}, "jitter is 2.0"),
        ({"folder": "x"}, "folder and format together"),
        ({"folder": "x", "format": "y"}, "format 'y' is unknown"),
    )
    for options, says in cases:
        with pytest.raises(GotError, match=says):
            Regions(**options)


def photo(path, size=(200, 120)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 200, 200)).save(path)


def rctw(root):
    photo(root / "train_images" / "image_0.jpg")
    photo(root / "train_images" / "image_1.jpg")
    (root / "train_gts").mkdir()
    (root / "train_gts" / "image_0.txt").write_text(
        '\ufeff10,10,90,12,90,40,10,38,0,"早安, 世界"\n100,50,160,50,160,80,100,80,1,"###"\n', encoding="utf-8"
    )
    (root / "train_gts" / "image_1.txt").write_text(
        '5,5,5,5,5,5,5,5,0,"leer"\n10,10,900,10,900,40,10,40,0,"outside"\nno numbers\n20,60,80,60,80,90,20,90,0,"ok"\n'
    )
    (root / "train_gts" / "image_7.txt").write_text('20,60,80,60,80,90,20,90,0,"lost"\n')


def rects(root):
    photo(root / "img" / "train_000001.jpg")
    (root / "gt").mkdir()
    line = {"points": [10, 10, 90, 10, 90, 40, 10, 40], "transcription": "早安", "ignore": 0}
    hard = {"points": [100, 50, 160, 50, 160, 80, 100, 80], "transcription": "###", "ignore": 1}
    (root / "gt" / "train_000001.json").write_text(json.dumps({"chars": [], "lines": [line, hard]}))
    (root / "gt" / "train_000002.json").write_text("{")


def shopsign(root):
    photo(root / "image_1.jpg")
    (root / "image_1.txt").write_text("10,10,90,12,90,40,10,38,早安, 世界\n100,50,160,50,160,80,100,80,###\n", "utf-8")


def coco(root):
    photo(root / "train2014" / "COCO_train2014_000000000036.jpg")
    images = {
        "36": {"id": 36, "file_name": "COCO_train2014_000000000036.jpg", "width": 200, "height": 120, "set": "train"},
        "37": {"id": 37, "file_name": "COCO_train2014_000000000037.jpg", "width": 200, "height": 120, "set": "train"},
    }
    mark = {"image_id": 36, "bbox": [10, 10, 80, 30], "utf8_string": "早安", "legibility": "legible", "class": "others"}
    anns = {
        "1": mark,
        "2": {**mark, "bbox": [100, 50, 60, 30], "utf8_string": "", "legibility": "illegible"},
        "3": {**mark, "image_id": 37},
        "4": {**mark, "image_id": 99},
    }
    (root / "cocotext.v2.json").write_text(json.dumps({"imgs": images, "anns": anns, "imgToAnns": {}}))


@pytest.mark.parametrize("make", [rctw, rects, shopsign, coco])
def test_data_sets_are_read_as_they_are_downloaded(make, tmp_path):
    make(tmp_path)
    found, bad = signsets.photos(str(tmp_path), make.__name__)
    first = found[0]
    assert first.signs[0].text in ("早安, 世界", "早安")
    assert first.signs[0].box == (10, 10, 90, 40)
    assert first.signs[1].text == "", "a text that cannot be read is known, not asked for"
    reasons = "\n".join(bad)
    expected = {
        "rctw": ("is empty", "outside the picture", "not eight numbers", "picture is missing"),
        "rects": ("no annotation of ReCTS",),
        "shopsign": (),
        "coco": ("picture is missing", "does not name"),
    }[make.__name__]
    for words in expected:
        assert words in reasons, words
    assert len(bad) == len(expected)
    engine = Regions(folder=str(tmp_path), format=make.__name__)
    assert engine.rejected == bad
    for index in range(6):
        example = engine.example(0, index)
        assert example.text in ("早安, 世界", "早安", "ok")
        assert Image.open(io.BytesIO(example.images[0])).size == (200, 120)


def test_a_folder_without_photographs_is_one_sentence(tmp_path):
    with pytest.raises(GotError, match="holds no usable photograph of format rctw"):
        signsets.photos(str(tmp_path), "rctw")
    with pytest.raises(GotError, match="is no folder"):
        signsets.photos(str(tmp_path / "none"), "rctw")


def test_formatted_pages_are_asked_for_one_after_another():
    """LaTeX draws a block of pages at once: a stretch of examples uses the pages of few blocks, each page once."""
    sources = (("pages", 0.7), ("formatted", 0.3))
    first = [weighted(generator("regions", 5, i), sources) for i in range(400)]
    pages = [dense(i, "regions", sources, name, 5, 64) for i, name in enumerate(first) if name == "formatted"]
    assert len(set(pages)) == len(pages)
    assert len({page // 64 for page in pages}) <= 6, "of 400 // 64 + 1 = 7 blocks without it, in 3 stretches"
    assert [dense(i, "regions", sources, "pages", 5, 64) for i in range(3)] == [0, 1, 2]
    assert dense(7, "regions", (("formatted", 1.0),), "formatted", 5, 64) == 7
