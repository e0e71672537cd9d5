"""Low-rank adapters (LoRA, arXiv 2106.09685): W + alpha / rank * A B, of which only A and B are trained.

Adapters live beside the parameters, under "lora", in a tree of the same names. The step adds them up before the model
runs, so every part of the house (meshes, checkpoints, decoding) works as it does without. Initialisation is the
paper's: A random, B zero, so that a run starts from the model itself.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from got_jax.errors import GotError, require

FILE = "lora.json"


@dataclass(frozen=True)
class LoraConfig:
    """Attributes:
    rank: columns of A and rows of B; 0 = no adapters, all parameters are trained.
    alpha: the product counts alpha / rank.
    targets: regular expression over dotted parameter names whose kernels get adapters; the default is every linear
        layer of decoder and connector, as ms-swift does for GOT.
    """

    rank: int = 0
    alpha: float = 16.0
    targets: str = r"(decoder\.layers|connector\.linear)\..*kernel|connector\.linear\.kernel"

    def __post_init__(self) -> None:
        require(self.rank >= 0, f"lora.rank is {self.rank}; it must be 0 (no adapters) or more.")
        require(self.alpha > 0, f"lora.alpha is {self.alpha}, but it must be above 0.")
        try:
            re.compile(self.targets)
        except re.error as err:
            require(False, f"lora.targets '{self.targets}' is no regular expression ({err}); correct it.")


def _flat(params: dict) -> dict[str, Any]:
    return flatten_dict(params, sep=".")  # type: ignore[return-value]


def init_lora(config: LoraConfig, params: dict, key: Array, boxed: bool = False) -> dict:
    """Adapters {"a": [..., D, rank], "b": [..., rank, F]} in the places of the targets of `params`."""
    adapters: dict[str, Any] = {}
    for number, (name, leaf) in enumerate(_flat(params).items()):
        if not re.fullmatch(config.targets, name):
            continue
        names = leaf.names if isinstance(leaf, nn.Partitioned) else (None,) * leaf.ndim
        *stack, rows, columns = leaf.unbox().shape if isinstance(leaf, nn.Partitioned) else leaf.shape
        a = jax.random.normal(jax.random.fold_in(key, number), (*stack, rows, config.rank)) * rows**-0.5
        b = jnp.zeros((*stack, config.rank, columns))
        if boxed:
            a = nn.LogicallyPartitioned(a, (*names[:-1], None))
            b = nn.LogicallyPartitioned(b, (*names[:-2], None, names[-1]))
        adapters[name] = {"a": a, "b": b}
    require(bool(adapters), f"lora.targets '{config.targets}' matches no parameter; see got_jax.train.lora.")
    return unflatten_dict(adapters, sep=".")


def merged(config: LoraConfig, params: dict) -> dict:
    """The parameters with their adapters added up, and without "lora"."""
    adapters = _flat(params["lora"])
    flat = _flat({part: tree for part, tree in params.items() if part != "lora"})
    for name in {name.rpartition(".")[0] for name in adapters}:
        product = jnp.matmul(adapters[f"{name}.a"], adapters[f"{name}.b"], precision="highest")
        flat[name] = flat[name] + (config.alpha / config.rank * product).astype(flat[name].dtype)
    return unflatten_dict(flat, sep=".")


def merged_lazily(config: LoraConfig, params: dict) -> dict:
    """`merged` for parameters that are read when they are needed (`Lazy`)."""
    adapters = _flat(params["lora"])
    flat = _flat({part: tree for part, tree in params.items() if part != "lora"})
    for name in {name.rpartition(".")[0] for name in adapters}:
        base, a, b = flat[name], adapters[f"{name}.a"], adapters[f"{name}.b"]
        read = lambda base=base, a=a, b=b: (
            base.read() + (config.alpha / config.rank * (a.read() @ b.read())).astype(base.dtype)
        )
        flat[name] = dataclasses.replace(base, read=read)
    return unflatten_dict(flat, sep=".")


def write_lora(config: LoraConfig, base: str, folder: Path) -> None:
    """Keeps the adapters' settings, and the name of the model they belong to, in a run's folder."""
    values = {"base": base, **dataclasses.asdict(config)}
    (folder / FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_lora(folder: Path) -> tuple[LoraConfig, str]:
    """The adapters' settings of a run's folder, and their model. Raises GotError when they are missing or damaged."""
    try:
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))
        base = str(values.pop("base", ""))
        return LoraConfig(**values), base
    except (OSError, ValueError, TypeError) as err:
        raise GotError(f"{folder / FILE} cannot be read ({err}); the adapters' scale stands there.") from None
