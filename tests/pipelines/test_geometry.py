"""Geometry: TikZ that compiles, and a rasteriser without TeX that sees the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pymupdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from renderers import need

from got_jax.errors import GotError
from pipelines import geometry, geometry_scenes, tikz
from pipelines.backends import latex
from pipelines.geometry import Geometry


def test_answers_are_proved():
    need("latex")
    engine = Geometry(block=8)
    made = [engine.example(2, index) for index in range(8)]
    assert [geometry.proof(example) for example in made] == [""] * 8
    moved = dataclasses.replace(made[0], text=made[0].text.replace("(0,0)", "(0.3,0.3)"))
    assert geometry.proof(moved) == "the answer's picture is another"


@pytest.mark.parametrize("name", geometry_scenes.SCENES)
def test_every_scene_is_read_without_tex(name):
    rng = np.random.default_rng(3)
    for _ in range(25):
        scene = geometry_scenes.Scene(rng)
        geometry_scenes.SCENES[name][0](scene)
        assert tikz.cover(scene.text(), 1.0).max() > 50


def test_a_rasteriser_without_tex_agrees_with_latex_and_sees_differences():
    need("latex")
    text = r"""\begin{tikzpicture}[scale=0.8]
\draw[thick,fill=gray!30] (0,0) rectangle (2,1);
\draw[dashed,->] (0,2) arc (90:200:1.2);
\draw[blue,domain=-1:2,samples=30] plot (\x, {0.5*\x*\x-sin(40*\x)});
\draw[domain=-1:1.5,smooth,samples=6] plot (\x, {0.8*\x*\x*\x-2});
\draw (1,1) .. controls (2,3) and (3,-1) .. (4,1) -- (4,2);
\fill (3,2) circle (2pt);
\draw[line width=1pt] (1,3) ellipse (1 and 0.4);
\end{tikzpicture}"""
    drawn = 255 - latex.one(text, latex.TIKZ).paint(10.0).min(-1)
    assert tikz.agreement(drawn, tikz.cover(text, 10.0)) > 0.93
    other = text.replace("(4,2)", "(5,0)").replace("rectangle (2,1)", "rectangle (1,1)")
    assert tikz.agreement(drawn, tikz.cover(other, 10.0)) < 0.8


ODD = (
    r"\draw[line width=-1pt+2pt] (-.5,-1.) -- (-{1},1e-1) -- ({-1},{-(2)}) -- (2*-0.5,{--1});",
    r"\node[font=\tiny,inner sep=-1pt,draw] at (-0.5,0.5) {a}; \node[font=\Huge,draw] at (1,1) {\tiny b};",
    r"\draw[xshift=1.5em,yshift=-2ex,scale=-1] (0,0) -- (+1,0x1) -- (1pt,-2mm) -- (-0,-0);",
    r"\foreach \x in {-1,-0.5,...,1} \draw (\x,-\x) circle (.3333em) node[below,draw] {$\x$};",
    r"\draw[domain=-1:1,samples=5] plot (\x, {-\x+max(-1,-\x)*-0.5}) (10:1) -- (-10:-1);",
    r"\draw[rotate=-30] (0,0) arc[start angle=-45,end angle=90,x radius=1cm,y radius=5mm] -- ++(-1,.5);",
)


def test_numbers_that_are_remembered_change_nothing():
    need("latex")
    rng = np.random.default_rng(4)
    scenes = [geometry_scenes.draw(rng)[0] for _ in range(40)]
    scenes += [rf"\begin{{tikzpicture}}{odd}\end{{tikzpicture}}" for odd in ODD]
    quick, plain = (latex.typeset([*scenes, *scenes[::-1]], kind) for kind in (latex.TIKZ, latex.PLAIN_TIKZ))
    pages = [
        [pymupdf.open("pdf", page.pdf)[page.number] for page in made if isinstance(page, latex.Page)]
        for made in (quick, plain)
    ]
    for text, ours, theirs in zip([*scenes, *scenes[::-1]], *pages, strict=True):
        assert (ours.mediabox, ours.read_contents()) == (theirs.mediabox, theirs.read_contents()), text


@given(st.floats(-3, 3), st.floats(0.1, 2))
@settings(max_examples=30)
def test_expressions_have_pgfs_values(x, a):
    assert tikz.evaluate(rf"{a:.4f}*\x*\x - sin(90*\x)", x) == pytest.approx(
        round(a, 4) * x * x - np.sin(np.radians(90 * x)), abs=1e-9
    )
    assert tikz.evaluate(r"sqrt(abs(\x))^2", x) == pytest.approx(abs(x))


def test_what_is_not_read_is_named():
    for body, says in (
        (r"\shade (0,0) circle (1);", "no command of TikZ"),
        (r"\draw (0,0) to[bend left] (1,1);", "no step of a path"),
        (r"\draw (a) -- (1,1);", "no point|no number"),
        (r"\draw plot (\x, {__import__});", "not allowed in an expression"),
        (r"\draw[domain=0:1] plot (\x, {1/0});", "has no value"),
        (r"\draw (0,0) arc (0:99999:1);", "too often"),
    ):
        with pytest.raises(GotError, match=says):
            tikz.cover(rf"\begin{{tikzpicture}}{body}\end{{tikzpicture}}", 1.0)
    with pytest.raises(GotError, match="no tikzpicture"):
        tikz.parse("x")


def test_pictures_of_a_file_are_used_and_hostile_ones_left_out(tmp_path):
    need("latex")
    path = tmp_path / "some.tex"
    picture = r"\begin{tikzpicture}%s\end{tikzpicture}"
    path.write_text(picture % r"\draw (0,0) -- (2,1) -- (0,2);" + picture % r"\input{/etc/passwd}")
    engine = Geometry(corpus=str(path), block=2)
    assert engine.example(0, 0).text == picture % r"\draw (0,0) -- (2,1) -- (0,2);"
    assert len(engine.rejected) == 1
    with pytest.raises(GotError, match="cannot be read"):
        geometry.read_pictures(str(tmp_path / "none"))
