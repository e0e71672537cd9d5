"""Checkpoints of a run with orbax: saved in the background, the last few kept."""

from __future__ import annotations

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from got_jax.config import read_config
from got_jax.errors import require
from got_jax.tokenizers import load_tokenizer
from got_jax.train.step import PARTS, TrainState
from got_jax.weights.lazy import read_all, stored
from got_jax.weights.store import CONFIG, Model
from got_jax.weights.torch_folders import open_folder, read_folder

CHECKPOINTS = "checkpoints"


def open_manager(folder: Path, keep: int | None) -> ocp.CheckpointManager:
    """The checkpoints under `folder`; half-written ones of a killed run are cleaned up."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True)
    return ocp.CheckpointManager(folder.resolve(), options=options)


def save(manager: ocp.CheckpointManager, state: TrainState) -> None:
    """Starts a save of a copy of `state`: the train step may overwrite the original while it is written."""
    copy = jax.tree.map(jnp.copy, state)
    manager.save(int(state.step), args=ocp.args.StandardSave(copy._asdict()))


def restore(manager: ocp.CheckpointManager, like: TrainState) -> TrainState:
    """The newest checkpoint, placed as `like` is (arrays or `jax.ShapeDtypeStruct`s with shardings)."""
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
    return TrainState(**manager.restore(manager.latest_step(), args=ocp.args.StandardRestore(target)))


def read_weights(folder: Path, heads: bool = False) -> Model:
    """A model folder, or the newest checkpoint of a run's folder, in float32; `heads`: with what only training uses."""
    if _is_run(folder):
        model = open_run(folder, heads)
        return model._replace(params=read_all(model.params))
    return read_folder(folder)


def open_weights(folder: Path) -> Model:
    """The same with parameters that are read when they are needed (`Lazy`), as they are stored."""
    return open_run(folder) if _is_run(folder) else open_folder(folder)


def _is_run(folder: Path) -> bool:
    require(folder.is_dir(), f"{folder} does not exist; give a run's folder or a model folder.")
    return (folder / CHECKPOINTS).is_dir()


def open_run(folder: Path, heads: bool = False) -> Model:
    """Config, newest parameters (`Lazy`) and tokenizer of a run's folder.

    Raises:
        GotError: when the run holds no finished checkpoint.
    """
    config = read_config(folder / CONFIG)
    manager = open_manager(folder / CHECKPOINTS, keep=None)
    step = manager.latest_step()
    require(step is not None, f"run {folder} has no finished checkpoint yet; train it further.")
    state = folder / CHECKPOINTS / str(step) / "default"
    kept = dict(ocp.StandardCheckpointer().metadata(state.resolve()).item_metadata.tree)["params"]  # type: ignore[union-attr]
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: stored(state, ("params", *(part.key for part in path)), leaf),
        {part: value for part, value in kept.items() if heads or part in PARTS},
    )
    return Model(config, params, load_tokenizer(config.tokenizer, folder))
