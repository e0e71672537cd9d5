"""Checkpoints of a run with orbax: saved in the background, the last few kept, damaged ones passed over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from jaxtyping import Array, UInt32

from got_jax.config import read_config
from got_jax.errors import GotError, require
from got_jax.tokenizers import load_tokenizer
from got_jax.train.adapter import write_adapter
from got_jax.train.lora import merged_lazily, read_lora
from got_jax.train.step import PARTS, TrainState
from got_jax.weights.lazy import read_all, stored
from got_jax.weights.store import CONFIG, Model, one_line
from got_jax.weights.torch_folders import open_folder, read_folder

CHECKPOINTS = "checkpoints"
DAMAGED = "damaged"  # beside CHECKPOINTS
LARGE = 2**20  # bytes of a part


class Saved(NamedTuple):
    """What a checkpoint holds: the state, what the data's lanes have read, and a sum of the state's bits."""

    state: TrainState
    lanes: Any
    sums: Any


def open_manager(folder: Path, keep: int | None) -> ocp.CheckpointManager:
    """The checkpoints under `folder`; half-written ones of a killed run are cleaned up."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True)
    # Devices that hold the same array write a part each. Of small ones that is no help, and every cut is a program.
    arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=LARGE)
    registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    return ocp.CheckpointManager(epath.Path(folder).resolve(), options=options, item_handlers=handler)


@jax.jit
def bit_sums(tree: Any) -> UInt32[Array, "leaves"]:
    """A sum of the bits of every array, the same on any mesh. It tells damage that orbax does not notice."""

    def one(leaf: Array) -> Array:
        wide = leaf.astype(jnp.float32) if leaf.dtype.itemsize < 4 else leaf
        return wide.view(jnp.uint32).sum(dtype=jnp.uint32)

    return jnp.stack([one(leaf) for leaf in jax.tree.leaves(tree)])


def save(manager: ocp.CheckpointManager, state: TrainState, lanes: Array) -> None:
    """Starts a save of `state` in the background.

    From an accelerator orbax copies to the host before it returns. On a CPU it reads the arrays themselves, which the
    next step overwrites, so there a copy is saved.

    Raises:
        GotError: when this or the save before could not be written.
    """
    kept = jax.tree.map(jnp.copy, state) if jax.default_backend() == "cpu" else state
    try:
        manager.check_for_errors()
        saved = Saved(kept, lanes, bit_sums(kept))
        manager.save(int(state.step), args=ocp.args.PyTreeSave(_tree(saved)))
    except Exception as err:  # orbax and its file systems raise many kinds
        raise _unwritten(manager, err) from None


def finish(manager: ocp.CheckpointManager) -> None:
    """Waits for the save under way. Raises GotError when it could not be written."""
    try:
        manager.wait_until_finished()
        manager.check_for_errors()
    except Exception as err:
        raise _unwritten(manager, err) from None


def _unwritten(manager: ocp.CheckpointManager, err: Exception) -> GotError:
    return GotError(
        f"a checkpoint under {manager.directory} could not be written ({one_line(err)}); free space and resume "
        "with the same command: the saves before are whole."
    )


def restore(manager: ocp.CheckpointManager, like: Saved, warn: Callable[[str], None]) -> Saved | None:
    """The newest whole checkpoint, placed as `like` is (arrays or `jax.ShapeDtypeStruct`s with shardings), or None.

    A damaged one is moved to the folder "damaged" with a warning, and the one before it is taken.

    Raises:
        GotError: when there are checkpoints, but none is whole or fits the config.
    """
    target = _tree(jax.tree.map(_struct, like))
    placed = ocp.checkpoint_utils.construct_restore_args(target)
    damaged: dict[int, str] = {}
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            found = manager.restore(step, args=ocp.args.PyTreeRestore(target, restore_args=placed))
            saved = Saved(TrainState(**found["state"]), found["lanes"], found["sums"])
            require(bool(jnp.array_equal(bit_sums(saved.state), saved.sums)), "its bits are not those that were saved")
        except Exception as err:
            damaged[step] = one_line(err)
            continue
        for number, reason in damaged.items():
            warn(f"checkpoint {manager.directory / str(number)} is damaged ({reason}); going on from step {step}.")
        _set_aside(manager, list(damaged))
        return saved
    require(
        not damaged,
        f"no checkpoint under {manager.directory} can be resumed ({'; '.join(damaged.values())}). Is the config the "
        "run's? Else start anew with another --out.",
    )
    return None


def _set_aside(manager: ocp.CheckpointManager, steps: list[int]) -> None:
    if steps and jax.process_index() == 0:
        aside = manager.directory.parent / DAMAGED
        aside.mkdir(exist_ok=True)
        for step in steps:
            (manager.directory / str(step)).rename(aside / f"{step}.{len(list(aside.iterdir()))}")
    if steps:
        multihost_utils.sync_global_devices("damaged checkpoints set aside")
        manager.reload()


def _struct(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _tree(saved: Saved) -> dict:
    return {"state": saved.state._asdict(), "lanes": saved.lanes, "sums": saved.sums}


def read_weights(folder: Path, heads: bool = False) -> Model:
    """A model folder, or the newest checkpoint of a run's folder, in float32; `heads`: with what only training uses."""
    if is_run(folder):
        model = open_run(folder, heads)
        return model._replace(params=read_all(model.params))
    return read_folder(folder)


def open_weights(folder: Path) -> Model:
    """The same with parameters that are read when they are needed (`Lazy`), as they are stored."""
    return open_run(folder) if is_run(folder) else open_folder(folder)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's. Raises GotError when there is none."""
    require(folder.is_dir(), f"{folder} does not exist; give a run's folder or a model folder.")
    return (folder / CHECKPOINTS).is_dir()


def open_run(folder: Path, heads: bool = False) -> Model:
    """Config, newest parameters (`Lazy`) and tokenizer of a run's folder.

    Raises:
        GotError: when the run holds no finished checkpoint.
    """
    config = read_config(folder / CONFIG)
    params = _newest_params(folder)
    if "lora" in params:
        params = merged_lazily(read_lora(folder)[0], params)
    params = {part: tree for part, tree in params.items() if heads or part in PARTS}
    return Model(config, params, load_tokenizer(config.tokenizer, folder))


def export_adapter(run: Path, folder: Path) -> None:
    """Writes the newest adapters of a run as a folder of PEFT's.

    Raises:
        GotError: when the run has none, or the folder cannot be written.
    """
    require(is_run(run), f"{run} is no run; adapters are taken from a run's folder.")
    params = _newest_params(run)
    require("lora" in params, f"run {run} trains no adapters (lora.rank is 0); convert it without --adapter.")
    lora, base = read_lora(run)
    write_adapter(folder, read_config(run / CONFIG), lora, params["lora"], base)


def _newest_params(folder: Path) -> dict:
    """Everything under "params" of a run's newest checkpoint, as `Lazy`."""
    step = open_manager(folder / CHECKPOINTS, keep=None).latest_step()
    require(step is not None, f"run {folder} has no finished checkpoint yet; train it further.")
    path = folder / CHECKPOINTS / str(step) / "default"
    kept = ocp.StandardCheckpointer().metadata(path.resolve()).item_metadata.tree["state"]["params"]  # type: ignore[union-attr]
    return jax.tree_util.tree_map_with_path(
        lambda at, leaf: stored(path, ("state", "params", *(part.key for part in at)), leaf), dict(kept)
    )
