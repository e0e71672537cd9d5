"""What a run is: model, data, optimizer, mesh and times. A config file is plain Python with a function `config()`."""

from __future__ import annotations

import dataclasses
import json
import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from got_jax.config import GotConfig
from got_jax.data.example import Engine
from got_jax.errors import GotError, require
from got_jax.sharding import MeshConfig
from got_jax.train.optimizer import OptimizerConfig
from got_jax.train.step import LossConfig


@dataclass(frozen=True)
class DataConfig:
    """Attributes:
    engine, held_out: where training and held-out examples come from.
    pictures: pictures of a batch. row_tokens: tokens of a packed row. rows_multiple: see `got_jax.data.batches.pack`.
    workers: processes that make batches ahead.
    """

    engine: Engine
    held_out: Engine
    pictures: int = 16
    row_tokens: int = 4096
    rows_multiple: int = 2
    workers: int = 1


@dataclass(frozen=True)
class TrainConfig:
    """Attributes:
    out: folder of checkpoints and log. tokenizer: folder that holds the tokenizer's file.
    init_from: what the run starts from, comma-separated: run and model folders (image_px may differ), SAM folders for
        the encoder, Qwen2 and OPT folders for the decoder, hub ids; a later one wins. "" = fresh weights.
    save_every, eval_every: steps between checkpoints and between held-out readings.
    eval_examples: held-out examples read each time. keep: checkpoints kept.
    """

    model: GotConfig
    data: DataConfig
    steps: int
    out: str
    tokenizer: str
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    init_from: str = ""
    seed: int = 0
    save_every: int = 500
    eval_every: int = 1000
    eval_examples: int = 64
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("steps", "save_every", "eval_every", "keep"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but it must be at least 1.")


def load_config(path: Path) -> TrainConfig:
    """Runs a config file and returns its `config()`. The file may import what lies in the current folder."""
    require(path.is_file(), f"config file {path} does not exist; see configs/.")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    found = runpy.run_path(str(path)).get("config")
    require(callable(found), f"config file {path} has no function config(); define one that returns a TrainConfig.")
    made = found()  # type: ignore[misc]
    require(isinstance(made, TrainConfig), f"config() of {path} returned no TrainConfig; return one.")
    return made


def override(config: Any, changes: dict[str, str]) -> Any:
    """`config` with the fields at dotted paths set to the values that texts spell (numbers, words, JSON lists).

    All changes of a group are made at once, so fields that must fit each other can be changed together.

    Raises:
        GotError: when a path names no field, or a text is not of its field's type.
    """
    group: Any = config if dataclasses.is_dataclass(config) else None
    fields = [f.name for f in dataclasses.fields(group)] if group else []
    values: dict[str, Any] = {}
    deeper: dict[str, dict[str, str]] = {}
    for path, text in changes.items():
        name, _, rest = path.partition(".")
        require(
            name in fields,
            f"override '{path}' names no field of {type(config).__name__}; it has {', '.join(fields)}.",
        )
        if rest:
            deeper.setdefault(name, {})[rest] = text
        else:
            old = getattr(group, name)
            require(not dataclasses.is_dataclass(old), f"override '{path}' names a group; name one field of it.")
            values[name] = _parse(old, text, path)
    values |= {name: override(getattr(group, name), rest) for name, rest in deeper.items()}
    return dataclasses.replace(group, **values)


def _parse(old: Any, text: str, path: str) -> Any:
    kind = type(old)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
        if kind is tuple:
            values = json.loads(text)
            if isinstance(values, list) and len(values) == len(old):
                return tuple(type(a)(b) for a, b in zip(old, values, strict=True))
    except (ValueError, KeyError, TypeError):
        pass
    raise GotError(f"override --{path} '{text}' is no {kind.__name__}; the value so far is {json.dumps(old)}.")
