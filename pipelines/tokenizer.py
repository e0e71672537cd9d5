"""Trains the small models' SentencePiece vocabulary on training corpora.

python -m pipelines.tokenizer --vocab-size 375 --out got_jax/assets/nano
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from got_jax import prompts
from got_jax.errors import GotError
from got_jax.tokenizers import SentencePieceTokenizer, train_sentencepiece
from pipelines import corpora

# What the shipped vocabulary was made of. Texts that came later are not in it: another order of pieces would be another
# vocabulary, and the shipped weights know this one.
TEXTS = ("king-james-bible", "jargon-file", "debian-handbook", "anarchist-faq", "wordnet-glosses")


def train(vocab_size: int) -> SentencePieceTokenizer:
    """The fixed parts of a prompt become one token each: a small model should not spend its context on them."""
    symbols = (f"system\n{prompts.SYSTEM}", "user\n", "assistant\n", prompts.PLAIN, prompts.FORMAT)
    texts = (paragraph for name in TEXTS for paragraph in corpora.embedded(name))
    return train_sentencepiece(texts, vocab_size, symbols)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.tokenizer", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--vocab-size", type=int, default=375)
    parser.add_argument("--out", type=Path, required=True, help="folder that gets tokenizer.model")
    args = parser.parse_args(argv)
    try:
        train(args.vocab_size).save(args.out)
    except (GotError, OSError) as err:
        print(err, file=sys.stderr)
        return 2
    print(f"{args.out}: {args.vocab_size} pieces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
