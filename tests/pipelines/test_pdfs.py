"""Pages of PDF files: read in order, turned upright, cut out exactly, or left out with a reason."""

from __future__ import annotations

import io

import numpy as np
import pymupdf
import pytest
from PIL import Image

from got_jax.errors import GotError
from pipelines import pdfs
from pipelines.pdfs import Pdfs

LEFT = "Words of the left column that run over sev-\neral lines, one below another,\nuntil the column ends here."
RIGHT = "The right column is read after it,\nwhatever stands beside it\non the same height."


def page_of(document, *boxes):
    page = document.new_page(width=420, height=500)
    for (x, y), text in boxes:
        page.insert_text((x, y), text.split("\n"), fontsize=9, lineheight=1.5)
    return page


@pytest.fixture
def folder(tmp_path):
    document = pymupdf.open()
    # Drawn in an order that is not the reading order.
    page_of(
        document,
        ((255, 100), RIGHT),
        ((224, 480), "- 7 -"),
        ((40, 50), "A title across both of the columns of this page"),
        ((40, 100), LEFT),
    )
    document.save(tmp_path / "columns.pdf")
    return tmp_path


def test_columns_are_read_one_after_another(folder):
    engine = Pdfs(str(folder), effects=0.0)
    assert len(engine) == 4
    example = engine.example(0, 0)
    assert example.text == f"A title across both of the columns of this page\n{LEFT}\n{RIGHT}\n- 7 -"
    assert max(Image.open(io.BytesIO(example.images[0])).size) == 1024
    assert engine.example(7, 0).images == example.images, "a finite engine: the seed does not matter"


def test_slices_show_their_own_lines_only(folder):
    engine = Pdfs(str(folder), slices=30, effects=0.0)
    whole = engine.example(0, 0).text.split("\n")
    seen = set()
    for index in range(1, 31):
        example = engine.example(0, index)
        lines = example.text.split("\n")
        at = whole.index(lines[0])
        assert whole[at : at + len(lines)] == lines
        pixels = np.asarray(Image.open(io.BytesIO(example.images[0])).convert("L"))
        rows = (pixels < 140).any(1).astype(int)
        assert (np.diff(rows) == 1).sum() + rows[0] >= len(lines), "each line leaves ink, blank rows between"
        seen.add(len(lines))
    assert {1, 3} <= seen


def test_ligatures_are_spelt_out_and_soft_hyphens_show(tmp_path):
    document = pymupdf.open()
    page = document.new_page(width=400, height=200)
    font = pymupdf.Font("helv")
    writer = pymupdf.TextWriter(page.rect)
    writer.append((30, 50), "The of\ufb01ce of the \ufb02oor, a long compo\u00ad", font=font, fontsize=10)
    writer.append((30, 64), "sition of words of every kind.", font=font, fontsize=10)
    writer.write_text(page)
    document.save(tmp_path / "a.pdf")
    text = Pdfs(str(tmp_path)).example(0, 0).text
    assert text == "The office of the floor, a long compo-\nsition of words of every kind."


@pytest.mark.parametrize("turn", [90, 180, 270])
@pytest.mark.parametrize("how", ["the page", "the text"])
def test_turned_pages_are_set_upright(turn, how, tmp_path, folder):
    document = pymupdf.open()
    if how == "the page":
        page_of(document, ((40, 100), LEFT)).set_rotation(turn)
    else:
        page = document.new_page(width=420, height=500)
        for number, line in enumerate(LEFT.split("\n")):
            page.insert_text((210 + 14 * number, 250), line, fontsize=9, rotate=turn)
    (tmp_path / "turned").mkdir()
    document.save(tmp_path / "turned" / "a.pdf")
    example = Pdfs(str(tmp_path / "turned"), effects=0.0).example(0, 0)
    if how == "the page":
        assert example.text == LEFT
    assert sorted(example.text.split("\n")) == sorted(LEFT.split("\n"))
    pixels = np.asarray(Image.open(io.BytesIO(example.images[0])).convert("L")) < 140
    columns, rows = np.flatnonzero(pixels.any(0)), np.flatnonzero(pixels.any(1))
    assert np.ptp(columns) > 2 * np.ptp(rows), "lines run across the picture"


def test_pages_that_cannot_be_used_are_named_with_their_reason(folder):
    Image.new("L", (600, 800), 240).save(folder / "scan.png")
    document = pymupdf.open()
    document.new_page(width=420, height=500).insert_image((0, 0, 420, 500), filename=folder / "scan.png")
    page = document.new_page(width=420, height=500)
    page.insert_image((0, 0, 420, 500), filename=folder / "scan.png")
    page.insert_text((40, 100), "text that another reader has laid over the scan", fontsize=9)
    document.new_page(width=420, height=500)
    document.new_page(width=10, height=10)
    document.save(folder / "scans.pdf")
    document = pymupdf.open()
    page_of(document, ((40, 100), LEFT))
    aes = pymupdf.mupdf.PDF_ENCRYPT_AES_256
    document.save(folder / "locked.pdf", encryption=aes, user_pw="secret", owner_pw="other")
    (folder / "empty.pdf").write_bytes(b"")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nno more than this")
    engine = Pdfs(str(folder))
    assert len(engine) == 4, "the good page is used"
    found = "\n".join(engine.rejected)
    for words in (
        "scans.pdf page 1: it is a scanned page without a text layer",
        "scans.pdf page 2: it is a scanned page whose text layer is another reader's",
        "scans.pdf page 3: its text layer has 0 characters",
        "scans.pdf page 4: it is smaller than 20 points",
        "locked.pdf is encrypted",
        "empty.pdf is empty",
        "broken.pdf",
    ):
        assert words in found
    assert len(engine.rejected) == 7
    (folder / "columns.pdf").unlink()
    pdfs.survey.cache_clear()
    with pytest.raises(GotError, match="no page of the 4 PDF files"):
        len(Pdfs(str(folder)))


def test_folders_without_pdf_files_and_huge_ones_are_refused(tmp_path, folder, monkeypatch):
    for path, says in (("", "folder is not given"), (str(tmp_path / "none"), "does not exist")):
        with pytest.raises(GotError, match=says):
            len(Pdfs(path))
    (tmp_path / "bare").mkdir()
    with pytest.raises(GotError, match="holds no .pdf file"):
        len(Pdfs(str(tmp_path / "bare")))
    monkeypatch.setattr(pdfs, "MOST_BYTES", 10)
    pdfs.survey.cache_clear()
    with pytest.raises(GotError, match="over the limit of 10"):
        len(Pdfs(str(folder)))
