"""Runs a suite: its questions, every reader's answers, their scores, a report."""

from __future__ import annotations

import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from eval import answers, readers
from eval.metrics import wordnet
from eval.question import Answer, Loaded, Options, Question, Scores, Suite
from eval.readers import ReadConfig
from got_jax.errors import GotError, require

PACKAGES = ("got-jax", "jax", "nltk", "jieba", "rapidfuzz", "apted", "rdkit", "transformers", "torch", "rapidocr")


@dataclass(frozen=True)
class RunConfig:
    """What to run. `answers`: a file or folder of answers instead of a model's; `process`: of `processes`."""

    models: tuple[str, ...]
    data: Path | None
    out: Path
    options: Options = field(default_factory=Options)
    read: ReadConfig = field(default_factory=ReadConfig)
    answers: Path | None = None
    process: int = 0
    processes: int = 1


@dataclass(frozen=True)
class Entry:
    """One reader in a report: its answers and scores. `seconds`: the median a question of each group."""

    model: str
    answers: tuple[Answer, ...]
    scores: Scores
    seconds: Mapping[str, float]
    unknown: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """Why answers are missing."""
        return tuple(answer.error for answer in self.answers if answer.error)


@dataclass(frozen=True)
class Report:
    """All of a run. `versions`: of what took part."""

    suite: Suite
    loaded: Loaded
    entries: tuple[Entry, ...]
    versions: dict[str, str]

    @property
    def whole(self) -> bool:
        """Whether every row of the suite's files was asked and answered."""
        return not self.loaded.problems and not any(entry.failed or entry.unknown for entry in self.entries)


def run(suite: Suite, config: RunConfig) -> Report | None:
    """Asks and scores.

    Returns:
        None while other processes of this run have not answered all their questions.

    Raises:
        GotError: for files that are not there or damaged as a whole, an unknown model, an unwritable folder.
    """
    loaded = suite.load(config.data, config.options)
    require(
        bool(loaded.questions),
        f"suite {suite.name} has nothing to read: {loaded.problems[0] if loaded.problems else 'its files are empty.'}",
    )
    if config.answers is not None:
        return Report(suite, loaded, (_from_files(suite, loaded.questions, config.answers),), versions())
    read = {model: _read(suite, loaded.questions, model, config) for model in config.models}
    entries = [
        _scored(suite, loaded.questions, model, found, out=config.out / suite.name / slug(model))
        for model, found in read.items()
        if found is not None
    ]
    return Report(suite, loaded, tuple(entries), versions()) if len(entries) == len(read) else None


def slug(text: str) -> str:
    """A folder's name for a model."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_") or "model"


def _read(suite: Suite, questions: Sequence[Question], model: str, config: RunConfig) -> list[Answer] | None:
    """All answers of a model; this process makes those of its share that are not there yet."""
    described: dict[str, Any] = {
        "suite": suite.name,
        "model": model,
        "questions": len(questions),
        "crop": config.options.crop,
        "max_new_tokens": config.read.max_new_tokens,
        "max_tiles": config.read.max_tiles,
        "dtype": config.read.dtype,
    }
    return answers.collect(
        lambda: readers.make(model, config.read),
        questions,
        config.out / suite.name / slug(model),
        described,
        config.process,
        config.processes,
        f"{suite.name}: {model}",
    )


def _from_files(suite: Suite, questions: Sequence[Question], path: Path) -> Entry:
    known, unknown = answers.read_answers(path, [q.name for q in questions])
    found = [Answer(known[q.name]) if q.name in known else Answer("", f"{q.name} has no answer.") for q in questions]
    return _scored(suite, questions, path.name, found, tuple(f"{name} answers no question." for name in unknown))


def _scored(
    suite: Suite,
    questions: Sequence[Question],
    model: str,
    found: Sequence[Answer],
    unknown: tuple[str, ...] = (),
    out: Path | None = None,
) -> Entry:
    texts = [answer.text for answer in found]
    scores = suite.score(questions, texts)
    if suite.export and out is not None:
        try:
            suite.export(out, questions, texts)
        except OSError as err:
            raise GotError(f"{out} cannot be written ({err.strerror}); choose another --out.") from None
    times: dict[str, list[float]] = {}
    for question, answer in zip(questions, found, strict=True):
        if answer.seconds:
            times.setdefault(question.group, []).append(answer.seconds)
    seconds = {group: statistics.median(values) for group, values in times.items()}
    return Entry(model, tuple(found), scores, seconds, unknown)


def versions() -> dict[str, str]:
    """Of the packages that numbers depend on, of Python, and where METEOR's synonyms come from."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {"METEOR": wordnet.version()}
