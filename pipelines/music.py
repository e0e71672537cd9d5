"""The sheet music engine: systems of piano scores in **kern, engraved by Verovio.

Source: GOT paper 3.3.2 (GrandStaff re-rendered by Verovio: single systems, paper-like grounds, random title and
author). Scores come from any folder of .krn, from music21's corpus, or are made up. Title, author and tempo are
decoration; lyrics are a **text spine of the answer.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import GotError, require
from pipelines import fonts, kern, mei
from pipelines.backends import svg
from pipelines.documents import draw_font
from pipelines.paper import photograph, plain, to_png
from pipelines.prose import Prose
from pipelines.tries import Unusable, first_usable
from pipelines.vocabulary import Vocabulary

FACES = ("Leipzig", "Bravura", "Gootville", "Leland", "Petaluma")
TEMPI = "Allegro|Andante|Adagio|Moderato|Presto|Largo|Vivace|Allegretto|Lento|Andantino|Con moto|Grave".split("|")
SCORES = {"corpus": 0.3, "made": 0.7}


@dataclass(frozen=True)
class Music:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out", of fonts and texts; made-up music does not depend on it.
        folder: of .krn files; nothing: music21's corpus where it is installed, and made-up music.
        real: share of systems that are cut from real scores.
        measures: fewest and most of a system.
        lyrics: share of systems with words under the upper staff.
        most_px: a wider system is left out.
        effects: share of pictures that look printed and scanned.
    """

    split: str = "train"
    folder: str = ""
    real: float = 0.25
    measures: tuple[int, int] = (2, 6)
    lyrics: float = 0.08
    most_px: int = 2600
    effects: float = 0.7

    tools: ClassVar[tuple[str, ...]] = ("verovio", "music21")

    def __post_init__(self) -> None:
        low, high = self.measures
        require(1 <= low <= high, f"music: measures {self.measures} must be two ascending numbers from 1 on.")

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why scores of the folder are left out."""
        return kern.rejected(self.folder) if self.folder else ()

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        return first_usable("music", seed, index, self._example)

    def _example(self, rng: np.random.Generator) -> Example:
        count = int(rng.integers(self.measures[0], self.measures[1] + 1))
        real = rng.random() < (1.0 if self.folder else self.real)
        if real:
            found = kern.files(self.folder or music21_corpus())
            try:
                score = kern.load(found[int(rng.integers(len(found)))])
            except GotError as err:
                raise Unusable(str(err)) from None
            spines = (0, score.spines - 1) if score.spines > 1 else (0,)
            text = kern.system(score, int(rng.integers(max(1, len(score.measures) - count))), count, spines)
            if not text:
                raise Unusable("the measures are not whole.")
        else:
            text = kern.Composer(rng).system(count)
        words = self._words(rng)
        if rng.random() < self.lyrics:
            text = _with_lyrics(text, rng, words)
        language = Vocabulary(rng, "en")
        style: dict[str, Any] = {
            "font": draw_font(rng, self.split, "en", ("serif",), "normal").face.name,
            "music": str(rng.choice(FACES, p=[0.35, 0.25, 0.12, 0.18, 0.1])),
            "scale": int(rng.integers(28, 60)),
            "staff_line": float(np.round(rng.uniform(0.1, 0.25), 2)),
            "bar_line": float(np.round(rng.uniform(0.2, 0.5), 2)),
            "spacing": float(np.round(rng.uniform(0.15, 0.4), 2)),
            "staves": int(rng.integers(5, 11)),
            "slope": int(rng.choice([5, 10, 15, 20])),
            "title": " ".join(words(2, 5)).title() if rng.random() < 0.3 else "",
            "author": language.names("person", 1)[0] if rng.random() < 0.3 else "",
            "tempo": str(rng.choice(TEMPI)) if rng.random() < 0.25 else "",
            "margins": [float(v) for v in rng.uniform(10, 50, 4)],
        }
        ink = draw(text, style)
        if ink.shape[1] > self.most_px:
            raise Unusable(f"the system is {ink.shape[1]} px wide, over {self.most_px}.")
        meta: dict[str, Any] = {
            "engine": "music",
            "kind": "real" if real else "made",
            "measures": count,
            "style": style,
            "ink": zlib.crc32(ink.tobytes()),
        }
        if rng.random() < self.effects:
            pixels, meta["effects"] = photograph(ink, rng)
        else:
            pixels = plain(ink)
        return Example((to_png(pixels),), prompts.FORMAT, text, meta)

    def _words(self, rng: np.random.Generator) -> Any:
        font = draw_font(rng, self.split, "en", ("serif",), "normal")
        paragraphs = Prose(self.split).paragraphs(rng, font, "en")

        def words(low: int, high: int) -> list[str]:
            found: list[str] = []
            count = int(rng.integers(low, high + 1))
            while len(found) < count:
                found += [w for w in next(paragraphs) if w.isascii() and w.isalpha()]
            return found[:count]

        return words


@functools.lru_cache(maxsize=1)
def music21_corpus() -> str:
    """The folder of scores that music21 comes with.

    Raises:
        GotError: when it is not installed.
    """
    import importlib.util

    found = importlib.util.find_spec("music21")
    if found is None or not found.submodule_search_locations:
        raise GotError("music21 is missing; install it with `pip install music21`, or set real=0 or a folder of .krn.")
    return str(Path(found.submodule_search_locations[0]) / "corpus")


def _with_lyrics(text: str, rng: np.random.Generator, words: Any) -> str:
    """A **text spine for the rightmost staff: a word at every note that is not tied to the one before."""
    del rng
    rows = [line.split("\t") for line in text.splitlines()]
    for row in rows:
        head = row[-1]
        if head.startswith("**"):
            row.append("**text")
        elif head == "*-":
            row.append("*-")
        elif head.startswith("*"):
            row.append("*")
        elif head.startswith("="):
            row.append(head)
        elif re.match(r"[(\[]*\d", head) and "r" not in head and not set("]_") & set(head):
            row.append(words(1, 1)[0].lower())
        else:
            row.append(".")
    return "\n".join("\t".join(row) for row in rows)


@functools.lru_cache(maxsize=1)
def _toolkit():  # verovio.toolkit
    try:
        import verovio
    except ImportError:
        raise GotError("verovio is missing; install it with `pip install verovio`.") from None
    verovio.enableLog(verovio.LOG_OFF)
    return verovio.toolkit()


def loaded(text: str, style: dict[str, Any]) -> Any:
    """Verovio with the music in it. Raises Unusable for what it cannot read."""
    toolkit = _toolkit()
    toolkit.setOptions(
        {
            "scale": style["scale"],
            "font": style["music"],
            "staffLineWidth": style["staff_line"],
            "barLineWidth": style["bar_line"],
            "spacingNonLinear": 0.6,
            "spacingLinear": style["spacing"],
            "spacingStaff": style["staves"],
            "beamMaxSlope": style["slope"],
            "breaks": "none",
            "header": "none",
            "footer": "none",
            "adjustPageWidth": True,
            "adjustPageHeight": True,
            "pageWidth": 60000,
            "pageHeight": 6000,
            "svgFormatRaw": True,  # without the white space between elements
            "xmlIdSeed": 1,
        }
    )
    toolkit.resetXmlIdSeed(1)
    if not toolkit.loadData(text):
        raise Unusable("Verovio cannot read the music.")
    return toolkit


def engraved(text: str, style: dict[str, Any], as_kern: bool = False) -> svg.Drawing:
    """A system as Verovio draws it.

    Args:
        as_kern: Verovio reads the kern itself; otherwise it gets MEI where `mei` knows all that the text holds, which
            it reads faster and draws the same.
    """
    kern_text = f"!!!OMD: {style['tempo']}\n{text}" if style["tempo"] else text
    source = kern_text if as_kern else mei.from_kern(text, style["tempo"]) or kern_text
    return svg.parse(loaded(source, style).renderToSVG(1))


def draw(text: str, style: dict[str, Any], as_kern: bool = False) -> UInt8[np.ndarray, "H W"]:
    """The clean picture of a system: the kern and its style alone make it. `as_kern`: see `engraved`."""
    made = engraved(text, style, as_kern)
    face = next(face for face in fonts.faces() if face.name == style["font"])
    font = fonts.typeface(face)
    # Verovio leaves room for Times; a wider font is set smaller.
    narrow = min(1.0, 0.42 / (font.width("abcdefghijklmnopqrstuvwxyz") / 26))
    marks = (m._replace(style=m.style._replace(size=m.style.size * narrow)) if m.runs else m for m in made.marks)
    made = dataclasses.replace(made, marks=tuple(marks))
    top, right, bottom, left = style["margins"]
    size = 34 * style["scale"] / 60 + 8
    head = size * 1.9 if style["title"] else 0.0
    head += size * 1.1 if style["author"] else 0.0
    width, height = round(made.width + left + right), round(made.height + top + bottom + head)
    ink = svg.cover([(made, left, top + head, 1.0)], width, height, [font])
    from pipelines.typeset import coverage, place

    lines = []
    if style["title"]:
        shown = font.shown(style["title"])
        fit = min(1.0, 0.94 * width / max(1.0, font.width(shown) * size * 1.3))
        lines.append(place([shown], font, size * 1.3 * fit, 0, width, top + size * 1.2, "center"))
    if style["author"]:
        small = size * 0.75
        lines.append(
            place([font.shown(style["author"])], font, small, 0, width - right, top + head - small * 0.4, "right")
        )
    return np.maximum(ink, coverage(lines, width, height)) if lines else ink


def proof(example: Example) -> str:
    """What is wrong with an example: Verovio and music21 must find the notes written, and the picture again."""
    style, text = example.meta["style"], example.text
    try:
        if zlib.crc32(draw(text, style, as_kern=True).tobytes()) != example.meta["ink"]:
            return "the answer's picture is another"
    except GotError as err:
        return str(err)
    if 'type="hanging"' in loaded(text, style).getMEI():
        return "Verovio finds a tie that leads to no note"
    written = kern.notes(text)
    for name, found in (("Verovio", verovio_notes(text, style)), ("music21", music21_notes(text))):
        if found != written:
            odd = (found - written) + (written - found)
            return f"{name} finds other notes ({', '.join(f'{p}{o}' for _, p, o in list(odd)[:4])})"
    return ""


def verovio_notes(text: str, style: dict[str, Any]) -> Counter[tuple[int, str, int]]:
    """The notes that Verovio reads: (staff from the left of the kern, letter with its accidental, octave)."""
    from xml.etree import ElementTree

    root = ElementTree.fromstring(loaded(text, style).getMEI())
    space = {"mei": "http://www.music-encoding.org/ns/mei"}
    staves = sum(cell == "**kern" for cell in text.split("\n", 1)[0].split("\t"))
    found: Counter[tuple[int, str, int]] = Counter()
    signs = {"s": "#", "f": "-", "ss": "##", "x": "##", "ff": "--", "n": ""}
    for staff in root.iterfind(".//mei:measure/mei:staff", space):
        number = staves - int(staff.get("n", "1"))
        for note in staff.iterfind(".//mei:note", space):
            if note.get("oct") is None:
                continue
            child = note.find("mei:accid", space)
            values = (child.get("accid.ges") or child.get("accid")) if child is not None else None
            sign = note.get("accid.ges") or note.get("accid") or values or ""
            found[number, note.get("pname", "") + signs.get(sign, ""), int(note.get("oct", "0"))] += 1
    return found


def music21_notes(text: str) -> Counter[tuple[int, str, int]]:
    """The notes that music21 reads."""
    import music21

    found: Counter[tuple[int, str, int]] = Counter()
    score: Any = music21.converter.parseData(text, format="humdrum")
    parts = list(score.parts)
    for number, part in enumerate(parts):
        for element in part.recurse().notes:
            for pitch in element.pitches:
                name = pitch.step.lower() + (pitch.accidental.modifier if pitch.accidental else "").replace("n", "")
                found[len(parts) - 1 - number, name, pitch.octave] += 1
    return found
