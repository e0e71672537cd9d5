"""Meshes: the same losses on each, and everything laid out by the table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train import ROOT, THREADS, rows, run_config

from got_jax.data.lanes import Lanes, new_state
from got_jax.data.placement import batch_on_mesh
from got_jax.errors import GotError
from got_jax.generate import prefill
from got_jax.models.got import abstract_params
from got_jax.sharding import MeshConfig, laid_out, make_mesh, shardings
from got_jax.tokenizers import load_tokenizer
from got_jax.train.config import TrainConfig
from got_jax.train.loop import draws_of, train
from got_jax.train.lora import LoraConfig

MESHES = ((8, 1, 1), (2, 4, 1), (1, 8, 1), (2, 2, 2), (1, 1, 8))


def test_every_mesh_gives_the_same_losses_and_gradients(tmp_path):
    """On 8 virtual devices, ten steps; and no large array lies whole on a device where the mesh could split it."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import jax
jax.config.update("jax_num_cpu_devices", 8)
from pathlib import Path
from test_sharding import MESHES, check_layout
from test_train import run_config
from got_jax.sharding import MeshConfig
from got_jax.train.loop import train
from got_jax.train.lora import LoraConfig
for sizes in MESHES:
    config = run_config(Path({str(tmp_path)!r}) / "".join(map(str, sizes)), steps=10, mesh=MeshConfig(*sizes))
    check_layout(config, train(config, progress=False))
adapters = LoraConfig(rank=2, alpha=4)
train(run_config(Path({str(tmp_path)!r}) / "lora", steps=4, mesh=MeshConfig(2, 2, 2), lora=adapters), progress=False)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | THREADS)
    train(run_config(tmp_path / "one", steps=10), progress=False)
    train(run_config(tmp_path / "one lora", steps=4, lora=LoraConfig(rank=2, alpha=4)), progress=False)
    for column in ("loss", "grad_norm"):
        expected = rows(tmp_path / "one", column)
        for sizes in MESHES:
            found = rows(tmp_path / "".join(map(str, sizes)), column)
            np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=f"{column} on {sizes}")
        alone, split = (rows(tmp_path / name, column) for name in ("one lora", "lora"))
        np.testing.assert_allclose(split, alone, rtol=1e-5, err_msg=f"{column} of adapters")


def check_layout(config: TrainConfig, state: Any) -> None:
    """Every matrix and its moments are split by the table; a batch, the lanes and a KV cache by their rows."""
    m = config.mesh
    mesh = make_mesh(m)
    whole = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if leaf.ndim >= 2 and leaf.size >= 512 and m.data < 8:
            split = leaf.size // leaf.addressable_shards[0].data.size
            name = jax.tree_util.keystr(path)
            if split == 1:
                whole.append(name)
            elif "gate_proj" in name:
                assert split == m.fsdp * m.tensor, name
    allowed = ["rel_pos"] + ["pos_embed", "patch_embed"] * (m.fsdp == 1)  # no axis of theirs is named for "tensor"
    assert all(any(word in name for word in allowed) for name in whole), whole
    tokenizer = load_tokenizer(config.model.tokenizer, Path(config.tokenizer))
    lanes = Lanes(draws_of(config, tokenizer), 8, range(8), new_state(8), 0)
    batch = batch_on_mesh(next(lanes.batches())[0], list(range(8)), 8, mesh)
    ways = m.data * m.fsdp
    for leaf in jax.tree.leaves(batch):
        assert leaf.addressable_shards[0].data.shape[0] * ways == leaf.shape[0]
    image_rows = jnp.arange(8)

    def prefilled(params, batch):
        with laid_out(mesh):
            return prefill(config.model, params, batch.tokens, batch.is_image, batch.images, image_rows, 160)[0]

    cache = jax.jit(prefilled)(state.params, batch)
    assert cache.k.addressable_shards[0].data.shape[1] * ways == 8


def test_meshes_that_do_not_fit_are_refused():
    with pytest.raises(GotError, match="does not use the"):
        make_mesh(MeshConfig(data=64))
    with pytest.raises(GotError, match="may be -1"):
        make_mesh(MeshConfig(data=-1, fsdp=-1))


def test_an_axis_that_does_not_divide_stays_whole(tiny):
    mesh = jax.sharding.AbstractMesh((1, 3, 1), ("data", "fsdp", "tensor"))
    specs = shardings(abstract_params(tiny, boxed=True), mesh)  # type: ignore[arg-type]
    assert specs["encoder"]["patch_embed"]["kernel"].spec == jax.sharding.PartitionSpec(None, "fsdp")
    assert specs["decoder"]["embedding"].spec == jax.sharding.PartitionSpec("tensor", None), "32 is no multiple of 3"
