"""Where batches come from: live engines, read by Grain's workers.

A batch is a function of (source, step): nothing but the step number is needed to continue a run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import grain
from absl import flags

from got_jax.config import GotConfig
from got_jax.data.batches import Batch, encode_example, pack
from got_jax.data.example import Engine, Example
from got_jax.errors import GotError
from got_jax.prompts import IMG_PAD
from got_jax.tokenizers import Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchSource:
    """The batches of a run: `source[step]` packs the engine's examples step * pictures, ..., one picture each.

    Attributes:
        pictures: examples, and pictures, of a batch.
        row_tokens, rows_multiple: see `pack`.
        steps: number of batches. letters: whether batches carry labels for the letters lesson.
    """

    engine: Engine
    tokenizer: Tokenizer
    config: GotConfig
    seed: int
    pictures: int
    row_tokens: int
    rows_multiple: int
    steps: int
    letters: bool = False

    def __len__(self) -> int:
        return self.steps

    def _example(self, index: int) -> Example:
        try:
            return self.engine.example(self.seed, index)
        except Exception as err:
            err.add_note(f"in example (seed {self.seed}, index {index}) of {self.engine}")
            raise

    def __getitem__(self, step: int) -> Batch:  # type: ignore[override]
        samples = []
        for index in range(step * self.pictures, (step + 1) * self.pictures):
            try:
                example = self._example(index)
                sample = encode_example(example, self.tokenizer, self.config, self.letters)
            except GotError as err:
                log.warning("example (seed %d, index %d) is left out: %s", self.seed, index, err)
                continue
            if sample.length > self.row_tokens:
                log.warning(
                    "example (seed %d, index %d) is left out: its %d tokens do not fit a row of %d.",
                    self.seed,
                    index,
                    sample.length,
                    self.row_tokens,
                )
                continue
            samples.append(sample)
        side, pad = self.config.encoder.image_px, self.tokenizer.special[IMG_PAD]
        return pack(samples, self.row_tokens, self.pictures, side, pad, self.rows_multiple)


def batches(source: BatchSource, start: int, workers: int) -> Iterator[Batch]:
    """Batches from step `start` on, in order, made ahead by `workers` processes (0: in this one)."""
    dataset = grain.MapDataset.source(source)[start:]  # type: ignore[arg-type]
    ahead = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads absl flags, which no one parses outside absl.app
        ahead = ahead.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
    return iter(ahead)
