"""olmOCR-bench: pages of PDFs, scored by facts that an answer must hold.

Source: olmOCR `bench` (EVALUATION_FACTS.md 2.6 and 3). Score: the mean of the categories' pass rates; a category is a
jsonl file, or "baseline" over all pages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.convert import tables_to_html
from eval.metrics import facts
from eval.metrics.facts import Fact
from eval.question import Loaded, Options, PdfPage, Question, Scores, Suite, Table
from got_jax import prompts
from got_jax.errors import GotError, require

RESAMPLES = 1000
LONGEST_PX = 2048


@dataclass(frozen=True)
class Page:
    """The facts about a page, each with its category."""

    subset: str
    stem: str
    number: int
    facts: tuple[tuple[str, Fact], ...]

    def __str__(self) -> str:
        return "\n".join(f"{category} {fact.kind}: {_shown(fact)}" for category, fact in self.facts)


def _shown(fact: Fact) -> str:
    names = ("text", "before", "after", "cell", "up", "down", "left", "right", "top_heading", "left_heading", "math")
    return "; ".join(f"{name} {fact.fields[name]!r}" for name in names if fact.fields.get(name))


def load(folder: Path | None, options: Options) -> Loaded:
    """The pages of bench_data/*.jsonl.

    Raises:
        GotError: when there are none.
    """
    require(folder is not None, "olmocr-bench needs --data DIR, the folder of its files; see docs/benchmarks.md.")
    assert folder is not None
    place = next((p for p in (folder, folder / "bench_data") if (p / "pdfs").is_dir()), None)
    files = sorted(place.glob("*.jsonl")) if place else []
    require(bool(files), f"{folder} holds no bench_data with jsonl files and pdfs; see docs/benchmarks.md.")
    assert place is not None
    from pipelines.pdfs import opened

    found: dict[tuple[str, int], list[tuple[str, Fact]]] = {}
    problems: list[str] = []
    ids: set[str] = set()
    pages: dict[str, int] = {}
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                fact = facts.fact(row)
                require(fact.id not in ids, f"its id {fact.id} was there before.")
                pdf, page = row.get("pdf"), row.get("page")
                require(isinstance(pdf, str) and isinstance(page, int), "it names no pdf or page.")
                require(
                    not Path(pdf).is_absolute() and ".." not in Path(pdf).parts, f"'{pdf}' lies outside the folder."
                )
                if pdf not in pages:
                    require((place / "pdfs" / pdf).is_file(), f"file '{pdf}' is missing.")
                    pages[pdf] = len(opened(str(place / "pdfs" / pdf)))
                require(1 <= page <= pages[pdf], f"'{pdf}' has no page {page}.")
            except ValueError as err:
                problems.append(f"{path.name}, line {number}: it is no JSON ({err}).")
                continue
            except GotError as err:
                problems.append(f"{path.name}, line {number}: {err}")
                continue
            ids.add(fact.id)
            found.setdefault((pdf, page), []).append((path.stem, fact))
    questions = []
    for (pdf, number), tests in sorted(found.items()):
        subset, stem = str(Path(pdf).parent), Path(pdf).stem
        page = Page(subset, stem, number, tuple(tests))
        query = prompts.query(format=True, patches=options.crop)
        picture = PdfPage(place / "pdfs" / pdf, number - 1, LONGEST_PX)
        questions.append(Question(f"{subset}/{stem}_pg{number}", (picture,), query, page, "en", None, options.crop))
    return Loaded(tuple(questions[: options.count or None]), tuple(problems))


def score(questions: Sequence[Question], answers: Sequence[str]) -> Scores:
    """Pass rates by category, their mean, and half of its 95% interval (bootstrap over tests)."""
    drawn = facts.draw()
    passed: dict[str, list[bool]] = {}
    errors = []
    for question, answer in zip(questions, answers, strict=True):
        text = tables_to_html(answer)
        rows = [(category, facts.holds(fact, text, drawn)) for category, fact in question.truth.facts]
        if not any(fact.kind == "baseline" for _, fact in question.truth.facts):
            rows.append(("baseline", facts.baseline(text)))
        for category, right in rows:
            passed.setdefault(category, []).append(right)
        errors.append(sum(not right for _, right in rows) / len(rows))
    rates = {category: float(np.mean(values)) for category, values in sorted(passed.items())}
    rng = np.random.default_rng(0)
    samples = [
        np.mean([rng.choice(np.array(values), len(values)).mean() for values in passed.values()])
        for _ in range(RESAMPLES)
    ]
    spread = float(np.percentile(samples, 97.5) - np.percentile(samples, 2.5)) / 2
    line = {"overall": float(np.mean(list(rates.values()))), "plus_minus": spread, **rates}
    count = sum(map(len, passed.values()))
    note = () if drawn(r"x") else ("Node is not installed: formulas count only where their text is the same.",)
    return Scores(
        (Table("all tests", "en", {"correct": line}, {"correct": count}, {"correct": 0}),), tuple(errors), note
    )


def export(folder: Path, questions: Sequence[Question], answers: Sequence[str]) -> None:
    """predictions/SUBSET/STEM_pgN_repeat1.md: what olmOCR's scorer reads."""
    for question, answer in zip(questions, answers, strict=True):
        page = question.truth
        path = folder / "predictions" / page.subset / f"{page.stem}_pg{page.number}_repeat1.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tables_to_html(answer), encoding="utf-8")


def suite() -> Suite:
    return Suite("olmocr-bench", "facts about pages of PDFs: text, order, tables, formulas", load, score, export)
