"""The judge of labels: what it leaves out of account, and what it does when a reader stumbles."""

from __future__ import annotations

import pytest

from got_jax.errors import GotError
from pipelines import __main__ as cli
from pipelines import truth


def test_white_space_and_typography_do_not_count():
    assert truth.plain("“Ａb” –\n c…") == truth.plain('"Ab" - c...')
    assert truth.plain("l0") != truth.plain("lO")


def test_pages_that_a_reader_gets_wrong_are_read_block_by_block(monkeypatch, capsys):
    """A reader that takes blocks in another order: wrong on the page, right on each block."""
    from pipelines.documents import Documents

    made = []
    example = Documents.example

    def spy(self, seed, index):
        made.append(example(self, seed, index))
        return made[-1]

    def read(pixels, language, reader, block=False):
        blocks = made[-1].meta["blocks"]
        if not block:
            return "\n".join(b["text"] for b in blocks[::-1])
        read.turn = (read.turn + 1) % len(blocks)
        return blocks[read.turn - 1]["text"]

    read.turn = 0
    monkeypatch.setattr(Documents, "example", spy)
    monkeypatch.setattr(truth, "_read", read)
    assert cli.main(["truth", "--reader", "rapidocr", "--count", "2"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 4
    whole, by_blocks = table[-1].split()[3], table[-1].split()[5]
    assert float(whole[:-1]) > 2
    assert by_blocks == "0.00%"
    with pytest.raises(GotError, match="reader 'x' is unknown"):
        list(truth.report("en", "x", 1))
