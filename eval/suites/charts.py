"""ChartQA-SE and PlotQA-SE: charts read as OneChart's dict, scored by SCRM.

Source: OneChart `ChartSE_eval` (EVALUATION_FACTS.md 2.2 and 3): a JSON list of {"images", "gts": {"title", "source",
"x_title", "y_title", "values"}}.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval import published
from eval.metrics import scrm
from eval.question import Loaded, Options, Question, Scores, Suite, Table
from eval.suites.conversations import find, read_json
from got_jax import prompts
from got_jax.errors import GotError, require

FILES = {
    "chartqa-se": (("ChartQA_test_human_filter.json",), ("ChartQA", "ChartQA_test", "images", "png", "test/png")),
    "plotqa-se": (("PlotQA_test_filter.json", "PlotQA_test.json"), ("PlotQA", "PlotQA_test", "images", "png")),
}


def load(name: str, folder: Path | None, options: Options) -> Loaded:
    """The charts of a suite's file. Raises GotError when it is not there or no JSON list."""
    files, places = FILES[name]
    require(folder is not None, f"{name} needs --data DIR, the folder of its files; see docs/benchmarks.md.")
    assert folder is not None
    path = find(folder, files)
    require(path is not None, f"{folder} holds no {' or '.join(files)}; see docs/benchmarks.md.")
    assert path is not None
    questions: list[Question] = []
    problems: list[str] = []
    seen: set[str] = set()
    query = prompts.query(format=True, patches=options.crop)
    for number, entry in enumerate(read_json(path)):
        try:
            picture, truth = _entry(entry)
            require(picture not in seen, f"{picture} was there before; each picture may stand once.")
            seen.add(picture)
            safe = not Path(picture).is_absolute() and ".." not in Path(picture).parts
            at = [place for place in (*places, ".") if safe and (path.parent / place / picture).is_file()]
            require(bool(at), f"picture '{picture}' is missing; it was looked for in {', '.join(places)}.")
        except GotError as err:
            problems.append(f"{path.name}, entry {number}: {err}")
            continue
        questions.append(Question(picture, (path.parent / at[0] / picture,), query, truth, name, None, options.crop))
    return Loaded(tuple(questions[: options.count or None]), tuple(problems))


def _entry(entry: Any) -> tuple[str, scrm.Chart]:
    require(isinstance(entry, dict) and isinstance(entry.get("images"), str), "it names no picture.")
    require(isinstance(entry.get("gts"), dict), "it has no truth (gts).")
    return entry["images"], scrm.chart(entry["gts"])


def score(questions: Sequence[Question], answers: Sequence[str]) -> Scores:
    """AP at three tolerances, exact match and titles; charts whose answer is no dict count as not read."""
    groups = list(dict.fromkeys(q.group for q in questions))
    made, errors = [], []
    for question, answer in zip(questions, answers, strict=True):
        read = chart_or_none(answer)
        errors.append(1 - scrm.similarity(read.values, question.truth.values, "slight") if read else 1.0)
    for group in groups:
        pairs = [(q.truth, chart_or_none(a)) for q, a in zip(questions, answers, strict=True) if q.group == group]
        lines, counts, left = {}, {}, {}
        for mode in ("paper", "correct"):
            lines[mode] = scores(pairs, mode)
            counts[mode] = len(pairs) if mode == "correct" else sum(read is not None for _, read in pairs)
            left[mode] = len(pairs) - counts[mode]
        known = published.charts(group.replace("-", "_")) if group in FILES else ()
        made.append(Table(group, group, lines, counts, left, known))
    return Scores(tuple(made), tuple(errors))


def chart_or_none(answer: str) -> scrm.Chart | None:
    try:
        return scrm.read(answer)
    except GotError:
        return None


def scores(pairs: Sequence[tuple[scrm.Chart, scrm.Chart | None]], mode: scrm.Mode) -> dict[str, float]:
    """Both modes count unreadable answers as charts without anything right (`structure` is the share of the others)."""
    parsed = [(truth, read) for truth, read in pairs if read is not None]
    structure = len(parsed) / max(len(pairs), 1)
    found = {"structure": structure}
    for tolerance in scrm.TOLERANCES:
        values = [scrm.similarity(read.values, truth.values, tolerance, mode) for truth, read in parsed]
        found[f"ap_{tolerance}"] = structure * scrm.average_precision(values, mode)
        if tolerance == "strict":
            found["exact"] = sum(value >= 1 for value in values) / max(len(pairs), 1)
    for title in scrm.TITLES:
        rated = [scrm.title_score(read.titles[title], truth.titles[title]) for truth, read in parsed]
        if mode == "correct":
            rated += [scrm.title_score("", truth.titles[title]) for truth, read in pairs if read is None]
        counted = [value for value in rated if value is not None]
        if counted:
            found[title] = sum(counted) / len(counted)
    return found


def export(folder: Path, questions: Sequence[Question], answers: Sequence[str]) -> None:
    """The answers as OneChart's script reads them."""
    rows = [{"imagename": q.name, "answer": a} for q, a in zip(questions, answers, strict=True)]
    (folder / "predictions_chartse.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def suites() -> list[Suite]:
    about = {"chartqa-se": "charts of people's questions (table 5)", "plotqa-se": "scientific plots (table 5)"}
    return [
        Suite(name, about[name], lambda folder, options, name=name: load(name, folder, options), score, export)
        for name in FILES
    ]
