"""Labels of real pictures: pages and slices that training reads, skipped pictures with a reason, runs that go on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from got_jax.data.records import Records
from got_jax.errors import GotError
from pipelines import __main__ as cli
from pipelines import label, readers
from pipelines.documents import Documents
from pipelines.readers import Found


def quad(left, top, right, bottom):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.jpg", "c.png")):
        Image.new("RGB", (200, 100), (200, 10 * number, 90)).save(folder / name)
    (folder / "d.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def reader(monkeypatch):
    """A reader whose answers are known: sure of one picture, unsure of a line of the next, blind for the third."""
    calls = []

    def read(pixels):
        number = round(int(pixels[50, 100, 1]) / 10)
        calls.append(number)
        if number == 2:
            return []
        second = Found("below", quad(10, 60, 120, 80), 0.95 if number == 0 else 0.4)
        return [Found("ABOVE", quad(10, 10, 120, 30), 0.99), second]

    monkeypatch.setattr(readers, "rapidocr", read)
    return calls


def test_sure_pictures_become_pages_and_sure_lines_slices(pictures, reader, tmp_path):
    out = tmp_path / "out"
    assert label.label(pictures, out, 0.9) == {"pages": 1, "slices": 3, "skipped": 3}
    records = Records(str(out / "labels.jsonl"))
    found = [records.example(0, index) for index in range(len(records))]
    assert [example.text for example in found] == ["ABOVE", "below", "ABOVE\nbelow", "ABOVE"]
    skipped = (out / "skipped.log").read_text()
    assert "b.jpg\t1 of 2 lines below 0.9, e.g. 'below'" in skipped
    assert "c.png\tno text found" in skipped
    assert "is not a picture" in skipped
    slice_ = Image.open(out / json.loads((out / "labels.jsonl").read_text().splitlines()[0])["image"])
    assert slice_.size == (110, 20)


def test_a_run_that_was_cut_goes_on(pictures, reader, tmp_path):
    out = tmp_path / "out"
    whole = label.label(pictures, out, 0.9)
    expected = sorted((out / "labels.jsonl").read_text().splitlines())
    calls = len(reader)
    assert label.label(pictures, out, 0.9) == whole
    assert len(reader) == calls, "nothing is read twice"
    rows = (out / "labels.jsonl").read_text().splitlines()
    (out / "labels.jsonl").write_text(rows[0] + "\n" + rows[1][:20])  # cut while the first picture was written
    (out / "skipped.log").write_text("")
    assert label.label(pictures, out, 0.9) == whole
    assert sorted((out / "labels.jsonl").read_text().splitlines()) == expected


def test_what_cannot_be_labelled_is_refused(tmp_path, pictures, reader, capsys):
    (tmp_path / "bare").mkdir()
    (tmp_path / "file").write_text("")
    for arguments, says in (
        ([str(tmp_path / "none"), "--out", str(tmp_path / "o")], "does not exist"),
        ([str(tmp_path / "bare"), "--out", str(tmp_path / "o")], "holds no picture"),
        ([str(pictures), "--out", str(tmp_path / "file" / "o")], "cannot be written"),
        ([str(pictures), "--out", str(tmp_path / "o"), "--confidence", "2"], "--confidence is 2"),
    ):
        assert cli.main(["label", *arguments]) == 2
        assert says in capsys.readouterr().err


def test_turned_lines_are_cut_out_upright():
    pixels = np.zeros((100, 100, 3), np.uint8)
    corners = np.array([[20, 60], [60, 20], [70, 30], [30, 70]], float)
    for share in np.linspace(0, 1, 200):
        x, y = (corners[0] * (1 - share) + corners[1] * share + corners[3] * (1 - share) + corners[2] * share) / 2
        pixels[round(y), round(x)] = 255
    cut = label.straightened(pixels, corners)
    assert cut.shape[1] == pytest.approx(57, abs=1)
    assert cut.shape[0] == pytest.approx(14, abs=1)
    assert cut[cut.shape[0] // 2 - 1 : cut.shape[0] // 2 + 2].max(0).mean() > 120


def test_upright_lines_are_read_from_right_to_left():
    columns = [
        Found(t, quad(x, y, x + 20, y + 150), 1.0) for t, x, y in (("三", 10, 0), ("二", 52, 200), ("一", 50, 0))
    ]
    assert [line.text for line in readers.in_order(columns)] == ["一", "二", "三"]
    rows = [Found(t, quad(0, y, 150, y + 20), 1.0) for t, y in (("b", 40), ("a", 0))]
    assert [line.text for line in readers.in_order(rows)] == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize(("language", "most"), [("en", 0.03), ("zh", 0.05)])
def test_paddleocr_reads_our_labels_back(language, most):
    """An independent reader agrees with the label of a clean page, columns included."""
    pytest.importorskip("rapidocr")
    import cv2

    from got_jax.metrics import character_error_rate
    from pipelines.truth import plain

    engine = Documents(
        languages=((language, 1.0),),
        pages=1,
        paragraphs=0,
        lines=0,
        effects=0,
        mixed=0,
        layouts=("paper",),
        page_px=1600,
    )
    example = engine.example(7, 1)
    pixels = cv2.imdecode(np.frombuffer(example.images[0], np.uint8), cv2.IMREAD_COLOR_RGB)
    answer = "\n".join(line.text for line in readers.rapidocr(np.asarray(pixels)))
    assert character_error_rate([(plain(example.text), plain(answer))]) < most


def test_a_missing_tesseract_is_named(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(GotError, match="apt-get install tesseract-ocr"):
        readers.tesseract(np.zeros((10, 10, 3), np.uint8))
