"""Answers of a reader on disk: written as they come, taken up again after a cut, merged from several processes.

`answers.jsonl` holds a line a question in the suite's order: name, answer, how it stopped, or why there is none. It
does not depend on when or how often the run was cut; seconds stand in `seconds.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval.question import Answer, Question
from eval.readers import Reader
from got_jax.errors import GotError, require

ANSWERS, SECONDS = "answers.jsonl", "seconds.jsonl"


def collect(
    reader: Callable[[], Reader],
    questions: Sequence[Question],
    folder: Path,
    description: dict[str, Any],
    process: int = 0,
    processes: int = 1,
    label: str = "read",
) -> list[Answer] | None:
    """Every question's answer; those that `folder` has not yet, or has as errors, by `reader`.

    Args:
        reader: makes the reader, where there is work for it.
        description: what the answers depend on (model, limits); a folder of another one is refused.
        process, processes: this process answers every so many-th question, and writes files of its own.

    Returns:
        None while other processes have not finished.

    Raises:
        GotError: when the folder cannot be written, or holds another run's answers.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _describe(folder / "run.json", description)
        done = _known(folder, {q.name for q in questions})
        wanting = lambda q: q.name not in done or done[q.name].error
        mine = [q for i, q in enumerate(questions) if i % processes == process and wanting(q)]
        if mine:
            _answer(reader(), mine, folder, process, processes, label)
            done = _known(folder, {q.name for q in questions})
        if len(done) < len(questions):
            return None
        answers = [done[q.name] for q in questions]
        lines = "".join(_line(q.name, a) for q, a in zip(questions, answers, strict=True))
        _replace(folder / ANSWERS, lines)
        return answers
    except OSError as err:
        raise GotError(
            f"{folder} cannot be written ({err.strerror}); free some space or choose another --out."
        ) from None


def _answer(
    reader: Reader, questions: Sequence[Question], folder: Path, process: int, processes: int, label: str
) -> None:
    suffix = f".{process:05}-of-{processes:05}"
    with (
        open(folder / f"{ANSWERS}{suffix}", "a", encoding="utf-8") as out,
        open(folder / f"{SECONDS}{suffix}", "a", encoding="utf-8") as times,
    ):
        answers = tqdm(reader.answers(questions), label, len(questions), unit="question", disable=None)
        for question, answer in zip(questions, answers, strict=True):
            out.write(_line(question.name, answer))
            out.flush()
            times.write(json.dumps({"name": question.name, "seconds": round(answer.seconds, 4)}) + "\n")
            times.flush()


def _line(name: str, answer: Answer) -> str:
    row = {"name": name, "answer": answer.text, "stop": answer.stop, "error": answer.error}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _describe(path: Path, description: dict[str, Any]) -> None:
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            known = None
        differ = sorted(k for k in description if not isinstance(known, dict) or known.get(k) != description[k])
        require(
            not differ,
            f"{path.parent} holds answers of another run ({', '.join(differ)} differ); choose another --out.",
        )
    else:
        _replace(path, json.dumps(description, indent=1, ensure_ascii=False))


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _known(folder: Path, names: set[str]) -> dict[str, Answer]:
    """What stands in a folder, the latest of each name; a last line that was cut is left out."""
    seconds = {row["name"]: row["seconds"] for row in _rows(folder, SECONDS) if "seconds" in row and "name" in row}
    found = {}
    for row in _rows(folder, ANSWERS):
        if row.get("name") in names:
            found[row["name"]] = Answer(
                row.get("answer", ""), row.get("error", ""), row.get("stop", ""), seconds.get(row["name"], 0.0)
            )
    return found


def _rows(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(f"{name}*")):
        if path.suffix == ".new":
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if text and not text.endswith("\n"):
            text = text[: text.rfind("\n") + 1]
            path.write_text(text, encoding="utf-8")
        for line in text.split("\n"):
            try:
                row = json.loads(line) if line else {}
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def read_answers(path: Path, names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Answers that something else wrote, by the suite's names; and the names of answers that no question has.

    `path` is a folder of NAME.md files, a JSON list of {"image" or "imagename", "answer"} (Fox's, GOT's and OneChart's
    results), or JSON lines of {"name", "answer"}. Pictures' names need no folder.

    Raises:
        GotError: when it can be read as none of these, or two answers have one name.
    """
    rows: list[tuple[str, str]] = []
    try:
        if path.is_dir():
            rows = [
                (str(file.relative_to(path).with_suffix("")), file.read_text(encoding="utf-8"))
                for file in sorted(path.rglob("*.md"))
            ]
        else:
            text = path.read_text(encoding="utf-8-sig")
            parsed = (
                json.loads(text)
                if text.lstrip().startswith("[")
                else [json.loads(line) for line in text.split("\n") if line.strip()]
            )
            for entry in parsed:
                name = next((entry[key] for key in ("name", "imagename", "image") if key in entry), None)
                require(name is not None and isinstance(entry.get("answer"), str), "an entry has no name or no answer.")
                rows.append(("+".join(name) if isinstance(name, list) else str(name), entry["answer"]))
    except (OSError, ValueError, AttributeError, TypeError) as err:
        raise GotError(f"{path} cannot be read as answers ({err}); see docs/benchmarks.md.") from None
    keys = {key: name for name in names for key in (Path(name).stem, Path(name).name, name)}
    found: dict[str, str] = {}
    unknown = []
    for given, answer in rows:
        name = next((keys[key] for key in (given, Path(given).name, Path(given).stem) if key in keys), None)
        if name is None:
            unknown.append(given)
            continue
        require(name not in found, f"{path} holds two answers to {name}; remove one.")
        found[name] = answer
    return found, unknown
