"""The released shape, 560 M parameters, against transformers: float32 to rounding, bfloat16 to its own (slow)."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from eval import parity
from got_jax import prompts
from got_jax.config import got_580m
from got_jax.images import to_square
from got_jax.models.got import abstract_params, apply
from got_jax.tokenizers import QwenTokenizer
from got_jax.weights.layouts import entries
from got_jax.weights.store import Model
from got_jax.weights.torch_write import write_torch_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def random_params(config) -> dict:
    """Weights of a trained model's scale, as numpy: matrices keep the size of their input, tables are off zero."""
    rng = np.random.default_rng(0)

    def leaf(path: tuple, want: jax.ShapeDtypeStruct) -> jax.Array:
        name = path[-1].key
        if name == "scale":
            return jnp.asarray(1 + 0.1 * rng.standard_normal(want.shape, np.float32))
        inputs = np.prod(want.shape[-4:-1]) if name in ("conv1", "conv2") else want.shape[-2] if want.ndim > 1 else 1
        scale = {"kernel": inputs**-0.5, "conv1": inputs**-0.5, "conv2": inputs**-0.5}.get(name, 0.05)
        return jnp.asarray(scale * rng.standard_normal(want.shape, np.float32))

    return jax.tree_util.tree_map_with_path(leaf, abstract_params(config))


@pytest.fixture(scope="module", autouse=True)
def optimized():
    """Here programs run for longer than they take to compile."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def model(qwen: QwenTokenizer) -> Model:
    config = dataclasses.replace(got_580m(), dtype="float32")
    config = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, context_tokens=512))
    return Model(config, random_params(config), qwen)


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("full") / "hf"
    write_torch_folder(path, model, "transformers")
    return path


CONVERT = """
import sys, threading, time
peak = 0
def watch():
    global peak
    while True:
        line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
        peak = max(peak, int(line.split()[1]) * 1024)
        time.sleep(0.01)
threading.Thread(target=watch, daemon=True).start()
from got_jax.cli import main
assert main(["convert", *sys.argv[1:]]) == 0
print(peak)
"""


@pytest.mark.slow
def test_memory_while_converting(folder, tmp_path):
    """In checkpoints, of memory that the system could not take back (mapped files it can)."""
    size = (folder / "model.safetensors").stat().st_size
    for source, layout in ((folder, "original"), (folder, "orbax"), (tmp_path / "orbax", "transformers")):
        command = [sys.executable, "-c", CONVERT, str(source), str(tmp_path / layout), "--to", layout]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak = int(done.stdout.split()[-1])
        print(f"{source.name} to {layout}: peak {peak / size:.2f} x the checkpoint of {size / 2**30:.2f} GiB")
        assert peak <= 1.3 * size

    theirs = safe_open(folder / "model.safetensors", framework="numpy")
    back = safe_open(tmp_path / "transformers" / "model.safetensors", framework="numpy")
    ours = safe_open(tmp_path / "original" / "model.safetensors", framework="numpy")
    slot = lambda entry: (entry.path, entry.index)
    names = {slot(entry): name for name, entry in entries(got_580m(), "transformers").items()}
    pairs = [(name, names[slot(entry)]) for name, entry in entries(got_580m(), "original").items()]
    assert len(pairs) == 471
    for original, port in [*pairs, ("lm_head.weight", names[("decoder", "embedding"), ()])]:
        assert (ours.get_tensor(original) == theirs.get_tensor(port)).all(), original
        assert (back.get_tensor(port) == theirs.get_tensor(port)).all(), port


@pytest.mark.slow
def test_the_released_shape(model, folder):
    config = model.config
    reference = transformers.GotOcr2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    assert sum(p.numel() for p in reference.parameters()) == 560_528_640

    noise = np.random.default_rng(1).integers(0, 255, (40, 30, 3), np.uint8)
    picture = to_square(Image.fromarray(noise), 1024)
    report = parity.compare(model, reference, [picture], tokens=64)
    print(parity.as_markdown(report))
    worst = max(report.rows, key=lambda row: row.relative_error)
    assert worst.relative_error <= 1e-5, worst
    assert (report.agreement, report.tokens) == ([1.0], [64])

    half = dataclasses.replace(config, dtype="bfloat16")
    run = lambda c, *a, method: np.asarray(
        jax.jit(functools.partial(apply, c, method=method))(model.params, *a), np.float32
    )
    exact, rounded = (run(c, picture[None], method="encode") for c in (config, half))
    assert np.isfinite(rounded).all()
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    print(f"bfloat16 encoder and connector: relative error {error:.1e}")
    assert error <= 2e-2

    tokens = jnp.array([prompts.prompt_ids(model.tokenizer, prompts.PLAIN, config.encoder.image_tokens, 1)])
    is_image = tokens == model.tokenizer.special[prompts.IMG_PAD]
    rows = (jnp.zeros(1, jnp.int32), jnp.arange(tokens.shape[1])[None], jnp.ones_like(tokens))
    exact, rounded = (run(c, tokens, is_image, jnp.asarray(exact), *rows, method="read") for c in (config, half))
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    print(f"bfloat16 decoder: relative error {error:.1e}")
    assert np.isfinite(rounded).all()
    assert error <= 2e-2
