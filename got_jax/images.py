"""Pictures in: decode anything Pillow reads, set it upright, make it RGB, resize or tile it for the encoder.

Source: the original repository's BlipImageEvalProcessor (plain bicubic resize to a square, aspect ratio not kept) and
InternVL-1.5's dynamic resolution (GOT_FACTS.md sections 2 and 4).
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from got_jax.errors import GotError, require

MAX_PIXELS = 178_956_970  # Pillow's own warning threshold: a quarter of a GiB of RGB


def decode(source: bytes | Path, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A picture file as an upright RGB image: first frame, EXIF orientation applied, transparency dropped.

    16-bit grey is scaled to 8 bits; palettes and CMYK are converted by Pillow.

    Args:
        name: what to call the picture in messages.

    Raises:
        GotError: for a missing, empty, truncated or unknown file, or one with more than `max_pixels` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
                pixels = picture.width * picture.height
                require(
                    pixels <= max_pixels,
                    f"{name} has {picture.width} x {picture.height} = {pixels:,} pixels, over the limit of "
                    f"{max_pixels:,}; shrink the picture first.",
                )
                require(pixels > 0, f"{name} has no pixels; give another picture.")
                picture.load()
                return upright_rgb(picture, ours=True)
    except FileNotFoundError:
        raise GotError(f"{name} does not exist; check the path.") from None
    except IsADirectoryError:
        raise GotError(f"{name} is a folder, not a picture; name the files in it.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise GotError(f"{name} has more than the limit of {max_pixels:,} pixels; shrink the picture first.") from None
    except Image.UnidentifiedImageError:
        empty = len(source) == 0 if isinstance(source, bytes) else Path(source).stat().st_size == 0
        what = "is empty" if empty else "is not a picture that can be read"
        raise GotError(f"{name} {what}; give a PNG, JPEG, TIFF, WebP, BMP or GIF file.") from None
    except PermissionError:
        raise GotError(f"{name} cannot be opened: no permission; change its access rights.") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, IndexError, TypeError, AttributeError) as err:
        # Pillow's decoders raise all of these for damaged files.
        reason = (str(err) or type(err).__name__).splitlines()[0]
        raise GotError(f"{name} is damaged or truncated ({reason}); restore the file.") from None


def upright_rgb(picture: Image.Image, ours: bool = False) -> Image.Image:
    """Applies the EXIF orientation and converts to RGB.

    Args:
        ours: nobody else has the picture, so it may be changed: a page then is not copied where it is upright RGB.
    """
    if ours:
        ImageOps.exif_transpose(picture, in_place=True)
    else:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16") or picture.mode == "I":
        grey = np.asarray(picture).astype(np.int64)
        # Pillow's convert would clip at 255. PNG and TIFF use the whole 16-bit range.
        return Image.fromarray((grey.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        grey = np.nan_to_num(np.asarray(picture))
        top = 1.0 if grey.max(initial=0.0) <= 1.0 else 255.0
        return Image.fromarray((grey / top * 255).clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # Pillow's own way for palettes whose transparency is a byte string
    return _rgb(picture)


def _rgb(picture: Image.Image) -> Image.Image:
    """Pillow would copy what is RGB already."""
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def to_square(picture: Image.Image, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Bicubic resize to side x side, aspect ratio not kept."""
    return np.asarray(_rgb(picture).resize((side, side), Image.Resampling.BICUBIC))


def tile_grid(width: int, height: int, side: int, min_tiles: int = 1, max_tiles: int = 12) -> tuple[int, int]:
    """Columns and rows of the tiling whose shape is closest to the picture's.

    Nearest aspect ratio by |W/H - columns/rows|; among equals a larger grid wins when the picture's area exceeds half
    of that grid's area.
    """
    require(1 <= min_tiles <= max_tiles, f"tiles {min_tiles} to {max_tiles} are no range; give 1 <= min <= max.")
    grids = [
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles + 1)
        if min_tiles <= columns * rows <= max_tiles
    ]
    best, best_difference = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        difference = abs(width / height - columns / rows)
        larger = width * height > 0.5 * side * side * columns * rows
        if difference < best_difference or (difference == best_difference and larger):
            best, best_difference = (columns, rows), difference
    return best


def tiles(
    picture: Image.Image, side: int, min_tiles: int = 1, max_tiles: int = 12
) -> list[UInt8[np.ndarray, "side side 3"]]:
    """Dynamic resolution: tiles row by row, then the whole picture as a thumbnail when there is more than one tile."""
    columns, rows = tile_grid(picture.width, picture.height, side, min_tiles, max_tiles)
    sheet = np.asarray(_rgb(picture).resize((columns * side, rows * side), Image.Resampling.BICUBIC))
    cut = [
        sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(rows)
        for column in range(columns)
    ]
    return [*cut, to_square(picture, side)] if len(cut) > 1 else cut
