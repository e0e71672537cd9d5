"""Text metrics: golden values of the published scripts (EVALUATION_FACTS.md 2.1), nltk on random pairs, and laws."""

from __future__ import annotations

import warnings
from typing import Any

import jieba
import nltk
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.metrics import scores
from nltk.translate.meteor_score import meteor_score

from eval.metrics import cuts, text, wordnet

FOX = "The quick brown fox jumps over the lazy dog near the old river bank."
GOLDEN = [  # label, answer, unit, then (published, right) of bleu, meteor, precision, recall; f1; edit distance
    (FOX, FOX[: FOX.index(" old")], "words",
     (0.757740, 0.761300), (0.973086, 0.802618), (0.769231, 1.0), (1.0, 0.769231), 0.869565, 0.235294),
    ("通用OCR理论：面向OCR-2.0的统一端到端模型。", "通用OCR理论面向OCR-2.0的统一端到瑞模型。", "words",
     (0.573122, 0.577261), (0.908874, 0.856565), (0.846154, 0.916667), (0.916667, 0.846154), 0.88, 0.076923),
    ("STOP sign", "ST0P sign", "characters",
     (0.660633, 0.660633), (0.881944, 0.881944), (0.888889, 0.888889), (0.888889, 0.888889), 0.888889, 0.111111),
]  # fmt: skip


@pytest.fixture
def no_synonyms(monkeypatch):
    monkeypatch.setattr(text, "synonyms", wordnet.Nothing)


@pytest.mark.parametrize(("label", "answer", "unit", "bleu", "meteor", "precision", "recall", "f1", "ed"), GOLDEN)
def test_golden_values(no_synonyms, label, answer, unit, bleu, meteor, precision, recall, f1, ed):
    both = text.score(label, answer, unit)
    for mode, at in (("paper", 0), ("correct", 1)):
        got = both[mode]
        expected = {"bleu": bleu[at], "meteor": meteor[at], "precision": precision[at], "recall": recall[at]}
        expected |= {"f1": f1, "edit_distance": ed}
        assert {name: round(got[name], 6) for name in expected} == pytest.approx(expected, abs=1e-6)


def test_short_perfect_sentences_have_almost_no_bleu():
    assert text.bleu(["a", "b"], ["a", "b"]) == pytest.approx(1.5e-154, rel=0.05)
    assert text.bleu(["a"], ["b"]) == text.bleu(["a"], []) == 0.0


words = st.lists(st.sampled_from("the cat sat on a mat cats sitting mats walk walked".split()), max_size=30)


@given(one=words, other=words)
def test_equals_nltk(one, other):
    nothing: Any = wordnet.Nothing()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert text.bleu(one, other) == pytest.approx(nltk.translate.bleu([one], other), rel=1e-12, abs=0)
        assert text.bleu_both(one, other)[1] == pytest.approx(nltk.translate.bleu([other], one), rel=1e-12, abs=0)
    assert text.meteor(one, other, nothing) == meteor_score([one], other, wordnet=nothing)
    if one and other:
        precision, recall, f1 = text.set_scores(one, other)
        a, b = set(one), set(other)
        assert (precision, recall, f1) == (scores.precision(a, b), scores.recall(a, b), scores.f_measure(a, b))


@given(st.text("中国人民银行在北京a1 ，。\n-.x", max_size=40))
def test_words_are_jiebas(chinese):
    assert text.tokens("汉" + chinese, "")[0] == jieba.lcut("汉" + chinese)


@given(one=st.text(max_size=40), other=st.text(max_size=40))
def test_edit_distance_is_nltks(one, other):
    longest = max(len(one), len(other))
    assert text.edit_distance(one, other) == (nltk.edit_distance(one, other) / longest if longest else 0.0)


def test_empty_texts():
    assert text.score("", "x")["paper"] is None
    assert text.score("x", "")["paper"] is None
    assert text.score("x", "  ")["paper"] is None, "the published script stops here"
    missed = text.score("some text", "")["correct"]
    assert missed["edit_distance"] == 1
    assert all(value == 0 for name, value in missed.items() if name != "edit_distance")
    nothing = text.score("", "")["correct"]
    assert nothing["edit_distance"] == 0
    assert all(value == 1 for name, value in nothing.items() if name != "edit_distance")
    invented = text.score("", "some text")["correct"]
    assert (invented["f1"], invented["edit_distance"]) == (0, 1)


def test_multisets_see_repetition():
    found = text.score("a b c d", "a b c d d d d d")["correct"]
    assert found["f1"] == 1
    assert found["multiset_precision"] == 0.5
    assert found["multiset_recall"] == 1


def test_mean_leaves_out_what_was_skipped():
    rows = [{"bleu": 1.0}, None, {"bleu": 0.5}]
    assert text.mean(rows) == {"bleu": 0.75}
    assert text.mean([None]) == {}


@pytest.mark.skipif(wordnet.folder() is None, reason=wordnet.MISSING)
def test_synonyms():
    """Golden by nltk 3.10.4 with WordNet 3.0; the synonym counts only where WordNet is there."""
    one, other = "a dog and a car went home".split(), "a hound and an automobile went home".split()
    assert text.meteor(one, other) == pytest.approx(0.637143, abs=1e-6)
    assert text.meteor(one, other, wordnet.Nothing()) == pytest.approx(0.450893, abs=1e-6)
    assert {"auto", "automobile"} <= {lemma.name() for s in wordnet.synonyms().synsets("car") for lemma in s.lemmas()}


def test_without_wordnet_it_says_so(monkeypatch):
    monkeypatch.setattr(wordnet, "folder", lambda: None)
    wordnet.synonyms.cache_clear()
    try:
        assert wordnet.version() == "without WordNet"
        assert wordnet.synonyms().synsets("car") == []
    finally:
        wordnet.synonyms.cache_clear()


PAGE = (
    "Let \\(a+b\\) and \\(c\\) be\n\\[\nd = \\frac{1}{2}\n\\]\nor \\[e\\]\n"
    "\\begin{tabular}{l}\na \\\\\nb\n\\end{tabular}\nend"
)


def test_cutting():
    assert cuts.formulas(PAGE, "paper") == "a+b\nce", "formulas of several lines are lost, and nothing parts the kinds"
    assert cuts.formulas(PAGE, "correct") == "a+b\nc\n\nd = \\frac{1}{2}\n\ne"
    assert cuts.tables(PAGE) == "{l}\na \\\\\nb\n"
    assert cuts.tables("x \\begin{tabular}{c} a & b") == "{c} a & b", "cut off at the limit"


def test_many_pairs_score_as_one_by_one():
    rng = np.random.default_rng(0)
    pairs = [("".join(rng.choice(list("ab c"), 30)), "".join(rng.choice(list("ab c"), 30))) for _ in range(20)]
    from eval.scoring import score_texts

    assert score_texts(pairs, "words", processes=2) == [text.score(*pair) for pair in pairs]
