"""What paper, printer, scanner and screen do to a page: coverage map -> picture."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from jaxtyping import UInt8

Done = dict[str, float | bool]
TINTS = ((250, 240, 190), (200, 225, 250), (205, 240, 205), (250, 210, 215), (225, 205, 170))  # coloured papers


def photograph(
    ink: UInt8[np.ndarray, "H W"], rng: np.random.Generator, screen: bool = False
) -> tuple[UInt8[np.ndarray, "H W *C"], Done]:
    """Turns a coverage map into a picture (grey or RGB) as a scan or, with `screen`, as a screenshot.

    In order: skew, ink spread and bleed, lower resolution, blur, colours of paper and ink, shading, a fold's shadow,
    dust, noise, JPEG. Each is drawn from `rng` and may be absent; the dictionary tells what was done.
    """
    done: Done = {}
    if not screen:
        ink = _optics(ink, rng, done)
    pixels, inverted = _colours(ink, rng, screen)
    done["inverted"] = inverted
    if not screen:
        pixels = _paper(pixels, rng, done)
    return compressed(pixels, rng, done), done


def scanned(pixels: UInt8[np.ndarray, "H W 3"], rng: np.random.Generator) -> tuple[UInt8[np.ndarray, "H W *C"], Done]:
    """What `photograph` does after the colours, to a page that has its own; half of them grey."""
    done: Done = {}
    if rng.random() < 0.5:
        done["grey"] = True
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
    if rng.random() < 0.3:
        done["blur_px"] = radius = float(rng.uniform(0.2, 0.7))
        pixels = cv2.GaussianBlur(pixels, (0, 0), radius)
    return compressed(_paper(pixels, rng, done), rng, done), done


def compressed(
    pixels: UInt8[np.ndarray, "H W *C"], rng: np.random.Generator, done: Done
) -> UInt8[np.ndarray, "H W *C"]:
    """JPEG and back, for a third of the pictures."""
    if rng.random() < 0.35:
        done["jpeg"] = quality = int(rng.integers(25, 92))
        packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        pixels = np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED))
    return pixels


def moved(boxes: list[list[float]], was: tuple[int, ...], now: tuple[int, ...], done: Done) -> list[list[float]]:
    """Boxes (left, top, right, bottom in pixels) of a page where they are in its picture: skewed and scaled like it.

    Args:
        was, now: shapes of the coverage map and of the picture. done: what `photograph` did.
    """
    (height, width), (seen_height, seen_width) = was[:2], now[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), float(done.get("skew_degrees", 0.0)), 1.0)
    scale = np.array([seen_width / width, seen_height / height] * 2)
    limits = np.array([seen_width, seen_height] * 2)
    found = []
    for x1, y1, x2, y2 in boxes:
        corners = np.array([[x1, y1, 1], [x2, y1, 1], [x1, y2, 1], [x2, y2, 1]]) @ turn.T
        box = np.concatenate([corners.min(0), corners.max(0)]) * scale
        found.append([round(float(v), 1) for v in np.clip(box, 0, limits)])
    return found


def plain(ink: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Black on white, without a trace of paper."""
    return 255 - ink


def wobbled(
    pixels: UInt8[np.ndarray, "H W *C"], far_px: float, every_px: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W *C"]:
    """Moves pixels along a smooth random field, so that no two strokes are alike, as a hand's are not.

    Args:
        far_px: how far, in standard deviations. every_px: how far apart independent moves are.
    """
    height, width = pixels.shape[:2]
    field = rng.normal(0, far_px, (2, height // every_px + 2, width // every_px + 2)).astype(np.float32)
    dx, dy = (cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC) for part in field)
    x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(cv2.remap(pixels, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _optics(ink: UInt8[np.ndarray, "H W"], rng: np.random.Generator, done: Done) -> UInt8[np.ndarray, "H W"]:
    height, width = ink.shape
    if rng.random() < 0.2:
        done["skew_degrees"] = angle = float(rng.normal(0, 0.8))
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
        ink = cv2.warpAffine(ink, turn, (width, height), flags=cv2.INTER_LINEAR)
    if rng.random() < 0.12 and min(width, height) > 40:
        done["spread"] = share = float(rng.uniform(0.2, 0.7))
        spread = cv2.dilate(ink, np.ones((3, 3), np.uint8))
        if rng.random() < 0.4:  # ink bleeds along the paper's fibres
            done["bleed"] = True
            fibres = cv2.resize(rng.random((height // 4 + 1, width // 4 + 1), np.float32), (width, height))
            ink = np.maximum(ink, (spread * np.clip(2 * fibres - 0.6, 0, 1)).astype(np.uint8))
        else:
            ink = cv2.addWeighted(ink, 1 - share, spread, share, 0)
    if rng.random() < 0.2:
        done["scale"] = scale = float(rng.uniform(0.5, 0.9))
        small = cv2.resize(ink, (max(8, int(width * scale)), max(8, int(height * scale))), interpolation=cv2.INTER_AREA)
        ink = cv2.resize(small, (width, height)) if rng.random() < 0.5 else small
    if rng.random() < 0.4:
        done["blur_px"] = radius = float(rng.uniform(0.2, 1.0))
        ink = cv2.GaussianBlur(ink, (0, 0), radius)
    return ink


def _colours(
    ink: UInt8[np.ndarray, "H W"], rng: np.random.Generator, screen: bool
) -> tuple[UInt8[np.ndarray, "H W *C"], bool]:
    """Mixes paper and ink by a table; three quarters of the pictures stay grey."""
    inverted = bool(rng.random() < (0.6 if screen else 0.05))
    paper = rng.choice([255.0, rng.uniform(235, 255), rng.uniform(170, 245)], p=[0.4, 0.35, 0.25])
    dark = rng.choice([0.0, rng.uniform(0, 60), rng.uniform(40, 110)], p=[0.4, 0.4, 0.2])
    dark = min(dark, paper - 90)
    kind = rng.random()
    if kind < 0.75:
        tones = np.array([[paper], [dark]])
    else:
        warm = np.array([rng.uniform(0, 6), rng.uniform(-3, 3), -rng.uniform(0, 30)])
        ground = paper + warm if kind < 0.95 else np.array(TINTS[rng.integers(len(TINTS))]) * rng.uniform(0.85, 1)
        tones = np.stack([ground, np.clip(dark + rng.uniform(-40, 60, 3), 0, paper - 90)])
    if inverted:
        tones = 255 - tones
    amount = np.arange(256)[:, None] / 255
    table = np.clip(tones[0] * (1 - amount) + tones[1] * amount, 0, 255).astype(np.uint8)
    channels = [cv2.LUT(ink, np.ascontiguousarray(table[:, channel])) for channel in range(table.shape[1])]
    return np.asarray(channels[0] if len(channels) == 1 else cv2.merge(channels)), inverted


def _paper(pixels: UInt8[np.ndarray, "H W *C"], rng: np.random.Generator, done: Done) -> UInt8[np.ndarray, "H W *C"]:
    """Light that falls off, a fold's shadow, dust, and the scanner's noise."""
    height, width = pixels.shape[:2]
    light: np.ndarray | None = None
    if rng.random() < 0.25:
        done["shading"] = True
        angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.3)
        y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
        x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :] * np.float32(np.cos(angle))
        light = 1 - np.float32(depth) * (x + y + np.float32(0.7))
    if rng.random() < 0.06 and min(height, width) > 200:
        done["fold"] = True
        along = rng.random() < 0.5
        place = np.arange(width if along else height, dtype=np.float32) - rng.uniform(0.3, 0.7) * (
            width if along else height
        )
        shadow = np.float32(rng.uniform(0.08, 0.3)) * np.exp(-np.abs(place) / np.float32(rng.uniform(4, 30)))
        shadow[place < 0] *= np.float32(0.4)  # one side of the fold faces the light
        fold = 1 - (shadow[None, :] if along else shadow[:, None])
        light = fold if light is None else light * fold
    if light is not None:
        pixels = (pixels * (light if pixels.ndim == 2 else light[..., None])).astype(np.uint8)
    if rng.random() < 0.08:
        done["dust"] = count = int(height * width * rng.uniform(2e-6, 3e-5)) + 1
        for x, y, shade in zip(
            rng.integers(0, width, count), rng.integers(0, height, count), rng.integers(0, 120, count), strict=True
        ):
            pixels = np.ascontiguousarray(pixels)
            cv2.circle(pixels, (int(x), int(y)), int(rng.random() < 0.2), (int(shade),) * 3, -1)
    if rng.random() < 0.5:
        done["noise"] = sigma = float(rng.uniform(1, 12))
        grain = rng.standard_normal(min(height * width, 300_000), dtype=np.float32)
        grain = np.resize(grain, (height, width)) * np.float32(sigma)  # repeats where no eye could tell
        pixels = np.clip(pixels + (grain if pixels.ndim == 2 else grain[..., None]), 0, 255).astype(np.uint8)
    return pixels


def uncoloured(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W *C"]:
    """Grey, if no pixel has a colour."""
    grey = pixels[..., 0]
    same = (pixels[..., 1] == grey).all() and (pixels[..., 2] == grey).all()
    return np.ascontiguousarray(grey) if same else pixels


def from_png(data: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a picture file in RGB."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


def to_png(pixels: UInt8[np.ndarray, "H W *C"]) -> bytes:
    """A PNG file of a grey or RGB picture, packed by ISA-L: OpenCV's zlib takes longer than many engines draw."""
    from isal import isal_zlib

    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # each row tells what it adds to the one above
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", isal_zlib.compress(filtered, 1)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(name)))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
