"""pdfLaTeX as a back end: many small documents are set in one run, each on a page of its own.

Starting TeX takes longer than a figure, so bodies come in blocks. A body that does not compile is found by halving the
block and costs the others nothing. TeX runs in an empty folder, without shell escape, and may neither read nor write
outside it (openin_any, openout_any); a body holds none of the commands of `FORBIDDEN`.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from got_jax.errors import GotError, require
from pipelines.backends import pgfmath

INSTALL = (
    "apt-get install texlive-latex-base texlive-latex-recommended texlive-latex-extra texlive-pictures texlive-science "
    "texlive-fonts-recommended lmodern latex-cjk-chinese latex-cjk-chinese-arphic-gbsn00lp"
)
PACKAGES = r"""\usepackage[T1]{fontenc}
\usepackage{lmodern}
\usepackage[utf8]{inputenc}
\usepackage{CJKutf8}
\usepackage{amsmath,amssymb,array,booktabs,multirow,graphicx,xcolor,textcomp}
\usepackage[version=4]{mhchem}
"""
FORBIDDEN = re.compile(
    r"\\(?:input|include|includeonly|includegraphics|openin|openout|read|readline|write|immediate|special|catcode|"
    r"csname|def|edef|gdef|xdef|let|futurelet|global|newcommand|renewcommand|providecommand|DeclareMathOperator|"
    r"newenvironment|renewenvironment|usepackage|RequirePackage|documentclass|loop|output|shipout|everypar|"
    r"newwrite|newread|directlua|luaexec|pdf[a-zA-Z]*|batchmode|scrollmode|verbatiminput|lstinputlisting|url|href|"
    r"makeatletter|makeatother|endinput|expandafter|noexpand|scantokens|afterassignment|aftergroup|pgf[a-zA-Z]*|"
    r"usetikzlibrary|foreach|uppercase|lowercase|char|dump|end\s*\{document\})(?![a-zA-Z])|\^\^"
)


def missing() -> str:
    """What this machine lacks for the back end, with the command that installs it; nothing if all is here."""
    if shutil.which("pdflatex") is None:
        return f"pdfLaTeX is missing; install it with `{INSTALL}`."
    lacking = [
        name for name in ("CJKutf8.sty", "mhchem.sty", "multirow.sty", "tikz.sty", "c70gbsn.fd") if not _has(name)
    ]
    return f"LaTeX lacks {', '.join(lacking)}; install it with `{INSTALL}`." if lacking else ""


@functools.lru_cache(maxsize=32)
def _has(name: str) -> bool:
    return bool(shutil.which("kpsewhich")) and subprocess.run(["kpsewhich", name], capture_output=True).returncode == 0


def hostile(body: str) -> str:
    """The command that LaTeX of a stranger may not hold; nothing if there is none."""
    found = FORBIDDEN.search(body)
    return found[0] if found else ""


@dataclass(frozen=True)
class Kind:
    """How bodies become pages.

    Attributes:
        name: of the kind. preamble: after `PACKAGES`. tight: a page is as large as its body; otherwise TeX breaks the
            body into pages of the class's size, and how many there are is told.
        document_class: with its options.
    """

    name: str
    preamble: str = ""
    tight: bool = True
    document_class: str = r"\documentclass[10pt]{article}"


TIGHT = r"""
\newsavebox\gotbox
\newenvironment{gotpage}{\begin{lrbox}{\gotbox}}{\end{lrbox}%
\pdfpagewidth=\dimexpr\wd\gotbox+16pt\relax\pdfpageheight=\dimexpr\ht\gotbox+\dp\gotbox+16pt\relax
\hoffset=\dimexpr-1in+8pt\relax\voffset=\dimexpr-1in+8pt\relax\shipout\box\gotbox}
"""
FIGURE = Kind("figure")
PLAIN_TIKZ = Kind("plain_tikz", r"\usepackage{tikz}\usetikzlibrary{arrows.meta}")
TIKZ = Kind("tikz", f"{PLAIN_TIKZ.preamble}\n{pgfmath.REMEMBERED}")  # the same pages, faster


@dataclass(frozen=True)
class Page:
    """One page of a PDF that LaTeX made."""

    pdf: bytes
    number: int
    pages: int = 1  # of this body
    marks: tuple[int, ...] = ()  # of this body's \gotmark, on which of its pages each stands

    def cover(self, scale: float) -> UInt8[np.ndarray, "H W"]:
        """The page's ink, whatever its colour, at `scale` pixels a point."""
        return 255 - self._pixels(scale, "GRAY")

    def paint(self, scale: float) -> UInt8[np.ndarray, "H W 3"]:
        """The page in its colours."""
        return self._pixels(scale, "RGB")

    @property
    def width(self) -> float:
        """In points."""
        return float(_open(self.pdf)[self.number].rect.width)

    @property
    def height(self) -> float:
        """In points."""
        return float(_open(self.pdf)[self.number].rect.height)

    def text(self) -> str:
        """The page's text layer."""
        return str(_open(self.pdf)[self.number].get_text())

    def places(self) -> list[tuple[tuple[int, int, int], tuple[float, float, float, float], str]]:
        """Every run of text and every rule: its colour (0 to 255), its box in points by its outlines, its text."""
        import pymupdf

        page: Any = _open(self.pdf)[self.number]
        flags = pymupdf.TEXT_ACCURATE_BBOXES | pymupdf.TEXT_PRESERVE_LIGATURES
        found = []
        for block in page.get_text("dict", flags=flags)["blocks"]:
            for span in (span for line in block.get("lines", ()) for span in line["spans"] if span["text"].strip()):
                value = span["color"]
                found.append(((value >> 16 & 255, value >> 8 & 255, value & 255), tuple(span["bbox"]), span["text"]))
        for drawing in page.get_cdrawings():
            colour = drawing.get("fill") or drawing.get("color")
            if colour is not None:
                found.append((tuple(round(255 * v) for v in colour), tuple(drawing["rect"]), ""))
        return found

    def _pixels(self, scale: float, space: str) -> Any:
        import pymupdf

        page = _open(self.pdf)[self.number]
        colours = pymupdf.csGRAY if space == "GRAY" else pymupdf.csRGB
        made = page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), colorspace=colours, alpha=False)
        samples = np.frombuffer(made.samples, np.uint8)
        return samples.reshape((made.height, made.width) if space == "GRAY" else (made.height, made.width, 3)).copy()


@functools.lru_cache(maxsize=8)
def _open(pdf: bytes):  # pymupdf.Document
    import pymupdf

    return pymupdf.open("pdf", pdf)


def typeset(bodies: Sequence[str], kind: Kind = FIGURE, seconds: float = 60.0) -> list[Page | str]:
    """Each body as a page, or why LaTeX refuses it.

    Args:
        seconds: the longest that a run may take; a body that takes longer by itself is refused.

    Raises:
        GotError: when LaTeX is not here, or fails on an empty document.
    """
    lacking = missing()
    require(not lacking, lacking)
    if not bodies:
        return []
    pdf, why, stopped = _run(_document(bodies, kind), _format(kind), seconds)
    if pdf is not None:
        counts = [1] * len(bodies) if kind.tight else _counts(pdf, len(bodies))
        if len(counts) == len(bodies) and sum(counts) == len(_open(pdf)):
            firsts = np.cumsum([0, *counts])
            marks = [()] * len(bodies) if kind.tight else _marks(pdf, firsts)
            return [Page(pdf, int(a), n, m) for a, n, m in zip(firsts, counts, marks, strict=False)]
        why, stopped = "it does not end where its page ends", None
    if len(bodies) == 1:
        return [why]
    if stopped is not None and 0 <= stopped < len(bodies):  # TeX halted in this one; it is judged by itself
        rest = typeset([*bodies[:stopped], *bodies[stopped + 1 :]], kind, seconds)
        return [*rest[:stopped], *typeset([bodies[stopped]], kind, seconds), *rest[stopped:]]
    half = len(bodies) // 2
    return [*typeset(bodies[:half], kind, seconds), *typeset(bodies[half:], kind, seconds)]


def _marks(pdf: bytes, firsts: Any) -> list[tuple[int, ...]]:
    names = _open(pdf).resolve_names()
    found: list[tuple[int, ...]] = []
    for i, first in enumerate(firsts[:-1], 1):
        pages, j = [], 1
        while (place := names.get(f"got-{i}-{j}")) is not None:
            pages.append(int(place["page"] - first))
            j += 1
        found.append(tuple(pages))
    return found


MARKS = (  # PDF destinations tell where a body begins
    r"\newcounter{got}\newcommand\gotbegin{\pdfdest name{got-\arabic{got}} fit}"
    r"\newcommand\gotend{\clearpage}\newcounter{gotmark}[got]"
    r"\newcommand\gotmark{\stepcounter{gotmark}\pdfdest name{got-\arabic{got}-\arabic{gotmark}} fit}"
)


SPECIES = re.compile(r"(\d*)((?:[A-Z][a-z]?\d*|\((?:[A-Z][a-z]?\d*)+\)\d*)+)\^?(\d*[+-])?")
REACTION = {
    "+": "+",
    "^": r"{\,\uparrow}",
    "v": r"{\,\downarrow}",
    "->": r"\longrightarrow",
    "<-": r"\longleftarrow",
    "<=>": r"\rightleftharpoons",
}


def plain_chemistry(body: str) -> str:
    r"""A body whose \ce{...} are spelt out, as mhchem sets them; it takes longer than the rest of a page.

    Species with factors, indices and charges, the signs of `REACTION`, and arrows with one label are known; what holds
    anything else is left to mhchem.
    """
    return re.sub(r"\\ce\{([^{}]*)\}", lambda found: _reaction(found[1]) or found[0], body)


def _reaction(text: str) -> str:
    parts = []
    for word in text.split():
        if word in REACTION:
            parts.append(REACTION[word])
        elif labelled := re.fullmatch(r"->\[(\\Delta|[A-Z][a-z]?[+-]?)\]", word):
            name = labelled[1] if labelled[1].startswith("\\") else _species(labelled[1])
            parts.append(rf"\xrightarrow{{{name}}}")
        elif species := _species(word):
            parts.append(species)
        else:
            return ""
    return rf"\ensuremath{{{' '.join(parts)}}}"


def _species(word: str) -> str:
    """H2O, 2Fe^3+, Ca(OH)2: a formula in upright letters; nothing for what is none."""
    found = SPECIES.fullmatch(word)
    if not found:
        return ""
    factor, formula, charge = found.groups()
    indexed = re.sub(r"(?<=[A-Za-z)])(\d+)", r"_{\1}", formula)
    return (rf"{factor}\," if factor else "") + rf"\mathrm{{{indexed}}}" + (f"^{{{charge}}}" if charge else "")


def _preamble(kind: Kind) -> str:
    return "\n".join([kind.document_class, PACKAGES, kind.preamble, TIGHT, MARKS])


@functools.lru_cache(maxsize=8)
def _format(kind: Kind) -> str:
    """A format with the preamble read already, kept in the user's cache: TeX starts faster.

    TeX compresses formats and undoes that at every start; plain ones are read as well.

    Returns:
        Its path without suffix; nothing when it cannot be made or kept.
    """
    banner = subprocess.run(["pdflatex", "--version"], capture_output=True, text=True).stdout
    text = _preamble(kind)
    name = "got-" + hashlib.sha256((banner + text + "plain").encode()).hexdigest()[:20]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "got-jax" / "latex"
    if (root / f"{name}.fmt").exists():
        return str(root / name)
    with tempfile.TemporaryDirectory(prefix="got-format-") as folder:
        Path(folder, f"{name}.tex").write_text(text + "\n\\dump\n", encoding="utf-8")
        command = ["pdflatex", "-ini", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error"]
        command += [f"-jobname={name}", "&pdflatex", f"{name}.tex"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
            if done.returncode:
                return ""
            root.mkdir(parents=True, exist_ok=True)
            unfinished = root / f"{name}.{os.getpid()}"
            made = Path(folder, f"{name}.fmt").read_bytes()
            unfinished.write_bytes(gzip.decompress(made) if made[:2] == b"\x1f\x8b" else made)
            os.replace(unfinished, root / f"{name}.fmt")
        except (OSError, subprocess.SubprocessError):  # it costs time alone
            return ""
    return str(root / name)


def _document(bodies: Sequence[str], kind: Kind) -> str:
    begin, end = (r"\begin{gotpage}", r"\end{gotpage}") if kind.tight else ("", r"\gotend")
    parts = [] if _format(kind) else [_preamble(kind)]
    parts.append(r"\begin{document}\begin{CJK*}{UTF8}{gbsn}")
    for number, body in enumerate(bodies):
        body = plain_chemistry(body)
        parts.append(f"\\immediate\\write-1{{got-body {number}}}%")
        begun = "" if r"\gotbegin" in body else r"\gotbegin"  # a body that changes columns says itself where it begins
        parts.append(
            f"{begin}%\n{body}%\n{end}" if kind.tight else f"\\clearpage\\stepcounter{{got}}{begun}\n{body}\n{end}"
        )
    return "\n".join([*parts, r"\end{CJK*}\end{document}", ""])


def _counts(pdf: bytes, bodies: int) -> list[int]:
    names = _open(pdf).resolve_names()
    firsts = [names[f"got-{i + 1}"]["page"] for i in range(bodies) if f"got-{i + 1}" in names]
    return [int(n) for n in np.diff([*firsts, len(_open(pdf))])] if len(firsts) == bodies else []


def _run(document: str, format: str, seconds: float) -> tuple[bytes | None, str, int | None]:
    """A PDF; or why there is none, and the number of the body that TeX halted in, if that is known."""
    with tempfile.TemporaryDirectory(prefix="got-latex-") as folder:
        Path(folder, "page.tex").write_text(document, encoding="utf-8")
        command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error"]
        command += [f"-fmt={format}"] * bool(format) + ["page.tex"]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": folder,
            "openin_any": "p",
            "openout_any": "p",
            "shell_escape": "f",
            "TEXMFVAR": os.environ.get("TEXMFVAR", str(Path(tempfile.gettempdir()) / "got-texmf-var")),
            "SOURCE_DATE_EPOCH": "0",
            "FORCE_SOURCE_DATE": "1",
        }
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None, f"it takes LaTeX over {seconds:g} s", None
        made = Path(folder, "page.pdf")
        if process.returncode == 0 and made.exists():
            return made.read_bytes(), "", None
        try:
            log = Path(folder, "page.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            log = ""
        found = re.search(r"^! (.*)$", log, re.MULTILINE)
        begun = re.findall(r"^got-body (\d+)$", log, re.MULTILINE)
        why = f"LaTeX says: {found[1]}" if found else "LaTeX made no page of it"
        return None, why, int(begun[-1]) if begun else None


def one(body: str, kind: Kind = FIGURE) -> Page:
    """The page of one body. Raises GotError when LaTeX refuses it."""
    page = typeset([body], kind)[0]
    if isinstance(page, str):
        raise GotError(f"the LaTeX {body[:60]!r} does not compile: {page}.")
    return page


@functools.lru_cache(maxsize=65536)
def clean(text: str) -> str:
    """What pdfLaTeX's fonts show of a text: ASCII, letters without their accents, the simplified Chinese of GB 2312."""
    text = "".join(FALLBACKS.get(ch, ch) for ch in text)
    text = "".join(unicodedata.normalize("NFKD", ch) if ch.isalpha() and not ch.isascii() else ch for ch in text)
    return "".join(ch for ch in text if ch.isascii() or _chinese(ch))


FALLBACKS = {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "--", "…": "...", "\u00a0": " "}
FALLBACKS |= {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "ı": "i"}


def _chinese(character: str) -> bool:
    try:
        return character >= "\u3000" and len(character.encode("gb2312")) == 2
    except UnicodeEncodeError:
        return False
