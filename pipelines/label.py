"""Labels a folder of real pictures with PaddleOCR's models, as the paper did for scene text (section 3.2.1).

A picture whose every line is read with confidence becomes a page; every line that is, a slice. The result is a JSONL
file that `got_jax.data.records` (and `got-jax train`) reads.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from got_jax import prompts
from got_jax.errors import GotError, require
from got_jax.images import decode
from pipelines import readers
from pipelines.paper import to_png
from pipelines.photos import SUFFIXES

LEAST_SLICE_PX = 8


def label(folder: Path, out: Path, confidence: float = 0.9) -> dict[str, int]:
    """Writes out/labels.jsonl, out/slices/ and out/skipped.log, and returns how much of each.

    A run that was cut goes on: pictures that stand in either file are not read again.

    Raises:
        GotError: for a folder without pictures, or an output that cannot be written.
    """
    require(0 <= confidence <= 1, f"--confidence is {confidence}; it must be from 0 to 1.")
    require(folder.is_dir(), f"picture folder {folder} does not exist; point to a folder of pictures.")
    pictures = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    require(pictures, f"picture folder {folder} holds no picture ({', '.join(SUFFIXES)}); add some.")
    labels, skipped = out / "labels.jsonl", out / "skipped.log"
    try:
        (out / "slices").mkdir(parents=True, exist_ok=True)
        done = _done(labels, skipped)
        with labels.open("a", encoding="utf-8") as good, skipped.open("a", encoding="utf-8") as bad:
            for path in tqdm(pictures, desc="label", unit="picture", disable=None):
                name = str(path.resolve())
                if name in done:
                    continue
                rows, why = _rows(path, out, confidence)
                # The picture's own line comes last: a run cut before it reads the picture once more.
                for row in rows:
                    good.write(json.dumps(row, ensure_ascii=False) + "\n")
                good.flush()
                if why:
                    bad.write(f"{name}\t{why}\n")
                    bad.flush()
    except OSError as err:
        raise GotError(f"{out} cannot be written ({err.strerror}); free space or choose another --out.") from None
    counts = {"pages": 0, "slices": 0, "skipped": len(_lines(skipped))}
    for line in _lines(labels):
        counts["slices" if json.loads(line)["image"].startswith("slices/") else "pages"] += 1
    return counts


def _done(labels: Path, skipped: Path) -> set[str]:
    """Pictures that an earlier run finished. Slices of an unfinished one are taken out of the labels."""
    done = {line.split("\t")[0] for line in _lines(skipped)}
    rows = [json.loads(line) for line in _lines(labels) if line.endswith("}")]
    done |= {row["image"] for row in rows if not row["image"].startswith("slices/")}
    whole = [row for row in rows if row.get("picture", row["image"]) in done]
    unfinished = labels.with_suffix(".unfinished")
    unfinished.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in whole), encoding="utf-8")
    unfinished.replace(labels)
    return done


def _lines(path: Path) -> list[str]:
    """The lines of a file, none if it does not exist. Only a line feed ends one: texts may hold U+2028."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in text.split("\n") if line]


def _rows(path: Path, out: Path, confidence: float) -> tuple[list[dict[str, Any]], str]:
    """The records of a picture, its own last, and why it has none of its own."""
    name = str(path.resolve())
    try:
        pixels = np.asarray(decode(path, str(path)))
    except GotError as err:
        return [], str(err)
    found = readers.rapidocr(pixels)
    rows = []
    for number, line in enumerate(found):
        if line.confidence >= confidence and line.text.strip():
            slice_ = f"slices/{path.stem}-{zlib.crc32(name.encode()):08x}-{number:03}.png"
            cut = straightened(pixels, line.corners)
            if min(cut.shape[:2]) >= LEAST_SLICE_PX:
                (out / slice_).write_bytes(to_png(cut))
                score = round(line.confidence, 4)
                rows.append(
                    {"image": slice_, "prompt": prompts.PLAIN, "text": line.text, "score": score, "picture": name}
                )
    if not found:
        return rows, "no text found"
    weak = [line for line in found if line.confidence < confidence]
    if weak:
        return rows, f"{len(weak)} of {len(found)} lines below {confidence}, e.g. '{weak[0].text}'"
    text = "\n".join(line.text for line in found)
    boxes = [[round(v) for v in line.box] for line in found]
    return [*rows, {"image": name, "prompt": prompts.PLAIN, "text": text, "boxes": boxes}], ""


def straightened(pixels: UInt8[np.ndarray, "H W 3"], corners: Float[np.ndarray, "4 2"]) -> UInt8[np.ndarray, "h w 3"]:
    """A line's quadrangle as an upright rectangle."""
    width = int(max(np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[2] - corners[3])))
    height = int(max(np.linalg.norm(corners[3] - corners[0]), np.linalg.norm(corners[2] - corners[1])))
    width, height = max(1, width), max(1, height)
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    view = cv2.getPerspectiveTransform(corners.astype(np.float32), target)
    return np.asarray(cv2.warpPerspective(pixels, view, (width, height), borderMode=cv2.BORDER_REPLICATE))
