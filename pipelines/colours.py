"""What can be read on a colour."""

from __future__ import annotations

from collections.abc import Sequence


def ink_on(colour: Sequence[float] | str) -> str:
    """White or near black, whichever is readable on a colour (red, green, blue from 0 to 1, or "#rrggbb")."""
    if isinstance(colour, str):
        colour = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = colour[:3]
    return "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 0.5 else "#111111"
