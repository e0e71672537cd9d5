"""Pixels, tiles and prompt ids against the processor of a folder that got-jax writes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from got_jax import images, prompts
from got_jax.weights.torch_write import write_torch_folder

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
# At a side of 96: from below one tile to beyond twelve, and ratios from 1:11 to 20:1.
SIZES = (
    *((40, 40), (96, 96), (150, 150), (200, 190), (300, 200), (200, 300)),
    *((1000, 90), (90, 1000), (595, 842), (842, 595), (640, 480), (1200, 60)),
)


@pytest.fixture(scope="module")
def processor(qwen_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("processor") / "hf"
    write_torch_folder(path, qwen_model, "transformers")
    return transformers.AutoProcessor.from_pretrained(path)


def picture_of(size: tuple[int, int]) -> Image.Image:
    small = np.random.default_rng(size[0]).integers(0, 255, (9, 12, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BILINEAR)


def pixels_of(processor, picture: Image.Image, **options) -> np.ndarray:
    """Back to 0..255, [N, H, W, 3]."""
    values = processor.image_processor(picture, return_tensors="np", **options).pixel_values
    mean, std = np.array(processor.image_processor.image_mean), np.array(processor.image_processor.image_std)
    return (np.asarray(values).transpose(0, 2, 3, 1) * std + mean) * 255


@pytest.mark.parametrize("size", SIZES)
def test_pixels_and_tiles(processor, size):
    picture = picture_of(size)
    ours = images.to_square(picture, 96).astype(float)
    assert np.abs(pixels_of(processor, picture, crop_to_patches=False)[0] - ours).max() <= 2
    tiles = np.stack(images.tiles(picture, 96)).astype(float)
    theirs = pixels_of(processor, picture, crop_to_patches=True)
    assert theirs.shape == tiles.shape, "the same grid, with the thumbnail last"
    assert np.abs(theirs - tiles).max() <= 2


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"format": True}, {"format": True}),
        ({"color": "green"}, {"color": "green"}),
        ({"box": [10, 20, 60, 70]}, {"box": (10, 20, 60, 70), "size": (120, 100)}),
        ({"box": [10, 20, 60, 70], "format": True}, {"box": (10, 20, 60, 70), "size": (120, 100), "format": True}),
    ],
)
def test_prompt_ids(processor, qwen, theirs, ours):
    """Its prompt has 256 <imgpad> whatever the model; nothing else differs from our "transformers" dialect."""
    ids = processor(picture_of((120, 100)), return_tensors="np", **theirs)["input_ids"][0].tolist()
    expected = prompts.prompt_ids(qwen, prompts.query(**ours, dialect="transformers"), 256, dialect="transformers")
    assert ids == expected


def test_prompt_ids_of_tiles_and_pages(processor, qwen):
    """Several pictures share one pair of marks in both."""
    picture = picture_of((300, 200))
    tiles = len(images.tiles(picture, 96))
    ids = processor(picture, return_tensors="np", crop_to_patches=True, format=True)["input_ids"][0].tolist()
    query = prompts.query(format=True, patches=True, dialect="transformers")
    assert ids == prompts.prompt_ids(qwen, query, 256, tiles, dialect="transformers")
    pages = [picture, picture_of((200, 300))]
    ids = processor([pages], return_tensors="np", multi_page=True, format=True)["input_ids"][0].tolist()
    query = prompts.query(pages=True, format=True, dialect="transformers")
    assert ids == prompts.prompt_ids(qwen, query, 256, 2, dialect="transformers")
