"""How well a model in training reads examples it never sees in training."""

from __future__ import annotations

from collections.abc import Sized

from got_jax.data.example import Engine, Example
from got_jax.errors import GotError
from got_jax.metrics import character_error_rate
from got_jax.reader import Reader

SEED = 2_000_003  # far from training seeds; the held-out engine draws other texts and fonts anyway
LONGEST = 512


def read_held_out(reader: Reader, engine: Engine, count: int, batch_size: int = 32) -> list[tuple[Example, str]]:
    """The engine's first `count` held-out examples (of a finite engine at most all), each with the model's answer.

    An answer that failed is "".
    """
    count = min(count, len(engine)) if isinstance(engine, Sized) else count
    examples = [engine.example(SEED, index) for index in range(count)]
    limit = min(LONGEST, reader.config.decoder.context_tokens // 2)
    readings = reader.answer_many(((e.prompt, e.images) for e in examples), batch_size, limit)
    return [(e, "" if isinstance(r, GotError) else r.text) for e, r in zip(examples, readings, strict=True)]


def held_out_cer(read: list[tuple[Example, str]]) -> float:
    """Character error rate of such readings."""
    return character_error_rate((example.text, answer) for example, answer in read)
