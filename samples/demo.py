"""`make demo`: reads the pictures in this folder with the shipped model and compares with their true texts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from got_jax import GotError, load
from got_jax.cli import compilation_cache
from got_jax.metrics import character_error_rate

FOLDER = Path(__file__).parent


def main(argv: list[str] | None = None) -> int:
    """Prints each text with its error rate and time; with `--golden FILE` also writes the texts read as JSON."""
    parser = argparse.ArgumentParser(prog="python -m samples.demo", description="Reads the pictures in samples/.")
    parser.add_argument("--golden", type=Path, metavar="FILE", help="write the texts read (tests/data/demo.json)")
    args = parser.parse_args(argv)
    compilation_cache()
    begun = time.monotonic()
    got = load("nano")
    print(f"loaded the shipped model in {time.monotonic() - begun:.1f} s\n")
    pairs, texts = [], {}
    for picture in sorted(FOLDER.glob("*.png")):
        truth = picture.with_suffix(".txt").read_text(encoding="utf-8").rstrip("\n")
        begun = time.monotonic()
        try:
            reading = got.read(picture)
        except GotError as err:
            print(err, file=sys.stderr)
            return 2
        pairs.append((truth, reading.text))
        texts[picture.name] = reading.text
        print(f"== {picture.name}  CER {character_error_rate(pairs[-1:]):.1%}  {time.monotonic() - begun:.1f} s")
        print(reading.text, end="\n\n")
    print(f"CER over {len(pairs)} pictures: {character_error_rate(pairs):.1%}")
    if args.golden:
        args.golden.write_text(json.dumps(texts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
