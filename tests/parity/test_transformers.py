"""The model against transformers' GotOcr2, number by number, at a tiny odd-shaped config (float32, CPU)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relative_error, tiny_config

from got_jax.errors import GotError
from got_jax.generate import DecodeConfig, generate
from got_jax.models.got import apply, normalise_pixels
from got_jax.models.vitdet import Encoder
from got_jax.weights.layouts import entries, from_torch, to_torch
from got_jax.weights.torch_folders import layout_of, read_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_numpy = pytest.importorskip("safetensors.numpy")
PAD = 511


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("hf")
    reference.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def ours(folder):
    model = read_folder(folder)
    return model._replace(config=dataclasses.replace(model.config, dtype="float32"))


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (count, 96, 96, 3), np.uint8)


def pixel_values(images: np.ndarray):
    return torch.from_numpy(np.array(normalise_pixels(jnp.asarray(images), jnp.float32)).transpose(0, 3, 1, 2))


def test_config_is_read(ours):
    expected = tiny_config()
    assert dataclasses.replace(ours.config.decoder, query_block=0) == expected.decoder
    assert ours.config.encoder.global_every == 2
    assert ours.config.encoder.image_tokens == 9


def test_encoder_and_connector(reference, ours):
    images = pictures(2)
    with torch.no_grad():
        neck = reference.model.vision_tower(pixel_values(images)).last_hidden_state
        tokens = reference.model.multi_modal_projector(neck)
    got = Encoder(ours.config.encoder).apply(
        {"params": ours.params["encoder"]}, normalise_pixels(jnp.asarray(images), jnp.float32)
    )
    assert relative_error(got, neck.permute(0, 2, 3, 1)) <= 1e-5
    assert relative_error(apply(ours.config, ours.params, images, method="encode"), tokens) <= 1e-5


@pytest.mark.parametrize("count", [1, 2])
def test_logits(reference, ours, count):
    images = pictures(count)
    ids = [5, 9, *[PAD] * (9 * count), 7, 8, 10, 33, 44]
    with torch.no_grad():
        expected = reference(input_ids=torch.tensor([ids]), pixel_values=pixel_values(images)).logits
    tokens = jnp.array([ids])
    hidden = apply(
        ours.config,
        ours.params,
        tokens,
        tokens == PAD,
        images,
        jnp.zeros(count, jnp.int32),
        jnp.arange(len(ids))[None],
        jnp.ones_like(tokens),
    )
    assert relative_error(apply(ours.config, ours.params, hidden, method="logits"), expected) <= 1e-5


def test_greedy_tokens(reference, ours):
    """64 tokens of each of two unequal prompts, decoded here in one batch and there alone."""
    images = pictures(3)
    prompts = [[5, *[PAD] * 9, 7, 8], [5, *[PAD] * 18, 7, 8, 10, 33]]
    decoded = generate(
        ours.config,
        ours.params,
        prompts,
        images,
        np.array([0, 1, 1], np.int32),
        PAD,
        (-1,),
        DecodeConfig(64, 20),
    )
    for ids, got, part in zip(prompts, decoded, (images[:1], images[1:]), strict=True):
        with torch.no_grad():
            expected = reference.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                pixel_values=pixel_values(part),
                do_sample=False,
                max_new_tokens=64,
                min_new_tokens=64,
                no_repeat_ngram_size=20,
            )
        assert got.tokens == expected[0, len(ids) :].tolist()


def test_every_tensor_goes_there_and_back(ours):
    for name, entry in entries(ours.config, "transformers").items():
        tensor = np.arange(np.prod(entry.shape), dtype=np.float32).reshape(entry.shape)
        np.testing.assert_array_equal(to_torch(from_torch(tensor, entry), entry), tensor, name)


def test_names_of_the_released_layouts():
    """472 tensors of the original file with its lm_head (GOT_FACTS.md section 6.1)."""
    from got_jax.config import got_580m

    names = entries(got_580m(), "original")
    assert len(names) == 471
    assert names["model.vision_tower_high.blocks.11.attn.rel_pos_h"].shape == (127, 64)
    assert names["model.vision_tower_high.blocks.3.attn.rel_pos_w"].shape == (27, 64)
    assert names["model.vision_tower_high.patch_embed.proj.weight"].shape == (768, 3, 16, 16)
    assert names["model.vision_tower_high.neck.0.weight"].shape == (256, 768, 1, 1)
    assert names["model.vision_tower_high.net_3.weight"].shape == (1024, 512, 3, 3)
    assert names["model.layers.23.mlp.down_proj.weight"].shape == (1024, 2816)
    assert "model.mm_projector_vary.bias" in names


def test_damaged_folders_are_refused(folder, ours, tmp_path):
    tensors = safetensors_numpy.load_file(folder / "model.safetensors")
    config = (folder / "config.json").read_text()

    def write(changed: dict[str, np.ndarray]) -> Path:
        (tmp_path / "config.json").write_text(config)
        safetensors_numpy.save_file(
            {k: np.ascontiguousarray(v) for k, v in changed.items()}, tmp_path / "model.safetensors"
        )
        return tmp_path

    name = next(key for key in tensors if key.endswith("neck.conv2.weight"))
    for change, says in (
        ({k: v for k, v in tensors.items() if k != name}, r"neck\.conv2\.weight of the transformers layout is missing"),
        (tensors | {name: tensors[name][:3]}, r"neck\.conv2\.weight of the transformers layout has shape \[3, "),
        (tensors | {name: tensors[name] * np.nan}, "not finite"),
        (tensors | {"surprise": tensors[name]}, "tensor surprise is not part"),
        (tensors | {"lm_head.weight": tensors[name]}, "differs from the embedding"),
    ):
        with pytest.raises(GotError, match=says):
            read_folder(write(change))
    whole = write(tensors) / "model.safetensors"
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(GotError, match="cannot be read"):
        read_folder(tmp_path)
    whole.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(GotError, match="is a pickle"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(GotError, match="model_type 'bert'"):
        layout_of(tmp_path)


def test_bfloat16_files_are_read(reference, tmp_path):
    reference.to(torch.bfloat16).save_pretrained(tmp_path)
    model = read_folder(tmp_path)
    reference.to(torch.float32)
    expected = reference.model.language_model.embed_tokens.weight.detach().numpy()
    np.testing.assert_array_equal(model.params["decoder"]["embedding"], expected)
    assert jax.tree.leaves(model.params)[0].dtype == jnp.float32
