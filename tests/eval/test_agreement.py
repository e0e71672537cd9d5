"""Rounded weights of the shipped model choose as float32 does."""

from __future__ import annotations

import re

import numpy as np

from eval import agreement
from got_jax.data.records import Records
from got_jax.reader import load


def test_rounded_weights_choose_the_same_tokens(capsys):
    """docs/speed.md has the figures of 1,000 tokens."""
    assert agreement.main(["--tokens", "300"]) == 0
    shares = dict(re.findall(r"\| ([\w ,]+) \| ([\d.]+)%", capsys.readouterr().out))
    assert float(shares["bfloat16"]) >= 99
    assert float(shares["int8"]) >= 97
    assert float(shares["int8, int8 cache"]) >= 97


def test_slices_are_taken_elsewhere(tmp_path, capsys, monkeypatch):
    """As records, they are the same questions."""
    monkeypatch.setattr(agreement, "WRITTEN", 3)
    assert agreement.main(["--write", str(tmp_path)]) == 0
    file = capsys.readouterr().out.strip()
    reader = load("nano", weights=None)
    here = list(agreement.questions(reader, agreement.ENGINE, 150))
    there = list(agreement.questions(reader, Records(file), 150))
    assert 2 <= len(here) <= 3
    for one, other in zip(here, there, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len(list(agreement.questions(reader, Records(file), 10**6))) == 3


def test_what_cannot_be_compared_is_told(capsys):
    assert agreement.main(["--tokens", "0"]) == 2
    assert agreement.main(["--data", "none.jsonl"]) == 2
    assert agreement.main(["--model", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
