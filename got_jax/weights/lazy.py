"""Parameters that are read when they are needed, so that a checkpoint passes through memory one at a time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import type_handlers

FILE_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class Lazy:
    """A parameter on disk: its shape and dtype are known, `read()` brings its values."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def astype(self, dtype: Any) -> Lazy:
        """Rounded to `dtype` when it is read."""
        kept = np.dtype(dtype)
        return Lazy(self.shape, kept, lambda: np.asarray(self.read()).astype(kept, copy=False))


def lazy(leaf: Any) -> Lazy:
    """Any array as a `Lazy`."""
    return leaf if isinstance(leaf, Lazy) else Lazy(tuple(leaf.shape), np.dtype(leaf.dtype), lambda: np.asarray(leaf))


def read_all(params: dict) -> dict:
    """The tree with every `Lazy` read and put on the default device."""
    return jax.tree.map(lambda leaf: jax.numpy.asarray(leaf.read()), params)


def stored(folder: Path, names: tuple[str, ...], like: Any) -> Lazy:
    """The parameter `names` of the orbax checkpoint `folder`; `like`: its metadata."""
    nested = lambda value: functools.reduce(lambda tree, name: {name: tree}, reversed(names), value)
    restore = ocp.args.PyTreeRestore(
        item=nested(0), restore_args=nested(ocp.RestoreArgs(restore_type=np.ndarray)), partial_restore=True
    )

    def read() -> np.ndarray:
        tree = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(folder.resolve(), args=restore)
        return functools.reduce(lambda tree, name: tree[name], names, tree)

    return Lazy(tuple(like.shape), np.dtype(like.dtype), read)


class _OneByOne(type_handlers.NumpyHandler):
    """Writes each parameter before the next is read; orbax's own handlers copy all of them first."""

    async def serialize(
        self, values: Sequence[Any], infos: Sequence[Any], args: Sequence[ocp.SaveArgs] | None = None
    ) -> Sequence[Any]:
        for value, info, arg in zip(values, infos, args or [ocp.SaveArgs()] * len(values), strict=True):
            await self._background_serialize([value.read()], [info], [arg])
        return []


def save(folder: Path, params: dict) -> None:
    """Writes a tree of `Lazy` as an orbax checkpoint, which reads like any other."""
    registry = type_handlers.create_type_handler_registry((Lazy, _OneByOne()))
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(type_handler_registry=registry)) as checkpointer:
        # Orbax fills files of 2 GiB by default, each in memory first.
        checkpointer.save(folder.resolve(), args=ocp.args.PyTreeSave(params, ocdbt_target_data_file_size=FILE_BYTES))
