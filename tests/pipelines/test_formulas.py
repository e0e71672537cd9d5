"""Formulas: the grammar gives LaTeX that two engines take, layouts keep their order, files are read with care."""

from __future__ import annotations

import dataclasses
import json
import subprocess

import numpy as np
import pytest
from renderers import need

from got_jax.errors import GotError
from pipelines import formulas, tex
from pipelines.backends import latex, svg
from pipelines.backends.node import FOLDER
from pipelines.formula_grammar import Grammar
from pipelines.formulas import MATH, Formulas


def test_answers_are_proved():
    need("node")
    engine = Formulas()
    made = [engine.example(1, index) for index in range(16)]
    assert [formulas.proof(example) for example in made] == [""] * 16
    assert {example.meta["kind"] for example in made} == {"prose", "display"}
    assert all(MATH.search(example.text) for example in made)
    assert len({example.text for example in made}) == 16
    example = next(e for e in made if e.meta["kind"] == "display")
    changed = dataclasses.replace(example, text=example.text.replace("\\[ ", "\\[ b", 1))
    assert formulas.proof(changed) == "the answer's picture is another"


def test_both_mathjax_and_latex_take_the_grammar():
    need("node", "latex")
    rng = np.random.default_rng(0)
    made = [Grammar(rng, "en").display() for _ in range(160)] + [Grammar(rng, "zh").inline() for _ in range(40)]
    assert len(formulas.render([(formula, True) for formula in made], 8.0)) == 200
    pages = latex.typeset([rf"\(\displaystyle {formula}\)" for formula in made])
    assert [(page, formula) for page, formula in zip(pages, made, strict=True) if isinstance(page, str)] == []
    assert len(set(made)) > 180
    for part in (r"\frac", r"\begin{aligned}", r"\sum", r"\int", r"matrix}", r"\begin{cases}", r"\ce{", r"\mathrm{~"):
        assert any(part in formula for formula in made), part


def test_a_formula_stands_on_the_line_between_its_words():
    need("node")
    style = {
        "font": Formulas().example(0, 0).meta["style"]["font"],
        "size_px": 20.0,
        "width_px": 300,
        "leading": 1.4,
        "indent": 0.0,
        "justify": False,
        "margins": [1.0, 1.0, 1.0, 1.0],
        "spaced": True,
    }
    plain = formulas.draw(r"one two \( x \), three", style)
    wider = formulas.draw(r"one two \( x+y+z+w \), three", style)
    assert plain.shape == wider.shape
    assert np.flatnonzero(wider.any(0)).max() > np.flatnonzero(plain.any(0)).max() + 20
    both = formulas.draw("one\n\\[ x \\]\ntwo", style)
    rows = np.flatnonzero(both.any(1))
    assert (np.diff(rows) > 4).sum() == 2, "three lines"
    tagged = formulas.draw("\\[ x \\tag{7} \\]", style)
    assert np.flatnonzero(tagged.any(0)).max() > tagged.shape[1] - 30
    with pytest.raises(formulas.Unusable, match="Undefined control sequence"):
        formulas.draw(r"\[ \nothing \]", style)


def test_formulas_of_files_are_used_and_others_named(tmp_path):
    need("node")
    (tmp_path / "a.txt").write_text("$E = mc^2$\n\n\\input{/etc/passwd}\n\\alpha + \\bad\n")
    source = r"""\newcommand{\R}{\mathbb{R}} \newcommand{\norm}[1]{\left\| #1 \right\|} % comment $no$
    \begin{document} Let $x \in \R$. \begin{align} a &= \norm{b} \label{e} \\ &= c \nonumber \end{align}
    \begin{verbatim} $no$ \end{verbatim} \textbf{so $y$} \[ z \] \end{document}"""
    (tmp_path / "b.tex").write_text(source)
    found, left_out = tex.read_formulas(str(tmp_path))
    assert found == (
        ("E = mc^2", True),
        (r"\alpha + \bad", True),
        (r"x \in \mathbb{R}", False),
        (r"\begin{aligned} a &= \left\| b \right\| \\ &= c \end{aligned}", True),
        ("y", False),
        ("z", True),
    )
    assert len(left_out) == 1
    assert "holds \\input, which is not allowed" in left_out[0]
    engine = Formulas(corpus=str(tmp_path), prose=0.0)
    made = [engine.example(0, index) for index in range(30)]
    assert not any(r"\bad" in example.text for example in made)
    assert sum(example.meta.get("redrawn", 0) for example in made) > 0, "the undefined command was met and drawn again"
    (tmp_path / "empty").mkdir()
    with pytest.raises(GotError, match="holds no formula"):
        tex.read_formulas(str(tmp_path / "empty"))


def test_macros_that_unfold_without_end_are_refused():
    with pytest.raises(GotError, match="unfold without end"):
        tex.plain_source(r"\newcommand{\a}{\b\b\b\b\b\b\b\b\b\b} \newcommand{\b}{\a\a\a\a\a\a\a\a\a\a} \a")
    assert tex.plain_source(r"\def\pair#1#2{(#1, #2)}\pair{a}b % x").strip() == "(a, b)"
    assert tex.mathpix(r"a &=& b \\ c &=& d", "eqnarray") == r"\begin{aligned} a & = b \\ c & = d \end{aligned}"


def test_a_faster_mathjax_draws_what_mathjax_draws():
    need("node")
    made = [Grammar(np.random.default_rng(seed), ("en", "zh")[seed % 2]) for seed in range(30)]
    texts: list[tuple[str, bool]] = [(g.display(), True) for g in made] + [(g.inline(), False) for g in made]
    texts += [
        (r"\boxed{x}", True),
        (r"\color{red}{x}_{\text{若}}", False),
        (r"\left\{\begin{matrix}a\\b\\c\\d\end{matrix}\right.", True),
    ]
    script = """
        const plain = require('mathpix-markdown-it/lib/mathjax/index.js').MathJax;
        const options = { outMath: { include_svg: true, include_mathml: false } };
        const made = JSON.parse(require('fs').readFileSync(0)).map(
          ([tex, display]) => plain.TexConvert(tex, { display, ...options }, true).svg.match(/<svg[^]*<\\/svg>/)[0]);
        require('fs').writeSync(1, JSON.stringify(made));
    """
    done = subprocess.run(["node", "-e", script], input=json.dumps(texts), capture_output=True, text=True, cwd=FOLDER)
    assert done.returncode == 0, done.stderr
    steps = lambda path: list(svg._steps(path))
    drawings = formulas.render([(text, display) for text, display in texts], 9.3)
    for (text, _), drawn, theirs in zip(texts, drawings, json.loads(done.stdout), strict=True):
        plain = svg.parse(theirs, 9.3)
        assert (drawn.width, drawn.height, drawn.base) == (plain.width, plain.height, plain.base), text
        assert len(drawn.marks) == len(plain.marks)
        for one, other in zip(drawn.marks, plain.marks, strict=True):
            assert (one.style, one.matrix, one.runs, len(one.clips)) == (
                other.style,
                other.matrix,
                other.runs,
                len(other.clips),
            )
            assert steps(one.path) == steps(other.path)
