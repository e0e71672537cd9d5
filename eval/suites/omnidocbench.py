"""OmniDocBench: pages as markdown; text, formulas, tables and reading order scored apart.

Source: OmniDocBench v1.5 (EVALUATION_FACTS.md 2.5). Its own scorer matches by a hybrid of rules that depend on a
30-second limit; here blocks are matched by least edit distance, neighbours joined where that brings them closer, so
numbers are near but not equal to the leaderboard's. For those, give the files of `predictions/` to the official scorer.
CDM is not computed: its code is on no package registry; formulas are compared by normalised edit distance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from eval.convert import tables_to_html
from eval.metrics.teds import cleaned, teds
from eval.question import Loaded, Options, Question, Scores, Suite, Table
from eval.scoring import spread
from eval.suites.conversations import find, read_json
from got_jax import prompts
from got_jax.errors import GotError, require

FILE = "OmniDocBench.json"
TEXT = ("title", "text_block", "code_txt", "reference", "equation_caption")
IGNORED = (
    "figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_txt_caption", "header", "footer",
    "page_number", "page_footnote",
)  # fmt: skip
LANGUAGES = {"english": "en", "simplified_chinese": "zh", "traditional_chinese": "zh", "en_ch_mixed": "en-zh"}
NOTES = (
    "CDM is not computed here (its code is on no package registry): overall uses 1 - edit distance of formulas in its "
    "place. Numbers beside the leaderboard's come from the official scorer, which reads predictions/.",
)
JOINED = 4  # neighbours at most in one match


@dataclass(frozen=True)
class Block:
    """A block of a page, or a part of an answer: "text", "formula", "table" or "ignored", and its content."""

    kind: str
    content: str
    order: int = 0


@dataclass(frozen=True)
class Page:
    """A page's blocks in reading order and what kind of page it is."""

    blocks: tuple[Block, ...]
    language: str
    source: str

    def __str__(self) -> str:
        return "\n\n".join(block.content for block in self.blocks)


def load(folder: Path | None, options: Options) -> Loaded:
    """The pages of OmniDocBench.json (v1.0 to v1.7).

    Raises:
        GotError: when it is not there or no JSON list.
    """
    require(folder is not None, "omnidocbench needs --data DIR, the folder of its files; see docs/benchmarks.md.")
    assert folder is not None
    path = find(folder, (FILE,))
    require(path is not None, f"{folder} holds no {FILE}; see docs/benchmarks.md.")
    assert path is not None
    questions: list[Question] = []
    problems: list[str] = []
    names: set[str] = set()
    query = prompts.query(format=True, patches=options.crop)
    for number, entry in enumerate(read_json(path)):
        try:
            name, page = _page(entry)
            require(Path(name).stem not in names, f"{name} was there before; predictions are named after pictures.")
            names.add(Path(name).stem)
            require(not Path(name).is_absolute() and ".." not in Path(name).parts, f"'{name}' lies outside the folder.")
            places = [place for place in ("images", "img", ".") if (path.parent / place / name).is_file()]
            require(bool(places), f"picture '{name}' is missing; it was looked for in images.")
        except GotError as err:
            problems.append(f"{path.name}, entry {number}: {err}")
            continue
        picture = path.parent / places[0] / name
        group = LANGUAGES.get(page.language, page.language)
        questions.append(Question(Path(name).stem, (picture,), query, page, group, None, options.crop))
    return Loaded(tuple(questions[: options.count or None]), tuple(problems))


def _page(entry: Any) -> tuple[str, Page]:
    require(isinstance(entry, dict) and isinstance(entry.get("page_info"), dict), "it has no page_info.")
    info = entry["page_info"]
    name, found = info.get("image_path"), entry.get("layout_dets")
    require(isinstance(name, str) and bool(name), "it names no picture (image_path).")
    require(isinstance(found, list) and all(isinstance(b, dict) for b in found), "it has no blocks (layout_dets).")
    assert isinstance(found, list)
    blocks = [block for det in _merged(found, entry.get("extra")) if (block := _block(det))]
    kind = info.get("page_attribute") or {}
    blocks.sort(key=lambda block: block.order)
    return Path(name).name, Page(tuple(blocks), str(kind.get("language", "")), str(kind.get("data_source", "")))


def _merged(found: list[dict[str, Any]], extra: Any) -> list[dict[str, Any]]:
    """Blocks whose text goes on in another (over columns) are one."""
    relations = (extra or {}).get("relation", []) if isinstance(extra, dict) else []
    by_id = {det.get("anno_id"): dict(det) for det in found}
    for relation in relations if isinstance(relations, list) else []:
        if relation.get("relation_type", relation.get("relation")) != "truncated":
            continue
        one, other = by_id.get(relation.get("source_anno_id")), by_id.get(relation.get("target_anno_id"))
        if one is None or other is None or one is other:
            continue
        one["text"] = f"{one.get('text', '')} {other.get('text', '')}"
        by_id[relation["target_anno_id"]] = one
    unique = {id(det): det for det in by_id.values()}
    return list(unique.values()) if by_id and len(by_id) == len(found) else found


def _block(det: dict[str, Any]) -> Block | None:
    """A block that is scored or matched away; None for pictures and what the benchmark ignores."""
    kind = det.get("category_type")
    order = det.get("order")
    order = order if isinstance(order, (int, float)) else 10**6
    if det.get("ignore"):
        return None
    if kind == "table":
        return Block("table", str(det.get("html") or tables_to_html(str(det.get("latex", "")))), int(order))
    if kind == "equation_isolated":
        return Block("formula", str(det.get("latex", "")), int(order))
    if kind in TEXT or kind in IGNORED:
        return Block("text" if kind in TEXT else "ignored", str(det.get("text", "")), int(order))
    return None


FENCE = re.compile(r"^```[^\n]*\n?|\n?```\s*$", re.MULTILINE)
IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
PARTS = re.compile(
    r"(?P<table><table.*?(?:</table>|$))|(?P<formula>\\\[.*?(?:\\\]|$)|\$\$.*?(?:\$\$|$))|"
    r"(?P<pipes>(?:^\|.*\|[ \t]*$\n?){2,})",
    re.DOTALL | re.MULTILINE,
)


def parts(answer: str) -> list[Block]:
    """An answer's tables (LaTeX, HTML or with pipes), display formulas and paragraphs, in their order."""
    text = IMAGE.sub("", FENCE.sub("", tables_to_html(answer)))
    found: list[Block] = []
    at = 0

    def paragraphs(piece: str) -> None:
        for part in re.split(r"\n\s*\n" if "\n\n" in text else r"\n", piece):
            if clean_text(part):
                found.append(Block("text", part.strip(), len(found)))

    for match in PARTS.finditer(text):
        paragraphs(text[at : match.start()])
        at = match.end()
        kind = "table" if match.lastgroup in ("table", "pipes") else "formula"
        content = _html_of_pipes(match[0]) if match.lastgroup == "pipes" else match[0]
        found.append(Block(kind, content, len(found)))
    paragraphs(text[at:])
    return found


def _html_of_pipes(text: str) -> str:
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in text.strip().split("\n")]
    rows = [row for row in rows if not all(set(cell) <= set("-: ") and cell for cell in row)]
    return f"<table>{''.join('<tr>' + ''.join(f'<td>{cell}</td>' for cell in row) + '</tr>' for row in rows)}</table>"


def clean_text(text: str) -> str:
    """Letters, digits and Chinese characters alone; LaTeX of inline formulas as Unicode."""
    from pylatexenc.latex2text import LatexNodes2Text

    text = re.sub(
        r"\\\((.*?)\\\)|\$([^$]+)\$", lambda m: _unicode(m[1] or m[2] or "", LatexNodes2Text), text, flags=re.DOTALL
    )
    return re.sub(r"[^\w\u4e00-\u9fff]|_", "", text)


def _unicode(latex: str, kind: Any) -> str:
    try:
        return kind(math_mode="text").latex_to_text(latex)
    except Exception:  # pylatexenc raises many kinds for broken LaTeX
        return latex


FONTS = re.compile(
    r"\\(?:mathrm|mathbf|mathit|mathsf|mathtt|mathcal|mathbb|mathfrak|boldsymbol|bm|text|operatorname)\b\*?"
)
SPACES = re.compile(r"\\(?:[,;:! ]|quad\b|qquad\b|displaystyle\b|textstyle\b|left\b|right\b|limits\b|notag\b)|\s|~")


def clean_formula(text: str) -> str:
    """LaTeX without marks, fonts, spaces and environments, in lower case."""
    text = re.sub(r"^\s*(?:\\\[|\$\$)|(?:\\\]|\$\$)\s*$", "", text)
    text = re.sub(r"\\tag\s*\{[^{}]*\}|\\(?:begin|end)\s*\{[^{}]*\}", "", text)
    return SPACES.sub("", FONTS.sub("", text)).lower()


@dataclass(frozen=True)
class Match:
    """Positions in truth and answer that belong together; one side may be empty. `distance` from 0 to 1."""

    truth: tuple[int, ...]
    answer: tuple[int, ...]
    distance: float


def match(truth: Sequence[str], answer: Sequence[str]) -> list[Match]:
    """Pairs texts by least edit distance; neighbours that are left over join a pair where that brings it closer."""
    if not truth or not answer:
        return [Match((i,), (), 1.0) for i in range(len(truth))] + [Match((), (i,), 1.0) for i in range(len(answer))]
    costs = np.array([[Levenshtein.normalized_distance(a, b) for b in answer] for a in truth])
    pairs = [(i, j) for i, j in zip(*linear_sum_assignment(costs), strict=True) if costs[i, j] < 0.9]
    found: dict[int, list[tuple[int, ...]]] = {int(i): [(int(i),), (int(j),)] for i, j in pairs}
    text = lambda side, places: "".join(side[k] for k in places)
    for which, side in ((1, answer), (0, truth)):
        free = set(range(len(side))) - {k for group in found.values() for k in group[which]}
        for k in sorted(free):
            for group in found.values():
                mine = group[which]
                if len(mine) >= JOINED or k not in (mine[0] - 1, mine[-1] + 1):
                    continue
                wider = (k, *mine) if k < mine[0] else (*mine, k)
                now = [group[0], group[1]]
                now[which] = wider
                before = Levenshtein.normalized_distance(text(truth, group[0]), text(answer, group[1]))
                after = Levenshtein.normalized_distance(text(truth, now[0]), text(answer, now[1]))
                if after < before:
                    group[which] = wider
                    free.discard(k)
                    break
    made = [Match(a, b, Levenshtein.normalized_distance(text(truth, a), text(answer, b))) for a, b in found.values()]
    used = {k for m in made for k in m.truth}, {k for m in made for k in m.answer}
    made += [Match((i,), (), 1.0) for i in range(len(truth)) if i not in used[0]]
    made += [Match((), (j,), 1.0) for j in range(len(answer)) if j not in used[1]]
    return made


def score_page(pair: tuple[Page, str]) -> dict[str, float]:
    """A page's scores; those of kinds that the page has not are left out."""
    page, answer = pair
    said = parts(answer)
    scores: dict[str, float] = {}
    texts = [b for b in page.blocks if b.kind in ("text", "ignored") and clean_text(b.content)]
    read = [b for b in said if b.kind == "text"]
    matches = match([clean_text(b.content) for b in texts], [clean_text(b.content) for b in read])
    kept = [m for m in matches if not any(texts[i].kind == "ignored" for i in m.truth)]
    if any(b.kind == "text" for b in texts):
        scores["text_edit"] = _pooled(kept, texts, read, clean_text)
        places = [(min(m.answer), min(m.truth)) for m in kept if m.truth and m.answer]
        order = [truth for _, truth in sorted(places)]
        scores["order_edit"] = Levenshtein.normalized_distance(order, sorted(order)) if order else 1.0
    formulas = [b for b in page.blocks if b.kind == "formula"]
    if formulas:
        read = [b for b in said if b.kind == "formula"]
        matches = match([clean_formula(b.content) for b in formulas], [clean_formula(b.content) for b in read])
        scores["formula_edit"] = _pooled(matches, formulas, read, clean_formula)
    tables = [cleaned(b.content) for b in page.blocks if b.kind == "table"]
    if tables:
        found = [cleaned(b.content) for b in said if b.kind == "table"]
        rated = _tables(tables, found)
        scores |= {
            name: float(np.mean([row[i] for row in rated])) for i, name in enumerate(("teds", "teds_s", "table_edit"))
        }
    return scores


def _pooled(matches: Sequence[Match], truth: Sequence[Block], read: Sequence[Block], clean: Any) -> float:
    """Edits over lengths, all blocks together."""
    edits = longest = 0
    for m in matches:
        a = "".join(clean(truth[i].content) for i in m.truth)
        b = "".join(clean(read[j].content) for j in m.answer)
        edits += Levenshtein.distance(a, b)
        longest += max(len(a), len(b))
    return edits / longest if longest else 0.0


def _tables(truth: Sequence[str], read: Sequence[str]) -> list[tuple[float, float, float]]:
    """(TEDS, TEDS-S, edit distance) of each table, and of each that is not there."""
    rated = []
    for m in match(list(truth), list(read)):
        for i in m.truth or (-1,):
            a, b = truth[i] if i >= 0 else "", read[m.answer[0]] if m.answer else ""
            rated.append((teds(b, a), teds(b, a, structure_only=True), Levenshtein.normalized_distance(a, b)))
    return rated


def overall(means: Mapping[str, float]) -> float:
    """v1.5's overall from 0 to 1, with formulas' edit distance in place of CDM; of what there is."""
    found = [
        1 - means[name] if name.endswith("edit") else means[name]
        for name in ("text_edit", "teds", "formula_edit")
        if name in means
    ]
    return float(np.mean(found)) if found else 0.0


def score(questions: Sequence[Question], answers: Sequence[str]) -> Scores:
    """Means over pages: all, by language, by source."""
    rows = spread(score_page, [(q.truth, a) for q, a in zip(questions, answers, strict=True)])
    groups: dict[str, list[int]] = {"all": list(range(len(questions)))}
    for i, question in enumerate(questions):
        groups.setdefault(f"language {question.group or 'unknown'}", []).append(i)
        if question.truth.source:
            groups.setdefault(f"source {question.truth.source}", []).append(i)
    made = []
    for name, members in groups.items():
        means = {}
        for metric in ("text_edit", "formula_edit", "teds", "teds_s", "table_edit", "order_edit"):
            values = [rows[i][metric] for i in members if metric in rows[i]]
            if values:
                means[metric] = float(np.mean(values))
        line = {"overall_ned": overall(means), **means}
        group = questions[members[0]].group
        made.append(Table(name, group, {"correct": line}, {"correct": len(members)}, {"correct": 0}))
    errors = tuple(1 - overall(row) if row else None for row in rows)
    return Scores(tuple(made), errors, NOTES)


def export(folder: Path, questions: Sequence[Question], answers: Sequence[str]) -> None:
    """predictions/NAME.md, tables as HTML: what the official scorer reads."""
    place = folder / "predictions"
    place.mkdir(parents=True, exist_ok=True)
    for question, answer in zip(questions, answers, strict=True):
        (place / f"{question.name}.md").write_text(tables_to_html(answer), encoding="utf-8")


def suite() -> Suite:
    return Suite("omnidocbench", "pages of nine kinds as markdown (v1.0 to v1.7)", load, score, export)
