"""What the commands of this folder share."""

from __future__ import annotations

import sys
from collections.abc import Callable

from got_jax.errors import GotError


def printed(work: Callable[[], str]) -> int:
    """Prints what `work` returns, and gives the exit code: a mistake of the user's is one sentence on stderr, and 2."""
    try:
        print(work())
    except GotError as err:
        print(f"eval: {err}", file=sys.stderr)
        return 2
    return 0
