"""The scene text engine: words and lines on photographs, as signs, stickers and captions stand in the world.

Source: GOT paper 3.2.1 (natural pictures; the text flattened from top to bottom and left to right, or a crop each). The
paper takes its labels from PaddleOCR; here the text is put there, so the label is exact. For real pictures see
`pipelines.label`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import require
from pipelines import fonts, photos, reading_order
from pipelines.annotations import annotated
from pipelines.paper import compressed, to_png
from pipelines.prose import HALF, UNSPACED, Languages, Prose, check_languages, left_out, weighted
from pipelines.typeset import break_lines, draw_runs


@dataclass(frozen=True)
class Scenes:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out": which corpora, fonts and photographs are used.
        corpus: a folder of .txt, .jsonl or .pdf files instead of the embedded corpora, in the language given.
        photographs: a folder of pictures instead of the embedded ones; they should show no text.
        languages: (language, weight) pairs.
        signs: the least and most pieces of text on a picture.
        slices: share of examples that are one piece, cut out.
        boxes: share of whole pictures whose answer names each line's box (its prompt asks for it).
        largest_px: the longer side of a picture.
    """

    split: str = "train"
    corpus: str = ""
    photographs: str = ""
    languages: Languages = HALF
    signs: tuple[int, int] = (1, 7)
    slices: float = 0.33
    boxes: float = 0.0
    largest_px: int = 768

    def __post_init__(self) -> None:
        low, high = self.signs
        require(1 <= low <= high, f"scenes: signs {self.signs} must be two ascending numbers from 1 on.")
        require(self.largest_px >= 200, f"scenes: largest_px is {self.largest_px}; it must be at least 200.")
        check_languages("scenes", self.languages)

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why files of the corpus folder are left out."""
        return left_out(self.corpus, self.languages)

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        rng = np.random.default_rng([zlib.crc32(b"scenes"), seed, index])
        picture = self._background(rng)
        slice_ = rng.random() < self.slices
        count = 1 if slice_ else int(rng.integers(self.signs[0], self.signs[1] + 1))
        taken = np.zeros(picture.shape[:2], bool)
        placed = []
        for _ in range(count):
            sign = self._sign(rng, picture.shape[1], picture.shape[0])
            spot = _spot(sign.ink.shape, taken, rng)
            if spot:
                _put(picture, sign, spot, taken, rng)
                placed.append((spot, sign))
        order = reading_order.rows([_box(spot, sign) for spot, sign in placed])
        placed = [placed[i] for i in order]
        texts = [sign.text for _, sign in placed]
        meta: dict[str, Any] = {"engine": "scenes", "kind": "slice" if slice_ else "picture"}
        meta["lines"] = sum(text.count("\n") + 1 for text in texts)
        if slice_:
            picture = _cut_out(picture, _box(*placed[0]), rng)
        else:
            boxes = [[int(v) for v in _box(spot, sign)] for spot, sign in placed]
            meta["blocks"] = [{"label": "text", "boxes": [b], "text": t} for b, t in zip(boxes, texts, strict=True)]
        picture = _seen(picture, rng)
        if not slice_ and rng.random() < self.boxes:
            return Example((to_png(picture),), prompts.BOXES, annotated(meta["blocks"], picture.shape), meta)
        return Example((to_png(picture),), prompts.PLAIN, "\n".join(texts), meta)

    def _background(self, rng: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
        """A part of a photograph, mirrored, darker or lighter by chance."""
        found = photos.names(self.split, self.photographs)
        photo = photos.photograph(found[rng.integers(len(found))], self.photographs)
        height, width = photo.shape[:2]
        share = rng.uniform(0.45, 1.0)
        part_h, part_w = max(1, int(height * share)), max(1, int(width * share * rng.uniform(0.7, 1.0)))
        top, left = int(rng.integers(height - part_h + 1)), int(rng.integers(width - part_w + 1))
        part = photo[top : top + part_h, left : left + part_w]
        scale = self.largest_px * rng.uniform(0.7, 1.0) / max(part_h, part_w)
        size = (max(32, round(part_w * scale)), max(32, round(part_h * scale)))
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        part = part[:, ::-1] if rng.random() < 0.5 else part
        return cv2.convertScaleAbs(part, alpha=rng.uniform(0.6, 1.15), beta=rng.uniform(-15, 25))  # type: ignore[return-value]

    def _sign(self, rng: np.random.Generator, width: int, height: int) -> _Sign:
        """One to three short lines, bent or seen from aside, with what lies round them."""
        language = weighted(rng, self.languages)
        cuts = fonts.cuts(self.split, language)
        kind, style = cuts[rng.integers(len(cuts))]
        found = fonts.choose(self.split, kind, style, language)
        font = fonts.typeface(found[rng.integers(len(found))])
        size = float(np.exp(rng.uniform(np.log(width / 36), np.log(width / 8))))
        spaced = language not in UNSPACED
        words = next(Prose(self.split, self.corpus).paragraphs(rng, font, language))
        first = int(rng.integers(max(1, len(words) - 3)))
        words = words[first : first + int(rng.integers(1, 7 if spaced else 12))]
        if spaced and rng.random() < 0.35:
            words = font.shown(" ".join(words).upper()).split() or words
        lines = break_lines(words, font, max(2.0, 0.85 * width / size), spaced=spaced)[:3]
        texts = [(" " if spaced else "").join(line).strip() for line in lines]
        return _Sign.draw(texts, font, size, rng, (0.95 * width, 0.95 * height))


@dataclass(frozen=True)
class _Sign:
    """A piece of text as coverage, and how it is to be painted."""

    text: str
    ink: UInt8[np.ndarray, "h w"]
    board: UInt8[np.ndarray, "h w"] | None  # a plate under the text, in the same view
    outline_px: int
    shadow: tuple[int, int] | None

    @classmethod
    def draw(
        cls, texts: list[str], font: fonts.Typeface, size: float, rng: np.random.Generator, most_px: tuple[float, float]
    ) -> _Sign:
        widest = max(font.width(text) for text in texts) * size
        pad, leading = size * rng.uniform(0.3, 0.7), size * rng.uniform(1.1, 1.4)
        width, height = int(widest + 2 * pad), int(leading * (len(texts) - 1) + 1.25 * size + 2 * pad)
        bend = float(rng.normal(0, 0.25)) if rng.random() < 0.25 and len(texts) == 1 else 0.0
        centred = rng.random() < 0.6
        runs = []
        lift = abs(bend) * widest * 0.25
        for number, text in enumerate(texts):
            x = pad + (widest - font.width(text) * size) / 2 * centred
            y = pad + 0.95 * size + number * leading
            for ch in text:
                middle = (x + font.advances[ch] * size / 2 - width / 2) / max(widest, 1.0)
                turn = -bend * middle * 2
                c, s = float(np.cos(turn)) * size, float(np.sin(turn)) * size
                dy = bend * widest * middle * middle + (lift if bend < 0 else 0)
                if ch != " ":
                    runs.append((ch, (c, s, -s, c), x, y + dy))
                x += font.advances[ch] * size
        height = int(height + lift)
        board = np.full((height, width), 255, np.uint8) if rng.random() < 0.35 else None
        ink = draw_runs(font, runs, width, height)
        view = _view(width, height, rng)
        bounds = cv2.perspectiveTransform(_corners(width, height)[None], view)[0]
        low, high = bounds.min(0), bounds.max(0)
        scale = min(1.0, *(np.array(most_px) / (high - low).clip(1)).tolist())
        move = np.array([[scale, 0, -low[0] * scale], [0, scale, -low[1] * scale], [0, 0, 1]]) @ view
        out = (max(4, int((high[0] - low[0]) * scale)), max(4, int((high[1] - low[1]) * scale)))
        ink = cv2.warpPerspective(ink, move, out, flags=cv2.INTER_LINEAR)
        if board is not None:
            board = cv2.warpPerspective(board, move, out, flags=cv2.INTER_LINEAR)
        outline = int(max(1, size * 0.06)) if board is None and rng.random() < 0.3 else 0
        offset = max(1, int(size * 0.06))
        shadow = (offset * int(rng.choice([-1, 1])), offset) if board is None and rng.random() < 0.3 else None
        return cls("\n".join(texts), ink, board, outline, shadow)


def _corners(width: int, height: int) -> Float[np.ndarray, "4 2"]:
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)


def _view(width: int, height: int, rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """Perspective and a turn, mild enough that a person reads on without noticing."""
    corners = _corners(width, height)
    moved = corners.copy()
    if rng.random() < 0.6:
        moved += rng.uniform(-0.12, 0.12, (4, 2)).astype(np.float32) * np.array(
            [min(width, 4 * height), height], np.float32
        )
    if rng.random() < 0.4:
        angle = rng.normal(0, 0.12)
        middle = moved.mean(0)
        cos, sin = np.cos(angle), np.sin(angle)
        moved = ((moved - middle) @ np.array([[cos, sin], [-sin, cos]], np.float32) + middle).astype(np.float32)
    return cv2.getPerspectiveTransform(corners, moved)


def _spot(shape: tuple[int, ...], taken: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """A free place (left, top) for a rectangle; none if ten tries find none."""
    height, width = shape
    for _ in range(10):
        top, left = int(rng.integers(taken.shape[0] - height + 1)), int(rng.integers(taken.shape[1] - width + 1))
        if not taken[top : top + height, left : left + width].any():
            return left, top
    return None


def _put(
    picture: UInt8[np.ndarray, "H W 3"], sign: _Sign, spot: tuple[int, int], taken: np.ndarray, rng: np.random.Generator
) -> None:
    """Paints the sign, in place, in colours that stand out from what lies there."""
    left, top = spot
    part = picture[top : top + sign.ink.shape[0], left : left + sign.ink.shape[1]]
    ground = part.reshape(-1, 3).mean(0)
    if sign.board is not None:
        plate = rng.uniform(0, 255, 3)
        _blend(part, plate, sign.board, rng.uniform(0.85, 1.0))
        ground = plate
    bright = ground @ (0.299, 0.587, 0.114) > 128
    colour = rng.uniform(0, 70, 3) if bright else rng.uniform(190, 255, 3)
    if rng.random() < 0.35:
        colour[rng.integers(3)] = rng.uniform(0, 255)
        if abs((colour - ground) @ (0.299, 0.587, 0.114)) < 90:
            colour = np.array([0.0] * 3 if bright else [255.0] * 3)
    contrast = np.array([255.0] * 3 if colour.mean() < 128 else [0.0] * 3)
    deviation = float(part.std())
    if sign.shadow:
        move = np.array([[1, 0, sign.shadow[0]], [0, 1, sign.shadow[1]]], np.float32)
        shade = cv2.warpAffine(sign.ink, move, sign.ink.shape[::-1])
        _blend(part, contrast, shade, 0.6)
    outline = sign.outline_px or (2 if sign.board is None and deviation > 45 else 0)
    if outline:  # on a restless ground letters need an edge
        _blend(part, contrast, cv2.dilate(sign.ink, np.ones((2 * outline + 1,) * 2, np.uint8)), 0.9)
    _blend(part, colour, sign.ink, float(rng.uniform(0.85, 1.0)))
    taken[top : top + sign.ink.shape[0], left : left + sign.ink.shape[1]] = True


def _blend(
    part: UInt8[np.ndarray, "h w 3"], colour: np.ndarray, mask: UInt8[np.ndarray, "h w"], opacity: float
) -> None:
    share = mask.astype(np.float32) * np.float32(opacity / 255)
    solid = np.empty_like(part)
    solid[:] = colour.astype(np.uint8)
    part[:] = cv2.blendLinear(solid, np.ascontiguousarray(part), share, 1 - share)


def _box(spot: tuple[int, int], sign: _Sign) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the sign's ink."""
    left, top, width, height = cv2.boundingRect((sign.ink > 40).astype(np.uint8))
    return spot[0] + left, spot[1] + top, spot[0] + left + width, spot[1] + top + height


def _cut_out(
    picture: UInt8[np.ndarray, "H W 3"], box: tuple[int, int, int, int], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    left, top, right, bottom = box
    room = (bottom - top) * rng.uniform(0.05, 0.5, 4)
    left, top = max(0, int(left - room[0])), max(0, int(top - room[1]))
    return picture[top : int(bottom + room[2]) + 1, left : int(right + room[3]) + 1]


def _seen(picture: UInt8[np.ndarray, "H W 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
    """What a camera adds: blur, noise, compression."""
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.1))
    return compressed(picture, rng, {})
