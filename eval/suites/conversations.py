"""Suites in Fox's and GOT's annotation format: a JSON list of {"image", "conversations": [question, answer]}.

Prompts are rebuilt as GOT was trained on them; of the file's own questions only boxes, points and colours are taken.
Sources: Fox `focus_benchmark_test`, GOT `eval_GOT_ocr.py` (EVALUATION_FACTS.md 2.1 and 3).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.metrics import cuts, kern, pictures, text
from eval.published import fine_grained, rows
from eval.question import Loaded, Options, Question, Region, Scores, Suite, Table
from eval.scoring import score_texts
from got_jax import prompts
from got_jax.errors import GotError, require

BOX = re.compile(r"\[\s*(\d+)\s*,\s*(\d+)\s*(?:,\s*(\d+)\s*,\s*(\d+)\s*)?\]")
COLOUR = re.compile(r"\b(red|green|blue)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """One annotation file. `folders`: where its pictures may lie, beside the file itself."""

    group: str
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()


def read_json(path: Path) -> list[Any]:
    """A JSON list. Raises GotError for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as err:
        raise GotError(f"{path} cannot be read ({err}); restore the file.") from None
    except (ValueError, RecursionError) as err:
        raise GotError(f"{path} is no JSON ({err}); restore the file.") from None
    require(isinstance(found, list), f"{path} holds no JSON list of entries; is it the benchmark's own file?")
    return found


def find(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these files in the folder, or in the only folder within it that holds it."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    inner = [place for name in names for place in sorted(folder.glob(f"*/{name}"))]
    return inner[0] if inner else None


def load(
    folder: Path, parts: Sequence[Part], ask: Callable[[str, Options], tuple[str, Region]], options: Options, once: bool
) -> Loaded:
    """The questions of those parts whose files are there.

    Args:
        ask: (the file's own question, options) -> (query as GOT was trained on it, region).
        once: a picture may be asked about once alone; a second entry of it is a problem.

    Raises:
        GotError: when none of the files is there, or one is no JSON list.
    """
    questions: list[Question] = []
    problems: list[str] = []
    notes: list[str] = []
    if folder.is_file():  # whatever it is called; each entry tells its language
        places = tuple(place for part in parts for place in part.folders)
        parts = (Part(parts[0].group if len(parts) == 1 else "", (folder.name,), places),)
        folder = folder.parent
    found = [(part, find(folder, part.files)) for part in parts]
    require(
        any(path for _, path in found),
        f"{folder} holds none of {', '.join(name for part in parts for name in part.files)}; see docs/benchmarks.md.",
    )
    for part, path in found:
        if path is None:
            notes.append(f"{part.files[0]} is not there, so {part.group} is not scored.")
            continue
        seen: Counter[str] = Counter()
        for number, entry in enumerate(read_json(path)):
            where = f"{path.name}, entry {number}"
            try:
                names, asked, truth = _entry(entry)
                pictures = tuple(_picture(path.parent, part.folders, name) for name in names)
                query, region = ask(asked, options)
            except GotError as err:
                problems.append(f"{where}: {err}")
                continue
            group = part.group or ("zh" if text.HAN.search(truth) else "en")
            name = f"{group}/{'+'.join(names)}"
            seen[name] += 1
            if seen[name] > 1:
                if once:
                    problems.append(f"{where}: {names[0]} was there before; each picture may stand once.")
                    continue
                name = f"{name}#{seen[name]}"
            if "\r" in truth:
                notes.append(f"{name}: line ends of Windows, read as line feeds.")
                truth = truth.replace("\r\n", "\n").replace("\r", "\n")
            if not truth.strip():
                notes.append(f"{name}: the label is empty.")
            questions.append(Question(name, pictures, query, truth, group, region, options.crop))
    if options.count:
        groups = dict.fromkeys(q.group for q in questions)
        questions = [q for g in groups for q in [q for q in questions if q.group == g][: options.count]]
    return Loaded(tuple(questions), tuple(problems), tuple(notes))


def _entry(entry: Any) -> tuple[list[str], str, str]:
    """(picture names, question, label) of an entry."""
    require(isinstance(entry, dict), "it is no JSON object.")
    names = entry.get("image", entry.get("images"))
    names = [names] if isinstance(names, str) else names
    require(
        isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names),
        "it names no picture.",
    )
    turns = entry.get("conversations")
    require(
        isinstance(turns, list)
        and len(turns) >= 2
        and all(isinstance(turn, dict) and isinstance(turn.get("value"), str) for turn in turns[:2]),
        "it has no question and answer in conversations.",
    )
    return names, turns[0]["value"], turns[1]["value"]  # type: ignore[return-value]


def _picture(folder: Path, inner: Sequence[str], name: str) -> Path:
    require(not Path(name).is_absolute() and ".." not in Path(name).parts, f"picture '{name}' lies outside the folder.")
    for place in (*inner, ".", "images"):
        if (folder / place / name).is_file():
            return folder / place / name
    raise GotError(f"picture '{name}' is missing; it was looked for in {', '.join(inner) or 'the folder'}.")


def plain(asked: str, options: Options) -> tuple[str, Region]:
    return prompts.query(patches=options.crop), None


def formatted(asked: str, options: Options) -> tuple[str, Region]:
    return prompts.query(format=True, patches=options.crop), None


def boxed(asked: str, options: Options) -> tuple[str, Region]:
    """The box or point of the file's question, in thousandths, before GOT's own words."""
    found = BOX.search(asked)
    require(found is not None, "its question names no box.")
    region = tuple(int(number) for number in found.groups() if number is not None)  # type: ignore[union-attr]
    require(all(number <= 1000 for number in region), f"its box {list(region)} is not in thousandths.")
    return f"{list(region)} {prompts.PLAIN}", region


def coloured(asked: str, options: Options) -> tuple[str, Region]:
    found = COLOUR.search(asked)
    require(found is not None, "its question names no colour.")
    colour = found[1].lower()  # type: ignore[index]
    return prompts.query(color=colour), colour


def pages(asked: str, options: Options) -> tuple[str, Region]:
    return prompts.query(pages=True), None


def tables(
    questions: Sequence[Question],
    scored: Sequence[text.Row],
    published: Mapping[str, Any],
    suffix: str = "",
) -> list[Table]:
    """A table a group: the mean of each mode."""
    made = []
    for group in dict.fromkeys(q.group for q in questions):
        rows_of = [row for q, row in zip(questions, scored, strict=True) if q.group == group]
        lines, counts, left = {}, {}, {}
        for mode in ("paper", "correct"):
            values = [row[mode] for row in rows_of]
            lines[mode] = text.mean(values)
            counts[mode] = sum(value is not None for value in values)
            left[mode] = len(values) - counts[mode]
        made.append(Table(group + suffix, group, lines, counts, left, tuple(published.get(group, ()))))
    return made


def score_pages(unit: text.Unit, published: Mapping[str, Any]) -> Callable[..., Scores]:
    """Scores whole answers."""

    def score(questions: Sequence[Question], answers: Sequence[str]) -> Scores:
        scored = score_texts(((q.truth, a) for q, a in zip(questions, answers, strict=True)), unit)
        return Scores(tuple(tables(questions, scored, published)), _errors(scored))

    return score


def _errors(scored: Sequence[text.Row]) -> tuple[float | None, ...]:
    return tuple(row["correct"]["edit_distance"] for row in scored)


def score_formatted(questions: Sequence[Question], answers: Sequence[str]) -> Scores:
    """All text, then formulas, then tables. `paper` leaves out pages where either side has none of a kind; `correct`
    those alone where neither has.
    """
    pairs = [(q.truth, a) for q, a in zip(questions, answers, strict=True)]
    whole = score_texts([(truth.strip(), answer.strip()) for truth, answer in pairs])
    known = rows("formatted")
    made = tables(questions, whole, {g: known.get("all_text", ()) for g in _groups(questions)}, ", all text")
    for title, kind, cut in (
        ("formulas", "formula", cuts.formulas),
        ("tables", "table", lambda value, mode: cuts.tables(value)),
    ):
        modes = {}
        for mode in ("paper", "correct"):
            parts = [(cut(truth, mode), cut(answer, mode)) for truth, answer in pairs]
            modes[mode] = [
                row[mode] if any(part) else None for row, part in zip(score_texts(parts), parts, strict=True)
            ]
        scored: list[Any] = [dict(zip(modes, row, strict=True)) for row in zip(*modes.values(), strict=True)]
        made += tables(questions, scored, {g: known.get(kind, ()) for g in _groups(questions)}, f", {title}")
    return Scores(tuple(made), _errors(whole))


def _groups(questions: Sequence[Question]) -> list[str]:
    return list(dict.fromkeys(q.group for q in questions))


def score_music(questions: Sequence[Question], answers: Sequence[str]) -> Scores:
    """Text metrics, and the error rates of GrandStaff's papers over all scores, in percent."""
    base = score_pages("words", {"sheet music": rows("sheet_music").get("", ())})(questions, answers)
    rates = kern.rates((q.truth, a) for q, a in zip(questions, answers, strict=True))
    count = {"correct": len(questions)}
    return Scores(
        (*base.tables, Table("sheet music, % of errors", "sheet music", {"correct": rates}, count, {"correct": 0})),
        base.errors,
    )


def score_geometry(questions: Sequence[Question], answers: Sequence[str]) -> Scores:
    """Text metrics, and how alike the drawn pictures are."""
    base = score_pages("words", {"geometry": rows("geometry").get("", ())})(questions, answers)
    likeness = [pictures.tikz_likeness(q.truth, a) for q, a in zip(questions, answers, strict=True)]
    seen = [value for value in likeness if value is not None]
    line = {"picture_iou": sum(seen) / len(seen)} if seen else {}
    undrawn = len(likeness) - len(seen)
    table = Table("geometry, pictures", "geometry", {"correct": line}, {"correct": len(seen)}, {"correct": undrawn})
    notes = (f"{undrawn} labels use TikZ that the rasteriser does not know.",) if undrawn else ()
    return Scores((*base.tables, table), base.errors, notes)


def _suite(
    name: str,
    about: str,
    parts: Sequence[Part],
    ask: Callable[[str, Options], tuple[str, Region]],
    score: Callable[..., Scores],
    once: bool = True,
) -> Suite:
    def read(folder: Path | None, options: Options) -> Loaded:
        require(folder is not None, f"{name} needs --data DIR, the folder of its files; see docs/benchmarks.md.")
        return load(folder, parts, ask, options, once)  # type: ignore[arg-type]

    return Suite(name, about, read, score)


def fox(kind: str, languages: Sequence[str] = ("en", "cn")) -> tuple[Part, ...]:
    """Fox's files: {en,cn}_KIND_ocr.json beside {en,cn}_pdf_png, or its twin with coloured frames."""
    shown = "_onbox" if kind == "onbox" else ""
    return tuple(
        Part(
            "zh" if lang == "cn" else lang, (f"{lang}_{kind}_ocr.json",), (f"{lang}_pdf_png{shown}", f"{lang}_pdf_png")
        )
        for lang in languages
    )


def suites() -> list[Suite]:
    """The suites of this format."""
    fine = fine_grained()
    multi = (
        Part("en-zh", ("encn-multi-8page-box-ocr.json",), ("pdfpng_encn_multi_8page", "en_pdf_png", "cn_pdf_png")),
    )
    scene = (
        Part("en", ("scene_en.json", "en_scene_ocr.json", "scene_ocr_en.json"), ("scene_en", "en_scene", "scene")),
        Part("zh", ("scene_zh.json", "cn_scene_ocr.json", "scene_ocr_cn.json"), ("scene_zh", "cn_scene", "scene")),
    )
    one = lambda group, *files: (Part(group, files, (group.replace(" ", "_"), files[0].removesuffix(".json"))),)
    words = lambda published: score_pages("words", published)
    return [
        _suite("fox-page", "whole pages of PDFs (table 1)", fox("page"), plain, words(rows("fox_page"))),
        _suite("fox-region", "boxes on pages (table 4)", fox("box"), boxed, words(fine["region"]), once=False),
        _suite("fox-line", "lines by a point", fox("line"), boxed, words({}), once=False),
        _suite("fox-color", "coloured frames (table 4)", fox("onbox"), coloured, words(fine["color"]), once=False),
        _suite("fox-multipage", "eight pages at once", multi, pages, words({}), once=False),
        _suite("scene", "text on photographs (table 2)", scene, plain, score_pages("characters", rows("scene"))),
        _suite(
            "formatted",
            "pages as markdown and LaTeX (table 3)",
            one("pages", "formatted.json", "format.json"),
            formatted,
            score_formatted,
        ),
        _suite(
            "sheet-music",
            "scores as **kern (table 3)",
            one("sheet music", "sheet_music.json", "music.json"),
            formatted,
            score_music,
        ),
        _suite(
            "geometry", "plane geometry as TikZ (table 3)", one("geometry", "geometry.json"), formatted, score_geometry
        ),
    ]
