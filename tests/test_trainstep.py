"""The training step's stopwatch, alone and beside PyTorch's plain loop over the same samples."""

from __future__ import annotations

import re

from test_train import run_config

from eval.trainstep import measure


def test_both_are_timed_on_the_same_batch(tmp_path):
    said = measure(run_config(tmp_path), against=True)
    assert "a batch of 8 pictures" in said
    for name in ("got-jax", "transformers"):
        assert re.search(rf"{name} +[\d.]+ +\d+ +[\d.]+", said)
    assert "model FLOP utilisation" in said
    assert "got-jax is" in said
