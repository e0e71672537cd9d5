"""A run's report: tables in the papers' layout as Markdown, everything as JSON, and a page to look at the worst."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from eval.metrics import scrm
from eval.question import Picture
from eval.readers import opened
from eval.run import Entry, Report, slug
from got_jax.errors import GotError

ORDER = (
    "cer", "edit_distance", "f1", "precision", "recall", "bleu", "meteor", "multiset_f1", "multiset_precision",
    "multiset_recall", "ap_strict", "ap_slight", "ap_high", "structure", "exact",
)  # fmt: skip
WORST = 12  # cases of each reader on the page
SIDE_PX = 480
MOST_CHARACTERS = 3000  # of a text shown


def write(report: Report, folder: Path) -> list[Path]:
    """report.json, report.md and report.html in the suite's folder.

    Raises:
        GotError: when they cannot be written.
    """
    place = folder / report.suite.name
    files = {
        "report.json": json.dumps(as_json(report), ensure_ascii=False, indent=1),
        "report.md": as_markdown(report),
        "report.html": as_html(report),
    }
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(text, encoding="utf-8")
    except OSError as err:
        raise GotError(
            f"{place} cannot be written ({err.strerror}); free some space or choose another --out."
        ) from None
    return [place / name for name in files]


def as_json(report: Report) -> dict[str, Any]:
    """Everything but the pictures."""
    return {
        "suite": report.suite.name,
        "versions": report.versions,
        "whole": report.whole,
        "problems": list(report.loaded.problems),
        "notes": list(report.loaded.notes),
        "readers": [
            {
                "model": entry.model,
                "seconds_per_question": dict(entry.seconds),
                "failed": list(entry.failed),
                "unknown": list(entry.unknown),
                "notes": list(entry.scores.notes),
                "tables": [
                    {
                        "title": table.title,
                        "lines": {mode: dict(line) for mode, line in table.lines.items()},
                        "scored": dict(table.scored),
                        "skipped": dict(table.skipped),
                    }
                    for table in entry.scores.tables
                ],
                "rows": [
                    {"name": q.name, "error": error, "stop": a.stop, "seconds": a.seconds}
                    for q, error, a in zip(report.loaded.questions, entry.scores.errors, entry.answers, strict=True)
                ],
            }
            for entry in report.entries
        ],
    }


def grids(report: Report) -> list[tuple[str, list[str], list[list[str]]]]:
    """The tables as text: (title, head, lines). A group's published lines come first, then every reader's modes."""
    found = []
    for title in dict.fromkeys(table.title for entry in report.entries for table in entry.scores.tables):
        of = [(entry, t) for entry in report.entries for t in entry.scores.tables if t.title == title]
        names = _columns([line for _, t in of for line in t.lines.values()] + [v for _, v in of[0][1].published])
        lines = [
            [method, "published", *(_number(values.get(name)) for name in names), "", "", ""]
            for method, values in of[0][1].published
        ]
        for entry, table in of:
            for mode, values in table.lines.items():
                counts = [str(table.scored[mode]), str(table.skipped[mode])]
                numbers = [_number(values.get(name)) for name in names]
                lines.append([entry.model, mode, *numbers, *counts, _seconds(entry, table.group)])
        heads = [name.replace("_", " ") for name in names]
        found.append((title, ["reader", "mode", *heads, "scored", "skipped", "s each"], lines))
    return found


def _columns(lines: Sequence[Mapping[str, float]]) -> list[str]:
    names = dict.fromkeys(name for line in lines for name in line)
    return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def _seconds(entry: Entry, group: str) -> str:
    return f"{entry.seconds[group]:.2f}" if group in entry.seconds else ""


def counts(report: Report) -> list[str]:
    """What was asked, answered and left out, a sentence each."""
    loaded = report.loaded
    lines = [f"{len(loaded.questions)} questions asked; {len(loaded.problems)} entries of the files cannot be asked."]
    for entry in report.entries:
        cut = sum(answer.stop == "length" for answer in entry.answers)
        lines.append(
            f"{entry.model}: {len(entry.answers) - len(entry.failed)} answers, {len(entry.failed)} failed, "
            f"{sum(not a.text and not a.error for a in entry.answers)} empty, {cut} cut at the limit of tokens, "
            f"{len(entry.unknown)} that belong to no question."
        )
    return lines


def faults(report: Report) -> list[str]:
    """Everything that makes the set smaller than its files, by name."""
    found = list(report.loaded.problems)
    for entry in report.entries:
        found += [f"{entry.model}: {why}" for why in (*entry.failed, *entry.unknown)]
    return found


def as_markdown(report: Report) -> str:
    """Tables, counts, what is missing, versions."""
    parts = [f"# {report.suite.name}", report.suite.about + "."]
    for title, head, lines in grids(report):
        rows = [head, ["---"] * len(head), *lines]
        parts += [f"## {title}", "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    parts.append("\n".join(f"- {line}" for line in counts(report)))
    notes = dict.fromkeys([note for entry in report.entries for note in entry.scores.notes] + list(report.loaded.notes))
    for name, lines in (("Missing", faults(report)), ("Notes", list(notes))):
        if lines:
            parts += [f"## {name}", "\n".join(f"- {line}" for line in lines)]
    parts.append(
        "`paper` is what the published scripts compute (label and answer exchanged, empty rows left out), to stand "
        "beside published lines; `correct` is what the names say."
    )
    parts.append("Versions: " + ", ".join(f"{name} {version}" for name, version in report.versions.items()) + ".")
    return "\n\n".join(parts) + "\n"


STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1200px;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:.6em 0;font-variant-numeric:tabular-nums}
td,th{padding:.25em .7em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left;white-space:nowrap}
tr.published{color:#777}.scroll{overflow-x:auto}
.case{display:grid;grid-template-columns:minmax(180px,1fr) 2fr;gap:1em;border-top:1px solid #ccc;padding:1em 0}
.case img{max-width:100%;border:1px solid #ccc}pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3em 0;
background:#f7f7f7;padding:.5em;font:13px/1.4 ui-monospace,monospace}
del{background:#ffd7d5;text-decoration:none}ins{background:#ccf2d4;text-decoration:none}small{color:#666}
svg{background:#fafafa;border:1px solid #ddd}
"""


def as_html(report: Report) -> str:
    """One file without scripts: tables, distributions of errors, the worst cases with picture, truth, answer, diff."""
    out = [
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(report.suite.name)}</title><style>{STYLE}</style><h1>{html.escape(report.suite.name)}</h1>"
        f"<p>{html.escape(report.suite.about)}.</p>"
    ]
    for title, head, lines in grids(report):
        cells = lambda tag, row: "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        body = "".join(f"<tr class='{line[1]}'>{cells('td', line)}</tr>" for line in lines)
        out.append(
            f"<h2>{html.escape(title)}</h2><div class=scroll><table><tr>{cells('th', head)}</tr>{body}</table></div>"
        )
    out.append("<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in counts(report)) + "</ul>")
    missing = faults(report)
    if missing:
        out.append("<h2>Missing</h2><ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in missing) + "</ul>")
    for entry in report.entries:
        out.append(f"<h2>{html.escape(entry.model)}</h2>{_histogram(entry.scores.errors)}")
        out += _worst(report, entry)
    out.append(f"<p><small>{html.escape(', '.join(f'{k} {v}' for k, v in report.versions.items()))}</small></p></html>")
    return "\n".join(out)


def _histogram(errors: Sequence[float | None]) -> str:
    """How many rows have which error, in twenty steps from 0 to 1."""
    values = [min(error, 1.0) for error in errors if error is not None]
    if not values:
        return ""
    bins = [0] * 20
    for value in values:
        bins[min(19, int(value * 20))] += 1
    top = max(bins)
    bars = "".join(
        f"<rect x={20 + i * 24} y={110 - 100 * n / top:.1f} width=20 height={100 * n / top:.1f} fill='#4a7'>"
        f"<title>{i / 20:.2f} to {(i + 1) / 20:.2f}: {n}</title></rect>"
        for i, n in enumerate(bins)
    )
    labels = "".join(f"<text x={20 + i * 120} y=126 font-size=11>{i / 4:.2f}</text>" for i in range(5))
    return (
        f"<p>Errors of {len(values)} rows (0: right, 1: nothing right), highest bar {top}:</p>"
        f"<svg width=540 height=132 role=img aria-label='errors'>{bars}{labels}</svg>"
    )


def _worst(report: Report, entry: Entry) -> list[str]:
    """The rows with the largest errors."""
    rated = [(error, i) for i, error in enumerate(entry.scores.errors) if error]
    out = [f"<h3>The worst {min(WORST, len(rated))} of {len(rated)} rows with errors</h3>"] if rated else []
    for error, i in sorted(rated, key=lambda pair: (-pair[0], pair[1]))[:WORST]:
        question, answer = report.loaded.questions[i], entry.answers[i]
        truth = shown(question.truth)
        place = f"{slug(entry.model)}-{i}"
        said = answer.error or f"{len(answer.text)} characters, stopped by {answer.stop or 'itself'}"
        out.append(
            f"<div class=case id='{place}'><div>{_thumbnail(question.pictures[0])}"
            f"<br><small>{html.escape(question.name)}<br>{html.escape(question.query)}<br>error {error:.3f}; "
            f"{html.escape(said)}</small></div><div><small>truth</small><pre>{html.escape(truth[:MOST_CHARACTERS])}</pre>"
            f"<small>answer</small><pre>{html.escape(answer.text[:MOST_CHARACTERS])}</pre><small>answer against truth: "
            f"<del>missing</del>, <ins>added</ins></small><pre>{diff(truth, answer.text)}</pre></div></div>"
        )
    return out


def shown(truth: Any) -> str:
    """A label as text."""
    if isinstance(truth, scrm.Chart):
        return json.dumps({**truth.titles, "values": truth.values}, ensure_ascii=False)
    return str(truth)


def diff(truth: str, answer: str) -> str:
    """HTML: what is missing of the truth, and what the answer adds, in colours."""
    truth, answer = truth[:MOST_CHARACTERS], answer[:MOST_CHARACTERS]
    out = []
    for step in Levenshtein.opcodes(truth, answer):
        one, other = truth[step.src_start : step.src_end], answer[step.dest_start : step.dest_end]
        if step.tag == "equal":
            out.append(html.escape(one))
            continue
        if one:
            out.append(f"<del>{html.escape(one)}</del>")
        if other:
            out.append(f"<ins>{html.escape(other)}</ins>")
    return "".join(out)


def _thumbnail(picture: Picture) -> str:
    try:
        small = opened(picture)
    except GotError as err:
        return html.escape(str(err))
    small.thumbnail((SIDE_PX, SIDE_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"


def text_table(report: Report) -> str:
    """The tables for a terminal."""
    out = []
    for title, head, lines in grids(report):
        widths = [max(len(row[i]) for row in [head, *lines]) for i in range(len(head))]
        fit = lambda row, widths=widths: "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        out += [f"{title}", *(fit(row) for row in [head, *lines]), ""]
    return "\n".join([*out, *counts(report)])
