"""The mesh, the ONE table from logical to mesh axes, and how parameters and batches are laid out.

Parameters name their axes where they are made (`got_jax.models.layers.logical`). This table says which mesh axis each
name is split over; an axis that the mesh axis does not divide stays whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from got_jax.errors import require

AXES = ("data", "fsdp", "tensor")
RULES: dict[str, str] = {
    "embed": "fsdp",
    "neck_in": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "neck": "tensor",
    "vocab": "tensor",
}
BATCH = ("data", "fsdp")  # rows and pictures of a batch are split over both, and so are activations ("batch")


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; one of them may be -1: all that are left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


def make_mesh(config: MeshConfig = MeshConfig(), devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh over `devices` (default: all).

    Raises:
        GotError: when the sizes do not multiply to the number of devices.
    """
    devices = list(devices if devices is not None else jax.devices())
    sizes = [config.data, config.fsdp, config.tensor]
    require(
        sizes.count(-1) <= 1 and all(s == -1 or s > 0 for s in sizes),
        f"mesh {sizes} must hold numbers from 1 on, of which one may be -1 (all devices left); change it.",
    )
    known = int(np.prod([s for s in sizes if s != -1]))
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(1, len(devices) // known)
    require(
        int(np.prod(sizes)) == len(devices),
        f"mesh {' x '.join(map(str, sizes))} does not use the {len(devices)} devices here; change mesh.data, "
        "mesh.fsdp or mesh.tensor.",
    )
    return Mesh(np.asarray(devices).reshape(sizes), AXES)


def shardings(boxed: Any, mesh: Mesh) -> Any:
    """Shardings of a tree of abstract parameters that carry logical names (leaves: `NamedSharding`)."""

    def leaf(value: Any) -> Any:
        if isinstance(value, nn.Partitioned) and not jax.tree.leaves(value.value):
            return value.value  # the optimizer keeps nothing for this parameter
        names = value.names if isinstance(value, nn.Partitioned) else ()
        shape = value.unbox().shape if isinstance(value, nn.Partitioned) else value.shape
        spec: list[str | None] = []
        for size, name in zip(shape, names, strict=False):
            axis = RULES.get(name or "")
            spec.append(axis if axis and axis not in spec and size % mesh.shape[axis] == 0 else None)
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(leaf, boxed, is_leaf=lambda v: isinstance(v, nn.Partitioned))


def place(params: dict, boxed: Any, mesh: Mesh) -> dict:
    """Parameters on a mesh, split by the table; `boxed`: their abstract twins with logical names."""
    return jax.device_put(params, shardings(boxed, mesh))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows and pictures are split along their first axis."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


@contextmanager
def laid_out(mesh: Mesh) -> Iterator[None]:
    """Within, what is traced keeps activations and caches on `mesh` by the table (`layers.by_batch`)."""
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh), nn.logical_axis_rules([*RULES.items(), ("batch", BATCH)]):
        yield


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())
