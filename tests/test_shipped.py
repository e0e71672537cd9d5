"""The shipped model: small enough, what its card says, and what `make demo` and `python -m eval.slices` print."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NANO

from got_jax import load
from got_jax.config import got_nano
from got_jax.metrics import character_error_rate

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def nano():
    return load("nano")


def test_size_and_shape(nano):
    assert sum(p.stat().st_size for p in NANO.rglob("*") if p.is_file()) <= 16 * 2**20
    at_full_size = dataclasses.replace(nano.config.encoder, image_px=got_nano().encoder.image_px)
    assert dataclasses.replace(nano.config, encoder=at_full_size) == got_nano()
    for word in ("Data", "Steps", "Time", "Machine", "CER"):
        assert word in (NANO / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_demo_reads_the_samples():
    """The texts that are read stand in tests/data/demo.json; `make golden` rewrites it after a new training."""
    done = subprocess.run([sys.executable, "-m", "samples.demo"], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = json.loads((ROOT / "tests" / "data" / "demo.json").read_text(encoding="utf-8"))
    assert len(expected) >= 3
    for name, text in expected.items():
        assert f"== {name}" in done.stdout
        found = done.stdout.split(f"== {name}")[1].split("\n", 1)[1].split("\n\n")[0]
        assert character_error_rate([(text, found)]) < 0.05, "another processor may break a near tie otherwise"
    assert re.search(r"CER over \d+ pictures: [\d.]+%", done.stdout)


@pytest.mark.slow
def test_held_out_error_is_what_the_card_says(nano):
    """On the first 60 of the card's 500 slices, for which it has a figure of its own."""
    argv = [sys.executable, "-m", "eval.slices", "--examples", "60"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    measured = float(re.search(r"^all .*? ([\d.]+)%", done.stdout, re.MULTILINE)[1])  # type: ignore[index]
    card = (NANO / "README.md").read_text(encoding="utf-8")
    stated = float(re.search(r"CER \(first 60 of them\).*\| ([\d.]+)%", card)[1])  # type: ignore[index]
    assert abs(measured - stated) <= 1.0, "another processor may break a near tie otherwise"


def test_eval_refuses_what_it_cannot_do():
    for argv, says in ((["--examples", "0"], "at least 1"), (["--model", "none"], "model 'none' is unknown")):
        done = subprocess.run([sys.executable, "-m", "eval.slices", *argv], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr
