"""Parts to start a training from: SAM's encoder, Qwen2's and OPT's decoders compute what transformers computes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NANO, randomised, relative_error, text_values, tiny_config, vision_values
from test_train import run_config

from got_jax.errors import GotError
from got_jax.generate import DecodeConfig, generate
from got_jax.models.got import apply, normalise_pixels
from got_jax.models.opt import OptDecoder
from got_jax.models.qwen2 import Decoder, empty_cache
from got_jax.models.vitdet import Encoder
from got_jax.ops.attention import Spans
from got_jax.tokenizers import load_tokenizer
from got_jax.train.loop import train
from got_jax.train.start import starting_params
from got_jax.weights.torch_folders import read_folder, read_part

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def sam(**changes):
    return transformers.SamVisionModel(transformers.SamVisionConfig(**vision_values(**changes)))


def qwen2(**changes):
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**text_values(**changes)))


@pytest.mark.parametrize("whole", [False, True], ids=["vision model", "all of SAM"])
def test_sam_encoder(tmp_path, whole):
    model = sam()
    if whole:
        config = transformers.SamConfig(
            vision_config=vision_values(),
            prompt_encoder_config={"hidden_size": 8, "image_size": 96, "patch_size": 8},
            mask_decoder_config={"hidden_size": 8, "num_attention_heads": 2, "mlp_dim": 16, "iou_head_hidden_dim": 8},
        )
        model = transformers.SamModel(config)
    model = randomised(model)
    model.save_pretrained(tmp_path)
    parts, left_out = read_part(tmp_path, tiny_config(), "sam")
    assert list(parts) == ["encoder"]
    assert bool(left_out) == whole
    images = np.random.default_rng(0).integers(0, 255, (2, 96, 96, 3), np.uint8)
    pixels = normalise_pixels(jnp.asarray(images), jnp.float32)
    with torch.no_grad():
        vision = model.vision_encoder
        expected = vision(torch.from_numpy(np.array(pixels).transpose(0, 3, 1, 2))).last_hidden_state
    got = Encoder(tiny_config().encoder).apply({"params": parts["encoder"]}, pixels)
    assert relative_error(got, expected.permute(0, 2, 3, 1)) <= 1e-5


def test_qwen2_decoder(tmp_path):
    model = randomised(qwen2())
    model.save_pretrained(tmp_path)
    config = tiny_config()
    parts, _ = read_part(tmp_path, config, "qwen2")
    ids = np.random.default_rng(0).integers(0, 512, (2, 30))
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).logits
    x = parts["decoder"]["embedding"][ids]
    positions = jnp.broadcast_to(jnp.arange(30), (2, 30))
    spans = Spans.of_segments(jnp.ones_like(positions))
    hidden = Decoder(config.decoder).apply({"params": parts["decoder"]}, x, positions, spans)[0]
    assert relative_error(apply(config, parts, hidden, method="logits"), expected) <= 1e-5


def opt_config():
    decoder = dataclasses.replace(tiny_config().decoder, kind="opt", kv_heads=4, eps=1e-5, context_tokens=100)
    return dataclasses.replace(tiny_config(), decoder=decoder)


def opt_model():
    d = opt_config().decoder
    config = transformers.OPTConfig(
        vocab_size=d.vocab_size,
        hidden_size=d.width,
        num_hidden_layers=d.depth,
        ffn_dim=d.mlp_width,
        num_attention_heads=d.heads,
        max_position_embeddings=d.context_tokens,
        word_embed_proj_dim=d.width,
        pad_token_id=1,
    )
    return randomised(transformers.OPTForCausalLM(config))


def test_opt_decoder(tmp_path):
    """Whole rows, and the same through the KV cache."""
    model = opt_model()
    model.save_pretrained(tmp_path)
    config = opt_config()
    parts, _ = read_part(tmp_path, config, "opt")
    ids = np.random.default_rng(0).integers(3, 512, (2, 30))
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).logits
    x = parts["decoder"]["embedding"][ids]
    positions = jnp.broadcast_to(jnp.arange(30), (2, 30))
    run = lambda *args: OptDecoder(config.decoder).apply({"params": parts["decoder"]}, *args)
    hidden, _ = run(x, positions, Spans.of_segments(jnp.ones_like(positions)))
    assert relative_error(apply(config, parts, hidden, method="logits"), expected) <= 1e-5
    cache = empty_cache(config.decoder, 2, 32, jnp.dtype("float32"))
    for start, stop in ((0, 20), (20, 21), (21, 30)):
        at = positions[:, start:stop]
        part, cache = run(x[:, start:stop], at, Spans.up_to(at), cache)
        assert relative_error(apply(config, parts, part, method="logits"), expected[:, start:stop]) <= 1e-5


def test_stage_one_reads_with_opt(tmp_path):
    """A model with an OPT decoder trains and decodes like any other."""
    opt_model().save_pretrained(tmp_path / "opt")
    config = run_config(tmp_path / "run", model=opt_config(), init_from=str(tmp_path / "opt"), steps=2, save_every=2)
    state = train(config, progress=False)
    assert state.params["decoder"]["positions"].shape == (102, 32)
    decode = DecodeConfig(4, 0)
    prompt = [[5, *[7] * 9, 8]]
    picture = np.zeros((1, 96, 96, 3), np.uint8)
    [answer] = generate(config.model, state.params, prompt, picture, np.zeros(1, np.int32), 7, (-1,), decode)
    assert len(answer.tokens) == 4


@pytest.mark.parametrize("rows", [300, 600])
def test_the_vocabulary_is_the_configs(tmp_path, rows):
    model = randomised(qwen2(vocab_size=rows, tie_word_embeddings=False))
    model.save_pretrained(tmp_path)
    parts, left_out = read_part(tmp_path, tiny_config(), "qwen2")
    table = np.asarray(parts["decoder"]["embedding"])
    kept = min(rows, 512)
    np.testing.assert_array_equal(table[:kept], model.model.embed_tokens.weight.detach().numpy()[:kept])
    assert table.shape == (512, 32)
    if rows < 512:
        assert 0.015 < table[kept:].std() < 0.025
    assert left_out == ["lm_head.weight"]


def test_a_training_starts_from_parts(tmp_path):
    randomised(sam()).save_pretrained(tmp_path / "sam")
    randomised(qwen2(vocab_size=300)).save_pretrained(tmp_path / "qwen")
    config = run_config(tmp_path / "run", init_from=f"{tmp_path / 'sam'},{tmp_path / 'qwen'}")
    params, lines = starting_params(config, load_tokenizer("sentencepiece", NANO))
    assert set(params) == {"encoder", "decoder"}
    assert [line.split()[:2] for line in lines] == [["encoder", "loaded"], ["decoder", "loaded"], ["connector", "new"]]
    count = sum(leaf.size for leaf in jax.tree.leaves(params["encoder"]))
    assert f"{count:,} parameters from {tmp_path / 'sam'}" in lines[0]


def test_other_shapes_are_refused(tmp_path):
    sam(num_attention_heads=4).save_pretrained(tmp_path / "sam")
    with pytest.raises(GotError, match=r"has heads 4 where the config has 2; change model.encoder"):
        read_part(tmp_path / "sam", tiny_config(), "sam")
    with pytest.raises(GotError, match="holds only a part of a model"):
        read_folder(tmp_path / "sam")
    wider = dataclasses.replace(tiny_config().decoder, mlp_width=64)
    qwen2().save_pretrained(tmp_path / "qwen")
    with pytest.raises(GotError, match="has mlp_width 48 where the config has 64"):
        read_part(tmp_path / "qwen", dataclasses.replace(tiny_config(), decoder=wider), "qwen2")
