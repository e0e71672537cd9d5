"""What a data engine returns and a batch is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Example:
    """One training example: encoded pictures, the query that stands after them, and the answer."""

    images: tuple[bytes, ...]  # PNG files
    prompt: str  # e.g. prompts.PLAIN
    text: str
    meta: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """A data engine: a pure function of (seed, index)."""

    def example(self, seed: int, index: int) -> Example: ...
