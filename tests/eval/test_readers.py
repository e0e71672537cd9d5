"""Readers: ours and transformers' give the same answers from one folder; several devices change nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NANO

from eval.question import Options, Question
from eval.readers import GotJax, ReadConfig, Transformers, make, ngram_of
from eval.suites import suites
from got_jax.errors import GotError
from got_jax.weights.torch_write import write_torch_folder

ROOT = Path(__file__).parents[2]
FOX = ROOT / "tests" / "data" / "benchmarks" / "focus_benchmark_test"


def test_transformers_answers_as_we_do(qwen_model, tmp_path):
    """Random weights, greedy, with tiles and several pages too."""
    pytest.importorskip("torch")
    write_torch_folder(tmp_path / "hf", qwen_model, "transformers")
    config = ReadConfig(batch_size=3, max_new_tokens=12, max_tiles=3, dtype="float32")
    pages = suites()["fox-page"].load(FOX, Options()).questions[:2]
    tiles = suites()["fox-page"].load(FOX, Options(crop=True)).questions[:1]
    several = suites()["fox-multipage"].load(FOX, Options()).questions
    questions = [*pages, *tiles, *several]
    theirs = list(Transformers(str(tmp_path / "hf"), config).answers(questions))
    ours = list(GotJax(str(tmp_path / "hf"), config).answers(questions))
    assert [a.error for a in theirs] == [""] * 4
    assert [(a.text, a.stop) for a in ours] == [(a.text, a.stop) for a in theirs]
    assert len({a.text for a in ours}) > 1
    with pytest.raises(GotError, match="no folder of transformers"):
        make(f"transformers:{NANO}", config)


def test_how_questions_are_decoded():
    """GOT's scripts forbid 20 tokens twice for single pictures alone."""
    one = Question("a", (b"",), "OCR: ", "")
    assert ngram_of(one) == 20
    assert ngram_of(Question("a", (b"", b""), "OCR: ", "")) == 0
    assert ngram_of(Question("a", (b"",), "OCR: ", "", crop=True)) == 0


def test_many_devices_read_the_same():
    """Five questions, one of them of several pictures, on replicas and on a mesh of eight virtual devices."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import jax
jax.config.update("jax_num_cpu_devices", 8)
from pathlib import Path
from eval.question import Options
from got_jax import batching
from eval.suites import suites
from got_jax.reader import load
from got_jax.sharding import MeshConfig, make_mesh
fox = Path({str(FOX)!r})
suites = [suites()[name].load(fox, Options()) for name in ("fox-page", "fox-multipage")]
asked = [(q.query, q.pictures) for loaded in suites for q in loaded.questions]
nano = load("nano", weights=None)
answer = lambda reader: [(r.text, r.stop) for r in reader.answer_many(asked, batch_size=5, max_new_tokens=16)]
alone = answer(nano)
assert len(set(alone)) == 5
laid = nano.on(make_mesh(MeshConfig(2, 2, 2)))
assert {{leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(laid.params)}} == {{True, False}}
assert answer(laid) == alone

worked, real = set(), batching._begin

def noted(config, rules, params, *rest):
    worked.update(params.decoder["norm"].devices())
    begun = real(config, rules, params, *rest)
    assert begun.history.devices() == params.decoder["norm"].devices()
    return begun

batching._begin = noted
several = nano.prepared(devices=jax.devices()[:3])
answer = lambda reader: [(r.text, r.stop) for r in reader.answer_many(asked, batch_size=2, max_new_tokens=16)]
assert answer(several) == alone
assert len(worked) > 1
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
