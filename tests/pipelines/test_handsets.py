"""Readers of handwriting data sets, on small files in the real formats."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from got_jax.errors import GotError
from pipelines import handsets
from pipelines.hands import Hands


def strokes(width: int = 200, height: int = 40) -> np.ndarray:
    """A grey line with a dark bar where the "writing" is."""
    grey = np.full((height, width), 235, np.uint8)
    grey[12:28, 20 : width - 20] = 40
    return grey


def write_dgrl(path, texts) -> None:
    """As CASIA describes it: header, size of the page and number of lines; label, place and pixels of each."""
    note = b"offline\x00"
    header = struct.pack("<i", 36 + len(note)) + b"DGRL\x00\x00\x00\x00" + note + b"GB".ljust(20, b"\x00")
    header += struct.pack("<hh", 2, 8)
    body = struct.pack("<iii", 500, 400, len(texts))
    for number, text in enumerate(texts):
        label = b"".join(ch.encode("gb18030").ljust(2, b"\x00") for ch in text)
        body += struct.pack("<i", len(text)) + label + struct.pack("<iiii", 50 * number, 0, 40, 200)
        body += strokes().tobytes()
    path.write_bytes(header + body)


@pytest.fixture
def casia(tmp_path):
    write_dgrl(tmp_path / "001-P16.dgrl", ["今天天气好。", "他说A1"])
    return tmp_path


@pytest.fixture
def iam(tmp_path):
    form = tmp_path / "lines" / "a01" / "a01-000u"
    form.mkdir(parents=True)
    (tmp_path / "ascii").mkdir()
    rows = ["#--- lines.txt ---", "a01-000u-00 ok 154 19 408 746 1661 89 A|MOVE|to|stop|Mr.|Gaitskell|,|he|said"]
    rows += ["a01-000u-01 err 156 19 395 932 1850 105 badly|cut", 'a01-000u-02 ok 1 1 1 1 1 1 "|Go|on|!|"|(|she|)']
    (tmp_path / "ascii" / "lines.txt").write_text("\n".join(rows))
    for number in range(3):
        Image.fromarray(strokes()).save(form / f"a01-000u-{number:02}.png")
    return tmp_path


@pytest.fixture
def page(tmp_path):
    pixels = np.full((300, 400), 230, np.uint8)
    pixels[50:70, 40:300] = 30
    pixels[120:140, 40:200] = 60
    Image.fromarray(pixels).save(tmp_path / "page1.jpg")
    (tmp_path / "page").mkdir()
    lines = "".join(
        f"<TextLine id='l{i}'><Coords points='30,{y} 320,{y} 320,{y + 40} 30,{y + 40}'/>"
        f"<Baseline points='30,{y} 320,{y}'/>"
        f"<TextEquiv><Unicode>{text}</Unicode></TextEquiv></TextLine>"
        for i, (y, text) in enumerate(((40, "Kjære venn &amp; bror"), (110, "jeg skriver"), (200, "")))
    )
    (tmp_path / "page" / "page1.xml").write_text(
        "<?xml version='1.0'?><PcGts xmlns='http://schema.primaresearch.org/PAGE/gts/pagecontent/2013-07-15'>"
        f"<Page imageFilename='page1.jpg' imageWidth='400' imageHeight='300'><TextRegion>{lines}"
        "</TextRegion></Page></PcGts>"
    )
    (tmp_path / "mets.xml").write_text("<mets/>")
    return tmp_path


def test_casia_lines_have_their_text_and_strokes(casia):
    found = handsets.lines(str(casia), "casia")
    assert [line.text for line in found] == ["今天天气好。", "他说A1"]
    ink = handsets.ink(found[1])
    assert ink.shape == (40, 200)
    assert ink[20, 100] == 255
    assert ink[5, 5] == 0


def test_iam_lines_skip_bad_segmentation_and_space_marks_as_written(iam):
    found = handsets.lines(str(iam), "iam")
    assert [line.text for line in found] == ["A MOVE to stop Mr. Gaitskell, he said", '"Go on!" (she)']
    handsets.lines.cache_clear()
    (iam / "xml").mkdir()
    (iam / "xml" / "a01-000u.xml").write_text(
        "<form><handwritten-part><line id='a01-000u-00' text='A MOVE to stop Mr. Gaitskell,he said'/>"
        "</handwritten-part></form>"
    )
    assert handsets.lines(str(iam), "iam")[0].text == "A MOVE to stop Mr. Gaitskell,he said"


def test_page_xml_lines_are_cut_out_by_their_polygon(page):
    found = handsets.lines(str(page), "page")
    assert [line.text for line in found] == ["Kjære venn & bror", "jeg skriver"]
    ink = handsets.ink(found[0])
    assert ink[20, 100] > 200, "the stroke"
    assert ink[35, 280] == 0, "paper"


@pytest.mark.parametrize("format", ["casia", "iam", "page"])
def test_real_lines_are_grouped_on_pages(format, request):
    folder = request.getfixturevalue(format)
    handsets.lines.cache_clear()
    example = Hands(folder=str(folder), format=format, single=0.0).example(0, 0)
    texts = [line.text for line in handsets.lines(str(folder), format)]
    assert 6 <= len(example.text.split("\n")) <= 8
    assert set(example.text.split("\n")) <= set(texts)
    pixels = cv2.imdecode(np.frombuffer(example.images[0], np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    assert (pixels < 140).mean() > 0.03


def test_damaged_data_sets_are_named(tmp_path, casia):
    data = (casia / "001-P16.dgrl").read_bytes()
    for name, content, says in (
        ("cut", data[:300], "cut short"),
        ("other", b"\x20\x00\x00\x00GIF89a" + bytes(40), "is no .dgrl file"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "x.dgrl").write_bytes(content)
        with pytest.raises(GotError, match=says):
            handsets.lines(str(folder), "casia")
    empty = tmp_path / "empty"
    empty.mkdir()
    for format, says in (("casia", "holds no line"), ("iam", "has no lines.txt"), ("page", "holds no line")):
        with pytest.raises(GotError, match=says):
            handsets.lines(str(empty), format)
    (empty / "a.xml").write_text("<a>")
    with pytest.raises(GotError, match="no valid XML"):
        handsets.lines(str(empty), "page")
    with pytest.raises(GotError, match="does not exist"):
        handsets.lines(str(tmp_path / "none"), "page")
