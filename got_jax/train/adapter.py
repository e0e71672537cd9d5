"""A run's low-rank adapters as a folder of PEFT's, which PyTorch loads beside the model they were trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from got_jax.config import GotConfig
from got_jax.train.lora import LoraConfig
from got_jax.weights.layouts import entries
from got_jax.weights.lazy import lazy
from got_jax.weights.store import atomic_folder
from got_jax.weights.torch_folders import NEWER


def write_adapter(folder: Path, config: GotConfig, lora: LoraConfig, adapters: dict, base: str) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors` for transformers' modules of GOT.

    Args:
        adapters: the tree under "lora" of a run's parameters (`Lazy` or arrays). base: what the run started from.

    Raises:
        GotError: when the folder cannot be written.
    """
    found = flatten_dict(jax.tree.map(lambda leaf: lazy(leaf).read(), adapters), sep=".")
    tensors: dict[str, np.ndarray] = {}
    modules: set[str] = set()
    for name, entry in entries(config, "transformers").items():
        path = ".".join(entry.path)
        if f"{path}.a" not in found:
            continue
        module = name.removesuffix(".weight")
        for newer, saved in NEWER:  # PEFT hooks modules by their names in memory
            if module.startswith(saved):
                module = newer + module[len(saved) :]
        a, b = (np.asarray(found[f"{path}.{x}"])[entry.index] for x in "ab")  # type: ignore[index]
        tensors[f"base_model.model.{module}.lora_A.weight"] = np.ascontiguousarray(a.T)
        tensors[f"base_model.model.{module}.lora_B.weight"] = np.ascontiguousarray(b.T)
        modules.add(module.rpartition(".")[2])
    values: dict[str, Any] = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(modules),
        "inference_mode": True,
    }
    with atomic_folder(folder) as made:
        save_file(tensors, made / "adapter_model.safetensors", metadata={"format": "pt"})
        (made / "adapter_config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
