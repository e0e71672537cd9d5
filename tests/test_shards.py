"""Examples written by TFDS and read back are those that the engine made; TensorFlow stays out."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from got_jax.data.example import Example
from got_jax.data.mixture import Mixture, place_at
from got_jax.data.shards import Shards, features, to_record
from got_jax.errors import GotError
from pipelines.documents import Documents

ENGINE = Documents(pages=0.0, max_lines=2, line_chars=(4, 12))


class Slices(tfds.core.GeneratorBasedBuilder):
    """Seven slices, of which one has two pictures and no letters."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=features())

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(7):
            yield index, to_record(made(index))


def made(index: int) -> Example:
    example = ENGINE.example(3, index)
    return dataclasses.replace(example, images=example.images * 2, letters=None) if index == 4 else example


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("tfds")
    Slices(data_dir=str(root), file_format="array_record").download_and_prepare()
    return str(root / "slices" / "1.0.0")


def test_shards_give_the_engines_examples_byte_for_byte(folder):
    shards = Shards(folder)
    assert len(shards) == 7
    found = [shards.example(0, i) for i in range(7)]  # TFDS shuffles what it writes
    by_picture = {example.images: example for example in found}
    for index in range(7):
        expected = made(index)
        got = by_picture[expected.images]
        assert (got.prompt, got.text, got.meta) == (expected.prompt, expected.text, expected.meta)
        if expected.letters is None:
            assert got.letters is None
        else:
            assert got.letters is not None
            assert got.letters.text == expected.letters.text
            np.testing.assert_array_equal(got.letters.boxes, expected.letters.boxes)
    assert "tensorflow" not in sys.modules


def test_shards_mix_with_live_engines(folder):
    mixture = Mixture(((ENGINE, 1.0), (Shards(folder), 1.0)))
    places = [place_at(mixture, 0, i) for i in range(28)]
    assert sorted(p.index for p in places if p.source == 1) == sorted([*range(7)] * 2), "two epochs"


def test_folders_that_are_none_are_refused(folder, tmp_path):
    for path, split, says in (
        (str(tmp_path), "train", "holds no readable split 'train'"),
        (folder, "test", "holds no readable split 'test'"),
    ):
        with pytest.raises(GotError, match=says) as caught:
            len(Shards(path, split))
        assert "\n" not in str(caught.value)
