"""LaTeX tables as HTML: by hand, against the tables engine's own spellings, and whatever a model may write."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.convert import dollars, tables_to_html
from eval.metrics.teds import cleaned, teds
from pipelines import grids
from pipelines.tables import Tables

CASES = {
    r"\begin{tabular}{ll} a & b \\ c & d \end{tabular}": "<tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr>",
    r"\begin{tabular}{|l|c|}\hline a & b \\ \hline c & d \\ \hline\end{tabular}": (
        "<tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr>"
    ),
    r"\begin{tabular}{lll} \multicolumn{2}{c}{a} & b \\ c & d & e \end{tabular}": (
        '<tr><td colspan="2">a</td><td>b</td></tr><tr><td>c</td><td>d</td><td>e</td></tr>'
    ),
    r"\begin{tabular}{ll} \multirow{2}{*}{a} & b \\ & c \\ d & e \end{tabular}": (
        '<tr><td rowspan="2">a</td><td>b</td></tr><tr><td>c</td></tr><tr><td>d</td><td>e</td></tr>'
    ),
    r"\begin{tabular}{lll} \multirow[t]{2}{3cm}{a} & b & c \\ \cline{2-3} & d & \end{tabular}": (
        '<tr><td rowspan="2">a</td><td>b</td><td>c</td></tr><tr><td>d</td><td></td></tr>'
    ),
    r"\begin{tabular}{lll} \multicolumn{2}{c}{\multirow{2}{*}{a}} & b \\ \multicolumn{2}{c}{} & c \end{tabular}": (
        '<tr><td rowspan="2" colspan="2">a</td><td>b</td></tr><tr><td>c</td></tr>'
    ),
    r"\begin{tabular}{ll} \(\begin{array}{c} 1 & 2 \\ 3 \end{array}\) & \textbf{x \& y} \\ \bf z & 5\% \end{tabular}": (
        r"<tr><td>\(\begin{array}{c} 1 &amp; 2 \\ 3 \end{array}\)</td><td>x &amp; y</td></tr>"
        "<tr><td>z</td><td>5%</td></tr>"
    ),
    r"\begin{tabular}{l} a \\ \begin{tabular}{l} b \\ c \end{tabular} \end{tabular}": (
        "<tr><td>a</td></tr><tr><td><table><tr><td>b</td></tr><tr><td>c</td></tr></table></td></tr>"
    ),
    r"\begin{tabular}{ll} a & b \\[2pt] c & cut o": "<tr><td>a</td><td>b</td></tr><tr><td>c</td><td>cut o</td></tr>",
    r"\begin{tabularx}{\textwidth}{lX} a & <b> \\ \end{tabularx}": "<tr><td>a</td><td>&lt;b&gt;</td></tr>",
    r"\begin{tabular*}{5cm}[t]{l@{\extracolsep{\fill}}l}\toprule[1pt] a & b \\ \cmidrule(lr){1-2} c \end{tabular*}": (
        "<tr><td>a</td><td>b</td></tr><tr><td>c</td></tr>"
    ),
}  # fmt: skip


@pytest.mark.parametrize("latex", CASES)
def test_by_hand(latex):
    after = "" if latex.endswith("cut o") else " y"
    assert tables_to_html(f"x {latex}{after}") == f"x <table>{CASES[latex]}</table>{after}"


def test_two_tables_and_the_text_around():
    one = r"\begin{tabular}{l} a \end{tabular}"
    assert tables_to_html(f"before {one} between {one} after").count("<table><tr><td>a</td></tr></table>") == 2
    assert tables_to_html("no table \\( a & b \\)") == "no table \\( a & b \\)"


@pytest.mark.slow
def test_tables_of_the_engine_become_their_own_html():
    engine = Tables(languages=(("en", 0.5), ("zh", 0.5)), form="latex")
    for index in range(25):
        text = engine.example(11, index).text
        grid = grids.from_latex(text)
        html = tables_to_html(text)
        assert grids.from_html(html) == grid, text
        assert teds(cleaned(html), cleaned(grids.to_html(grid))) == pytest.approx(1)


PIECES = r"\begin{tabular} {ll} \end{tabular} & \\ \multirow {2} {*} { } \multicolumn {3}{c} \( \) a \hline $ [ ]"
pieces = st.sampled_from([*PIECES.split(" "), " ", "\\textbf{", "\\\\["])


@settings(max_examples=300)
@given(st.lists(pieces, max_size=40).map("".join))
def test_any_answer_is_converted(text):
    made = tables_to_html(text)
    assert made.count("<table>") == made.count("</table>")
    if r"\begin{tabular}" not in text:
        assert made == text


def test_formulas_between_dollars():
    assert dollars(r"a \( x^2 \) and \[ y \]") == "a $x^2$ and $$y$$"
