"""Node, LaTeX and LibreOffice: they answer, refuse, run out of time, die, and are started again."""

from __future__ import annotations

import shutil
import sys

import pytest
from renderers import need

from got_jax.errors import GotError
from pipelines.backends import latex, node, office, tools
from pipelines.backends.node import Node


def test_node_draws_and_names_what_is_wrong():
    need("node")
    running = node.node()
    formulas = [[r"\frac{a}{b}", True], [r"\text{若 } x", False], [r"\frac{a", False]]
    glyphs, text, bad = running.call("formulas", formulas=formulas, ex=8)
    assert len(glyphs["marks"]) == 3  # a, b and the rule
    assert text["svg"].startswith("<svg")  # letters of our fonts go another way
    assert "Missing close brace" in bad["error"]
    assert running.call("molecule", smiles="CCO").startswith("<svg")
    assert "<path" in node.node("echarts").call(
        "chart", option={"series": [{"type": "pie", "data": [1, 2]}]}, width=200, height=100
    )
    with pytest.raises(GotError, match="refused a request of 'nothing'"):
        running.call("nothing")
    assert node.node() is running


def test_the_same_request_gives_the_same_picture_whatever_was_before():
    need("node")
    one, other = Node(), Node()
    smiles = "CC12CCC3C(CCC4CC(O)CCC34C)C1CCC2C(C)CCCC(C)C"
    numbers = lambda text: [part.split('"')[0] for part in text.split('x1="')[1:]]
    other.call("molecule", smiles="C1CC2CCC1CC2C1CCCCCCCCC1")
    try:
        assert numbers(one.call("molecule", smiles=smiles)) == numbers(other.call("molecule", smiles=smiles))
    finally:
        one.close()
        other.close()


def test_a_renderer_that_hangs_or_dies_is_started_again():
    need("node")
    script = """if 1:
        import sys
        line = sys.stdin.readline()
        if "hang" in line:
            sys.stdin.read()
        if "ok" in line:
            print('{"result": 7}', flush=True)
            sys.stdin.readline()
    """
    running = Node(seconds=1.0, command=(sys.executable, "-c", script))
    with pytest.raises(GotError, match="took over 1 s on a request of 'hang'"):
        running.call("hang")
    with pytest.raises(GotError, match="died on a request of 'die'"):
        running.call("die")
    assert running.restarts == 2
    assert running.call("ok") == 7
    running.close()


def test_what_is_missing_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt-get install nodejs" in tools.missing("node")
    assert "apt-get install texlive-latex-base" in tools.missing("latex")
    assert "apt-get install libreoffice-writer" in tools.missing("office")
    with pytest.raises(GotError, match="pdfLaTeX is missing"):
        latex.typeset(["x"])
    with pytest.raises(GotError, match="Node.js is missing"):
        Node().call("molecule", smiles="C")
    with pytest.raises(GotError, match="LibreOffice is missing"):
        office.to_pdf(b"")


def test_latex_sets_each_body_on_its_page_and_a_broken_one_costs_the_others_nothing():
    need("latex")
    bodies = [rf"\fbox{{page {i} 中文}}" for i in range(6)]
    alone = latex.one(bodies[4])
    bodies[2], bodies[5] = r"\frac{", r"\end{document}"
    pages = latex.typeset(bodies)
    assert [isinstance(page, str) for page in pages] == [False, False, True, False, False, True]
    assert "LaTeX" in str(pages[2])
    whole = pages[4]
    assert isinstance(whole, latex.Page)
    assert whole.text().split() == ["page", "4", "中文"]
    assert (whole.cover(2.0) == alone.cover(2.0)).all()


def test_latex_reads_nothing_runs_nothing_and_ends():
    need("latex")
    hostile = [
        r"\input{/etc/hostname}",
        r"\immediate\write18{touch /tmp/got-owned}x",
        r"\openin5=/etc/passwd \read5 to \x \x",
    ]
    pages = latex.typeset(hostile)
    assert isinstance(pages[0], str)
    assert all(isinstance(page, str) or "root:" not in page.text() for page in pages)
    assert latex.typeset([r"\def\x{\x}\x"], seconds=1.5) == ["it takes LaTeX over 1.5 s"]
    for body in (r"a \input{x}", r"\csname x\endcsname", r"\write18{x}", "^^5cinput", r"\end {document}", r"\def\a{b}"):
        assert latex.hostile(body)
    assert not latex.hostile(r"\frac{\left( a \right)}{\begin{pmatrix} 1 \end{pmatrix}} \inputs")


def test_reactions_are_set_without_mhchem_as_mhchem_sets_them(monkeypatch):
    need("latex")
    reactions = [
        r"\ce{2H2O + P2O5 ->[H+] SO4^2- + Ca(OH)2 v}",
        r"\ce{NH4+ + 3Fe^3+ <=> C6H12O6 ^}",
        r"\ce{KMnO4 <- OH-}",
        r"\ce{HCl ->[\Delta] H2 + AgCl}",
    ]
    plain = [latex.plain_chemistry(f"a {reaction} b") for reaction in reactions]
    assert not any(r"\ce" in body for body in plain)
    ours = latex.typeset([f"${reaction}$" for reaction in reactions])
    monkeypatch.setattr(latex, "plain_chemistry", lambda body: body)
    theirs = latex.typeset([f"${reaction}$" for reaction in reactions])
    letters = lambda page: sorted(ch for ch in page.text() if ch.isalnum() and ch.isascii())
    for one, other in zip(ours, theirs, strict=True):
        assert isinstance(one, latex.Page)
        assert isinstance(other, latex.Page)
        assert letters(one) == letters(other)
        assert one.height == pytest.approx(other.height, rel=0.1)
        assert one.width == pytest.approx(other.width, rel=0.1)


def test_what_is_no_simple_reaction_is_left_to_mhchem():
    for text in (r"\ce{CO2 + C -> 2 CO}", r"\ce{^{227}_{90}Th+}", r"\ce{A ->[x][y] B}", r"\ce{H2O{}}", r"\ce{x}"):
        assert latex.plain_chemistry(text) == text


def test_pages_of_a_body_are_counted_and_its_marks_found():
    need("latex")
    kind = latex.Kind("test", tight=False)
    body = r"\leavevmode\gotmark one\newpage\leavevmode\gotmark two"
    pages = latex.typeset(["first", body, "last"], kind)
    assert [page.pages for page in pages if isinstance(page, latex.Page)] == [1, 2, 1]
    found = pages[1]
    assert isinstance(found, latex.Page)
    assert found.marks == (0, 1)


def test_text_is_cut_to_what_latex_fonts_show():
    assert latex.clean("“a”—ü 中文龘 é… Straße ½Ω") == '"a"--u 中文 e... Strasse '
