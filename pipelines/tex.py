r"""Reads LaTeX sources as papers have them: macros expanded, comments gone, formulas found and put in Mathpix's forms.

Nothing is run: a source is text that pylatexenc cuts into nodes.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from got_jax.errors import GotError, require

DISPLAYS = ("equation", "displaymath", "align", "gather", "multline", "eqnarray", "flalign", "alignat")
COMMENT = re.compile(r"(?<!\\)%.*?(?:\n[ \t]*|$)")
MACRO = re.compile(
    r"\\(?:re)?newcommand\*?\s*(?:\{\s*\\(\w+)\s*\}|\\(\w+))\s*(?:\[(\d)\])?\s*\{|"
    r"\\def\s*\\([A-Za-z]+)((?:#\d)*)\s*\{|\\DeclareMathOperator(\*?)\s*\{\s*\\(\w+)\s*\}\s*\{"
)
MOST_CHARS = 4_000_000


def balanced(text: str, start: int) -> int:
    """Where the group that opens just before `start` closes. Raises GotError when it does not."""
    depth = 1
    for at in range(start, len(text)):
        if text[at] == "\\":
            continue
        if text[at] == "{" and text[at - 1] != "\\":
            depth += 1
        elif text[at] == "}" and text[at - 1] != "\\":
            depth -= 1
            if depth == 0:
                return at
    raise GotError(f"the group at character {start} never closes.")


def plain_source(tex: str) -> str:
    """A source without comments and definitions, its own macros written out.

    Raises:
        GotError: when it is too large, or its macros unfold without end.
    """
    require(len(tex) <= MOST_CHARS, f"the source has {len(tex):,} characters, over the limit of {MOST_CHARS:,}.")
    tex = COMMENT.sub("", tex)
    macros: dict[str, tuple[int, str]] = {}
    kept, at = [], 0
    while found := MACRO.search(tex, at):
        kept.append(tex[at : found.start()])
        try:
            end = balanced(tex, found.end())
        except GotError:
            kept.append(tex[found.start() : found.end()])
            at = found.end()
            continue
        body = tex[found.end() : end]
        if found[7]:
            macros[found[7]] = (0, rf"\operatorname{found[6]}{{{body}}}")
        else:
            count = int(found[3] or 0) if (found[1] or found[2]) else len(found[5] or "") // 2
            macros[found[1] or found[2] or found[4]] = (count, body)
        at = end + 1
    kept.append(tex[at:])
    return expand("".join(kept), macros)


def expand(tex: str, macros: dict[str, tuple[int, str]]) -> str:
    """Writes macros out: name -> (number of arguments, body with #1 ...)."""
    for _ in range(8):
        out, at, changed = [], 0, False
        for found in re.finditer(r"\\([A-Za-z]+)", tex):
            if found.start() < at or found[1] not in macros:
                continue
            count, body = macros[found[1]]
            end, values = found.end(), []
            for _ in range(count):
                while end < len(tex) and tex[end].isspace():
                    end += 1
                if end < len(tex) and tex[end] == "{":
                    try:
                        close = balanced(tex, end + 1)
                    except GotError:
                        break
                    values.append(tex[end + 1 : close])
                    end = close + 1
                elif end < len(tex):
                    values.append(tex[end])
                    end += 1
            if len(values) < count:
                continue
            for i, value in enumerate(values, 1):
                body = body.replace(f"#{i}", value)
            glue = " " if count == 0 and body[-1:].isalpha() and tex[end : end + 1].isalpha() else ""
            out += [tex[at : found.start()], body, glue]
            at, changed = end, True
        tex = "".join([*out, tex[at:]])
        require(len(tex) <= 2 * MOST_CHARS, "the source's macros unfold without end.")
        if not changed:
            return tex
    return tex


def mathpix(formula: str, environment: str = "") -> str:
    """A formula's content in Mathpix's spelling: no labels and numbers, alignments as `aligned`."""
    formula = re.sub(
        r"\\(?:label|tag\*?|vspace\*?|hspace\*?)\s*\{[^{}]*\}|\\(?:nonumber|notag|displaystyle)\b", " ", formula
    )
    formula = re.sub(r"\s+", " ", formula).strip().rstrip("\\").strip()
    formula = re.sub(r"\\bm(?![a-zA-Z])", r"\\boldsymbol", formula)  # as Mathpix and MathJax spell it
    base = environment.rstrip("*")
    if base in ("align", "eqnarray", "flalign", "alignat") and ("&" in formula or r"\\" in formula):
        formula = re.sub(r"&\s*(=|<|>|\\leq?|\\geq?|\\approx|\\equiv)\s*&\s*", r"& \1 ", formula)
        return rf"\begin{{aligned}} {formula} \end{{aligned}}"
    if base in ("gather", "multline") and r"\\" in formula:
        return rf"\begin{{gathered}} {formula} \end{{gathered}}"
    return formula


def formulas(tex: str) -> list[tuple[str, bool]]:
    """The formulas of a source: (LaTeX, whether it stands by itself).

    Raises:
        GotError: for a source that cannot be taken apart.
    """
    from pylatexenc import latexwalker

    source = plain_source(tex)
    found: list[tuple[str, bool]] = []

    def walk(nodes: list) -> None:
        for node in nodes or []:
            if isinstance(node, latexwalker.LatexMathNode):
                inside = node.latex_verbatim()[len(node.delimiters[0]) : -len(node.delimiters[1])]
                found.append((mathpix(inside), node.displaytype == "display"))
            elif isinstance(node, latexwalker.LatexEnvironmentNode):
                name = node.environmentname
                if name.rstrip("*") in DISPLAYS:
                    inside = re.sub(r"^\\begin\{[^}]*\}|\\end\{[^}]*\}$", "", node.latex_verbatim().strip())
                    found.append((mathpix(inside, name), True))
                elif name not in ("verbatim", "lstlisting", "comment", "tikzpicture"):
                    walk(node.nodelist)
            elif isinstance(node, latexwalker.LatexGroupNode):
                walk(node.nodelist)
            elif isinstance(node, latexwalker.LatexMacroNode) and node.nodeargd:
                walk([part for part in node.nodeargd.argnlist or [] if part is not None])

    try:
        walk(latexwalker.LatexWalker(source, tolerant_parsing=True).get_latex_nodes()[0])
    except (latexwalker.LatexWalkerError, RecursionError, IndexError) as err:
        raise GotError(f"the source cannot be taken apart ({type(err).__name__}).") from None
    return [(formula, display) for formula, display in found if formula]


@functools.lru_cache(maxsize=4)
def read_formulas(path: str) -> tuple[tuple[tuple[str, bool], ...], tuple[str, ...]]:
    """The formulas of a file of lines, a .tex file or a folder of either, and why the rest is left out.

    Raises:
        GotError: when there is none.
    """
    from pipelines.backends.latex import hostile

    root = Path(path)
    files = sorted(p for p in root.rglob("*") if p.suffix in (".tex", ".txt", ".lst")) if root.is_dir() else [root]
    good: dict[tuple[str, bool], None] = {}
    bad: list[str] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
            if file.suffix == ".tex":
                found = formulas(text)
            else:
                found = [(mathpix(line.strip("$ ")), True) for line in text.splitlines() if line.strip("$ ")]
        except OSError as err:
            bad.append(f"{file}: it cannot be read ({err.strerror})")
            continue
        except GotError as err:
            bad.append(f"{file}: {err}")
            continue
        for number, (formula, display) in enumerate(found, 1):
            if command := hostile(formula):
                bad.append(f"{file} formula {number}: it holds {command}, which is not allowed")
            elif len(formula) > 1500:
                bad.append(f"{file} formula {number}: it is too long")
            else:
                good[formula, display] = None
    if not good:
        raise GotError(f"{path} holds no formula; give a file with one a line, a .tex file, or a folder of them.")
    return tuple(good), tuple(bad)
