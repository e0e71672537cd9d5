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
