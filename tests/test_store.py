"""Model folders: what is written comes back, and a damaged folder is refused by the name of what is wrong."""

from __future__ import annotations

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from got_jax import config as configs
from got_jax.errors import GotError
from got_jax.weights.store import Model, read_model, write_model


@pytest.fixture(scope="module")
def folder(tiny, tiny_params, pieces, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "model"
    write_model(path, Model(tiny, tiny_params, pieces))
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_round_trip_to_the_bit(folder, tiny, tiny_params, pieces):
    model = read_model(folder)
    assert model.config == tiny
    assert model.tokenizer.encode("abc 12") == pieces.encode("abc 12")
    jax.tree.map(np.testing.assert_array_equal, model.params, tiny_params)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision(tiny, tiny_params, pieces, tmp_path, dtype):
    write_model(tmp_path / "half", Model(tiny, tiny_params, pieces), dtype)
    rounded = jax.tree.map(lambda x: x.astype(dtype).astype(jnp.float32), tiny_params)
    jax.tree.map(np.testing.assert_array_equal, read_model(tmp_path / "half").params, rounded)


def test_overwriting_is_whole_or_not_at_all(folder, copy, tiny, tiny_params, pieces, monkeypatch):
    changed = jax.tree.map(lambda x: x + 1, tiny_params)
    with monkeypatch.context() as patch:
        patch.setattr("got_jax.weights.store.write_config", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
        with pytest.raises(GotError, match="cannot be written"):
            write_model(copy, Model(tiny, changed, pieces))
    jax.tree.map(np.testing.assert_array_equal, read_model(copy).params, tiny_params)
    write_model(copy, Model(tiny, changed, pieces))
    jax.tree.map(np.testing.assert_array_equal, read_model(copy).params, changed)
    assert [p.name for p in copy.parent.iterdir()] == ["copy"], "no half-made folder is left"


def test_other_shapes_and_missing_tensors_are_named(copy, tiny):
    wider = dataclasses.replace(tiny, decoder=dataclasses.replace(tiny.decoder, mlp_width=64))
    configs.write_config(wider, copy / "config.json")
    with pytest.raises(
        GotError, match=r"decoder\.layers\.down_proj\.kernel has shape \[2, 48, 32\], but .* \[2, 64, 32\]"
    ):
        read_model(copy)
    flat = dataclasses.replace(tiny, encoder=dataclasses.replace(tiny.encoder, global_every=1))
    configs.write_config(flat, copy / "config.json")
    with pytest.raises(GotError, match="tensor encoder"):
        read_model(copy)


def test_missing_tensor(tiny, tiny_params, pieces, tmp_path, folder):
    import orbax.checkpoint as ocp

    broken = shutil.copytree(folder, tmp_path / "broken")
    shutil.rmtree(broken / "params")
    less = dict(tiny_params, connector={k: v for k, v in tiny_params["connector"].items() if k != "conv2"})
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(broken / "params", less)
    with pytest.raises(GotError, match=r"tensor connector\.conv2 of shape \[3, 3, 16, 32\] is missing"):
        read_model(broken)


@pytest.mark.parametrize(
    ("remove", "says"),
    [
        ("config.json", "config.json does not exist"),
        ("tokenizer.model", "tokenizer.model does not exist"),
        ("params", "params does not exist"),
        ("params/_METADATA", "params is not an orbax checkpoint|cannot be read"),
        ("params/manifest.ocdbt", "params is not an orbax checkpoint|cannot be read"),
        ("params/d", "cannot be read|is not an orbax checkpoint"),
    ],
)
def test_incomplete_folders_are_refused(copy, remove, says):
    path = copy / remove
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(GotError, match=says) as caught:
        read_model(copy)
    assert "\n" not in str(caught.value)


def test_truncated_data_is_refused(copy):
    for path in (copy / "params").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(GotError, match="cannot be read|is not an orbax checkpoint"):
        read_model(copy)
