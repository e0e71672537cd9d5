"""Photographs that scene text is set on: free ones that lie in `photofiles/`, or any folder of pictures.

`photofiles/manifest.json` lists each with its author, licence, origin, set and hash; none of them shows text. They were
scaled to 960 px from what Debian's wallpaper packages, scikit-image and scikit-learn ship.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from got_jax.errors import require
from got_jax.images import decode

FILES = Path(__file__).parent / "photofiles"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
LARGEST_PX = 1600


@functools.lru_cache(maxsize=8)
def names(split: str, folder: str = "") -> tuple[str, ...]:
    """The photographs of the set "train" or "held_out", or the picture files under a folder, in name order.

    Raises:
        GotError: when there is none.
    """
    if not folder:
        entries = json.loads((FILES / "manifest.json").read_text(encoding="utf-8"))
        found = tuple(name for name, entry in sorted(entries.items()) if entry["split"] == split)
        require(found, f"photograph set '{split}' is unknown; choose 'train' or 'held_out'.")
        return found
    root = Path(folder)
    require(root.is_dir(), f"photograph folder {folder} does not exist; point to a folder of pictures.")
    found = tuple(str(path) for path in sorted(root.rglob("*")) if path.suffix.lower() in SUFFIXES)
    require(found, f"photograph folder {folder} holds no picture ({', '.join(SUFFIXES)}); add some.")
    return found


@functools.lru_cache(maxsize=64)
def photograph(name: str, folder: str = "") -> UInt8[np.ndarray, "H W 3"]:
    """A photograph in RGB, at most 1,600 px long. Its hash is checked if it is one of ours.

    Raises:
        GotError: for a file that is no picture or differs from its hash.
    """
    if not folder:
        data = (FILES / f"{name}.jpg").read_bytes()
        expected = json.loads((FILES / "manifest.json").read_text(encoding="utf-8"))[name]["sha256"]
        require(
            hashlib.sha256(data).hexdigest() == expected,
            f"photograph '{name}' differs from its hash in photofiles/manifest.json; restore the file.",
        )
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]
    picture = decode(Path(name), name)
    picture.thumbnail((LARGEST_PX, LARGEST_PX))
    return np.asarray(picture)
