"""Every kind of picture comes out right, every broken one is refused by name, tiling follows InternVL's rule."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from got_jax import images
from got_jax.errors import GotError

RED = (200, 30, 30)


def file_of(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(mode: str = "RGB") -> Image.Image:
    """Left half red, right half white, 20 x 10."""
    picture = Image.new("RGB", (20, 10), "white")
    picture.paste(RED, (0, 0, 10, 10))
    return picture.convert(mode)


def check_halves(data: bytes, tolerance: int) -> None:
    pixels = np.asarray(images.decode(data, "it")).astype(int)
    assert pixels.shape == (10, 20, 3)
    assert abs(pixels[5, 3] - RED).max() <= tolerance
    assert abs(pixels[5, 16] - 255).max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP", "JPEG", "GIF"])
def test_formats(kind):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(kind, {})
    check_halves(file_of(halves(), kind, **options), 4)


@pytest.mark.parametrize(
    ("mode", "kind"), [("P", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LA", "PNG")]
)
def test_modes(mode, kind):
    if mode == "LA":
        data = file_of(Image.new("LA", (20, 10), (77, 128)), kind)
        assert np.asarray(images.decode(data, "it"))[0, 0].tolist() == [77, 77, 77]
    else:
        check_halves(file_of(halves(mode), kind, **({"quality": 95} if kind == "JPEG" else {})), 30)


def test_sixteen_bit_grey_keeps_its_range():
    grey = np.array([[0, 65535 // 2, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        pixels = np.asarray(images.decode(file_of(Image.fromarray(grey), kind), "it"))
        assert pixels[0, :, 0].tolist() == [0, 127, 255]


def test_float_grey():
    for top in (1.0, 255.0):
        data = file_of(Image.fromarray(np.array([[0.0, top / 2, top]], np.float32)), "TIFF")
        assert np.asarray(images.decode(data, "it"))[0, :, 1].tolist() == [0, 127, 255]


def test_palette_with_transparency():
    picture = halves("P")
    picture.info["transparency"] = bytes([0, 255])
    check_halves(file_of(picture, "PNG", transparency=bytes([255, 255])), 30)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the right
    picture = images.decode(file_of(halves(), "JPEG", exif=exif, quality=95, subsampling=0), "it")
    assert picture.size == (10, 20)
    assert abs(np.asarray(picture).astype(int)[3, 5] - RED).max() <= 6


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(images.decode(data, "it"))[0, 0].tolist() == [255, 0, 0]


def test_a_single_pixel_is_a_picture():
    square = images.to_square(images.decode(file_of(Image.new("RGB", (1, 1), "red"), "PNG"), "it"), 64)
    assert (square == (255, 0, 0)).all()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises more than its few bytes hold."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b"hello", "not a picture that can be read"),
        (b"%PDF-1.7", "not a picture that can be read"),
        (file_of(halves(), "PNG")[:60], "damaged or truncated"),
        (file_of(Image.effect_noise((64, 64), 50), "JPEG")[:400], "damaged or truncated"),
        (png_claiming(40_000, 40_000), "limit of 178,956,970"),
        (png_claiming(12_000, 15_000), "180,000,000 pixels|limit of 178,956,970"),
        (png_claiming(0, 5), "not a picture that can be read"),
    ],
)
def test_bad_files_are_refused(data, says):
    with pytest.raises(GotError, match=says) as caught:
        images.decode(data, "it")
    assert str(caught.value).startswith("it ")
    assert "\n" not in str(caught.value)


def test_bad_paths_are_refused(tmp_path):
    with pytest.raises(GotError, match="does not exist"):
        images.decode(tmp_path / "none.png", "none.png")
    with pytest.raises(GotError, match="is a folder"):
        images.decode(tmp_path, "folder")


def test_the_limit_is_named():
    with pytest.raises(GotError, match="20 x 10 = 200 pixels, over the limit of 100"):
        images.decode(file_of(halves(), "PNG"), "it", max_pixels=100)


@given(data=st.binary(max_size=60), cut=st.integers(0, 80))
def test_rubbish_never_escapes_as_another_error(data, cut):
    whole = file_of(halves(), "PNG")
    for rubbish in (data, whole[:cut], whole[:cut] + data, whole[:cut] + data + whole[cut + len(data) :]):
        with contextlib.suppress(GotError):
            images.decode(rubbish, "it")


@pytest.mark.parametrize(
    ("size", "most", "grid"),
    [
        ((2480, 3508), 6, (2, 3)),
        ((2480, 3508), 12, (2, 3)),
        ((2550, 3300), 12, (3, 4)),
        ((3508, 2480), 6, (3, 2)),
        ((3508, 2480), 12, (4, 3)),
        ((800, 800), 12, (1, 1)),
        ((1500, 1500), 12, (2, 2)),
        ((1200, 60), 6, (6, 1)),
        ((1200, 60), 12, (12, 1)),
    ],
)
def test_tilings_of_the_original(size: tuple[int, int], most: int, grid: tuple[int, int]):
    """Expectations of GOT_FACTS.md section 4."""
    assert images.tile_grid(size[0], size[1], 1024, 1, most) == grid


def test_tiles_are_cut_row_by_row_with_the_thumbnail_last():
    picture = Image.new("RGB", (192, 96), "black")
    picture.paste("white", (96, 0, 192, 96))
    cut = images.tiles(picture, 96, 1, 12)
    assert [int(tile.mean()) for tile in cut] == [0, 255, 127]
    assert len(images.tiles(Image.new("RGB", (50, 50)), 96)) == 1


def test_resize_is_pillows_bicubic():
    picture = Image.effect_noise((77, 31), 90).convert("RGB")
    expected = np.asarray(picture.resize((96, 96), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(images.to_square(picture, 96), expected)
