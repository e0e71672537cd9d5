"""Blocks with boxes: written, read back, and read from whatever a model may write."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from got_jax import blocks, prompts
from got_jax.blocks import LABELS, SPELLINGS, Block
from got_jax.errors import GotError

edge = st.integers(0, 1000)
boxes = st.tuples(edge, edge, edge, edge).map(
    lambda v: (min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]) + 1, max(v[1], v[3]) + 1)
)
boxes = boxes.filter(lambda b: b[2] <= 1000 and b[3] <= 1000)
text = st.text(st.characters(exclude_categories=("Cs",))).map(str.strip).filter(lambda t: "<" not in t)
made = st.builds(Block, st.sampled_from(LABELS), st.lists(boxes, max_size=3).map(tuple), text)


def test_the_answer_to_the_letter():
    page = [Block("title", ((112, 60, 890, 101),), "# A page"), Block("figure", ((100, 130, 480, 420), (1, 2, 3, 4)))]
    assert blocks.write(page) == (
        "<ref>title</ref><box>[[112, 60, 890, 101]]</box>\n# A page\n\n"
        "<ref>figure</ref><box>[[100, 130, 480, 420], [1, 2, 3, 4]]</box>"
    )
    assert blocks.write(page[:1], spelling="deepseek") == (
        "<|ref|>title<|/ref|><|det|>[[112, 60, 890, 101]]<|/det|>\n# A page"
    )
    assert blocks.write(page[:1], boxes=False) == "<ref>title</ref>\n# A page"
    assert page[1].pixels((2000, 1000))[0] == (200, 130, 960, 420)


@given(st.lists(made, min_size=1), st.sampled_from(list(SPELLINGS)))
def test_what_is_written_reads_back(page, spelling):
    assert blocks.parse(blocks.write(page, spelling=spelling)) == tuple(page)


@settings(max_examples=200)
@given(st.lists(made, min_size=1), st.data())
def test_an_answer_that_ends_anywhere_keeps_what_is_whole(page, data):
    whole = blocks.write(page)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    found = blocks.parse(cut)
    assert len(found) <= len(page)
    for got, expected in zip(found[:-1], page, strict=False):
        assert got == expected
    if found and cut.startswith("<ref>"):
        last, expected = found[-1], page[len(found) - 1]
        assert expected.text.startswith(last.text) or last.text.endswith("<")
        assert set(last.boxes) <= set(expected.boxes)


@given(st.text(st.sampled_from("<>|/refboxdt[](),0123456789 -\nab"), max_size=120))
def test_anything_is_read_without_a_fault(answer):
    for block in blocks.parse(answer):
        assert block.label
        assert all(0 <= b[0] < b[2] <= 1000 and 0 <= b[1] < b[3] <= 1000 for b in block.boxes)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("[[1, 2, 3, 4]]", ((1, 2, 3, 4),)),
        ("[[1,2,3,4],[5, 6,7, 8]", ((1, 2, 3, 4), (5, 6, 7, 8))),
        ("[[1, 2, 3]]", ()),
        ("[[3, 2, 1, 4], [0, 0, 10, 10]]", ((0, 0, 10, 10),)),
        ("[[-1, 2, 3, 4]]", ()),
        ("[[0, 0, 1001, 4]]", ()),
        ("[[5, 5, 5, 9]]", ()),
        ("None", ()),
    ],
)
def test_boxes_that_are_none_are_left_out(inside, expected):
    (block,) = blocks.parse(f"<ref>text</ref><box>{inside}</box>\nwords")
    assert block == Block("text", expected, "words")


def test_text_before_the_first_block_is_kept_and_plain_answers_have_none():
    assert blocks.parse("no blocks at all") == ()
    assert blocks.parse("so: <ref>title</ref>\nA") == (Block("text", (), "so:"), Block("title", (), "A"))


def test_what_cannot_be_written_is_refused():
    for block, says in (
        (Block("text", (), "a <box> of tea"), "holds the mark <box>"),
        (Block("", (), "a"), "no label"),
        (Block("text", ((5, 0, 1, 9),)), r"box \[5, 0, 1, 9\] is none"),
        (Block("text", ((0, 0, 1, 1001),)), "is none"),
    ):
        with pytest.raises(GotError, match=says):
            blocks.write([block])
    with pytest.raises(GotError, match="spelling 'xml'"):
        blocks.write([], spelling="xml")


@pytest.mark.parametrize("name", ["qwen", "pieces"])
def test_marks_are_single_tokens_where_blocks_are_asked_for(name, request):
    tokenizer = request.getfixturevalue(name)
    answer = blocks.write([Block("title", ((1, 2, 3, 4),), "A page")])
    asked = prompts.query(layout=True, boxes=True)
    ids = prompts.answer_ids(tokenizer, answer, asked)
    assert [i for i in ids if i == tokenizer.special["<ref>"]] == [tokenizer.special["<ref>"]]
    assert blocks.spell(tokenizer, ids) == answer
    plain = prompts.answer_ids(tokenizer, answer, prompts.PLAIN)
    assert tokenizer.special["<ref>"] not in plain, "a page that shows <ref> teaches no mark"
    assert tokenizer.decode(plain) == answer


def test_a_vocabulary_without_marks_spells_them(pieces):
    class Bare:
        special: dict = {}  # noqa: RUF012
        encode, decode = pieces.encode, pieces.decode

    answer = blocks.write([Block("title", ((1, 2, 3, 4),), "A page")])
    assert blocks.spell(Bare, blocks.encode(Bare, answer)) == answer  # type: ignore[arg-type]


def test_queries_of_blocks():
    assert prompts.query(boxes=True) == "OCR with boxes: "
    assert prompts.query(layout=True) == "OCR with layout: "
    assert prompts.query(layout=True, boxes=True) == "OCR with layout and boxes: "
    assert prompts.query(locate="two\n words") == "Where is <ref>two words</ref>: "
    for query in (prompts.query(boxes=True), prompts.query(locate="a")):
        assert prompts.has_marks(query)
    assert not prompts.has_marks(prompts.PLAIN)
    assert not prompts.has_marks("Where is <ref>a</ref><box>b</ref>: ")
    for wrong, says in (
        ({"boxes": True, "color": "red"}, "one whole picture"),
        ({"locate": "a", "layout": True}, "alone"),
        ({"locate": "a</ref>"}, "holds the mark"),
    ):
        with pytest.raises(GotError, match=says):
            prompts.query(**wrong)  # type: ignore[arg-type]


def test_located_texts_are_marked_in_the_question(pieces):
    ids = prompts.prompt_ids(pieces, prompts.query(locate="tea"), 4)
    assert pieces.special["<ref>"] in ids
    assert pieces.special["</ref>"] in ids
    plain = prompts.prompt_ids(pieces, "OCR <ref>tea</ref>: ", 4)
    assert pieces.special["<ref>"] not in plain
