"""Users' own data: JSON lines or a JSON list, in the three forms that GOT's users have.

- got-jax: {"image": PATH | "images": [PATHS], "prompt": "OCR: ", "text": "..."}
- the original repository: {"image": PATH, "conversations": [{"from": "human", "value": "<image>\\nOCR: "},
  {"from": "gpt", "value": "..."}]}; a path without a picture's suffix is a folder of tiles or pages (*.png)
- ms-swift: {"query": "<image>OCR: ", "response": "...", "images": [PATHS]}, or {"messages": [...], "images": [PATHS]}

Sources: GOT_FACTS.md sections 5.4 and 5.6.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import GotError, require

IMAGE = "<image>"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")


@dataclass(frozen=True)
class Records:
    """A finite engine over a file of records; pictures are read when they are needed.

    Attributes:
        path: .jsonl (one record a line) or .json (a list); local, or any path that etils.epath opens (gs://).
        root: folder that relative picture paths start from; default: the file's.
        name: what logs call it; default: the file's stem.
    """

    path: str
    root: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", epath.Path(self.path).stem)

    def __len__(self) -> int:
        """Records of the file.

        Raises:
            GotError: when it cannot be read, or holds none.
        """
        return len(_index(self.path))

    def example(self, seed: int, index: int) -> Example:
        """Record `index`. Raises GotError, which names its place in the file, when it is bad."""
        del seed
        place = _index(self.path)[index]
        try:
            record = json.loads(_line(self.path, place)) if isinstance(place, tuple) else place
            require(isinstance(record, dict), "it is no JSON object")
            images, prompt, text = _parse(record)
            root = epath.Path(self.root) if self.root else epath.Path(self.path).parent
            files = [data for name in images for data in _pictures(root / name)]
        except (GotError, OSError, ValueError, TypeError, KeyError, AttributeError) as err:
            raise GotError(f"{self.path}, record {index + 1}: {err or type(err).__name__}") from None
        return Example(tuple(files), prompt, text, {"engine": self.name, "record": index + 1})


def _parse(record: dict[str, Any]) -> tuple[list[str], str, str]:
    """(picture paths, query, answer) of a record of any form."""
    images = record.get("images") or record.get("image") or []
    images = [images] if isinstance(images, str) else [i["path"] if isinstance(i, dict) else i for i in images]
    require(bool(images), "it names no picture (image or images)")
    if "text" in record:
        return images, str(record.get("prompt", prompts.PLAIN)), str(record["text"])
    if "response" in record:
        query, answer = record["query"], record["response"]
    else:
        turns = record.get("conversations") or record.get("messages")
        require(isinstance(turns, list), "it has neither text, response, conversations nor messages")
        said = [(t.get("from") or t.get("role"), t.get("value", t.get("content"))) for t in turns]  # type: ignore[union-attr]
        said = [(who, value) for who, value in said if who != "system"]
        require(len(said) == 2, f"it has {len(said)} turns, but one question and one answer are read")
        (_, query), (_, answer) = said
    require(IMAGE in query, f"the question has no {IMAGE} mark")
    return images, re.sub(rf"^(\s*{IMAGE}\n?)+", "", query), str(answer)


def _pictures(path: epath.Path) -> list[bytes]:
    """The file's bytes; of a folder, those of its *.png in natural order (2 before 10)."""
    if path.suffix.lower() in PICTURES:
        require(path.exists(), f"picture {path} is missing")
        return [path.read_bytes()]
    numbers = lambda p: [(0, int(s), "") if s.isdigit() else (1, 0, s) for s in re.split(r"(\d+)", p.name)]
    found = sorted(path.glob("*.png"), key=numbers) if path.is_dir() else []
    require(bool(found), f"{path} is no picture, and no folder of .png pictures")
    return [p.read_bytes() for p in found]


@functools.lru_cache(maxsize=64)
def _index(path: str) -> list[Any]:
    """The records of a list, or (start, end) of every line of a .jsonl file."""
    try:
        data = epath.Path(path).read_bytes()
        if path.endswith(".json"):
            found = json.loads(data)
            require(isinstance(found, list), f"data file {path} is no JSON list; give a list of records, or .jsonl.")
        else:
            ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
            bounds = [0, *(ends + 1).tolist(), len(data)]
            spans = itertools.pairwise(bounds)
            found = [(start, end) for start, end in spans if data[start:end].strip()]
    except GotError:
        raise
    except Exception as err:  # epath raises what each file system raises
        raise GotError(f"data file {path} cannot be read ({str(err).splitlines()[0]}); check the path.") from None
    require(bool(found), f"data file {path} holds no record; give one with some.")
    return found


def _line(path: str, span: tuple[int, int]) -> bytes:
    with epath.Path(path).open("rb") as file:
        file.seek(span[0])
        return file.read(span[1] - span[0])
