"""Other OCR programs, as judges and labellers: tesseract (Debian) and PaddleOCR's models through rapidocr (PyPI)."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from got_jax.errors import GotError, require
from pipelines import reading_order

TESSERACT = {"en": "eng", "de": "deu", "fr": "fra", "es": "spa", "ru": "rus", "zh": "chi_sim", "ja": "jpn", "ko": "kor"}


@dataclass(frozen=True)
class Found:
    """A line that a reader found: its text, its corners in pixels, its confidence from 0 to 1."""

    text: str
    corners: Float[np.ndarray, "4 2"]
    confidence: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        low, high = self.corners.min(0), self.corners.max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


@functools.lru_cache(maxsize=1)
def _rapidocr():  # rapidocr.RapidOCR
    try:
        from rapidocr import RapidOCR
    except ImportError:
        raise GotError("labels need rapidocr; run pip install 'got-jax[pipelines]'.") from None
    return RapidOCR(params={"Global.log_level": "error"})


def rapidocr(pixels: UInt8[np.ndarray, "H W 3"]) -> list[Found]:
    """Every line that PaddleOCR's models find in an RGB picture, in reading order."""
    image = np.ascontiguousarray(pixels[..., ::-1])
    result: Any = _rapidocr()(image, use_det=True, use_cls=True, use_rec=True)
    if result.boxes is None:
        return []
    found = [
        Found(t, np.asarray(b), float(s)) for t, b, s in zip(result.txts, result.boxes, result.scores, strict=True)
    ]
    return in_order(found)


def framed(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A cutting with white paper round it: readers miss what touches the edge."""
    return np.pad(pixels, ((20, 20), (20, 20), (0, 0)), constant_values=255)


def detect(pixels: UInt8[np.ndarray, "H W 3"]) -> list[Found]:
    """Where PaddleOCR's detector sees lines, without reading them."""
    result: Any = _rapidocr()(np.ascontiguousarray(pixels[..., ::-1]), use_det=True, use_cls=False, use_rec=False)
    boxes = result.boxes if result.boxes is not None else ()
    return [Found("", np.asarray(corners), 1.0) for corners in boxes]


def in_order(found: list[Found]) -> list[Found]:
    """Lines by columns where there are some, then from top to bottom; from left to right on one line.

    Where most lines stand upright, they are read from right to left, and from top to bottom within a column.
    """
    if not found:
        return []
    upright = [line for line in found if line.box[3] - line.box[1] > 1.5 * (line.box[2] - line.box[0])]
    if 2 * len(upright) > len(found):
        middle = lambda line: (line.box[0] + line.box[2]) / 2
        width = float(np.median([line.box[2] - line.box[0] for line in upright]))
        columns: list[list[Found]] = []
        for line in sorted(found, key=middle, reverse=True):
            if columns and middle(columns[-1][0]) - middle(line) < 0.6 * width:
                columns[-1].append(line)
            else:
                columns.append([line])
        return [line for column in columns for line in sorted(column, key=lambda line: line.box[1])]
    height = float(np.median([line.box[3] - line.box[1] for line in found]))
    return [found[i] for i in reading_order.order([line.box for line in found], 0.9 * height)]


def tesseract(pixels: UInt8[np.ndarray, "H W 3"], language: str = "en", block: bool = False) -> list[str]:
    """The lines that tesseract reads, in its own order; of one `block`, without looking for columns.

    Raises:
        GotError: when the program or the language's data is not installed.
    """
    require(shutil.which("tesseract"), "tesseract is not installed; run apt-get install tesseract-ocr.")
    data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    command = ["tesseract", "stdin", "stdout", "-l", TESSERACT[language], "--psm", "6" if block else "3"]
    environment = os.environ | {"OMP_THREAD_LIMIT": "1"}  # its threads only fight each other
    done = subprocess.run(command, input=data, capture_output=True, env=environment, check=False)
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()
        raise GotError(
            f"tesseract failed ({why[0] if why else done.returncode}); for other languages than English run "
            f"apt-get install tesseract-ocr-{TESSERACT[language].replace('_', '-')}."
        )
    return [line for line in done.stdout.decode("utf-8").splitlines() if line.strip()]
