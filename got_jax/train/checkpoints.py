"""Checkpoints of a run with orbax: saved in the background, the last few kept."""

from __future__ import annotations

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from got_jax.train.step import TrainState


def open_manager(folder: Path, keep: int) -> ocp.CheckpointManager:
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
