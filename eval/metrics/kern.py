"""Error rates of sheet music in **kern: by characters, symbols and lines, over all scores together.

Source: SMT (2402.07596) and GrandStaff: 100 x the edits over the length of the truths; EVALUATION_FACTS.md 2.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rapidfuzz.distance import Levenshtein


def from_bekern(text: str) -> str:
    """**kern of bekern or ekern, the spelling of GrandStaff's data, where marks part the pieces of a token."""
    lines = text.replace("<b>", "\n").replace("<t>", "\t").replace("<s>", " ").split("\n")
    heads = {"**ekern_1.0": "**kern", "**ekern": "**kern", "**bekern": "**kern"}
    cells = ([heads.get(cell.strip(), cell) for cell in line.split("\t")] for line in lines)
    return "\n".join("\t".join(cell.replace("·", "").replace("@", "") for cell in line) for line in cells)


def symbols(text: str) -> list[str]:
    """What SER counts: tokens, line breaks and tabs."""
    return text.replace("\n", " <b> ").replace("\t", " <t> ").split(" ")


def rates(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
    """CER, SER and LER in percent of (truth, answer) pairs."""
    totals = {name: [0, 0] for name in ("cer", "ser", "ler")}
    cutters = {"cer": list, "ser": symbols, "ler": lambda text: text.split("\n")}
    for truth, answer in pairs:
        for name, cut in cutters.items():
            one, other = cut(truth), cut(answer)
            totals[name][0] += _edits(one, other)
            totals[name][1] += len(one)
    return {name: 100 * edits / max(length, 1) for name, (edits, length) in totals.items()}


def _edits(one: Sequence[str], other: Sequence[str]) -> int:
    return Levenshtein.distance(one, other)
