"""Small models that every test module shares."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

# Many tests compile the same programs, in every clone; the processes that tests start inherit this too.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "got-jax" / "tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# They run for moments: LLVM's optimizer costs more than it gives. JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests with it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import settings

from got_jax.config import DecoderConfig, EncoderConfig, GotConfig
from got_jax.models.got import init_params
from got_jax.tokenizers import QwenTokenizer, SentencePieceTokenizer, load_tokenizer
from got_jax.weights.store import Model

settings.register_profile("got-jax", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("got-jax")
NANO = Path(__file__).parents[1] / "got_jax" / "assets" / "nano"


def tiny_config(**changes) -> GotConfig:
    """An odd-shaped model: the grid of 12 is no multiple of the window of 5, and queries outnumber key heads."""
    return GotConfig(
        encoder=EncoderConfig(
            image_px=96, patch_px=8, width=24, depth=4, heads=2, mlp_width=40, window=5, global_every=2, neck_width=8
        ),
        decoder=DecoderConfig(
            vocab_size=512, width=32, depth=2, heads=4, kv_heads=2, mlp_width=48, rope_theta=1e4, context_tokens=256
        ),
        tokenizer="sentencepiece",
        dtype="float32",
        **changes,
    )


@pytest.fixture(scope="session")
def tiny() -> GotConfig:
    return tiny_config()


@pytest.fixture(scope="session")
def tiny_params(tiny: GotConfig) -> dict:
    """Random weights of sane scale; tables that start at zero or one are moved off it so that every term counts."""
    params = jax.jit(lambda: init_params(tiny, jax.random.key(0)))()
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [x + 0.1 * jax.random.normal(key, x.shape, x.dtype) for x, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


@pytest.fixture(scope="session")
def pieces() -> SentencePieceTokenizer:
    return SentencePieceTokenizer.load(NANO / "tokenizer.model")


@pytest.fixture(scope="session")
def qwen() -> QwenTokenizer:
    tokenizer = load_tokenizer("qwen", None)
    assert isinstance(tokenizer, QwenTokenizer)
    return tokenizer


@pytest.fixture(scope="session")
def qwen_model(qwen: QwenTokenizer) -> Model:
    """Tiny in everything but the vocabulary; weights off their initial zeros."""
    tiny = tiny_config()
    decoder = dataclasses.replace(tiny.decoder, vocab_size=qwen.vocab_size, context_tokens=512)
    config = dataclasses.replace(tiny, tokenizer="qwen", decoder=decoder)
    rng = np.random.default_rng(0)
    params = init_params(config, jax.random.key(0))
    params = jax.tree.map(lambda p: jnp.asarray(p + rng.normal(0, 0.1, p.shape), jnp.float32), params)
    return Model(config, params, qwen)


def vision_values(**changes) -> dict[str, Any]:
    """The tiny encoder in transformers' words; spelt out here, so that the judge does not lean on what it judges."""
    e = tiny_config().encoder
    return {
        "hidden_size": e.width,
        "output_channels": e.neck_width,
        "num_hidden_layers": e.depth,
        "num_attention_heads": e.heads,
        "image_size": e.image_px,
        "patch_size": e.patch_px,
        "window_size": e.window,
        "global_attn_indexes": [1, 3],
        "mlp_dim": e.mlp_width,
        **changes,
    }


def text_values(**changes) -> dict[str, Any]:
    """The tiny decoder in transformers' words."""
    d = tiny_config().decoder
    return {
        "vocab_size": d.vocab_size,
        "hidden_size": d.width,
        "intermediate_size": d.mlp_width,
        "num_hidden_layers": d.depth,
        "num_attention_heads": d.heads,
        "num_key_value_heads": d.kv_heads,
        "max_position_embeddings": d.context_tokens,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e4,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        **changes,
    }


def randomised(model: Any) -> Any:
    """The torch model with weights of sane scale, relative and absolute positions off zero."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (1.0 if parameter.ndim == 1 else 0.0))
    return model.eval()


def relative_error(got: Any, expected: Any) -> float:
    """L2 error of an array against a torch tensor."""
    got, expected = np.asarray(got, np.float64), expected.detach().double().numpy()
    assert got.shape == expected.shape
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def reference():
    """transformers' model of `tiny_config`."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    text = {"model_type": "qwen2", **text_values()}
    config = transformers.GotOcr2Config(
        vision_config=vision_values(), text_config=text, image_token_index=511, pad_token_id=0
    )
    return randomised(transformers.GotOcr2ForConditionalGeneration(config))
