"""Where a batch and the lanes' state lie on a mesh: every process gives the rows that it holds."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from got_jax.data.batches import Batch
from got_jax.sharding import batch_sharding


def my_rows(mesh: Mesh, rows: int) -> list[int]:
    """Rows of a batch that lie on this process's devices."""
    places = batch_sharding(mesh).addressable_devices_indices_map((rows,)).values()
    return sorted({row for place in places for row in range(rows)[place[0]]})  # type: ignore[index]


def batch_on_mesh(batch: Batch, mine: list[int], rows: int, mesh: Mesh) -> Batch:
    """The batch of all processes (leaves: `jax.Array`), of which this one holds the rows `mine`."""
    sharding = batch_sharding(mesh)

    def one(leaf: np.ndarray) -> jax.Array:
        per = leaf.shape[0] // len(mine)  # places for pictures of a row, or 1

        def part(index: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = index[0].indices(rows * per)
            at = mine.index(start // per) * per
            return leaf[at : at + stop - start]

        return jax.make_array_from_callback((rows * per, *leaf.shape[1:]), sharding, part)  # type: ignore[arg-type]

    return jax.tree.map(one, batch)


def lanes_on_mesh(lanes: Int[np.ndarray, "R 6"], mesh: Mesh) -> Int[Array, "R 6"]:
    """The lanes' state, split as batches are: of each row, what the process that holds it knows."""
    return jax.make_array_from_callback(lanes.shape, batch_sharding(mesh), lambda index: lanes[index])
