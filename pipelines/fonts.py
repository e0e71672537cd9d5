"""Fonts the engines typeset with: the woff2 files of Fontsource, unmodified, decoded in memory.

`fontfiles/manifest.json` lists every file with its family, class, set and hash. The split into training and held-out
fonts is by family name, so no weight or slant of a held-out family enters training.

    python -m pipelines.fonts manifest     # rewrite the manifest after adding families
    python -m pipelines.fonts list
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from got_jax.errors import require

FILES = Path(__file__).parent / "fontfiles"
STYLES = {"normal": "400-normal", "italic": "400-italic", "bold": "700-normal"}
HELD_OUT = (
    "alegreya",
    "cousine",
    "courier-prime",
    "dm-mono",
    "gelasio",
    "libre-caslon-text",
    "neuton",
    "newsreader",
    "noto-sans",
    "source-serif-4",
    "tinos",
    "work-sans",
)
MONO = ("cousine", "cutive", "special-elite", "anonymous-pro", "courier-prime", "inconsolata")
SERIF = (
    "alegreya arvo bitter cardo cormorant-garamond crimson-pro crimson-text domine eb-garamond fanwood-text gelasio "
    "gentium-book-plus ibm-plex-serif im-fell-english libre-baskerville libre-caslon-text literata lora merriweather "
    "neuton newsreader noto-serif old-standard-tt playfair-display pt-serif roboto-slab sorts-mill-goudy "
    "source-serif-4 spectral tinos vollkorn zilla-slab"
).split()


@dataclass(frozen=True)
class Face:
    """One font file. `advance` and `has` are in the file's own terms: em units per glyph, characters it can show."""

    name: str  # "family/style"
    split: str  # "train" or "held_out"
    kind: str  # "serif", "sans" or "mono"
    style: str  # "normal", "italic" or "bold"
    sha256: str


@functools.lru_cache(maxsize=1)
def faces() -> tuple[Face, ...]:
    """Every font file of the manifest, in name order."""
    entries = json.loads((FILES / "manifest.json").read_text(encoding="utf-8"))
    return tuple(Face(name=name, **entry) for name, entry in sorted(entries.items()))


@functools.lru_cache(maxsize=8)
def choose(split: str, kind: str, style: str) -> tuple[Face, ...]:
    """The faces of a set, class and style."""
    found = tuple(f for f in faces() if (f.split, f.kind, f.style) == (split, kind, style))
    require(found, f"no font is {split}, {kind} and {style}; see `python -m pipelines.fonts list`.")
    return found


@dataclass(frozen=True)
class Typeface:
    """A decoded font: sfnt bytes, and the advance width of every character it shows, in ems."""

    face: Face
    sfnt: bytes
    advances: dict[str, float]

    def shown(self, text: str) -> str:
        """`text` without what the font cannot show; typographic quotes and dashes fall back to ASCII first."""
        if all(ch in self.advances for ch in text):
            return text
        swapped = (ch if ch in self.advances else FALLBACKS.get(ch, ch) for ch in text)
        return "".join(ch for part in swapped for ch in part if ch in self.advances)

    def width(self, text: str) -> float:
        """Width of a run in ems, as the typesetter adds it up (no kerning, no ligatures)."""
        return float(np.sum([self.advances[ch] for ch in text]))


FALLBACKS = {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "--", "…": "...", "•": "*"}


@functools.lru_cache(maxsize=256)
def typeface(face: Face) -> Typeface:
    """Decodes a font file after checking its hash (about 50 ms the first time)."""
    from fontTools.ttLib import TTFont

    data = (FILES / face.name.split("/")[0] / f"{STYLES[face.style]}.woff2").read_bytes()
    require(
        hashlib.sha256(data).hexdigest() == face.sha256,
        f"font {face.name} differs from its hash in fontfiles/manifest.json; restore the file.",
    )
    font = TTFont(io.BytesIO(data))
    font.flavor = None
    sfnt = io.BytesIO()
    font.save(sfnt)
    units, metrics = font["head"].unitsPerEm, font["hmtx"]  # type: ignore[attr-defined]
    advances = {chr(code): metrics[name][0] / units for code, name in font.getBestCmap().items()}  # type: ignore[union-attr]
    return Typeface(face, sfnt.getvalue(), advances)


def write_manifest() -> None:
    """Lists the files in fontfiles/ with their hashes."""
    entries = {}
    for folder in sorted(p for p in FILES.iterdir() if p.is_dir()):
        family = folder.name
        kind = "mono" if family.endswith("-mono") or family.startswith(MONO) else "sans"
        kind = "mono" if family == "source-code-pro" else "serif" if family in SERIF else kind
        for style, stem in STYLES.items():
            path = folder / f"{stem}.woff2"
            if path.exists():
                entries[f"{family}/{style}"] = {
                    "split": "held_out" if family in HELD_OUT else "train",
                    "kind": kind,
                    "style": style,
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                }
    (FILES / "manifest.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.fonts", description="The fonts of the engines.")
    parser.add_argument("action", choices=["list", "manifest"])
    if parser.parse_args(argv).action == "manifest":
        write_manifest()
    for face in faces():
        print(f"{face.split:9} {face.kind:6} {face.style:7} {face.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
