"""Examples written once to ArrayRecord files, as TensorFlow Datasets lays them out (without TensorFlow), and read back.

A record holds the picture files as they are, so an example read from shards is the one that the engine made, byte for
byte.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from got_jax.data.example import Example, Letters
from got_jax.errors import GotError, require


def features() -> Any:
    """The TFDS features of a record, for a builder's DatasetInfo."""
    tfds = _tfds()
    text = tfds.features.Text()  # of bytes: TFDS's own Image would decode the file, and need TensorFlow to write
    return tfds.features.FeaturesDict(
        {"images": tfds.features.Sequence(text), "prompt": text, "text": text, "meta": text}
    )


def to_record(example: Example) -> dict[str, Any]:
    """An example as a record of `features`."""
    kept: dict[str, Any] = {"meta": example.meta}
    if example.letters:
        kept["letters"] = {"text": example.letters.text, "boxes": np.asarray(example.letters.boxes).tolist()}
    return {
        "images": list(example.images),
        "prompt": example.prompt,
        "text": example.text,
        "meta": json.dumps(kept, ensure_ascii=False),
    }


def from_record(record: dict[str, Any]) -> Example:
    """The inverse of `to_record`, from the bytes that TFDS reads."""
    kept = json.loads(record["meta"])
    letters = kept.get("letters")
    example = Example(
        tuple(bytes(image) for image in record["images"]),
        bytes(record["prompt"]).decode(),
        bytes(record["text"]).decode(),
        kept["meta"],
    )
    if not letters:
        return example
    boxes = np.asarray(letters["boxes"], float).reshape(-1, 4)
    return dataclasses.replace(example, letters=Letters(letters["text"], boxes))


@dataclass(frozen=True)
class Shards:
    """A finite engine over a folder that TFDS wrote: the one with `dataset_info.json` and *.array_record files.

    Attributes:
        path: local, or any path that TFDS opens. split: which part of it. name: what logs call it.
    """

    path: str
    split: str = "train"
    name: str = "shards"

    def __len__(self) -> int:
        """Examples of the split. Raises GotError when the folder cannot be read."""
        return len(_source(self.path, self.split))

    def example(self, seed: int, index: int) -> Example:
        """Example `index` of the split."""
        del seed
        return from_record(_source(self.path, self.split)[index])


@functools.lru_cache(maxsize=64)
def _source(path: str, split: str) -> Any:
    try:
        source = _tfds().builder_from_directory(path).as_data_source(split=split)
        require(len(source) > 0, f"{path} has no example in split '{split}'; build it again.")
        return source
    except GotError:
        raise
    except Exception as err:  # TFDS raises many kinds
        line = (str(err) or type(err).__name__).strip().splitlines()[0]
        raise GotError(f"{path} holds no readable split '{split}' ({line}); give a folder that TFDS wrote.") from None


def _tfds() -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise GotError("ArrayRecord data needs TFDS; run pip install 'got-jax[pipelines]'.") from None
    return tfds
