"""Rounded weights of the shipped model choose as float32 does."""

from __future__ import annotations

import re

from eval import agreement


def test_rounded_weights_choose_the_same_tokens(capsys):
    """docs/speed.md has the figures of 1,000 tokens."""
    assert agreement.main(["--tokens", "300"]) == 0
    shares = dict(re.findall(r"\| ([\w ,]+) \| ([\d.]+)%", capsys.readouterr().out))
    assert float(shares["bfloat16"]) >= 99
    assert float(shares["int8"]) >= 97
    assert float(shares["int8, int8 cache"]) >= 97


def test_what_cannot_be_compared_is_told(capsys):
    assert agreement.main(["--tokens", "0"]) == 2
    assert agreement.main(["--model", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
