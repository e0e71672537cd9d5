"""The documents engine: pure, exact, and with its held-out texts and fonts held out."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
from PIL import Image

from got_jax.errors import GotError
from pipelines import corpora, corpora_sources, fonts, layouts, typeset
from pipelines.documents import Documents, scramble

ROOT = Path(__file__).parents[2]
KINDS = ("pages", "paragraphs", "lines")


def digest(example) -> str:
    return hashlib.sha256(example.images[0] + example.text.encode()).hexdigest()


def test_examples_are_pure_functions_of_seed_and_index():
    engine = Documents()
    here = [digest(engine.example(3, i)) for i in (5, 0, 5, 1)]
    assert here[0] == here[2]
    assert len(set(here)) == 3
    assert digest(engine.example(4, 5)) != here[0]
    code = (
        "import sys; sys.path.insert(0, 'tests/pipelines')\n"
        "from test_documents import digest, Documents\n"
        "print([digest(Documents().example(3, i)) for i in (1, 5)])"
    )
    env = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([here[3], here[0]])


@pytest.mark.parametrize("language", ["en", "ru", "zh", "ja", "ko"])
@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_exactly_what_is_drawn(kind, language, monkeypatch):
    """The runs that are drawn, line by line, are the label; all of their characters are in the font and the picture."""
    drawn: list[str] = []

    def spy(lines, width, height):
        for line in lines:
            advances = fonts.typeface(line.face).advances
            assert all(ch in advances for ch in "".join(line.words)), "a glyph that the font lacks"
            left, top, right, bottom = line.box_px
            assert min(left, top) >= -1, f"{line.text!r} leaves the picture"
            assert right <= width + 1, f"{line.text!r} leaves the picture"
            assert bottom <= height + 2, f"{line.text!r} leaves the picture"
            pieces = "".join(line.words) if line.vertical or language in ("zh", "ja") else " ".join(line.words)
            assert pieces.replace(" ", "") == line.text.replace(" ", "")
            drawn.append(line.text)
        return np.zeros((height, width), np.uint8)

    monkeypatch.setattr("pipelines.documents.coverage", spy)
    engine = dataclasses.replace(
        Documents(), languages=((language, 1.0),), **{name: float(name == kind) for name in KINDS}
    )
    for index in range(12):
        drawn.clear()
        assert engine.example(0, index).text == "\n".join(drawn)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("layout", list(layouts.LAYOUTS))
def test_every_layout_fills_its_page_without_overlaps(layout, language):
    if not layouts.suits(layout, language):
        pytest.skip("not written so")
    engine = Documents(pages=1, paragraphs=0, lines=0, layouts=(layout,), languages=((language, 1.0),), effects=0)
    for index in range(6):
        example = engine.example(5, index)
        blocks = example.meta["blocks"]
        assert example.text == "\n".join(block["text"] for block in blocks)
        assert len(example.text) > 30
        assert "\n\n" not in example.text
        width, height = Image.open(io.BytesIO(example.images[0])).size
        boxes = [block["boxes"][0] for block in blocks]
        for box in boxes:
            assert -1 <= box[0] < box[2] <= width + 1
            assert -1 <= box[1] < box[3] <= height + 2
        for i, one in enumerate(boxes):  # print may touch, but not lie on other print
            for other in boxes[i + 1 :]:
                across = min(one[2], other[2]) - max(one[0], other[0])
                down = min(one[3], other[3]) - max(one[1], other[1])
                assert across < 3 or down < 0.45 * example.meta["size_px"], (blocks[i], other)


def test_vertical_writing_goes_down_and_to_the_left():
    engine = Documents(pages=1, paragraphs=0, lines=0, layouts=("vertical",), languages=(("ja", 1.0),), effects=0)
    example = engine.example(0, 0)
    letters = example.letters
    assert letters is not None
    first, second = example.text.split("\n")[:2]
    column = letters.boxes[: len(first.replace(" ", ""))]
    assert np.ptp((column[:, 0] + column[:, 2]) / 2) < 0.02
    assert (np.diff(column[:, 1]) >= 0).all()
    after = letters.boxes[len(first.replace(" ", ""))]
    assert second
    assert after[0] < column[0, 0]


def test_chinese_lines_never_begin_with_a_closing_mark():
    font = fonts.typeface(fonts.choose("train", "sans", "normal", "zh")[0])
    text = "".join(corpora.split("train", "zh")[0][:30])
    lines = typeset.break_lines(typeset.atoms(font.shown(text)), font, 11.0, spaced=False)
    assert len(lines) > 50
    for words in lines:
        line = "".join(words)
        assert line[0] not in "，。、；：？！）》”", line
        assert line[-1] not in "（《“", line


def test_slices_keep_their_limits():
    engine = Documents(pages=0, max_lines=5, line_chars=(8, 20))
    for index in range(40):
        example = engine.example(1, index)
        lines = example.text.split("\n")
        assert 1 <= len(lines) <= 5
        assert all(lines)
        assert max(map(len, lines)) <= 60
        width, height = Image.open(io.BytesIO(example.images[0])).size
        assert width > 8
        assert height > 8


def test_pictures_have_ink_and_paper():
    for index in range(20):
        pixels = np.asarray(Image.open(io.BytesIO(Documents().example(2, index).images[0])).convert("L")).astype(int)
        assert np.percentile(pixels, 99.8) - np.percentile(pixels, 0.2) > 40


def test_held_out_texts_and_fonts_never_enter_training():
    train = {p for text in corpora.split("train") for p in text}
    held = {p for text in corpora.split("held_out") for p in text}
    assert not train & held
    families = lambda split: {f.name.split("/")[0] for f in fonts.faces() if f.split == split}
    assert not families("train") & families("held_out")
    assert len(families("held_out")) >= 8
    engines = {split: Documents(split=split) for split in ("train", "held_out")}
    for split, engine in engines.items():
        used = {engine.example(0, i).meta["font"].split("/")[0] for i in range(40)}
        assert used <= families(split)


def test_technical_texts_share_no_run_of_60_characters_with_held_out_ones():
    held = {run for text in corpora.split("held_out") for p in text for run in corpora_sources.runs(p)}
    for name in ("python-docs", "debian-policy", "git-docs"):
        assert all(held.isdisjoint(corpora_sources.runs(p)) for p in corpora.embedded(name))
    assert not held.isdisjoint(corpora_sources.runs("x" + corpora.embedded("maint-guide")[0]))


def test_embedded_corpora_are_large_whole_and_clean():
    chars = {split: sum(len(p) for text in corpora.split(split) for p in text) for split in ("train", "held_out")}
    assert chars["train"] >= 2_000_000
    assert chars["held_out"] >= 200_000
    for text in (*corpora.split("train"), *corpora.split("held_out")):
        for paragraph in text[::50]:
            assert set(paragraph) <= corpora.ALPHABET


def test_a_corpus_that_differs_from_its_hash_is_refused(monkeypatch):
    entry = dict(corpora.manifest()["maint-guide"], sha256="0" * 64)
    monkeypatch.setattr(corpora, "manifest", lambda: {"maint-guide": entry})
    with pytest.raises(GotError, match="differs from its hash"):
        corpora.embedded.__wrapped__("maint-guide")


def test_a_folder_of_texts_and_pdfs_is_a_corpus(tmp_path):
    (tmp_path / "a.txt").write_text("A paragraph of plain text that is long enough to be kept.\n\nshort\n")
    document = pymupdf.open()
    document.new_page().insert_textbox((50, 50, 500, 700), "Text that stands in a PDF file and is long enough as well.")
    document.save(tmp_path / "b.pdf")
    texts = corpora.folder(str(tmp_path))
    assert [len(t) for t in texts] == [1, 1]
    assert texts[1][0].startswith("Text that stands")
    example = Documents(corpus=str(tmp_path), pages=0, scrambled=0).example(0, 0)
    assert set(example.text.split()) <= set(" ".join(p for t in texts for p in t).split())
    with pytest.raises(GotError, match="does not exist"):
        corpora.folder(str(tmp_path / "none"))
    (tmp_path / "sub").mkdir()
    with pytest.raises(GotError, match=r"holds no \.txt, \.jsonl or \.pdf"):
        corpora.folder(str(tmp_path / "sub"))
    (tmp_path / "sub" / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    corpora._folder.cache_clear()
    with pytest.raises(GotError, match="cannot be read as a PDF"):
        corpora.folder(str(tmp_path / "sub"))


def test_files_of_a_corpus_that_cannot_be_read_are_left_out_and_named(tmp_path):
    """A corpus of one line does; what stands beside it costs a sentence each."""
    (tmp_path / "a.txt").write_text("The only line of this corpus, and long enough for it to be a paragraph.")
    (tmp_path / "b.txt").write_bytes(
        "Ein Absatz in einer alten Kodierung, wie man sie noch oft genug sieht: öäü".encode("latin-1")
    )
    (tmp_path / "c.jsonl").write_text('"A string on its line is a paragraph of its own, if it is long."\n{"text": 5}\n')
    (tmp_path / "d.jsonl").write_text('{"text": "Objects with a text are read, and their other fields are not."}\n')
    (tmp_path / "e.txt").write_text("short")
    document = pymupdf.open()
    document.new_page().insert_text((50, 50), "Nobody may read this.")
    document.save(tmp_path / "f.pdf", encryption=pymupdf.mupdf.PDF_ENCRYPT_AES_256, user_pw="secret")
    engine = Documents(corpus=str(tmp_path), pages=0, scrambled=0)
    example = engine.example(0, 1)
    assert set(example.text.split()) <= set(" ".join(p for text in corpora.folder(str(tmp_path)) for p in text).split())
    for why, words in zip(
        engine.rejected,
        (
            "b.txt is not UTF-8",
            'c.jsonl line 2 is neither a JSON string nor an object with a "text"',
            "e.txt has no",
            "is encrypted",
        ),
        strict=True,
    ):
        assert words in why


def test_a_font_that_is_missing_or_differs_is_named(monkeypatch, tmp_path):
    face = fonts.choose("train", "serif", "normal")[3]
    changed = dataclasses.replace(face, files=((face.files[0][0], "0" * 64),))
    with pytest.raises(GotError, match="differs from its hash in fontfiles/manifest.json"):
        fonts.typeface(changed)
    with pytest.raises(GotError, match=r"font file .* is missing; restore it"):
        fonts.typeface(dataclasses.replace(face, files=(("900-normal", "0" * 64),)))


def test_a_glyph_that_a_font_lacks_never_enters_a_picture():
    for face in fonts.faces()[::7]:
        font = fonts.typeface(face)
        shown = font.shown("“naïve” — fi ﬁ 狗…")
        assert set(shown) <= set(font.advances)
        assert ("狗" in shown) == bool({"zh", "ja"} & set(face.languages))
        assert "☃" not in font.shown("☃")


def test_scrambling_changes_the_text():
    words = "the quick brown fox jumps over the lazy dog".split()
    rng = np.random.default_rng(0)
    made = [scramble(words, rng) for _ in range(60)]
    assert len({" ".join(words) for words in made}) > 40
    assert any(len(set(echoed)) < len(echoed) - 2 and set(echoed) <= set(words) for echoed in made)  # "the fox the fox"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pages": 0.0, "paragraphs": 0.0, "lines": 0.0}, "at least one above 0"),
        ({"max_lines": 0}, "max_lines is 0"),
        ({"line_chars": (9, 5)}, "two ascending numbers"),
        ({"size_px": (0.0, 5.0)}, "size_px"),
        ({"page_px": 10}, "page_px is 10"),
        ({"languages": ()}, "give .language, weight. pairs"),
        ({"languages": (("xx", 1.0),)}, "language 'xx' is unknown"),
    ],
)
def test_impossible_settings_are_refused(options, says):
    with pytest.raises(GotError, match=says):
        Documents(**options)


def test_an_unknown_split_is_refused():
    with pytest.raises(GotError, match="corpus set 'test' is unknown|no font is test"):
        Documents(split="test").example(0, 0)


def test_letters_stand_where_they_are_drawn():
    """Each box is what MuPDF reports for that character, and follows the picture when it is turned."""
    face = fonts.choose("train", "serif", "normal")[0]
    font = fonts.typeface(face)
    lines = [
        typeset.place(words, font, 20.0, 15, 84, y, "justify") for words, y in ((["Hat", "and"], 40), (["up"], 90))
    ]
    letters = typeset.place_letters(lines, 300, 120)
    assert letters.text == "Hatandup"
    document = pymupdf.open()
    page = document.new_page(width=300, height=120)
    writer = pymupdf.TextWriter(page.rect)
    for line in lines:
        assert line.words == tuple(line.text.split())
        for x, word in zip(line.x_px, line.words, strict=True):
            writer.append((x, line.baseline_px), word, font=typeset._mupdf_font(face), fontsize=20)
    writer.write_text(page)
    blocks: Any = page.get_text("rawdict")["blocks"]  # type: ignore[index]
    found = [
        (c["c"], c["bbox"], c["origin"])
        for block in blocks
        for line in block["lines"]
        for span in line["spans"]
        for c in span["chars"]
        if c["c"] != " "
    ]
    assert "".join(c for c, _, _ in found) == letters.text
    for (_, box, origin), (left, top, right, bottom) in zip(found, letters.boxes, strict=True):
        assert left * 300 == pytest.approx(box[0], abs=0.1)
        assert right * 300 == pytest.approx(box[2], abs=0.1)
        assert top * 120 < origin[1] < bottom * 120
        assert (bottom - top) * 120 == pytest.approx(18)

    point = Image.new("L", (300, 120))
    middle = (letters.boxes[0, :2] + letters.boxes[0, 2:]) / 2 * [300, 120]
    x, y = (round(float(v)) for v in middle)
    point.paste(255, (x - 1, y - 1, x + 2, y + 2))
    turned = np.argwhere(np.asarray(point.rotate(4)) > 128).mean(0)[::-1]
    skewed = typeset.place_letters(lines, 300, 120, skew_degrees=4).boxes[0]
    np.testing.assert_allclose((skewed[:2] + skewed[2:]) / 2 * [300, 120], turned, atol=1.5)


def test_examples_name_every_letter_of_their_text():
    for index in range(20):
        example = Documents().example(2, index)
        assert example.letters is not None
        assert example.letters.text == "".join(example.text.split())
        assert example.letters.boxes.shape == (len(example.letters.text), 4)
