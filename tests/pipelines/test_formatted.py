"""Formatted pages: markdown that reads back, pages that are proved, sources and Word files cut to pages."""

from __future__ import annotations

import dataclasses
import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from renderers import need

from got_jax.errors import GotError
from pipelines import formatted, mmd, papers, tex_pages, word
from pipelines.backends import latex
from pipelines.formatted import FormattedPages
from pipelines.mmd import Block
from pipelines.papers import Papers

BLOCKS = [
    Block("title", "A title"),
    Block("authors", "*A. One, B. Two*"),
    Block("heading", "1 Introduction"),
    Block("text", r"Words with \( x_{1} \), and a note[^1]"),
    Block("formula", r"\[ a = b \tag{1} \]"),
    Block("list", items=("one", "two")),
    Block("numbered", items=("first", "second")),
    Block("caption", "Table 1: Of numbers."),
    Block("table", "\\begin{tabular}{l}\na \\\\\n\\end{tabular}"),
    Block("figure"),
    Block("caption", "Figure 1: A circle."),
    Block("subheading", "1.1 More"),
    Block("reference", "[1] A. One. Title. 1999."),
    Block("footnote", "[^1]: Below."),
]
OMML = (
    '<m:oMath xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"><m:f><m:num><m:r><m:t>α</m:t></m:r>'
    "</m:num><m:den><m:rad><m:deg/><m:e><m:sSup><m:e><m:r><m:t>x</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup>"
    "</m:sSup></m:e></m:rad></m:den></m:f></m:oMath>"
)


def test_markdown_reads_back():
    text = mmd.write(BLOCKS)
    assert mmd.read(text) == BLOCKS
    assert text.startswith("# A title\n\n*A. One, B. Two*\n\n## 1 Introduction\n\n")
    assert "figure" not in text
    assert mmd.plain_words(text)[:4] == ["A", "title", "A", "One"]
    with pytest.raises(GotError, match="not numbered one by one"):
        mmd.read("1. a\n3. b")


@pytest.mark.parametrize("start", ["7.4. ", "- 2. ", "# [", "12. 1. | ", ""])
def test_a_paragraph_never_begins_like_a_list_or_heading(start, monkeypatch):
    words = [*start.split(), *"Conflicting binary packages".split()]
    monkeypatch.setattr(formatted._Author, "sentence_words", lambda self, low, high: words)
    style = {"columns": 1, "margin_cm": 2.0, "size_pt": 10, "leading": 1.2}
    author = formatted._Author(np.random.default_rng(0), "train", "en", style, "latex")
    assert author.text(3, 9) == "Conflicting binary packages"


@pytest.mark.parametrize("form", ["latex", "html"])
def test_pages_are_proved(form):
    need("latex")
    engine = FormattedPages(block=5, tables=form)
    made = [engine.example(3, index) for index in range(5)]
    assert [formatted.proof(example) for example in made] == [""] * 5
    assert all(min(Image.open(io.BytesIO(example.images[0])).size) > 500 for example in made)
    wrong = dataclasses.replace(made[0], text=made[0].text + "\n\nMore")
    assert formatted.proof(wrong) != ""


def test_a_page_that_runs_over_is_cut_where_its_first_page_ends():
    need("latex")
    source = FormattedPages().compose(np.random.default_rng(1))
    style = {**source.style, "columns": 1}
    long = dataclasses.replace(source, blocks=(Block("text", "word " * 300),) * 8, figures=(), style=style)
    page = latex.typeset([str(long.body())], formatted.PAGE)[0]
    assert isinstance(page, latex.Page)
    assert page.pages > 1
    shorter = long.shorter(page)
    again = latex.typeset([str(shorter.body())], formatted.PAGE)[0]
    assert isinstance(again, latex.Page)
    assert again.pages == 1
    assert len(shorter.blocks) == sum(at == 0 for at in page.marks) - 1


def test_a_source_and_its_pdf_are_cut_to_pages(tmp_path):
    need("latex", "node")
    first = " ".join(f"alpha{i}" for i in range(60))
    last = " ".join(f"omega{i}" for i in range(60))
    body = rf"""\section{{Start}} {first} with $x^2$\footnote{{A note.}}.
\begin{{itemize}}\item one \item two\end{{itemize}}
\[ E = mc^2 \label{{e}} \]
\begin{{table}}[h!]\caption{{Numbers}}\begin{{tabular}}{{lr}}\hline a & 1 \\ \hline\end{{tabular}}\end{{table}}
\newpage
\subsection{{End}} {last} \cite{{x}}"""
    pdf = latex.typeset([body], latex.Kind("paper", tight=False))[0]
    assert isinstance(pdf, latex.Page)
    (tmp_path / "a.pdf").write_bytes(pdf.pdf)
    (tmp_path / "a.tex").write_text(rf"\documentclass{{article}}\begin{{document}}{body}\end{{document}}")
    (tmp_path / "b.tex").write_text("no pdf")
    engine = Papers(folder=str(tmp_path), effects=0.0)
    assert len(engine) == 2
    one, two = (engine.example(0, index) for index in range(2))
    assert one.text.startswith("## 1 Start\n\nalpha0 alpha1")
    for part in (r"\( x^2 \)[^1].", "- one\n- two", r"\[ E = mc^2 \]", "Table 1: Numbers", r"a & 1 \\"):
        assert part in one.text
    assert "omega" not in one.text
    assert one.text.endswith("[^1]: A note.")
    assert two.text.startswith("### 1.1 End\n\nomega0")
    assert two.text.endswith("omega59 [?]")  # as the page shows a citation that TeX has not found
    assert one.meta["match"] > 0.85
    assert any("b.tex: its PDF is missing" in why for why in engine.rejected)
    assert [papers.proof(example) for example in (one, two)] == ["", ""]
    odd = one.text.replace("alpha2 ", "something that is not there at all and never was on any page of it ")
    assert "of the answer's letters stand on it" in papers.proof(dataclasses.replace(one, text=odd * 2))
    assert "is refused" in papers.proof(dataclasses.replace(one, text=one.text + "\n\n" + r"\( \nothing{x} \)"))


def test_sources_are_read_with_their_parts_and_nothing_from_elsewhere(tmp_path):
    folder = tmp_path / "paper"
    folder.mkdir()
    (tmp_path / "secret.tex").write_text("secret")
    (folder / "part.tex").write_text(r"words of a part \input{part}")
    (folder / "link.tex").symlink_to(tmp_path / "secret.tex")
    main = folder / "main.tex"
    main.write_text(
        r"a \input{part} \include{part.tex} \input{../secret} \input{/etc/hostname} \input{link} % \input{part}"
    )
    source = papers._source(main, folder)
    assert source.count("words of a part") == 2  # and not within itself
    assert "secret" not in source
    for name, other in (("x", "y"), ("y", "z"), ("z", "part")):
        (folder / f"{name}.tex").write_text(rf"\input{{{other}}}" * 40)
    with pytest.raises(GotError, match="over 1,000 parts"):
        papers._source(folder / "x.tex", folder)
    assert "hostname" not in source


def test_what_references_show_is_read_from_the_page():
    mark = tex_pages.REFERENCE
    source = (
        r"\begin{document}As \cite[p. 3]{a,b} says in Section~\ref{s}, and \autoref{x} too: see \cref{t}.\par "
        r"Gone \ref{u}.\end{document}"
    )
    blocks = tex_pages.read(source)
    assert blocks[0].text == f"As {mark} says in Section {mark}, and {mark} too: see {mark}."
    layers = ["As [2, p. 3] says in Section 4.1, and Figure 2 too: see 7b.\n", "Gone\n"]
    (first, _), (second, _) = papers.split(blocks, layers)
    assert first == "As [2, p. 3] says in Section 4.1, and Figure 2 too: see 7b."
    assert second == "Gone ."


WORDS = st.lists(st.sampled_from("a b c d e f g h i j k l m n o p".split()), max_size=40)


@given(WORDS, WORDS)
def test_runs_are_equal_and_in_order(one, other):
    at, to = 0, 0
    for first, place, count in papers.alike(one, other):
        assert at <= first
        assert to <= place
        assert one[first : first + count] == other[place : place + count]
        at, to = first + count, place + count


def test_a_book_is_aligned_as_fast_as_its_pages():
    words = [f"w{i}" for i in range(60_000)]
    cut = [word for i, word in enumerate(words) if i % 50]
    found = sum(count for _, _, count in papers.alike(words, cut))
    assert found == len(cut)


def test_a_paragraph_that_runs_over_is_cut_between_its_words():
    words = [f"w{i}" for i in range(20)]
    blocks = [Block("text", " ".join(words[:8]) + r" \( x+y \) " + " ".join(words[8:]))]
    (first, a), (second, b) = papers.split(blocks, [" ".join(words[:12]), " ".join(words[12:])])
    assert (a, b) == (1.0, 1.0)
    assert first.endswith(r"w7 \( x+y \) w8 w9 w10 w11")
    assert second == " ".join(words[12:])


def test_a_word_file_becomes_blocks_and_pages(tmp_path):
    need("office", "node")
    import docx
    from docx.oxml import parse_xml

    document = docx.Document()
    document.add_heading("Report", 0)
    document.add_heading("Part", 1)
    document.add_paragraph("Some words that stand in a paragraph of their own.")
    document.add_paragraph("an item", style="List Bullet")
    document.add_paragraph("Formula: ")._p.append(parse_xml(OMML))
    table = document.add_table(rows=2, cols=3)
    for cell, text in zip((c for row in table.rows for c in row.cells), "abcdef", strict=True):
        cell.text = text
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
    table.cell(0, 2).merge(table.cell(1, 2)).text = "tall"
    document.save(str(tmp_path / "a.docx"))
    (tmp_path / "broken.docx").write_bytes(b"PK no")
    blocks = word.read((tmp_path / "a.docx").read_bytes())
    assert [block.label for block in blocks] == ["title", "heading", "text", "list", "text", "table"]
    assert blocks[4].text == r"Formula: \( \frac{\alpha}{\sqrt{x^{2}}} \)"
    assert blocks[5].text == (
        '<table><tr><td colspan="2">wide</td><td rowspan="2">tall</td></tr><tr><td>d</td><td>e</td></tr></table>'
    )
    engine = Papers(folder=str(tmp_path))
    example = engine.example(0, 0)
    assert example.text == mmd.write(blocks)
    assert len(engine.rejected) == 1
    assert "broken.docx: it is no Word file" in engine.rejected[0]


def test_sources_are_read_with_care():
    blocks = tex_pages.read(
        r"\title{A \emph{b}}\author{C \and D}\begin{document}\maketitle x\par y 100\% \'e \end{document}"
    )
    assert blocks == [
        Block("title", "A b"),
        Block("authors", "*C, D*"),
        Block("text", "x"),
        Block("text", "y 100% é"),
    ]
    with pytest.raises(GotError, match="no folder is set"):
        len(Papers())


def grey(example) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(example.images[0], np.uint8), cv2.IMREAD_GRAYSCALE))


@pytest.mark.parametrize("columns", [0.0, 1.0])
def test_boxes_hold_all_ink_and_stand_apart(columns):
    need("latex")
    engine = FormattedPages(effects=0.0, columns=columns, block=6)
    for index in range(6):
        example = engine.example(2, index)
        blocks = example.meta["blocks"]
        assert "\n\n".join(b["text"] for b in blocks if b["text"] and b["label"] != "page number") == example.text
        ink = 255 - grey(example).astype(int)
        left = ink.copy()
        for block in blocks:
            assert block["boxes"], block
            for x1, y1, x2, y2 in block["boxes"]:
                part = ink[max(0, int(y1)) : int(y2) + 2, max(0, int(x1)) : int(x2) + 2]
                assert part.max() > 100, block
                left[max(0, int(y1) - 1) : int(y2) + 3, max(0, int(x1) - 1) : int(x2) + 3] = 0
        # What is left over: the rule above footnotes.
        assert left.sum() < 0.004 * ink.sum() + 255 * 400
        rows = [(box, b["label"]) for b in blocks for box in b["boxes"]]
        for i, (one, _) in enumerate(rows):
            for other, _ in rows[i + 1 :]:
                across = min(one[2], other[2]) - max(one[0], other[0])
                down = min(one[3], other[3]) - max(one[1], other[1])
                assert across < 25 or down < 4, (one, other)


def test_boxes_follow_the_pages_effects():
    need("latex")
    clean, seen = (FormattedPages(effects=share, columns=0.0, block=8) for share in (0.0, 1.0))
    turned = 0
    for index in range(8):
        was, now = clean.example(3, index), seen.example(3, index)
        effects = now.meta["effects"]
        if effects.get("skew_degrees") and not effects["inverted"]:
            turned += 1
        pixels = grey(now)
        wide = grey(was).shape[1]
        one, other = was.meta["blocks"][0]["boxes"][0], now.meta["blocks"][0]["boxes"][0]
        scale = pixels.shape[1] / wide
        far = abs(np.sin(np.radians(effects.get("skew_degrees", 0.0)))) * max(pixels.shape) / 2 + 2
        assert np.allclose(np.array(one) * scale, other, atol=far)
    assert turned
