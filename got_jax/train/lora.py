"""Low-rank adapters (LoRA, arXiv 2106.09685) by qwix: x W + alpha / rank * (x A) B, of which A and B are trained.

qwix adds the second term at the products of the layers that are named, so no gradient of a whole W is ever made. Here
adapters live beside the parameters, under "lora", in a tree of the same names: what is trained and what rests stay
apart in the step, in checkpoints and on meshes. For reading and converting they are added to the weights (`merged`).
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from got_jax.config import GotConfig
from got_jax.errors import GotError, require
from got_jax.models.got import Got, abstract_params, init_params

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
    targets: str = r"(decoder\.layers|connector\.linear)\..*kernel"

    def __post_init__(self) -> None:
        require(self.rank >= 0, f"lora.rank is {self.rank}; it must be 0 (no adapters) or more.")
        require(self.alpha > 0, f"lora.alpha is {self.alpha}, but it must be above 0.")
        try:
            re.compile(self.targets)
        except re.error as err:
            require(False, f"lora.targets '{self.targets}' is no regular expression ({err}); correct it.")


def _flat(params: dict) -> dict[str, Any]:
    return flatten_dict(params, sep=".")  # type: ignore[return-value]


def _names(config: LoraConfig, params: dict) -> list[str]:
    """The kernels that get adapters, by their dotted names."""
    names = [name for name in _flat(params) if re.fullmatch(config.targets, name)]
    require(bool(names), f"lora.targets '{config.targets}' matches no parameter; see got_jax.train.lora.")
    other = [name for name in names if not name.endswith(".kernel")]
    require(not other, f"lora.targets names {', '.join(other)}, but adapters are for the kernels of linear layers.")
    return names


def adapted(config: LoraConfig, model: GotConfig) -> nn.Module:
    """The model with adapters at its targets: its parameters are those of `beside`, or it makes them (`init`)."""
    import qwix

    layers = [name.removesuffix(".kernel").replace(".", "/") for name in _names(config, abstract_params(model))]
    provider = qwix.LoraProvider(
        module_path="|".join(map(re.escape, layers)),
        rank=config.rank,
        alpha=config.alpha,
        lora_a_initializer=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),  # as PEFT draws A
    )
    wrapped: Any = qwix.apply_lora_to_model(Got(model), provider, methods=("__call__", "grid", "connect", "read"))
    return wrapped


def beside(params: dict) -> dict:
    """The parameters with each adapter beside its kernel, where qwix looks for it, and without "lora"."""
    flat = _flat({part: tree for part, tree in params.items() if part != "lora"})
    for name, leaf in _flat(params["lora"]).items():
        kernel, _, letter = name.rpartition(".")
        flat[f"{kernel}_lora_{letter}"] = leaf
    return unflatten_dict(flat, sep=".")


def init_lora(config: LoraConfig, model: GotConfig, key: Array, boxed: bool = False) -> dict:
    """Adapters {"a": [..., D, rank], "b": [..., rank, F]} in the places of the targets; A random, B zero.

    `boxed` keeps the logical axis names of the kernels' axes.
    """
    made = _flat(init_params(model, key, boxed, adapted(config, model)))
    found = {name.replace("_lora_", "."): leaf for name, leaf in made.items() if name[-7:] in ("_lora_a", "_lora_b")}
    return unflatten_dict(found, sep=".")


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
