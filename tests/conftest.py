"""Small models that every test module shares."""

from __future__ import annotations

import os
from pathlib import Path

# Many tests compile the same programs; the processes that tests start inherit this too.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax
import pytest

from got_jax.config import DecoderConfig, EncoderConfig, GotConfig
from got_jax.models.got import init_params
from got_jax.tokenizers import QwenTokenizer, SentencePieceTokenizer, load_tokenizer

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


@pytest.fixture(scope="module")
def reference():
    """transformers' model of `tiny_config`, weights of sane scale, relative and absolute positions off zero."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    t = tiny_config()
    config = transformers.GotOcr2Config(
        vision_config={
            "hidden_size": t.encoder.width,
            "output_channels": t.encoder.neck_width,
            "num_hidden_layers": t.encoder.depth,
            "num_attention_heads": t.encoder.heads,
            "image_size": t.encoder.image_px,
            "patch_size": t.encoder.patch_px,
            "window_size": t.encoder.window,
            "global_attn_indexes": [1, 3],
            "mlp_dim": t.encoder.mlp_width,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": t.decoder.vocab_size,
            "hidden_size": t.decoder.width,
            "intermediate_size": t.decoder.mlp_width,
            "num_hidden_layers": t.decoder.depth,
            "num_attention_heads": t.decoder.heads,
            "num_key_value_heads": t.decoder.kv_heads,
            "max_position_embeddings": t.decoder.context_tokens,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e4,
            "tie_word_embeddings": True,
        },
        image_token_index=511,
        pad_token_id=0,
    )
    model = transformers.GotOcr2ForConditionalGeneration(config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (1.0 if parameter.ndim == 1 else 0.0))
    return model
