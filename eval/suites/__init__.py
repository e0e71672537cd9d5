"""The benchmarks, a file a format."""

from __future__ import annotations

from eval.question import Suite


def suites() -> dict[str, Suite]:
    """Every suite by name."""
    from eval.suites import charts, conversations, synth

    found = [*conversations.suites(), *charts.suites(), synth.suite()]
    return {suite.name: suite for suite in found}
