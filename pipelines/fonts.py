"""Fonts the engines typeset with: the woff2 files of Fontsource, unmodified, decoded in memory.

`fontfiles/manifest.json` lists every face with its class, set, languages, and its files with their hashes. The split
into training and held-out fonts is by family name, so no weight or slant of a held-out family enters training.

    python -m pipelines.fonts manifest     # rewrite the manifest after adding families
    python -m pipelines.fonts list
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from got_jax.errors import require

FILES = Path(__file__).parent / "fontfiles"
STYLES = {"normal": "400-normal", "italic": "400-italic", "bold": "700-normal"}
LATIN = ("en", "de", "fr", "es")
LANGUAGES = (*LATIN, "ru", "zh", "ja", "ko")
ASIAN = {
    "zh": (
        "noto-sans-sc",
        "noto-serif-sc",
        "zcool-xiaowei",
        "zcool-kuaile",
        "ma-shan-zheng",
        "long-cang",
        "zhi-mang-xing",
    ),
    "ja": ("noto-sans-jp", "klee-one"),
    "ko": ("noto-sans-kr", "nanum-myeongjo", "nanum-pen-script"),
}
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
    "zcool-xiaowei",
    "klee-one",
    "nanum-myeongjo",
    # handwriting
    "bad-script",
    "cedarville-cursive",
    "kalam",
    "long-cang",
    "nothing-you-could-do",
    "patrick-hand",
)
HAND = (
    "architects-daughter bad-script caveat cedarville-cursive covered-by-your-grace dancing-script gochi-hand handlee "
    "homemade-apple indie-flower kalam la-belle-aurore long-cang ma-shan-zheng marck-script nanum-pen-script neucha "
    "nothing-you-could-do patrick-hand reenie-beanie shadows-into-light zhi-mang-xing"
).split()
MONO = ("cousine", "cutive", "special-elite", "anonymous-pro", "courier-prime", "inconsolata")
SERIF = (
    "alegreya arvo bitter cardo cormorant-garamond crimson-pro crimson-text domine eb-garamond fanwood-text gelasio "
    "gentium-book-plus ibm-plex-serif im-fell-english libre-baskerville libre-caslon-text literata lora merriweather "
    "neuton newsreader noto-serif old-standard-tt playfair-display pt-serif roboto-slab sorts-mill-goudy "
    "source-serif-4 spectral tinos vollkorn zilla-slab noto-serif-sc zcool-xiaowei nanum-myeongjo"
).split()


@dataclass(frozen=True)
class Face:
    """One cut of a family, in one or several files that share out its characters."""

    name: str  # "family/style"
    split: str  # "train" or "held_out"
    kind: str  # "serif", "sans", "mono" or "hand"
    style: str  # "normal", "italic" or "bold"
    languages: tuple[str, ...]  # of `LANGUAGES`, those it can set
    files: tuple[tuple[str, str], ...]  # (file name without ".woff2", SHA-256), Latin first


@functools.lru_cache(maxsize=1)
def faces() -> tuple[Face, ...]:
    """Every face of the manifest, in name order."""
    entries = json.loads((FILES / "manifest.json").read_text(encoding="utf-8"))
    made = []
    for name, entry in sorted(entries.items()):
        files, languages = tuple(entry.pop("files").items()), tuple(entry.pop("languages"))
        made.append(Face(name=name, files=files, languages=languages, **entry))
    return tuple(made)


@functools.lru_cache(maxsize=64)
def choose(split: str, kind: str, style: str, language: str = "en") -> tuple[Face, ...]:
    """The faces of a set, class and style that can set a language."""
    found = tuple(f for f in faces() if (f.split, f.kind, f.style) == (split, kind, style) and language in f.languages)
    require(found, f"no font is {split}, {kind}, {style} and for '{language}'; see `python -m pipelines.fonts list`.")
    return found


@functools.lru_cache(maxsize=64)
def cuts(split: str, language: str) -> tuple[tuple[str, str], ...]:
    """Every (kind, style) that a set has for a language."""
    found = tuple(dict.fromkeys((f.kind, f.style) for f in faces() if f.split == split and language in f.languages))
    require(found, f"no font is {split} and for '{language}'; see `python -m pipelines.fonts list`.")
    return found


@dataclass(frozen=True)
class Typeface:
    """A decoded face: the sfnt bytes of its files, and every character it shows.

    Attributes:
        advances: the width of every character, in ems. part: which of the files draws it.
    """

    face: Face
    sfnts: tuple[bytes, ...]
    advances: dict[str, float]
    part: dict[str, int]

    def shown(self, text: str) -> str:
        """`text` without what the font cannot show; typographic quotes and dashes fall back to ASCII first."""
        if all(ch in self.advances for ch in text):
            return text
        swapped = (ch if ch in self.advances else FALLBACKS.get(ch, ch) for ch in text)
        return "".join(ch for part in swapped for ch in part if ch in self.advances)

    def width(self, text: str) -> float:
        """Width of a run in ems, as the typesetter adds it up (no kerning, no ligatures)."""
        return sum(map(self.advances.__getitem__, text))


FALLBACKS = {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "--", "…": "...", "•": "*"}


@functools.lru_cache(maxsize=256)
def typeface(face: Face) -> Typeface:
    """Decodes a face's files after checking their hashes (seconds for a Chinese one that was never decoded here)."""
    from fontTools.ttLib import TTFont

    sfnts, advances, part = [], {}, {}
    for number, (file, sha256) in enumerate(face.files):
        path = FILES / face.name.split("/")[0] / f"{file}.woff2"
        require(path.exists(), f"font file {path} is missing; restore it.")
        data = path.read_bytes()
        require(
            hashlib.sha256(data).hexdigest() == sha256,
            f"font file {path} differs from its hash in fontfiles/manifest.json; restore the file.",
        )
        sfnts.append(_decoded(data, sha256))
        font = TTFont(io.BytesIO(sfnts[-1]), lazy=True)
        units, metrics = font["head"].unitsPerEm, font["hmtx"]  # type: ignore[attr-defined]
        for code, name in font.getBestCmap().items():  # type: ignore[union-attr]
            if chr(code) not in advances:
                advances[chr(code)], part[chr(code)] = metrics[name][0] / units, number
    return Typeface(face, tuple(sfnts), advances, part)


def _decoded(woff2: bytes, sha256: str) -> bytes:
    """The sfnt of a woff2 file, kept in the user's cache folder: decoding takes up to seconds a font."""
    from fontTools.ttLib import TTFont

    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = root / "got-jax" / "fonts" / f"{sha256}.ttf"
    with contextlib.suppress(OSError):
        return kept.read_bytes()
    font = TTFont(io.BytesIO(woff2))
    font.flavor = None
    sfnt = io.BytesIO()
    font.save(sfnt, reorderTables=None)
    with contextlib.suppress(OSError):  # a folder that cannot be written costs time alone
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(sfnt.getvalue())
        os.replace(unfinished, kept)
    return sfnt.getvalue()


def write_manifest() -> None:
    """Lists the files in fontfiles/ with their hashes."""
    entries = {}
    for folder in sorted(p for p in FILES.iterdir() if p.is_dir()):
        family = folder.name
        for style, stem in STYLES.items():
            files = [p for name in (stem, f"cyrillic-{stem}") if (p := folder / f"{name}.woff2").exists()]
            if files:
                asian = [language for language, families in ASIAN.items() if family in families]
                entries[f"{family}/{style}"] = {
                    "split": "held_out" if family in HELD_OUT else "train",
                    "kind": _kind(family),
                    "style": style,
                    "languages": asian or [*LATIN, "ru"][: len(LATIN) + len(files) - 1],
                    "files": {p.stem: hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
                }
    (FILES / "manifest.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def _kind(family: str) -> str:
    if family in HAND:
        return "hand"
    if family.endswith("-mono") or family.startswith(MONO) or family == "source-code-pro":
        return "mono"
    return "serif" if family in SERIF else "sans"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.fonts", description="The fonts of the engines.")
    parser.add_argument("action", choices=["list", "manifest"])
    if parser.parse_args(argv).action == "manifest":
        write_manifest()
    for face in faces():
        print(f"{face.split:9} {face.kind:6} {face.style:7} {face.name:32} {' '.join(face.languages)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
