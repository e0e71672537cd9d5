"""The flywheel: blocks become patches, labels are kept where two readers agree, every loss has its reason."""

from __future__ import annotations

import numpy as np
import pymupdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from got_jax.data.records import Records
from got_jax.errors import GotError
from pipelines import __main__ as cli
from pipelines import flywheel, readers
from pipelines.flywheel import Read, Settings


@pytest.fixture
def folder(tmp_path):
    """Three pages of two paragraphs, and a file that is none."""
    root = tmp_path / "pages"
    root.mkdir()
    with pymupdf.open() as document:
        for number in range(3):
            page = document.new_page(width=400, height=300)
            for i in range(3):
                page.insert_text((40, 60 + 16 * i), f"Line {i} of paragraph one on page {number}", fontsize=12)
            page.insert_text((40, 200), "A second paragraph", fontsize=12)
        document.save(root / "book.pdf")
    (root / "broken.pdf").write_bytes(b"no PDF")
    return root


@pytest.fixture
def two(monkeypatch):
    """A labeller and a judge that know what stands on the pages; counts what they read."""
    seen = []

    def reader(name, language):
        def read(cut):
            seen.extend((name, part.shape) for part in cut)
            texts = [f"Line of {len(cut)}" if name == "one" or i else "quite another text" for i in range(len(cut))]
            return [Read(text, 0.95) for text in texts]

        return read

    boxes = [(60, 80, 500, 110), (60, 112, 500, 140), (60, 378, 300, 410)]
    found = [readers.Found("", np.array([[a, b], [c, b], [c, d], [a, d]], float), 1.0) for a, b, c, d in boxes]
    monkeypatch.setattr(flywheel, "reader", reader)
    monkeypatch.setattr(readers, "detect", lambda pixels: found)
    return seen


def test_a_run_keeps_what_readers_agree_on_and_says_why_it_drops_the_rest(folder, two, tmp_path):
    out = tmp_path / "out"
    report = flywheel.run(folder, out, Settings(labeller="one", judge="other", page_px=800))
    assert report["pages"] == 3
    assert report["patches"] == 6
    assert report["reasons"] == {"the readers disagree": 3, "kept": 3}
    assert "broken.pdf" in report["rejected"][0]
    records = Records(str(out / "labels.jsonl"))
    assert len(records) == report["kept"] == 3
    assert records.example(0, 0).text == "Line of 2"
    assert report["truth"]["kept"]["patches"] == 3, "the PDF's own text judges the labels"
    page = (out / "report.html").read_text()
    assert "the readers disagree" in page
    assert "<img" in page
    assert next(flywheel.lines(report)) == "3 pages, 6 patches, 3 kept"


def test_a_cut_run_goes_on_and_another_is_refused(folder, two, tmp_path):
    out = tmp_path / "out"
    settings = Settings(labeller="one", judge="other", page_px=800)
    first = flywheel.run(folder, out, settings)
    next((out / "pages").glob("*.json")).unlink()
    two.clear()
    assert flywheel.run(folder, out, settings) == first
    assert len(two) == 4, "two readers read the two patches of the missing page alone"
    with pytest.raises(GotError, match="holds another run .its language differ"):
        flywheel.run(folder, out, Settings(labeller="one", judge="other", page_px=800, language="zh"))


def test_every_filter_names_its_reason():
    settings = Settings(labeller="one", judge="other", language="zh")
    good = Read("维护者指南，第一章", 0.99)
    assert flywheel.fault(good, good, settings) == ""
    for one, other, why in (
        (Read(" "), good, "empty"),
        (Read(good.text, 0.99, ended=False), good, "cut at the token limit"),
        (Read(good.text, 0.5), good, "low confidence"),
        (Read("一二三四五六七八" * 5), Read("一二三四五六七八" * 5), "repetition"),
        (Read("维护者指南Ж"), Read("维护者指南Ж"), "characters outside the charset"),
        (good, Read("维护者指北，第二章"), "the readers disagree"),
    ):
        assert flywheel.fault(one, other, settings) == why


@given(st.text("ab\n ", max_size=60))
def test_repetition_is_a_share(text):
    assert 0 <= flywheel.repetition(text) <= 1
    assert flywheel.repetition("abcdefgh" * 9) == 1.0
    assert flywheel.repetition("no phrase comes thrice here") == 0.0


def test_lines_become_blocks_and_patches():
    column = [(10, 10 + 20 * i, 200, 26 + 20 * i) for i in range(9)]
    other = [(250, 12 + 20 * i, 400, 28 + 20 * i) for i in range(2)]
    title = [(10, 300, 400, 340)]
    found = flywheel.patches([*other, *title, *column], 6)
    assert (10, 10, 200, 126) in found, "six lines"
    assert (10, 130, 200, 186) in found, "and the other three"
    assert (250, 12, 400, 48) in found, "the next column by itself"
    assert (10, 300, 400, 340) in found
    assert len(found) == 4


def test_a_model_reads_patches_and_tells_boxes(monkeypatch):
    from got_jax.reader import Reading

    class Model:
        def read_many(self, pictures, **options):
            return iter([Reading("text", "", (1,), (-0.1,), "end", 0.0), GotError("bad")])

        def read(self, picture, **options):
            assert options == {"layout": True, "boxes": True}
            answer = (
                "<ref>text</ref><box>[[100, 100, 500, 200]]</box>\nwords\n\n<ref>title</ref><box>[[1, 1, 2, 2]]</box>"
            )
            return Reading(answer, "", (), (), "end", 0.0)

    monkeypatch.setattr(flywheel, "_model", lambda name: Model())
    blank = np.zeros((200, 100, 3), np.uint8)
    read = flywheel.reader("some-model", "en")([blank, blank])
    assert [(r.text, round(r.confidence, 3)) for r in read] == [("text", 0.905), ("", 0.0)]
    assert flywheel._model_boxes("some-model", blank) == [(10.0, 20.0, 50.0, 40.0)]


def test_what_cannot_be_run_is_one_sentence(tmp_path, folder, capsys):
    for words, says in (
        ([str(tmp_path / "none"), "--out", str(tmp_path / "o")], "does not exist"),
        ([str(folder), "--out", str(tmp_path / "o"), "--labeller", "rapidocr"], "two readers must agree"),
        ([str(folder), "--out", str(tmp_path / "o"), "--boxes", "model", "--labeller", "tesseract"], "tells no layout"),
        ([str(folder), "--out", str(tmp_path / "o"), "--language", "xx"], "language 'xx' is unknown"),
        ([str(folder), "--out", str(tmp_path / "o"), "--confidence", "2"], "confidence is 2.0"),
    ):
        assert cli.main(["flywheel", *words]) == 2
        message = capsys.readouterr().err
        assert says in message
        assert "Traceback" not in message
