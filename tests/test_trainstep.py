"""The training step's stopwatch, alone and beside PyTorch's plain loop over the same samples."""

from __future__ import annotations

import re

import pytest
from test_train import run_config

from eval import trainstep
from eval.trainstep import measure
from got_jax.errors import GotError


def test_both_are_timed_on_the_same_batch(tmp_path):
    said = measure(run_config(tmp_path), against=True)
    assert "a batch of 8 pictures" in said
    for name in ("got-jax", "transformers"):
        assert re.search(rf"{name} +[\d.]+ +\d+ +[\d.]+", said)
    assert "model FLOP utilisation" in said
    assert "got-jax is" in said


def test_a_batch_is_taken_elsewhere(tmp_path, monkeypatch):
    """Its file replaces the engines; a broken one is told of."""
    config, file = run_config(tmp_path), tmp_path / "batch.npz"
    first = measure(config, against=False, file=file).splitlines()[0]
    monkeypatch.setattr(trainstep, "draws_of", None)
    assert measure(config, against=False, file=file).splitlines()[0] == first
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(GotError, match="cannot be read"):
        measure(config, against=False, file=file)
    monkeypatch.undo()
    with pytest.raises(GotError, match="cannot be written"):
        trainstep.drawn(config, tmp_path / "none" / "batch.npz")
