"""What a data engine returns and a batch is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float


class Letters(NamedTuple):
    """Where each visible character of a picture stands, in reading order."""

    text: str  # n characters, none of them a space
    boxes: Float[np.ndarray, "n 4"]  # left, top, right, bottom in shares of the picture's width and height


@dataclass(frozen=True)
class Example:
    """One training example: encoded pictures, the query that stands after them, and the answer."""

    images: tuple[bytes, ...]  # PNG files
    prompt: str  # e.g. prompts.PLAIN
    text: str
    meta: dict[str, Any] = field(default_factory=dict)
    letters: Letters | None = None  # of the only picture, where the engine knows them


class Engine(Protocol):
    """A data engine: a pure function of (seed, index).

    An engine with a length (`got_jax.data.records`) is a finite set: each index is one record, whatever the seed, and
    training reads it whole, in a new order every epoch.
    """

    def example(self, seed: int, index: int) -> Example: ...
