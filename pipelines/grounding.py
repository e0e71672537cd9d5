"""Layout with boxes, and where a text stands: a page's blocks are told by label and place, a text's places are told.

Source: DeepSeek-OCR 3.4.1 (fine annotations interleave layout and content; coarse ones are text) and its "locate"
prompts. Labels and boxes are asked for by the prompt (`got_jax.prompts`), answers are those of `got_jax.blocks`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from got_jax import prompts
from got_jax.blocks import write, write_boxes
from got_jax.data.example import Example
from got_jax.errors import require
from pipelines import posters
from pipelines.annotations import blocks_of, thousandths
from pipelines.paper import compressed, to_png
from pipelines.prose import UNSPACED, weighted
from pipelines.regions import SOURCES, dense, lines_of, source, words_of
from pipelines.tries import Unusable, first_usable

TASKS = {"layout and boxes": (True, True), "layout": (True, False), "boxes": (False, True)}  # fine, with boxes


@dataclass(frozen=True)
class Layouts:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out", of the sources.
        sources: (engine, weight) pairs: "formatted", "pages", "posters", "scenes". Scenes have text alone, so only its
            boxes are asked for; of formatted pages and posters only what has labels is.
        tasks: (what is asked for, weight) pairs: "layout and boxes", "layout", "boxes".
        effects: pages look printed and scanned, as their engines make them; otherwise clean.
        block: how many formatted pages one run of LaTeX sets; pictures do not depend on it.
    """

    split: str = "train"
    sources: tuple[tuple[str, float], ...] = (
        ("formatted", 0.45),
        ("pages", 0.3),
        ("posters", 0.1),
        ("scenes", 0.15),
    )
    tasks: tuple[tuple[str, float], ...] = (("layout and boxes", 0.6), ("layout", 0.15), ("boxes", 0.25))
    effects: bool = True
    block: int = 64

    tools: ClassVar[tuple[str, ...]] = ("latex", "node")

    def __post_init__(self) -> None:
        _check("layout", self.sources, (*SOURCES, "posters"), self.tasks, tuple(TASKS))

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        return first_usable("layout", seed, index, lambda rng: self._example(rng, seed, index))

    def _example(self, rng: np.random.Generator, seed: int, index: int) -> Example:
        name = weighted(rng, self.sources)
        labelled = ("layout and boxes", "layout")
        fits = {"scenes": ("boxes",), "pages": tuple(TASKS)}.get(name, labelled)
        tasks = tuple(pair for pair in self.tasks if pair[0] in fits)
        if not tasks:
            raise Unusable(f"nothing that is asked for can be told of {name}.")
        task = weighted(rng, tasks)
        fine, boxes = TASKS[task]
        at = dense(index, "layout", self.sources, name, seed, self.block)
        if name == "posters":
            page = self._poster(rng, seed, at)
        else:
            page = source(name, self.split, self.effects, self.block).example(seed, at)
        found = page.meta["blocks"]
        if fine and name == "pages":
            found = [{**block, "text": markdown(block, page.meta["language"])} for block in found]
        text = write(blocks_of(found, _size(page), fine), boxes)
        query = prompts.query(layout=fine, boxes=boxes)
        meta: dict[str, Any] = {"engine": "layout", "kind": f"{name} {task}", "language": page.meta.get("language", "")}
        meta["blocks"] = found
        return Example(page.images, query, text, meta)

    def _poster(self, rng: np.random.Generator, seed: int, index: int) -> Example:
        language = str(rng.choice(["en", "zh"]))
        sheet, blocks = posters.draw(rng, seed, index, self.split, language, self.block)
        effects = {}
        pixels = compressed(sheet, rng, effects) if self.effects else sheet
        return Example((to_png(pixels),), prompts.FORMAT, "", {"blocks": blocks, "language": language})


@dataclass(frozen=True)
class Locate:
    """Settings of the engine that asks where a text stands; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out", of the sources.
        sources: (engine, weight) pairs: "pages" and "scenes".
        absent: share of questions about a text of another page, whose answer has no box.
        most_places: a text that stands at more places is not asked for.
        effects: pages look printed and scanned, as their engines make them; otherwise clean.
    """

    split: str = "train"
    sources: tuple[tuple[str, float], ...] = (("pages", 0.8), ("scenes", 0.2))
    absent: float = 0.1
    most_places: int = 8
    effects: bool = True

    def __post_init__(self) -> None:
        _check("locate", self.sources, SOURCES, (("box", 1.0),), ("box",))
        words = all(name != "formatted" for name, _ in self.sources)
        require(words, "locate: formatted pages do not know where their words stand; leave them out.")
        require(0 <= self.absent <= 1, f"locate: absent is {self.absent}; it must be a share from 0 to 1.")
        require(self.most_places >= 1, f"locate: most_places is {self.most_places}; it must be at least 1.")

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        return first_usable("locate", seed, index, lambda rng: self._example(rng, seed, index))

    def _example(self, rng: np.random.Generator, seed: int, index: int) -> Example:
        name = weighted(rng, self.sources)
        engine = source(name, self.split, self.effects)
        page = engine.example(seed, index)
        absent = rng.random() < self.absent
        other = engine.example(seed, index + 1) if absent else page
        text = _phrase(rng, other)
        size = _size(page)
        found = [thousandths(box, size) for box in places(page, text)]
        if absent != (not found):
            raise Unusable("the text stands on the page although it should not.")
        if len(found) > self.most_places:
            raise Unusable(f"the text stands at {len(found)} places.")
        meta = {"engine": "locate", "kind": f"{name} {'absent' if absent else 'found'}", "places": len(found)}
        return Example(page.images, prompts.query(locate=text), write_boxes(found), meta)


def _check(name: str, sources: Any, places: tuple[str, ...], tasks: Any, known: tuple[str, ...]) -> None:
    for field, pairs, names in (("sources", sources, places), ("tasks", tasks, known)):
        require(
            bool(pairs) and {key for key, _ in pairs} <= set(names) and min(weight for _, weight in pairs) > 0,
            f"{name}: {field} is {pairs}; give (name, weight) pairs of {', '.join(names)}, weights above 0.",
        )


def _size(page: Example) -> tuple[int, int]:
    """Width and height of the only picture."""
    return Image.open(io.BytesIO(page.images[0])).size


def markdown(block: dict[str, Any], language: str) -> str:
    """The text of a typeset block as markdown: running text without the page's line breaks, titles as headings."""
    lines = block["text"].split("\n")
    if block["label"] == "code":
        return f"```\n{block['text']}\n```"
    if block["label"] == "table" or (len(lines) == 1 and block["label"] != "title"):
        return block["text"]
    text = lines[0]
    for line in lines[1:]:
        spaced = language not in UNSPACED or (text[-1:].isascii() and line[:1].isascii())
        text += (" " if spaced else "") + line
    return f"## {text}" if block["label"] == "title" else text


def _phrase(rng: np.random.Generator, page: Example) -> str:
    """Some words of the page that could be asked for."""
    lines = [line for block in page.meta["blocks"] for line in block["text"].split("\n") if line.strip()]
    for _ in range(20):
        if not lines:
            break
        line = lines[int(rng.integers(len(lines)))]
        spans = list(words_of(line, 0))
        first = int(rng.integers(len(spans)))
        part = spans[first : first + int(rng.integers(1, 5))]
        text = line[part[0][0] : part[-1][1]].strip()
        if len(text) >= 3 and not set(text) & set("<>") and text == " ".join(text.split()):
            return text
    raise Unusable("the page has no words to ask for.")


def places(page: Example, text: str) -> list[list[float]]:
    """The boxes, in pixels, where a text stands on a line of the page, in reading order.

    Raises:
        Unusable: when it also stands inside a longer word, or across a line's end: what "where" means is then open.
    """
    size = np.array(_size(page) * 2, float)
    boxes: list[list[float]] = []
    all_told = 0
    if page.letters is None:
        for block in page.meta["blocks"]:
            boxes += block["boxes"] if block["text"] == text else []
            all_told += block["text"].count(text)
    else:
        letters = page.letters.boxes * size
        for row in lines_of(page.text, page.letters):
            for at in _occurrences(row.text, text):
                all_told += 1
                if _alone(row.text, at, text):
                    first = row.first + at - row.text[:at].count(" ")
                    corners = letters[first : first + len(text) - text.count(" ")]
                    tall = float(np.median(corners[:, 3] - corners[:, 1]))
                    low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
                    box = np.array([low[0], low[1] - 0.08 * tall, high[0], high[1] + 0.1 * tall])
                    boxes.append(np.clip(box, 0, size).tolist())
    across = max(page.text.replace("\n", gap).count(text) for gap in (" ", ""))
    if all_told != len(boxes) or across > all_told:
        raise Unusable("the text stands inside a word or across a line's end, too.")
    return boxes


def _occurrences(line: str, text: str) -> Iterator[int]:
    at = line.find(text)
    while at >= 0:
        yield at
        at = line.find(text, at + 1)


def _alone(line: str, at: int, text: str) -> bool:
    """Whether no word goes on before or after the text; Chinese and Japanese have no words in this sense."""
    letter = lambda ch: ch.isalnum() and ch < "\u2e80"
    ends = ((line[at - 1 : at], text[0]), (text[-1], line[at + len(text) : at + len(text) + 1]))
    return not any(letter(one) and letter(other) for one, other in ends if one and other)
