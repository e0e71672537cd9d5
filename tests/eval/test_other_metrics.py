"""SCRM, TEDS, kern, SMILES and TikZ by golden values and hand-worked cases."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import kern, pictures, scrm, smiles
from eval.metrics.teds import cleaned, teds
from got_jax.errors import GotError

TRUTH = {"A": "10%", "B": "20", "C": "30", "D": "40"}
CASES = [  # EVALUATION_FACTS.md 2.2: AP as published at strict, slight, high
    (TRUTH, (1, 1, 1)),
    ({"D": "40", "C": "30", "B": "20", "A": "10%"}, (1, 1, 1)),
    (TRUTH | {"A": 10.4}, (0.2, 1, 1)),
    (TRUTH | {"A": 10.8}, (0.2, 0.2, 1)),
    ({k: v for k, v in TRUTH.items() if k != "D"}, (0.5, 0.5, 0.5)),
    (TRUTH | {"E": 50}, (0.6, 0.6, 0.6)),
]


@pytest.mark.parametrize(("found", "expected"), CASES)
def test_scrm_as_published(found, expected):
    at = [scrm.average_precision([scrm.similarity(found, TRUTH, t, "paper")], "paper") for t in scrm.TOLERANCES]
    assert at == pytest.approx(expected)


def test_scrm_correct_has_exact_thresholds_and_no_substrings():
    missing = {k: v for k, v in TRUTH.items() if k != "D"}
    assert scrm.average_precision([scrm.similarity(missing, TRUTH, "strict")]) == pytest.approx(0.6), "0.75 counts"
    nameless = {"": 10}
    assert scrm.similarity(nameless, {"A": 10}, "strict", "paper") == 1
    assert scrm.similarity(nameless, {"A": 10}, "strict") == 0
    near = {"a": 1, "ab": 1, "abc": 1}
    assert scrm.similarity(near, {"abcd": 1}, "slight", "paper") == 1
    assert scrm.similarity(near, {"abcd": 1}, "slight") == pytest.approx(1 / 3), "one to one"


def test_scrm_as_published_may_exceed_one():
    """Predictions that match the same truth leave the union, so the "share" is over 1."""
    assert scrm.similarity({"": 0, "a": 0}, {"": 0}, "strict", "paper") == 2
    assert scrm.similarity({"": 0, "a": 0}, {"": 0}, "strict") == 0.5


def test_scrm_takes_a_table_for_its_transpose():
    table = {"x": {"p": 1, "q": 2}, "y": {"p": 3, "q": 4}}
    turned = {"p": {"x": 1, "y": 3}, "q": {"x": 2, "y": 4}}
    assert scrm.similarity(turned, table, "strict") == 1
    assert scrm.similarity({}, {}, "strict") == scrm.similarity({}, {}, "strict", "paper") == 1
    assert scrm.similarity({"a": [1]}, {"a": 1}, "strict") == 1, "a list's digits are its value"


values = st.dictionaries(st.text("ab", max_size=3), st.integers(0, 3) | st.text("x1", max_size=2), max_size=5)


@given(found=values, truth=values)
def test_scrm_laws(found, truth):
    for mode in ("paper", "correct"):
        likeness = [scrm.similarity(found, truth, t, mode) for t in ("strict", "slight", "high")]
        assert min(likeness) >= 0
        assert mode == "paper" or max(likeness) <= 1
        assert likeness == sorted(likeness)
    assert scrm.similarity(truth, truth, "strict") == 1


def test_charts_are_read_and_mended():
    titles = {"title": "T", "source": "None", "x_title": "None", "y_title": "y"}
    whole = json.dumps({**titles, "values": {"a": {"b": 1}}})
    assert scrm.read(whole[:-2]) == scrm.Chart(titles, {"a": {"b": 1}})
    assert scrm.read(json.dumps({**titles, "data": {"a": 1}})).values == {"a": 1}
    for text, why in [("{x", "JSON"), ("[]", "object"), (json.dumps({"values": {}}), "title"), ("{" * 100_000, "JSON")]:
        with pytest.raises(GotError, match=why):
            scrm.read(text)
    with pytest.raises(GotError, match="values"):
        scrm.read(json.dumps({**titles, "values": [1]}))


def test_title_scores():
    assert scrm.title_score("Sales", "sales") == 1
    assert scrm.title_score("abcd", "abcx") == 0.75
    assert scrm.title_score("None", "Sales") == pytest.approx(0.0)
    assert scrm.title_score("anything", "None") is None
    assert scrm.title_score("b", ["a", "b"]) == 1


def page(rows: str) -> str:
    return f"<html><body><table>{rows}</table></body></html>"


TABLE = "<tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr>"


def test_teds_by_hand():
    assert teds(page(TABLE), page(TABLE)) == 1
    assert teds(f"<table>{TABLE}</table>", page(TABLE)) == 0, "a bare table is none"
    assert teds("", page(TABLE)) == 0
    heads = TABLE.replace("<td>a</td><td>b</td>", "<th>a</th><th>b</th>")
    assert teds(page(heads), page(TABLE)) == pytest.approx(2 / 3)
    head, rest = TABLE[: len(TABLE) // 2], TABLE[len(TABLE) // 2 :]
    grouped = f"<thead>{head}</thead><tbody>{rest}</tbody>"
    assert teds(page(grouped), page(TABLE)) == pytest.approx(0.75)
    assert teds(page(TABLE.replace(">d<", ">x<")), page(TABLE)) == pytest.approx(5 / 6)
    assert teds(page(TABLE.replace(">d<", ">x<")), page(TABLE), structure_only=True) == 1
    spanned = TABLE.replace("<td>a", '<td colspan="2">a')
    assert teds(page(spanned), page(TABLE), structure_only=True) == pytest.approx(5 / 6)


def test_teds_after_cleaning():
    fancy = (
        '<table class="x"><thead><tr><th style="a">a<sup>2</sup></th><th colspan="1"> b </th></tr></thead>'
        "<tbody><tr><td>c</td><td>Ｄ</td></tr></tbody></table> tail"
    )
    plain = "<table><tr><td>a2</td><td>b</td></tr><tr><td>c</td><td>D</td></tr></table>"
    assert cleaned(fancy) == cleaned(plain)
    assert teds(cleaned(fancy), cleaned(plain)) == 1
    assert cleaned("no table") == cleaned("") == ""


def test_kern_rates():
    truth = "**kern\t**kern\n4c\t4e\n*-\t*-"
    assert kern.rates([(truth, truth)]) == {"cer": 0, "ser": 0, "ler": 0}
    wrong = truth.replace("4e", "4f")
    rates = kern.rates([(truth, wrong)])
    assert rates["cer"] == pytest.approx(100 / len(truth))
    assert rates["ser"] == pytest.approx(100 / 11)
    assert rates["ler"] == pytest.approx(100 / 3)
    assert kern.from_bekern("**ekern_1.0\t**bekern\n4@·c·#\t8@·e·L") == "**kern\t**kern\n4c#\t8eL"


def test_molecules():
    assert smiles.score("<smiles>CCO</smiles>", "<smiles>OCC</smiles>") == {"valid": 1, "exact": 1, "tanimoto": 1}
    other = smiles.score("<smiles>CCO</smiles>", "<smiles>CCN")
    assert (other["valid"], other["exact"]) == (1, 0)
    assert 0 < other["tanimoto"] < 1
    assert smiles.score("CCO", "C(") == smiles.score("CCO", "") == {"valid": 0, "exact": 0, "tanimoto": 0}
    with pytest.raises(GotError, match="no molecule"):
        smiles.score("C(", "C")


def test_tikz_pictures():
    line = "\\begin{tikzpicture}\n\\draw (0,0) -- (2,1);\n\\end{tikzpicture}"
    assert pictures.tikz_likeness(line, line) == 1
    turned = pictures.tikz_likeness(line, line.replace("(2,1)", "(2,-1)"))
    assert turned is not None
    assert turned < 0.5
    assert pictures.tikz_likeness(line, "nonsense") == 0
    assert pictures.tikz_likeness("nonsense", line) is None
