"""Users' own data in the three forms, and what may be wrong with a record."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from got_jax import prompts
from got_jax.data.records import Records
from got_jax.errors import GotError


@pytest.fixture
def folder(tmp_path):
    for name, grey in (("a.png", 10), ("b.jpg", 20), ("pages/1.png", 1), ("pages/2.png", 2), ("pages/10.png", 3)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (grey, grey, grey)).save(tmp_path / name)
    return tmp_path


def written(folder, records, name="data.jsonl") -> Records:
    path = folder / name
    if name.endswith(".json"):
        path.write_text(json.dumps(records), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    return Records(str(path))


FORMS = [
    ({"image": "a.png", "text": "Grüße 文"}, 1, prompts.PLAIN, "Grüße 文"),
    ({"images": ["a.png", "b.jpg"], "prompt": prompts.PAGES, "text": "x"}, 2, prompts.PAGES, "x"),
    (
        {
            "image": "a.png",
            "conversations": [{"from": "human", "value": "<image>\nOCR: "}, {"from": "gpt", "value": "x\ny"}],
        },
        1,
        "OCR: ",
        "x\ny",
    ),
    (
        {
            "image": "pages",
            "conversations": [
                {"from": "human", "value": "<image>\nOCR with format across multi pages: "},
                {"from": "gpt", "value": "x"},
            ],
        },
        3,
        prompts.PAGES,
        "x",
    ),
    ({"query": "<image>OCR: ", "response": "x", "images": ["b.jpg"]}, 1, "OCR: ", "x"),
    (
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "<image><image>OCR: "},
                {"role": "assistant", "content": "x"},
            ],
            "images": [{"path": "a.png"}, {"path": "b.jpg"}],
        },
        2,
        "OCR: ",
        "x",
    ),
]


@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
def test_every_form(folder, name):
    records = written(folder, [record for record, *_ in FORMS], name)
    assert len(records) == len(FORMS)
    for index, (_, pictures, prompt, text) in enumerate(FORMS):
        example = records.example(0, index)
        assert (len(example.images), example.prompt, example.text) == (pictures, prompt, text)
    assert records.name == "data"


def test_pages_of_a_folder_come_in_natural_order(folder):
    example = written(folder, [FORMS[3][0]]).example(0, 0)
    assert list(example.images) == [(folder / "pages" / f"{n}.png").read_bytes() for n in (1, 2, 10)]


def test_root_and_blank_lines(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "d.jsonl").write_text('\n{"image": "a.png", "text": "x"}\n\n{"image": "b.jpg", "text": "y"}')
    records = Records(str(elsewhere / "d.jsonl"), root=str(folder), name="mine")
    assert [records.example(0, i).text for i in range(2)] == ["x", "y"]
    assert records.example(0, 1).meta["engine"] == "mine"


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"image": "none.png", "text": "x"}, "picture .*none.png is missing"),
        ({"image": "empty", "text": "x"}, "is no picture, and no folder"),
        ({"text": "x"}, "names no picture"),
        ({"image": "a.png"}, "neither text, response, conversations nor messages"),
        ({"query": "OCR: ", "response": "x", "images": ["a.png"]}, "no <image> mark"),
        ({"image": "a.png", "conversations": [{"from": "human", "value": "<image>"}] * 4}, "has 4 turns"),
        ({"image": 7, "text": "x"}, "'int' object is not iterable"),
        ([], "is no JSON object"),
        ({"query": "<image>", "images": ["a.png"], "response": "x", "image": None}, None),
    ],
)
def test_bad_records_are_named(folder, record, says):
    records = written(folder, [FORMS[0][0], record])
    if says is None:
        assert records.example(0, 1).prompt == ""
        return
    with pytest.raises(GotError, match=says) as caught:
        records.example(0, 1)
    assert f"{records.path}, record 2: " in str(caught.value)


def test_damaged_lines_and_files(folder):
    (folder / "d.jsonl").write_text('{"image": "a.png", "text": "x"}\n{"image": \n')
    with pytest.raises(GotError, match="record 2: "):
        Records(str(folder / "d.jsonl")).example(0, 1)
    for path, says in (
        (folder / "none.jsonl", "none.jsonl cannot be read"),
        ("gs://nowhere/data.jsonl", "gs://nowhere/data.jsonl cannot be read"),
    ):
        with pytest.raises(GotError, match=says) as caught:
            len(Records(str(path)))
        assert "\n" not in str(caught.value)
    (folder / "empty.jsonl").write_text("\n")
    with pytest.raises(GotError, match="holds no record"):
        len(Records(str(folder / "empty.jsonl")))
    (folder / "list.json").write_text("{}")
    with pytest.raises(GotError, match="is no JSON list"):
        len(Records(str(folder / "list.json")))
