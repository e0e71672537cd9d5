"""What paper, printer, scanner and screen do to a page: coverage map -> picture."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter


def photograph(
    ink: UInt8[np.ndarray, "H W"], rng: np.random.Generator, screen: bool = False
) -> tuple[Image.Image, dict[str, float | bool]]:
    """Turns a coverage map into a picture (mode L or RGB) as a scan or, with `screen`, as a screenshot.

    In order: skew, ink spread, lower resolution, blur, colours of paper and ink, shading, noise, JPEG. Each is drawn
    from `rng` and may be absent; the dictionary tells what was done.
    """
    done: dict[str, float | bool] = {}
    picture = Image.fromarray(ink)
    if not screen:
        picture = _optics(picture, rng, done)
    pixels, inverted = _colours(np.asarray(picture), rng, screen)
    done["inverted"] = inverted
    if not screen and rng.random() < 0.25:
        done["shading"] = True
        pixels = _shade(pixels, rng)
    if not screen and rng.random() < 0.5:
        done["noise"] = sigma = float(rng.uniform(1, 12))
        grain = rng.standard_normal(pixels.shape[:2], dtype=np.float32) * sigma
        pixels = pixels.astype(np.float32) + (grain if pixels.ndim == 2 else grain[..., None])
        pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels)
    if rng.random() < 0.35:
        done["jpeg"] = quality = int(rng.integers(25, 92))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        picture = Image.open(buffer)
        picture.load()
    return picture, done


def _optics(picture: Image.Image, rng: np.random.Generator, done: dict[str, float | bool]) -> Image.Image:
    if rng.random() < 0.2:
        done["skew_degrees"] = angle = float(rng.normal(0, 0.8))
        picture = picture.rotate(angle, Image.Resampling.BILINEAR)
    if rng.random() < 0.12 and min(picture.size) > 40:
        done["spread"] = True
        picture = Image.blend(picture, picture.filter(ImageFilter.MaxFilter(3)), float(rng.uniform(0.2, 0.7)))
    if rng.random() < 0.2:
        done["scale"] = scale = float(rng.uniform(0.5, 0.9))
        small = picture.resize((max(8, int(picture.width * scale)), max(8, int(picture.height * scale))))
        picture = small.resize(picture.size, Image.Resampling.BILINEAR) if rng.random() < 0.5 else small
    if rng.random() < 0.4:
        done["blur_px"] = radius = float(rng.uniform(0.2, 1.0))
        picture = picture.filter(ImageFilter.GaussianBlur(radius))
    return picture


def _colours(
    ink: UInt8[np.ndarray, "H W"], rng: np.random.Generator, screen: bool
) -> tuple[UInt8[np.ndarray, "H W *C"], bool]:
    """Mixes paper and ink by a table; three quarters of the pictures stay grey."""
    inverted = bool(rng.random() < (0.6 if screen else 0.05))
    paper = rng.choice([255.0, rng.uniform(235, 255), rng.uniform(170, 245)], p=[0.4, 0.35, 0.25])
    dark = rng.choice([0.0, rng.uniform(0, 60), rng.uniform(40, 110)], p=[0.4, 0.4, 0.2])
    dark = min(dark, paper - 90)
    if rng.random() < 0.75:
        tones = np.array([[paper], [dark]])
    else:
        warm = np.array([rng.uniform(0, 6), rng.uniform(-3, 3), -rng.uniform(0, 30)])
        tones = np.stack([paper + warm, np.clip(dark + rng.uniform(-40, 60, 3), 0, paper - 90)])
    if inverted:
        tones = 255 - tones
    amount = np.arange(256)[:, None] / 255
    table = np.clip(tones[0] * (1 - amount) + tones[1] * amount, 0, 255).astype(np.uint8)
    return table[ink][..., 0] if table.shape[1] == 1 else table[ink], inverted


def _shade(pixels: UInt8[np.ndarray, "H W *C"], rng: np.random.Generator) -> UInt8[np.ndarray, "H W *C"]:
    """Light that falls off along a random direction."""
    height, width = pixels.shape[:2]
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.3)
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :] * np.float32(np.cos(angle))
    light = 1 - np.float32(depth) * (x + y + np.float32(0.7))
    return (pixels * (light if pixels.ndim == 2 else light[..., None])).clip(0, 255).astype(np.uint8)


def to_png(picture: Image.Image) -> bytes:
    """A PNG file, lightly compressed: examples are made faster than they are stored."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
