"""Which tests need which renderer: skipped, by name, where it is missing; CI installs all and sets GOT_RENDERERS."""

from __future__ import annotations

import os

import pytest

from pipelines.backends import tools


def need(*names: str) -> None:
    """Skips the test, or fails it in CI, when a renderer is missing."""
    for name in names:
        if lacking := tools.missing(name):
            (pytest.fail if os.environ.get("GOT_RENDERERS") else pytest.skip)(lacking)
