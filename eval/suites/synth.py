"""Held-out examples of every engine, made on the spot: other seeds, texts and fonts than training sees.

No download is needed. One number an engine and language: the character error rate over all its examples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval.metrics import kern, pictures, scrm, smiles
from eval.question import Loaded, Options, Question, Scores, Suite, Table
from eval.scoring import score_texts
from eval.suites import charts
from eval.suites.conversations import BOX
from got_jax.data.example import Engine, Example
from got_jax.errors import GotError, require
from got_jax.metrics import character_error_rate
from got_jax.train.heldout import SEED

COUNT = 20  # of each engine and language, where the user does not say
LEFT_OUT = ("pdfs", "papers")  # need a folder of the user's
SETS = {"tiles": 4, "manypages": 4}  # large: so many times fewer
LANGUAGES = ("en", "zh")


def engines(languages: Sequence[str] = ()) -> dict[str, Engine]:
    """Held-out engines by "engine" or "engine language", where an engine can be set to one."""
    from pipelines.engines import entries

    found: dict[str, Engine] = {}
    for name, entry in entries().items():
        if name in LEFT_OUT:
            continue
        engine: Any = entry.engine
        if hasattr(engine, "split"):  # geometry has neither texts nor fonts of its own
            engine = dataclasses.replace(engine, split="held_out")
        if not hasattr(engine, "languages"):
            found[name] = engine
            continue
        known = [language for language, _ in engine.languages]
        for language in [one for one in languages or LANGUAGES if one in known or languages]:
            found[f"{name} {language}"] = dataclasses.replace(engine, languages=((language, 1.0),))
    return found


def load(folder: Path | None, options: Options) -> Loaded:
    """Examples of every engine. What an engine cannot make here is a problem, named."""
    questions: list[Question] = []
    problems: list[str] = []
    made = engines(options.languages)
    wanted = {name: e for name, e in made.items() if not options.engines or name.split()[0] in options.engines}
    missing = sorted(set(options.engines) - {name.split()[0] for name in made})
    require(
        not missing, f"engine {', '.join(missing)} is unknown; choose from {', '.join(n.split()[0] for n in made)}."
    )
    for name, engine in wanted.items():
        count = max(1, (options.count or COUNT) // SETS.get(name.split()[0], 1))
        for index in tqdm(range(count), desc=f"make {name}", unit="example", disable=None, leave=False):
            try:
                example = engine.example(SEED, index)
            except GotError as err:
                problems.append(f"{name}, example {index}: {err}")
                continue
            questions.append(_question(name, index, example))
    return Loaded(tuple(questions), tuple(problems))


def _question(name: str, index: int, example: Example) -> Question:
    """As it was made; tiles are joined again, for every reader cuts the sheet in its own way."""
    language = example.meta.get("language", "")
    group = name if " " in name or not language else f"{name} {language}"
    ask = lambda pictures, **more: Question(f"{name}/{index:04}", pictures, example.prompt, example.text, group, **more)
    if name.startswith("tiles"):
        from pipelines.paper import to_png
        from pipelines.stitched import reassembled

        return ask((to_png(reassembled(example)),), crop=True)
    if name.startswith("regions"):
        found = BOX.search(example.prompt)
        box = tuple(int(number) for number in found.groups() if number is not None) if found else None
        return ask(example.images, region=example.meta.get("colour") or box)
    return ask(example.images)


def score(questions: Sequence[Question], answers: Sequence[str]) -> Scores:
    """The text metrics of each engine, its error rate over all examples, and what suits its kind of answer."""
    unit = lambda q: "characters" if q.group.startswith("scenes") else "words"
    pairs = [(q.truth, a) for q, a in zip(questions, answers, strict=True)]
    scored = score_texts(pairs)
    by_letters = {i: row for i, row in enumerate(score_texts(pairs, "characters")) if unit(questions[i]) != "words"}
    rows = [by_letters.get(i, row) for i, row in enumerate(scored)]
    made = []
    for group in dict.fromkeys(q.group for q in questions):
        members = [i for i, q in enumerate(questions) if q.group == group]
        correct = [rows[i]["correct"] for i in members]
        of = [pairs[i] for i in members]
        line = {
            "cer": character_error_rate(of),
            "exact": sum(a == b for a, b in of) / len(of),
            "edit_distance": sum(row["edit_distance"] for row in correct) / len(of),
            "f1": sum(row["f1"] for row in correct) / len(of),
            **special(group.split()[0], of),
        }
        made.append(Table(group, group, {"correct": line}, {"correct": len(of)}, {"correct": 0}))
    errors = tuple(row["correct"]["edit_distance"] for row in rows)
    return Scores(tuple(made), errors)


def special(engine: str, pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """What suits one kind of answer."""
    mean = lambda values: sum(values) / max(len(values), 1)
    if engine == "molecules":
        found = [smiles.score(truth, answer) for truth, answer in pairs]
        return {name: mean([row[name] for row in found]) for name in ("exact", "tanimoto", "valid")}
    if engine == "music":
        return {"ser": kern.rates(pairs)["ser"] / 100}
    if engine == "geometry":
        likeness = [pictures.tikz_likeness(truth, answer) for truth, answer in pairs]
        return {"picture_iou": mean([value for value in likeness if value is not None])}
    if engine == "charts":
        of = [(charts.chart_or_none(truth), charts.chart_or_none(answer)) for truth, answer in pairs]
        known = [(truth, answer) for truth, answer in of if truth is not None]
        found = charts.scores(known, "correct") if known else {}
        return {name: found[name] for name in (f"ap_{t}" for t in scrm.TOLERANCES) if name in found}
    return {}


def suite() -> Suite:
    return Suite("synth", "held-out examples of every engine, made on the spot; needs no files", load, score)
