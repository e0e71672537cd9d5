"""Tables: every spelling reads back as the grid that was written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from got_jax.errors import GotError
from pipelines import fonts, grids
from pipelines.grids import Cell, Grid, Look
from pipelines.tables import Writer

CELLS = st.text(st.sampled_from(list("ab1 .%&$#_{}<>|中\"'")), max_size=8).map(str.strip)


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=60)
def test_written_tables_read_back(seed, spans):
    font = fonts.typeface(fonts.choose("train", "serif", "normal", "en")[0])
    grid = Writer(np.random.default_rng(seed), "train", font, "en", "latex").grid((2, 8), (2, 6), spans)
    back = grids.from_latex(grids.to_latex(grid))
    assert back == grid
    assert back.look == grid.look
    assert grids.to_latex(back) == grids.to_latex(grid)
    assert grids.from_html(grids.to_html(grid)) == grid
    if not spans:
        assert grids.from_markdown(grids.to_markdown(grid)) == grid
    widths = {sum(c.columns for c in row) + n for row, n in zip(grid.rows, grid.covered(), strict=True)}
    assert widths == {grid.width}


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=4))
@settings(max_examples=80)
def test_any_text_survives(rows):
    look = Look(("l", "r"), ("",) * (len(rows) + 1))
    grid = Grid(tuple(tuple(Cell(text) for text in row) for row in rows), look)
    assert grids.from_latex(grids.to_latex(grid)) == grid
    assert grids.from_html(grids.to_html(grid)) == grid
    assert grids.from_markdown(grids.to_markdown(grid)) == grid


def test_a_table_with_spans_and_formulas():
    text = r"""\begin{tabular}{|l|c|c|}
\hline
\multirow{2}{*}{\textbf{Method}} & \multicolumn{2}{c|}{\textbf{Error \%}} \\
\cline{2-3}
 & \textbf{\( x_{1} \)} & \textbf{b} \\
\hline
Ours & \( \begin{matrix} 1 & 2 \\ 3 & 4 \end{matrix} \) & 5 \\
\hline
\end{tabular}"""
    grid = grids.from_latex(text)
    assert grid.rows[0] == (Cell("Method", rows=2), Cell("Error %", columns=2))
    assert grid.rows[1] == (Cell(r"\( x_{1} \)"), Cell("b"))
    assert grid.rows[2][1].text == r"\( \begin{matrix} 1 & 2 \\ 3 & 4 \end{matrix} \)"
    assert grid.look == Look(("|", "l", "|", "c", "|", "c", "|"), ("hline", "cline 2-3", "hline", "hline"), 2)
    assert grids.to_html(grid).startswith('<table><tr><td rowspan="2">Method</td><td colspan="2">Error %</td></tr>')
    assert grids.to_latex(grid) == text
    with pytest.raises(GotError, match="over several rows or columns"):
        grids.to_markdown(grid)


def test_what_is_no_table_is_said():
    for read, text, says in (
        (grids.from_latex, "a & b", "no single tabular"),
        (grids.from_latex, r"\begin{tabular}{l}{a \\ \end{tabular}", "does not close"),
        (grids.from_html, "<p>", "no table row"),
        (grids.from_markdown, "| a |", "no table"),
    ):
        with pytest.raises(GotError, match=says):
            read(text)
    with pytest.raises(GotError, match="without a look"):
        grids.to_latex(Grid(((Cell("a"),),)))
    assert grids.from_html('<table><tr><td colspan="x" rowspan="9999">a<tr><td>b</table>').rows
