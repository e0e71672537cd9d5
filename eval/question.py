"""What a suite asks, what a reader answers, and what scores come out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PdfPage:
    """A page (from 0) of a PDF file, drawn when it is read; `longest_px`: its longer side."""

    path: Path
    number: int
    longest_px: int

    def __str__(self) -> str:
        return f"{self.path}, page {self.number + 1}"


Picture = Path | bytes | PdfPage
Region = tuple[int, ...] | str | None  # thousandths (x1, y1, x2, y2) or (x, y), or a frame's colour


@dataclass(frozen=True)
class Question:
    """A picture, or several, and what should be read of it.

    Attributes:
        name: unique within the suite; it names the row in reports and in files of answers.
        query: as GOT is asked. truth: the label, of whatever kind the suite scores.
        group: language or part, by which scores are told apart.
        region: where to read, for programs that take no prompt.
        crop: the picture comes as tiles.
    """

    name: str
    pictures: tuple[Picture, ...]
    query: str
    truth: Any
    group: str = ""
    region: Region = None
    crop: bool = False


@dataclass(frozen=True)
class Loaded:
    """The questions of a suite's files. `problems` cost a row each and fail the run; `notes` are told."""

    questions: tuple[Question, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """A reader's answer. `error`: why there is none."""

    text: str
    error: str = ""
    stop: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Table:
    """Scores of one group: a line per mode ("paper", "correct"), metrics by name.

    Attributes:
        published: what others reached, as printed in papers: (method, scores in mode "paper").
        group: of the questions. scored, skipped: how many rows each line is of, and how many the mode leaves out.
    """

    title: str
    group: str
    lines: Mapping[str, Mapping[str, float]]
    scored: Mapping[str, int]
    skipped: Mapping[str, int]
    published: tuple[tuple[str, Mapping[str, float]], ...] = ()


@dataclass(frozen=True)
class Scores:
    """Attributes:
    tables: one a group. errors: how wrong each row is, from 0 (right) to 1, for lists of the worst; None: not scored.
    notes: what a reader of the numbers must know.
    """

    tables: tuple[Table, ...]
    errors: tuple[float | None, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """A benchmark: how its files are read, and how answers are scored.

    Attributes:
        load: files of a folder (None: made on the spot) -> questions; the second argument is the options of `Options`.
        score: (questions, answers) -> scores. An answer that is missing is "".
        export: writes answers as other programs' scorers read them.
    """

    name: str
    about: str
    load: Callable[[Path | None, Options], Loaded]
    score: Callable[[Sequence[Question], Sequence[str]], Scores]
    export: Callable[[Path, Sequence[Question], Sequence[str]], None] | None = None


@dataclass(frozen=True)
class Options:
    """What a user may set.

    Attributes:
        count: questions of each group at most; 0: all (`synth`: a small number).
        crop: pictures come as tiles. languages, engines: of `synth`.
    """

    count: int = 0
    crop: bool = False
    max_tiles: int = 12
    languages: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
