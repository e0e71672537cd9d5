"""Sheet music: made-up systems are valid kern, real ones are cut whole, and two readers find the notes written."""

from __future__ import annotations

import dataclasses
import itertools
import re
import zlib
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from renderers import need

from got_jax.errors import GotError
from pipelines import kern, music
from pipelines.music import Music

SCORE = """!!!OTL: Test
**kern\t**dynam\t**kern
*clefF4\t*\t*clefG2
*k[f#]\t*\t*k[f#]
*M2/4\t*\t*M2/4
=1\t=1\t=1
4G\\\tp\t8cc/L 8ee/
.\t.\t8dd/J
4r\t.\t[4ff#/
=2\t=2\t=2
2GG;\t.\t8ff#]/
.\t.\t(8g/yyX
.\t.\t4a)/
=3\t=3\t=3
*^\t*\t*
2G\t2B\t.\t2d
*v\t*v\t*\t*
=4\t=4\t=4
2C\t.\t2.cc
==\t==\t==
*-\t*-\t*-
"""


def test_answers_are_proved():
    need("verovio", "music21")
    engine = Music(real=0.5, lyrics=0.3)
    made = [engine.example(4, index) for index in range(12)]
    assert [music.proof(example) for example in made] == [""] * 12
    assert {example.meta["kind"] for example in made} == {"real", "made"}
    assert any("**text" in example.text for example in made)
    example = next(e for e in made if "4" in e.text and e.meta["kind"] == "made")
    note = next(m[0] for m in re.finditer(r"(?m)^\d+\.*[A-G]+", example.text))
    wrong = dataclasses.replace(example, text=example.text.replace(note, note[:-1] + note[-1] * 2, 1))
    assert music.proof(wrong) == "the answer's picture is another"
    over_a_rest = "**kern\n*clefG2\n*k[]\n*M3/4\n=1\n[4c\n4r\n4c]\n==\n*-"
    ink = zlib.crc32(music.draw(over_a_rest, example.meta["style"]).tobytes())
    wrong = dataclasses.replace(example, text=over_a_rest, meta=example.meta | {"ink": ink})
    assert music.proof(wrong) == "Verovio finds a tie that leads to no note"


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_made_up_measures_are_full_and_beams_close(seed):
    composer = kern.Composer(np.random.default_rng(seed))
    text = composer.system(3)
    rows = [line.split("\t") for line in text.splitlines()]
    assert {len(row) for row in rows} == {2}
    for column in range(2):
        total, opened = Fraction(0), 0
        sounding = [row[column] for row in rows[4:] if row[column][0] not in ".="]
        for one, two in itertools.pairwise(sounding):
            if "[" in one:  # a tie leads to the next note, which is the same
                pitches = [re.findall(r"[a-gA-G]+[#n-]*", cell) for cell in (one, two)]
                assert "]" in two
                assert pitches[0] == pitches[1]
        for row in rows[4:]:
            cell = row[column]
            if cell.startswith("="):
                assert total in (0, Fraction(*composer.meter)), f"a measure lasts {total}"
                assert opened == 0, "a beam is left open"
                total = Fraction(0)
            elif re.match(r"[(\[]*\d", cell):
                length = re.search(r"(\d+)(\.*)", cell)
                assert length
                plain = Fraction(1, int(length[1]))
                total += plain * (2 - Fraction(1, 2 ** len(length[2])))
                opened += cell.count("L") - cell.count("J")
                assert opened >= 0
    assert text.count("(") == text.count(")")
    assert text.count("[") == text.count("]") + text.split("\n")[2].count("[") - text.split("\n")[2].count("]")


def test_a_score_is_taken_apart_and_cut():
    score = kern.read(SCORE)
    assert score.spines == 2
    assert [bool(measure) for measure in score.measures] == [True, True, False, True], (
        "where a spine splits is left out"
    )
    text = kern.system(score, 0, 2, (0, 1))
    assert text.splitlines()[:5] == ["**kern\t**kern", "*clefF4\t*clefG2", "*k[f#]\t*k[f#]", "*M2/4\t*M2/4", "=1\t=1"]
    assert "4G\t8ccL 8ee" in text
    assert "yyX" not in text
    assert "[4ff#" in text
    assert kern.system(score, 1, 2, (0, 1)) == ""
    alone = kern.system(score, 1, 1, (0, 1))
    assert "]" not in alone.replace("*k[f#]", ""), "a tie from outside is gone"
    assert kern.notes(text) == Counter(
        {
            (0, "g", 3): 1,
            (0, "g", 2): 1,
            (1, "c", 5): 1,
            (1, "e", 5): 1,
            (1, "d", 5): 1,
            (1, "f#", 5): 2,
            (1, "g", 4): 1,
            (1, "a", 4): 1,
        }
    )
    with pytest.raises(GotError, match="no ..kern spines|without ..kern"):
        kern.read("hello\nworld")


def test_a_folder_of_scores_is_used_and_bad_ones_named(tmp_path):
    need("verovio")
    (tmp_path / "good.krn").write_text(SCORE)
    (tmp_path / "bad.krn").write_text("nothing")
    engine = Music(folder=str(tmp_path), measures=(1, 2))
    assert engine.example(0, 0).meta["kind"] == "real"
    assert len(engine.rejected) == 1
    assert "bad.krn" in engine.rejected[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(GotError, match="holds no score"):
        Music(folder=str(tmp_path / "empty")).example(0, 0)
    with pytest.raises(GotError, match="measures"):
        Music(measures=(3, 1))
