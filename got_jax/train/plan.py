"""What a run would need on machines that are not here: bytes, operations and traffic of each device, and step time.

Sizes of the state follow exactly from the shardings. Activations come from the compiler, which can lay out the step for
any number of virtual CPU devices, or else from a formula that is held against it (docs/scaling.md). XLA:CPU keeps some
bfloat16 values in float32, so accelerators need less than both say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding

from got_jax.data.batches import Batch
from got_jax.data.letters import CELL_LETTERS, LetterLabels
from got_jax.errors import GotError, require
from got_jax.sharding import AXES, MeshConfig, batch_sharding, make_mesh
from got_jax.train.config import TrainConfig
from got_jax.train.flops import CHIPS, GIB, Chip, decoder_flops, encoder_flops, step_flops
from got_jax.train.loop import check_rows, training_of
from got_jax.train.optimizer import make_optimizer
from got_jax.train.step import Training, TrainState, abstract_state, make_step

EFFICIENCY = 0.6  # share of a chip's peak that large matrix products reach


@dataclass(frozen=True)
class Plan:
    """Per device, bytes; per step, operations of all devices and bytes that each sends; seconds."""

    params: int
    optimizer: int
    gradients: int
    batch: int
    activations: int  # by `formula`
    compiled: int | None  # all bytes of a device as the compiler lays them out, if it was asked
    flops: float
    recomputed: float
    traffic: dict[str, float]
    seconds: dict[str, float]

    @property
    def bytes(self) -> int:
        """By the compiler where it was asked, else the sum of the parts."""
        return self.compiled or self.summed

    @property
    def summed(self) -> int:
        return self.params + self.optimizer + self.gradients + self.batch + self.activations

    @property
    def bottleneck(self) -> str:
        return max(self.seconds, key=self.seconds.__getitem__)


def mesh_config(text: str) -> MeshConfig:
    """ "data=64,fsdp=16" as a mesh. Raises GotError for another spelling."""
    sizes = {"data": 1, "fsdp": 1, "tensor": 1}
    for part in text.split(","):
        name, _, size = part.partition("=")
        require(name in sizes and size.isdigit() and int(size) > 0, f"--mesh '{text}': write data=N,fsdp=N,tensor=N.")
        sizes[name] = int(size)
    return MeshConfig(**sizes)


def abstract_step(config: TrainConfig, mesh: Any) -> tuple[Training, Any, TrainState, Batch]:
    """What the step takes, as shapes with shardings."""
    training = training_of(config)
    optimizer = make_optimizer(config.optimizer, config.steps)
    return training, optimizer, abstract_state(training, optimizer, mesh), _abstract_batch(config, batch_sharding(mesh))


def _abstract_batch(config: TrainConfig, where: NamedSharding) -> Batch:
    d, e = config.data, config.model.encoder
    make: Any = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype, sharding=where)
    n, ints = d.rows * d.row_pictures, jnp.int32
    row = lambda dtype: make(dtype, d.rows, d.row_tokens)
    letters = LetterLabels(make(ints, n, e.grid, e.grid), make(ints, n, e.image_tokens, CELL_LETTERS))
    return Batch(
        tokens=row(ints),
        targets=row(ints),
        weights=row(jnp.float32),
        positions=row(ints),
        segments=row(ints),
        is_image=row(jnp.bool_),
        sources=row(ints),
        pictures=make(ints, d.rows),
        images=make(jnp.uint8, n, e.image_px, e.image_px, 3),
        letters=letters if config.losses.labels else None,
        places=row(ints) if config.losses.labels else None,
    )


def make_plan(config: TrainConfig, sizes: MeshConfig, chip: str, compile: bool = True) -> Plan:
    """The plan of a config on a mesh of chips; `compile` needs as many (virtual) devices.

    Raises:
        GotError: for an unknown chip, or a batch that the mesh does not divide.
    """
    require(chip in CHIPS, f"chip '{chip}' is unknown; choose one of {', '.join(CHIPS)}.")
    shape = (sizes.data, sizes.fsdp, sizes.tensor)
    ways, devices = sizes.data * sizes.fsdp, math.prod(shape)
    check_rows(config, ways)
    mesh: Any = AbstractMesh(shape, AXES)
    if compile:
        require(jax.device_count() >= devices, f"{jax.device_count()} devices are too few to compile for {devices}.")
        mesh = make_mesh(sizes, jax.devices()[:devices])
    training, optimizer, state, batch = abstract_step(config, mesh)
    trained = [state.params[part] for part in training.trained]
    fixed = [_bytes(tree) for tree in (state.params, state.opt_state, trained, batch)]
    activations = formula(config, training, ways, sizes.tensor)
    compiled = compiled_bytes(training, optimizer, mesh, state, batch) if compile else None
    flops, recomputed = _flops(config, training)
    traffic = _traffic(config, state, trained, sizes)
    c = CHIPS[chip]
    seconds = {
        "products": (flops + recomputed) / devices / (c.flops_per_s * EFFICIENCY),
        "traffic": sum(traffic.values()) / c.link_bytes_per_s,
        "memory": 2 * sum(fixed[:3]) / c.memory_bytes_per_s,
    }
    return Plan(*fixed, activations, compiled, flops, recomputed, traffic, seconds)  # type: ignore[arg-type]


def compiled_bytes(training: Training, optimizer: Any, mesh: Mesh, state: TrainState, batch: Batch) -> int:
    """Arguments and temporaries of one device, as the compiler lays them out."""
    memory = make_step(training, optimizer, mesh).lower(state, batch).compile().memory_analysis()
    if memory is None:
        raise GotError("the compiler of this platform tells no memory figures; give --no-compile.")
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes


def _bytes(tree: Any) -> int:
    """Of one device."""
    leaves: Iterable[Any] = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def formula(config: TrainConfig, training: Training, ways: int, tensor: int) -> int:
    """Bytes of activations of one device, for remat "blocks" and rows scored in query blocks.

    A step is at its largest in the decoder's backward pass, where the inputs of all blocks, one block's inside and
    copies of the embedding table are held, or in the encoder's, with the blocks' inputs and one block's inside for
    every picture. The counts of copies (2, 5, 1.3, 10.5 and 6.5) are fitted to what XLA:CPU reports at full size.
    """
    d, e, c = config.data, config.model.encoder, config.model.decoder
    parts = ways * config.losses.accumulate
    tokens, pictures = d.rows * d.row_tokens / parts, d.rows * d.row_pictures / parts
    table, float32 = 4 * c.vocab_size * c.width / tensor, 4
    moves = "encoder" in training.trained
    kept = pictures * e.depth * e.grid**2 * e.width * float32 * 2 if moves else 0
    of_token = float32 * (c.depth * c.width + 3 * c.mlp_width / tensor + c.width)
    in_decoder = 5 * table + tokens * of_token + kept
    inside = float32 * e.grid**2 * e.mlp_width / tensor * (10.5 if moves else 6.5)
    in_encoder = 1.3 * table + kept + pictures * inside
    return int(max(in_decoder if config.losses.text else 0, in_encoder))


def _flops(config: TrainConfig, training: Training) -> tuple[float, float]:
    """Operations of a step, and those of forward passes that remat repeats."""
    d = config.data
    text = config.losses.text > 0
    pictures = d.rows * d.row_pictures
    flops = step_flops(config.model, training.trained, text, d.rows, d.row_tokens, pictures)
    again = d.rows * decoder_flops(config.model, d.row_tokens) if text else 0.0
    again += pictures * encoder_flops(config.model) if "encoder" in training.trained else 0.0
    return flops, again if config.model.remat == "blocks" else 0.0


def _traffic(config: TrainConfig, state: TrainState, trained: list, sizes: MeshConfig) -> dict[str, float]:
    """Bytes that one device sends in a step, by what for.

    Over `fsdp`: weights are gathered in the compute dtype, forward and backward (and for what is recomputed), and
    gradients scattered in float32. Over `data`: gradients are summed. Over `tensor`: activations are, twice a layer.
    """
    m, d, model = sizes, config.data, config.model
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree)) / m.tensor
    width = jnp.dtype(model.dtype).itemsize
    passes = 3 if model.remat == "blocks" else 2
    ring = lambda n: (n - 1) / n
    rows = d.rows / (m.data * m.fsdp)
    layer = rows * d.row_tokens * model.decoder.width * model.decoder.depth
    encoder = rows * d.row_pictures * model.encoder.grid**2 * model.encoder.width * model.encoder.depth
    return {
        "gathering weights (fsdp)": passes * width * size(state.params) * ring(m.fsdp),
        "scattering gradients (fsdp)": 4 * size(trained) * ring(m.fsdp),
        "summing gradients (data)": 2 * 4 * size(trained) / m.fsdp * ring(m.data),
        "summing activations (tensor)": 2 * 2 * passes * width * (layer + encoder) * ring(m.tensor),
    }


def as_table(config: TrainConfig, plan: Plan, sizes: MeshConfig, chip: str) -> str:
    """The plan in words and numbers."""
    c: Chip = CHIPS[chip]
    devices = sizes.data * sizes.fsdp * sizes.tensor
    lines = [
        f"{devices} x {chip}: data {sizes.data}, fsdp {sizes.fsdp}, tensor {sizes.tensor}",
        "",
        "memory of a device",
    ]
    for name in ("params", "optimizer", "gradients", "batch", "activations"):
        lines.append(f"  {name:32} {getattr(plan, name) / GIB:10.2f} GiB")
    lines.append(f"  {'together':32} {plan.summed / GIB:10.2f} GiB of {c.memory_bytes / GIB:.0f}")
    if plan.compiled:
        off = plan.summed / plan.compiled - 1
        lines.append(f"  {'as compiled (XLA:CPU)':32} {plan.compiled / GIB:10.2f} GiB ({off:+.0%} by the sum above)")
    if plan.bytes > c.memory_bytes:
        lines.append("  it does NOT fit: more fsdp or tensor, fewer rows a device, or losses.accumulate")
    lines += ["", "a step"]
    lines.append(f"  {'operations':32} {plan.flops / 1e12:10.1f} TFLOP, and {plan.recomputed / 1e12:.1f} recomputed")
    for name, size in plan.traffic.items():
        if size:
            lines.append(f"  {name:32} {size / GIB:10.2f} GiB sent by a device")
    for name, seconds in plan.seconds.items():
        mark = "  <- bottleneck" if name == plan.bottleneck else ""
        lines.append(f"  {'time for ' + name:32} {seconds:10.3f} s{mark}")
    longest = max(plan.seconds.values())
    pictures = config.data.rows * config.data.row_pictures
    lines.append(f"  {'step, all overlapping':32} {longest:10.3f} s: at most {pictures / longest:,.0f} pictures/s")
    mfu = plan.flops / devices / c.flops_per_s / longest
    lines.append(f"  {'model FLOP utilisation':32} {mfu:10.1%} with products at {EFFICIENCY:.0%} of the peak")
    return "\n".join(lines)
