"""The benchmarks, a file a format."""

from __future__ import annotations

from eval.question import Suite


def suites() -> dict[str, Suite]:
    """Every suite by name."""
    from eval.suites import charts, conversations, olmocr_bench, omnidocbench, synth

    found = [*conversations.suites(), *charts.suites(), omnidocbench.suite(), olmocr_bench.suite(), synth.suite()]
    return {suite.name: suite for suite in found}
