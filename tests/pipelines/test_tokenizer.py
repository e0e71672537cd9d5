"""The shipped vocabulary is the one that the committed command trains."""

from __future__ import annotations

import pytest
from conftest import NANO

from got_jax.config import got_nano
from pipelines.tokenizer import main


@pytest.mark.slow
def test_training_gives_the_shipped_vocabulary(tmp_path, pieces, capsys):
    assert main(["--vocab-size", str(got_nano().decoder.vocab_size), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "tokenizer.model").read_bytes() == (NANO / "tokenizer.model").read_bytes()
    assert "375 pieces" in capsys.readouterr().out


def test_mistakes_are_one_sentence(tmp_path, capsys):
    assert main(["--vocab-size", "20", "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
