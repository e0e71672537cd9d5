"""The shipped model's own measure: held-out slices, typeset on the spot, of texts and fonts that training never sees.

python -m eval.slices
python -m eval.slices --config configs/nano_words.py --examples 100
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from eval.command import printed
from got_jax.cli import compilation_cache
from got_jax.errors import GotError, require
from got_jax.metrics import character_error_rate
from got_jax.reader import load
from got_jax.train.config import load_config
from got_jax.train.heldout import LONGEST, SEED
from pipelines.documents import Documents

ENGINE = Documents(split="held_out", pages=0.0, scrambled=0.0)


def run(
    model: str, count: int, batch_size: int, out: Path | None, config: Path | None = None, split: str = "held_out"
) -> str:
    """Reads the first `count` held-out slices and returns a table of character error rates.

    With `config` they come from the held-out engine of that training config; with `split` "train" from the texts and
    fonts of training, to choose by what the held-out ones shall measure. "wide" counts the characters of the
    longest line.

    Raises:
        GotError: for an unknown model, a count below 1, or an unwritable `out`.
    """
    require(count >= 1, f"--examples is {count}, but it must be at least 1.")
    compilation_cache()
    reader = load(model)
    engine = load_config(config).data.held_out if config else replace(ENGINE, split=split)
    examples = [engine.example(SEED, index) for index in tqdm(range(count), desc="typeset", unit="picture")]
    begun = time.monotonic()
    readings = reader.read_many((e.images[0] for e in examples), batch_size=batch_size, max_new_tokens=LONGEST)
    answers = ["" if isinstance(r, GotError) else r.text for r in tqdm(readings, "read", count, unit="picture")]
    seconds = time.monotonic() - begun
    rows = [
        {"index": i, "lines": e.meta["lines"], "font": e.meta["font"], "truth": e.text, "answer": a}
        for i, (e, a) in enumerate(zip(examples, answers, strict=True))
    ]
    if out:
        try:
            out.mkdir(parents=True, exist_ok=True)
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (out / "slices.jsonl").write_text("".join(lines), encoding="utf-8")
        except OSError as err:
            raise GotError(f"output folder {out} cannot be written ({err.strerror}); choose another.") from None
    groups = {"all": rows}
    for low, high in ((1, 2), (3, 4), (5, 6), (7, 8)):
        groups[f"{low}-{high} lines"] = [row for row in rows if low <= row["lines"] <= high]
    for low, high in ((1, 16), (17, 32), (33, 48)):
        wide = lambda row: max(map(len, row["truth"].split("\n")))
        groups[f"{low}-{high} wide"] = [row for row in rows if low <= wide(row) <= high]
    for style in ("normal", "italic", "bold"):
        groups[style] = [row for row in rows if row["font"].endswith(f"/{style}")]
    table = [f"{'slices':12} {'number':>7} {'characters':>11} {'CER':>8} {'exact':>7}"]
    for name, group in groups.items():
        if group:
            cer = character_error_rate((row["truth"], row["answer"]) for row in group)
            exact = sum(row["truth"] == row["answer"] for row in group) / len(group)
            chars = sum(len(row["truth"]) for row in group)
            table.append(f"{name:12} {len(group):7} {chars:11,} {cer:8.2%} {exact:7.1%}")
    wrong = sorted((character_error_rate([(r["truth"], r["answer"])]) * len(r["truth"]) for r in rows), reverse=True)
    worst = max(1, count // 10)
    table.append(f"the {worst} worst slices hold {sum(wrong[:worst]) / max(sum(wrong), 1e-9):.0%} of the errors")
    table.append(f"{count / seconds:.1f} pictures/s (compilation included)")
    return "\n".join(table)


def main(argv: list[str] | None = None) -> int:
    """Prints the table; a mistake of the user's is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.slices",
        description="Character error rate of a model on held-out slices.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python -m eval.slices\n  python -m eval.slices --config configs/nano_words.py\n"
        "  python -m eval.slices --model my_model --out out/",
    )
    parser.add_argument("--model", default="nano", help="shipped model or model folder (default: nano)")
    parser.add_argument("--examples", type=int, default=500, metavar="N", help="pictures to read (default: 500)")
    parser.add_argument("--config", type=Path, metavar="CONFIG.py", help="read this config's held-out engine instead")
    parser.add_argument(
        "--split", choices=["held_out", "train"], default="held_out", help="texts and fonts (default: held_out)"
    )
    parser.add_argument("--batch-size", type=int, default=25, metavar="N")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write every truth and answer to DIR/slices.jsonl")
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    return printed(lambda: run(args.model, args.examples, args.batch_size, args.out, args.config, args.split))


if __name__ == "__main__":
    sys.exit(main())
