"""got-jax model folders: `config.json`, the tokenizer's file and `params/` (an orbax checkpoint of the parameters)."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from got_jax.config import GotConfig, read_config, write_config
from got_jax.errors import GotError, require
from got_jax.models.got import abstract_params
from got_jax.tokenizers import Tokenizer, load_tokenizer
from got_jax.weights.lazy import Lazy, lazy, save, stored

PARAMS = "params"
DType = Any  # what jnp.dtype() takes; jax has no name for it
CONFIG = "config.json"


class Model(NamedTuple):
    """What inference needs: pure functions take it apart again."""

    config: GotConfig
    params: dict
    tokenizer: Tokenizer


def read_model(folder: Path, dtype: DType | None = jnp.float32) -> Model:
    """Loads a model folder; parameters come as `dtype` (None: as they are stored).

    Raises:
        GotError: when a file is missing or damaged, or a tensor is missing, unknown or of another shape than the
            config says.
    """
    config = read_config(folder / CONFIG)
    tokenizer = load_tokenizer(config.tokenizer, folder)
    require(
        tokenizer.vocab_size <= config.decoder.vocab_size,
        f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens but decoder.vocab_size is "
        f"{config.decoder.vocab_size}; copy the model's own tokenizer there.",
    )
    return Model(config, read_params(folder / PARAMS, config, dtype), tokenizer)


def open_model(folder: Path) -> Model:
    """A model folder whose parameters are read when they are needed (`Lazy`), as they are stored."""
    config = read_config(folder / CONFIG)
    return Model(config, open_params(folder / PARAMS, config), load_tokenizer(config.tokenizer, folder))


def open_params(folder: Path, config: GotConfig) -> dict:
    """The parameters of an orbax folder as `Lazy`, checked by name and shape against the config."""
    with _quiet(), ocp.StandardCheckpointer() as checkpointer:
        kept = _checked(folder, config, checkpointer)

    def readable(leaf: Lazy) -> Lazy:
        def read() -> np.ndarray:
            with _quiet(), _damage(folder):
                return leaf.read()

        return dataclasses.replace(leaf, read=read)

    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: readable(stored(folder, tuple(part.key for part in path), leaf)), kept
    )


def read_params(folder: Path, config: GotConfig, dtype: DType | None = jnp.float32) -> dict:
    """The parameters of an orbax folder, checked by name and shape against the config before any is read."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with _quiet(), ocp.StandardCheckpointer() as checkpointer:
        want = jax.tree.map(
            lambda kept: jax.ShapeDtypeStruct(kept.shape, dtype or kept.dtype, sharding=device),
            _checked(folder, config, checkpointer),
        )
        with _damage(folder):
            return checkpointer.restore(folder.resolve(), want)


def write_model(folder: Path, model: Model, dtype: DType | None = None) -> None:
    """Writes a model folder whole or not at all: it is built beside `folder` and renamed at the end.

    Args:
        model: its parameters are arrays or `Lazy`.
        dtype: what the stored parameters are rounded to; default: as they are.

    Raises:
        GotError: when the folder cannot be written.
    """
    params = jax.tree.map(lambda leaf: lazy(leaf).astype(dtype or leaf.dtype), model.params)
    with atomic_folder(folder) as made:
        write_config(model.config, made / CONFIG)
        model.tokenizer.save(made)
        with _quiet():
            save(made / PARAMS, params)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `folder` when the block ends well, and vanishes when it does not."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as err:
        raise GotError(f"{folder} cannot be written ({err.strerror}); choose another folder.") from None
    try:
        yield made
        made.chmod(0o755)
        old = Path(f"{made}.old")
        if folder.exists():
            os.replace(folder, old)
        os.replace(made, folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as err:
        raise GotError(f"{folder} cannot be written ({err.strerror or err}); free space or choose another.") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _checked(folder: Path, config: GotConfig, checkpointer: ocp.StandardCheckpointer) -> dict:
    """The metadata of the parameters in an orbax folder, when they are those of the config."""
    require(folder.is_dir(), f"{folder} does not exist; the model folder is incomplete, copy it again.")
    try:
        kept = checkpointer.metadata(folder.resolve()).item_metadata.tree  # type: ignore[union-attr]
    except Exception as err:  # orbax raises many kinds for a folder that is none of its own
        raise GotError(f"{folder} is not an orbax checkpoint ({one_line(err)}); copy the model again.") from None
    names = lambda tree: {
        ".".join(str(getattr(part, "key", part)) for part in path): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    wanted, found = names(abstract_params(config)), names(kept)
    for name, shape in wanted.items():
        require(name in found, f"{folder}: tensor {name} of shape {list(shape)} is missing; copy the model again.")
        require(
            found[name] == shape,
            f"{folder}: tensor {name} has shape {list(found[name])}, but the config asks for {list(shape)}; "
            "use the config that belongs to these weights.",
        )
    extra = sorted(set(found) - set(wanted))
    require(not extra, f"{folder}: tensor {extra[0] if extra else ''} is not part of this config's model.")
    return kept


@contextmanager
def _damage(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as err:  # of many kinds too
        raise GotError(f"{folder} cannot be read ({one_line(err)}); copy the model again.") from None


def one_line(err: Exception) -> str:
    return (str(err) or type(err).__name__).splitlines()[0][:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs every step through absl; a user needs none of it."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
