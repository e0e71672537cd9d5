"""How many tokens an answer has, and the prompt before it: what fits a row of training."""

from __future__ import annotations

import functools

from got_jax import prompts
from got_jax.tokenizers import Tokenizer, load_tokenizer

PICTURE = 256  # tokens of one picture, as GOT encodes it


@functools.lru_cache(maxsize=1)
def _qwen() -> Tokenizer:
    return load_tokenizer("qwen", None)


def tokens(text: str) -> int:
    """Tokens of a text by Qwen's tokenizer, which the released models have."""
    return len(_qwen().encode(text))


def row_tokens(query: str, pictures: int, text: str) -> int:
    """Tokens of a whole example: the prompt with its pictures, and the answer with its stop mark."""
    prompt = prompts.prompt_ids(_qwen(), query, PICTURE, pictures)
    return len(prompt) + len(prompts.answer_ids(_qwen(), text, query))
