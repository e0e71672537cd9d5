"""What holds of every engine: pure, its pictures are PNG files, its settings can be set from text."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from renderers import need

from got_jax import prompts
from got_jax.blocks import parse
from got_jax.errors import GotError
from pipelines import contact, engines, photos, reading_order
from pipelines.hands import Hands
from pipelines.scenes import Scenes

ROOT = Path(__file__).parents[2]
ENDLESS = [name for name in engines.entries() if name not in ("pdfs", "papers")]

FORMATTED = ("formulas", "molecules", "tables", "formatted", "music", "geometry", "charts")
PARTED = ("formatted", "layout", "tiles", "manypages")  # blank lines stand between blocks
PROMPTS = {
    "regions": r"\[(red|green|blue|\d+, \d+, \d+, \d+)\] OCR(: | with format: )",
    "layout": "OCR with (boxes|layout|layout and boxes): ",
    "locate": prompts.LOCATED.pattern,
    "tiles": prompts.PATCHES,
    "manypages": prompts.PAGES,
}


def small(name: str) -> Any:
    """The engine; one that draws in blocks, in small ones."""
    need(*getattr(engines.make(name), "tools", ()))
    less = {"block": "2", "tile_px": "512", "pages": "[2, 2]"} if name in ("tiles", "manypages") else {"block": "2"}
    return engines.make(name, {key: value for key, value in less.items() if hasattr(engines.make(name), key)})


def digest(name: str, seed: int, index: int) -> str:
    example = small(name).example(seed, index)
    return hashlib.sha256(b"".join(example.images) + example.text.encode()).hexdigest()


@pytest.mark.parametrize("name", ENDLESS)
def test_engines_are_pure_functions_of_seed_and_index(name):
    here = [digest(name, 3, index) for index in (5, 0, 5)]
    assert here[0] == here[2] != here[1]
    assert digest(name, 4, 5) != here[0]
    code = "import sys; sys.path.insert(0, 'tests/pipelines'); from test_engines import digest; "
    code += f"print(digest('{name}', 3, 5))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here[0]


@pytest.mark.parametrize("name", ENDLESS)
def test_pictures_are_png_files_with_ink_and_answers_have_no_line_in_vain(name):
    engine = small(name)
    for index in range(12 if not hasattr(engine, "block") else 4):
        example = engine.example(9, index)
        picture = Image.open(io.BytesIO(example.images[0]))
        assert picture.format == "PNG"
        assert np.ptp(np.asarray(picture.convert("L")).astype(int)) > 40
        lines = example.text.split("\n\n" if name in PARTED else "\n")
        assert all(line.strip() for line in lines)
        assert example.meta.get("lines", len(lines)) == len(lines)
        expected = PROMPTS.get(name, re.escape(prompts.FORMAT if name in FORMATTED else prompts.PLAIN))
        assert re.fullmatch(expected, example.prompt)


def test_settings_are_spelt_as_text():
    made: Any = engines.make("pages", {"languages": '[["ru", 1.0]]', "layouts": '["book"]', "split": "held_out"})
    assert made.languages == (("ru", 1.0),)
    example = made.example(0, 0)
    assert (example.meta["layout"], example.meta["language"]) == ("book", "ru")
    assert sum("а" <= ch <= "я" for ch in example.text) > 0.4 * len(example.text)
    for settings_, says in (
        ({"nothing": "1"}, "names no field"),
        ({"languages": "ru"}, "is no tuple"),
        ({"line_chars": "[1, 2, 3]"}, "is no tuple"),
        ({"layouts": '["poster"]'}, "layout poster is unknown"),
    ):
        with pytest.raises(GotError, match=says):
            engines.make("pages", settings_).example(0, 0)
    with pytest.raises(GotError, match="engine 'page' is unknown"):
        engines.make("page")


def test_contact_sheets_show_every_example_and_escape_its_text():
    made = [engines.make("slices").example(0, index) for index in range(5)]
    sheet = contact.as_picture(made, columns=2, cell_px=100)
    assert sheet.size == (2 * 112 + 12, 3 * 126 + 12)
    page = contact.as_html("<b>", made)
    assert page.count("<img") == 5
    assert "<title>&lt;b&gt;</title>" in page


def test_hands_write_what_the_label_says_on_pages_of_six_to_eight_lines():
    engine = Hands(single=0.0)
    for index in range(10):
        example = engine.example(0, index)
        assert 6 <= len(example.text.split("\n")) <= 8
        width, height = Image.open(io.BytesIO(example.images[0])).size
        assert width >= engine.page_px
        assert height > 200
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"languages": (("ja", 1.0),)}, "language 'ja' is unknown"),
        ({"folder": "x"}, "folder and format together"),
        ({"folder": "x", "format": "y"}, "format 'y' is unknown"),
        ({"lines": (3, 2)}, "two ascending numbers"),
    )
    for options, says in cases:
        with pytest.raises(GotError, match=says):
            Hands(**options)


def test_scene_answers_go_from_top_to_bottom_and_boxes_hold_the_ink():
    engine = Scenes(slices=0.0, boxes=1.0, signs=(3, 6))
    for index in range(8):
        example = engine.example(0, index)
        assert example.prompt == prompts.BOXES
        blocks = example.meta["blocks"]
        width, height = Image.open(io.BytesIO(example.images[0])).size
        for block in blocks:
            left, top, right, bottom = block["boxes"][0]
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
        told = parse(example.text)
        assert [block.text for block in told] == [block["text"] for block in blocks]
        for block, (told_box,) in zip(blocks, (b.pixels((width, height)) for b in told), strict=True):
            assert np.allclose(told_box, block["boxes"][0], atol=max(width, height) / 999)
        assert [block["text"] for block in blocks] == [
            blocks[i]["text"] for i in reading_order.rows([tuple(b["boxes"][0]) for b in blocks])
        ]


def test_the_scene_order_reads_a_row_from_left_to_right():
    boxes = [(200, 12, 260, 40), (10, 10, 100, 42), (10, 80, 90, 100), (150, 5, 190, 45)]
    assert reading_order.rows(boxes) == [1, 3, 0, 2]


def test_photographs_of_a_folder_are_used_and_a_broken_one_is_named(tmp_path):
    Image.new("RGB", (300, 200), (200, 210, 220)).save(tmp_path / "a.png")
    example = Scenes(photographs=str(tmp_path), slices=0.0).example(0, 0)
    assert example.text
    (tmp_path / "a.png").write_bytes(b"")
    photos.photograph.cache_clear()
    with pytest.raises(GotError, match="a.png is empty"):
        Scenes(photographs=str(tmp_path)).example(0, 0)
    (tmp_path / "a.png").unlink()
    photos.names.cache_clear()
    with pytest.raises(GotError, match="holds no picture"):
        Scenes(photographs=str(tmp_path)).example(0, 0)


def test_held_out_photographs_never_enter_training():
    assert not set(photos.names("train")) & set(photos.names("held_out"))
    for name in (*photos.names("train"), *photos.names("held_out")):
        assert photos.photograph(name).shape[2] == 3


COLUMNS = {
    "two columns under a title, a foot": (
        [(50, 10, 550, 40), (50, 60, 280, 200), (50, 210, 280, 400), (320, 60, 550, 120), (320, 130, 550, 400),
         (290, 420, 310, 430)],
        [0, 1, 2, 3, 4, 5],
    ),
    "a heading between two regions of columns": (
        [(0, 0, 90, 50), (110, 0, 200, 50), (0, 60, 200, 70), (0, 80, 90, 150), (110, 80, 200, 150)],
        [0, 1, 2, 3, 4],
    ),
    "the left column is longer": ([(0, 0, 90, 50), (0, 60, 90, 110), (110, 0, 200, 50)], [0, 1, 2]),
    "one column": ([(0, 20, 200, 30), (0, 0, 120, 10), (10, 40, 180, 50)], [1, 0, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_pages_are_read_column_by_column(name):
    boxes, expected = COLUMNS[name]
    assert reading_order.order(boxes, 10) == expected


@given(
    st.lists(
        st.tuples(*[st.integers(0, 300)] * 4).map(lambda b: (b[0], b[1], b[0] + b[2] + 1, b[1] + b[3] + 1)), max_size=20
    )
)
@settings(max_examples=60)
def test_every_box_is_read_once(boxes):
    assert sorted(reading_order.order(boxes, 5)) == list(range(len(boxes)))
