"""Kern as MEI: Verovio draws the same from both."""

from __future__ import annotations

import numpy as np
import pytest
from renderers import need

from pipelines import kern, mei, music

STYLE = {
    "scale": 40,
    "music": "Leipzig",
    "staff_line": 0.15,
    "bar_line": 0.3,
    "spacing": 0.25,
    "staves": 8,
    "slope": 10,
}


def system(*bars: str, head: str = "*clefG2\n*k[b-]\n*M3/4") -> str:
    """A staff of bars whose tokens are separated by commas."""
    lines = ["**kern", *head.split("\n")]
    for number, bar in enumerate(bars, 1):
        lines += [f"={number}", *bar.split(",")]
    return "\n".join([*lines, "==", "*-"])


SYSTEMS = (
    system("4c,4cn,4c#", "4c,4c#,4c", "4b,4b-,4bn"),  # accidentals last for a measure
    system("4c,4c,[4c#", "4c#],4c#,4c", "4c,4c#,4cc"),  # and a tie carries one over
    system("12cL,12d,12eJ,12r,12eL,12fJ,4r", "2.c", "6c,6d,6r,4r"),  # triplets
    system("(4c,(4d,4e)", "4f),(4g,4a)", "2c,4d"),  # slurs in slurs and over bars
    system("[4c [4e-,4c] 4e-],4e-", "[2c,4c_", "4c],4r,4r"),
    system("4c 4e 4g,8.dL 8.f,16eJk,4r", head="*clefF4\n*k[f#c#]\n*M3/4"),
    system("0c", "0.c#", "1r,1c", head="*clefGv2\n*k[]\n*M4/2"),
    system("4c--,4c##,4e-", "8cLL,16d,16eJJ,2r", head="*clefC3\n*k[f#]\n*M3/4"),
)


@pytest.mark.parametrize("text", SYSTEMS)
def test_a_staff_is_drawn_the_same(text):
    need("verovio")
    assert_same(text, STYLE)


def test_made_up_and_real_systems_are_drawn_the_same():
    need("verovio", "music21")
    rng = np.random.default_rng(8)
    texts = [kern.Composer(rng).system(3) for _ in range(40)]
    for path in kern.files(music.music21_corpus())[:400:20]:
        score = kern.load(path)
        texts.append(kern.system(score, 1, 4, (0, score.spines - 1)))
    known = [text for text in texts if text and mei.from_kern(text)]
    assert len(known) > 0.9 * len(list(filter(None, texts)))
    for i, text in enumerate(known):
        assert_same(text, {**STYLE, "music": music.FACES[i % 5], "tempo": ["", "Allegro", "R & B"][i % 3]})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "**kern\n*-",
        "no music\nat\nall\n\n\n\n\n",
        system("4c,4d,4e").replace("**kern", "**text"),
        system("8qc,4d,4e"),  # a grace note
        system("4c,[4d,4r", "4d],2e"),  # a tie that leads nowhere
        system("4c,4d),4r"),
        system("5c,5c,5c,5c,5c"),
        system("12c,12d,4e"),
        system("8cL,8d,4e", "4f,4g,4a"),
        system("4c,4d 8e,4f"),
        system("4cx,4d,4e"),
        system("2.r", "2.r"),
        system("4c,,4e"),
        system("4" * 5000 + "c"),
        system("4c", head="*clefG2\n*k[]\n*M3/" + "4" * 5000),
        system("4c,4d\t4d,4e"),
        system("8c 8eL,8dJ,2e"),
        system("[4c [4c,4c],4r"),
        system("4c,4d,4e", head="*clefG2\n*k[c#]\n*M3/4"),
        system("4c,4d,4e", head="*clefG2\n*k[]\n*M3/0"),
        system("4c,4d,4e", head="*clefX2\n*k[]\n*M3/4"),
        system("4c,4d,4e", head="*clefG2\n*M3/4\n*k[]"),
    ],
)
def test_what_is_not_known_is_left_to_verovio(text):
    assert mei.from_kern(text) == ""


def assert_same(text: str, style: dict) -> None:
    assert mei.from_kern(text, style.get("tempo", ""))
    style = {"tempo": "", **style}
    assert music.engraved(text, style) == music.engraved(text, style, as_kern=True), text
