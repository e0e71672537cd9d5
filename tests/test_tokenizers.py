"""Any text survives a tokenizer, and no text can spell a special mark."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from got_jax.errors import GotError
from got_jax.tokenizers import QWEN_FILE, QwenTokenizer, SentencePieceTokenizer, train_sentencepiece

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<ref>", "<box>", "<img>", "</img>", "<imgpad>")


@given(text=TEXTS)
def test_qwen_round_trip(qwen, text):
    assert qwen.decode(qwen.encode(text)) == text


@given(text=TEXTS | st.text("\u2581 \0\n<0x41>a"))
def test_sentencepiece_round_trip(pieces, text):
    assert pieces.decode(pieces.encode(text)) == text


@pytest.mark.parametrize("which", ["qwen", "pieces"])
def test_text_never_spells_a_mark(which, request):
    tokenizer = request.getfixturevalue(which)
    marks = set(tokenizer.special.values())
    for mark in MARKS:
        ids = tokenizer.encode(f"a{mark}b")
        assert not marks & set(ids)
        assert tokenizer.decode(ids) == f"a{mark}b"
        assert tokenizer.decode([tokenizer.special[mark]]) == ""


def test_qwen_ids(qwen):
    assert qwen.vocab_size == 151_860
    expected = {
        "<|endoftext|>": 151_643,
        "<|im_start|>": 151_644,
        "<|im_end|>": 151_645,
        "<|extra_0|>": 151_646,
        "<|extra_204|>": 151_850,
        "<ref>": 151_851,
        "</ref>": 151_852,
        "<box>": 151_853,
        "</box>": 151_854,
        "<quad>": 151_855,
        "</quad>": 151_856,
        "<img>": 151_857,
        "</img>": 151_858,
        "<imgpad>": 151_859,
    }
    assert {name: qwen.special[name] for name in expected} == expected
    assert qwen.encode("Hello world\n") == [9707, 1879, 198]
    assert len(qwen.encode("2024")) == 4, "digits are split one by one"


def test_qwen_saves_what_it_loads(qwen, tmp_path):
    qwen.save(tmp_path)
    assert QwenTokenizer.load(tmp_path / QWEN_FILE).encode("naïve 通用OCR理论") == qwen.encode("naïve 通用OCR理论")


def test_sentencepiece_saves_and_travels(pieces, tmp_path):
    pieces.save(tmp_path)
    for other in (SentencePieceTokenizer.load(tmp_path / "tokenizer.model"), pickle.loads(pickle.dumps(pieces))):
        assert other.encode("read me: 42%") == pieces.encode("read me: 42%")


@pytest.mark.parametrize("load", [QwenTokenizer.load, SentencePieceTokenizer.load])
def test_damaged_files_are_refused(load, tmp_path):
    with pytest.raises(GotError, match="does not exist"):
        load(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"\x00\x01 no model")
    with pytest.raises(GotError, match="copy it again"):
        load(tmp_path / "bad")


def test_ranks_of_another_vocabulary_are_refused(tmp_path):
    (tmp_path / QWEN_FILE).write_text("IQ== 0\nIg== 1\n")
    with pytest.raises(GotError, match="2 ranks"):
        QwenTokenizer.load(tmp_path / QWEN_FILE)


def test_trained_sentencepiece_has_marks_newline_and_symbols():
    text = ["the quick brown fox jumps over the lazy dog"] * 50
    tokenizer = train_sentencepiece(text, 400, symbols=("OCR: ",))
    assert len(tokenizer.encode("OCR: ")) == 1
    assert len(tokenizer.encode("\n")) == 1
    assert tokenizer.decode(tokenizer.encode("dog 狗\n")) == "dog 狗\n"
    with pytest.raises(GotError, match="cannot train a vocabulary of 10"):
        train_sentencepiece(text, 10)
