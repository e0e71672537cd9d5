"""The character error rate by hand-worked cases and by its laws."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from got_jax.metrics import character_error_rate


def test_worked_cases():
    assert character_error_rate([("abcd", "abcd")]) == 0
    assert character_error_rate([("abcd", "abxd")]) == 0.25
    assert character_error_rate([("abcd", "")]) == 1
    assert character_error_rate([("ab", "abab")]) == 1
    assert character_error_rate([("a\nb", "a b")]) == 1 / 3
    assert character_error_rate([("abcd", "abcd"), ("ab", "")]) == 2 / 6, "long texts weigh more"
    assert character_error_rate([]) == 0


@given(truth=st.text(min_size=1), answer=st.text())
def test_laws(truth, answer):
    rate = character_error_rate([(truth, answer)])
    assert (rate == 0) == (truth == answer)
    assert rate <= max(len(truth), len(answer)) / len(truth)
    assert rate >= abs(len(truth) - len(answer)) / len(truth)
