"""Runs an evaluation suite.

python -m eval synth --model nano --examples 500
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from eval import synth
from got_jax.errors import GotError


def main(argv: list[str] | None = None) -> int:
    """Prints the suite's table; a mistake of the user's is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m eval",
        description="Evaluates a model.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python -m eval synth\n  python -m eval synth --config configs/nano_words.py\n"
        "  python -m eval synth --model my_model --out out/",
    )
    parser.add_argument("suite", choices=["synth"], help="synth: slices in fonts and of texts that training never sees")
    parser.add_argument("--model", default="nano", help="shipped model or model folder (default: nano)")
    parser.add_argument("--examples", type=int, default=500, metavar="N", help="pictures to read (default: 500)")
    parser.add_argument("--config", type=Path, metavar="CONFIG.py", help="read this config's held-out engine instead")
    parser.add_argument("--batch-size", type=int, default=25, metavar="N")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write every truth and answer to DIR/synth.jsonl")
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        print(synth.run(args.model, args.examples, args.batch_size, args.out, args.config))
    except GotError as err:
        print(f"eval: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
