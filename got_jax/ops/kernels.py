"""The CPU kernels of kernels.cpp: compiled once by the machine's C++ compiler, kept, and called from within XLA.

XLA's CPU back end reads bfloat16 and int8 matrices at a tenth of the memory's rate when few rows are multiplied, and
builds score matrices in memory (docs/speed.md has figures). Every kernel has a twin in plain JAX, which serves other
back ends, machines without a compiler, and the tests.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jaxtyping import Array, Float, Int

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-w")
SETTING = "GOT_JAX_KERNELS"  # 0: do without them; vectors: without products of bfloat16
PLAIN = "GOT_JAX_PLAIN"  # kernels to do without, commas between (`eval.speed.LEFT_OUT` has the names)


def native(kernel: str = "") -> bool:
    """Are programs compiled for this machine's CPU with this kernel (or with any)? Builds them all on first use."""
    plain = bool(kernel) and without(kernel)
    return jax.default_backend() == "cpu" and os.environ.get(SETTING) != "0" and not plain and _register()


def without(name: str) -> bool:
    """Is this kernel, or part of one, left out by the environment? It is for finding faults and measuring gains."""
    return name in os.environ.get(PLAIN, "").split(",")


def rounds() -> bool:
    """Does this processor multiply bfloat16? Then rows that meet bfloat16 or int8 weights are rounded to it."""
    return native() and bool(_library().got_rounds())


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.cdll.LoadLibrary(str(_built()))


@functools.cache
def _register() -> bool:
    try:
        library = _library()
    except (OSError, subprocess.SubprocessError) as err:
        said = getattr(err, "stderr", None) or str(err)
        logging.getLogger(__name__).info("got-jax does without its CPU kernels, slower: %s", said.strip()[-300:])
        return False
    for name in ("linear", "rows", "decode_step", "square", "causal", "attend", "attend_back"):
        handler = jax.ffi.pycapsule(getattr(library, f"got_{name}"))
        jax.ffi.register_ffi_target(f"got_jax_{name}", handler, platform="cpu")
    return True


def _built() -> Path:
    """The library for this source, compiler, jaxlib and processor, from the user's cache or compiled now."""
    found = (shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if name)
    compiler = next((path for path in found if path), None)
    if compiler is None:
        raise OSError("no C++ compiler was found; install g++")
    flags = (*FLAGS, *(["-DGOT_WITHOUT_PREFETCH"] if without("prefetch") else []))
    about = "\0".join((SOURCE.read_text(), compiler, jaxlib.__version__, *flags, platform.machine(), _processor()))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "got-jax" / "kernels"
    kept = cache / f"{hashlib.sha256(about.encode()).hexdigest()[:24]}.so"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:  # another process may be at it too
            made = Path(scratch) / kept.name
            command = [compiler, *flags, f"-I{jax.ffi.include_dir()}", str(SOURCE), "-o", str(made)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
            os.replace(made, kept)
    return kept


def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def linear(
    x: Float[Array, "*B K"] | Float[Array, "*B 2*K"],
    w: Float[Array, "N K"] | Int[Array, "N K"],
    scale: Float[Array, "N"] | None,
    bias: Float[Array, "N"] | None,
    norm: Float[Array, "K"] | None,
    eps: float,
    gated: bool,
    plus: Float[Array, "*B N"] | None,
) -> Float[Array, "*B N"]:
    """`ops.linear.linear` of a float32 `x` and a float32, bfloat16 or int8 `w`."""
    call = jax.ffi.ffi_call("got_jax_linear", jax.ShapeDtypeStruct((*x.shape[:-1], w.shape[0]), np.float32))
    vectors = map(_vector, (scale, bias, norm, plus))
    return call(x, w, *vectors, eps=np.float32(eps), gated=gated)


def rows(
    w: Float[Array, "N K"] | Int[Array, "N K"], scale: Float[Array, "N"] | None, index: Int[Array, "*B"]
) -> Float[Array, "*B K"]:
    """Rows of float32, bfloat16 or int8 weights, in float32."""
    out = jax.ShapeDtypeStruct((*index.shape, w.shape[1]), np.float32)
    return jax.ffi.ffi_call("got_jax_rows", out)(w, _vector(scale), index)


def _vector(x: Array | None) -> Array:
    return jnp.zeros(0, jnp.float32) if x is None else x.astype(jnp.float32)


def decode_step(
    heads: Float[Array, "B K+2*G C"],
    cosines: Float[Array, "B C/2"],
    sines: Float[Array, "B C/2"],
    positions: Int[Array, "B"],
    keys: Float[Array, "B G S C"] | Int[Array, "B G S C"],
    values: Float[Array, "B G S C"] | Int[Array, "B G S C"],
    key_scales: Float[Array, "B G S"] | None,
    value_scales: Float[Array, "B G S"] | None,
) -> tuple[Any, ...]:
    """`ops.attention.decode_step` in place: the caches are written where they lie when nothing else needs them.

    Returns the heads' outputs, then the caches and scales as they came.
    """
    b, groups, _, width = keys.shape
    cache = (keys, values, *map(_vector, (key_scales, value_scales)))
    out = jax.ShapeDtypeStruct((b, heads.shape[1] - 2 * groups, width), np.float32)
    shapes = [out, *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in cache)]
    aliases = {4 + i: 1 + i for i in range(len(cache))}
    out, *cache = jax.ffi.ffi_call("got_jax_decode_step", shapes, input_output_aliases=aliases)(
        heads, cosines, sines, positions, *cache
    )
    return out, *_scaled(cache)


def _scaled(cache: Sequence[Array]) -> tuple[Array | None, ...]:
    """Keys, values and scales; none for caches that are not int8."""
    return (*cache[:2], *(scales if scales.size else None for scales in cache[2:]))


def square(
    qkv: Float[Array, "B P 3 K C"],
    table_h: Float[Array, "2*side-1 C"],
    table_w: Float[Array, "2*side-1 C"],
    rounded: bool = False,
) -> Float[Array, "B P K C"]:
    """`ops.attention.square_attention` of float32 arrays, with scores in blocks that stay in the cache.

    Args:
        rounded: queries, keys, values and weights may be rounded to bfloat16, where that is faster.
    """
    b, cells, _, heads, width = qkv.shape
    out = jax.ShapeDtypeStruct((b, cells, heads, width), np.float32)
    return jax.ffi.ffi_call("got_jax_square", out)(qkv, table_h, table_w, rounded=rounded)


def causal(
    heads: Float[Array, "B L K+2*G C"],
    cosines: Float[Array, "B L C/2"],
    sines: Float[Array, "B L C/2"],
    kv_heads: int,
    slots: int,
    dtype: Any,
    rounded: bool = False,
) -> tuple[Any, ...]:
    """`ops.attention.causal_attention` of float32 heads, likewise: outputs, keys, values and their scales."""
    b, length, count, width = heads.shape
    out = jax.ShapeDtypeStruct((b, length, count - 2 * kv_heads, width), np.float32)
    cache = jax.ShapeDtypeStruct((b, kv_heads, slots, width), dtype)
    scales = jax.ShapeDtypeStruct((b, kv_heads, slots) if dtype == jnp.int8 else (0,), np.float32)
    call = jax.ffi.ffi_call("got_jax_causal", (out, cache, cache, scales, scales))
    out, *cache = call(heads, cosines, sines, rounded=rounded)
    return out, *_scaled(cache)


def attend(
    q: Float[Array, "B L K C"],
    k: Float[Array, "B S G C"],
    v: Float[Array, "B S G C"],
    spans: tuple[Int[Array, "B L"], Int[Array, "B L"]] | None = None,
    biases: tuple[Float[Array, "B L K side"], Float[Array, "B L K side"]] | None = None,
    rounded: bool = False,
) -> Float[Array, "B L K C"]:
    """`ops.attention.attention` of float32 arrays and its gradients, with scores in blocks that stay in the cache.

    Args:
        spans: the first and the last key that each query looks at; what no query of a block sees is not scored.
        biases: of keys' rows and columns, where the keys are a square of cells; added to the scores.
        rounded: factors of products, weights included, may be rounded to bfloat16, where that is faster.
    """
    first, last = (x.astype(jnp.int32) for x in spans) if spans else (jnp.zeros(0, jnp.int32),) * 2
    bias_h, bias_w = biases if biases else (jnp.zeros(0, jnp.float32),) * 2
    return _attend(rounded, q, k, v, first, last, bias_h, bias_w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(rounded: bool, *args: Array) -> Array:
    return _attend_forward(rounded, *args)[0]


def _attend_forward(rounded: bool, *args: Array) -> tuple[Array, tuple[Array, ...]]:
    q = args[0]
    b, length, heads, _ = q.shape
    shapes = jax.ShapeDtypeStruct(q.shape, np.float32), jax.ShapeDtypeStruct((b, heads, length), np.float32)
    out, logs = jax.ffi.ffi_call("got_jax_attend", shapes)(*args, rounded=rounded)
    return out, (*args, out, logs)


def _attend_backward(rounded: bool, kept: tuple[Array, ...], given: Array) -> tuple[Array | None, ...]:
    q, k, v, _, _, bias_h, bias_w, *_ = kept
    shapes = [jax.ShapeDtypeStruct(x.shape, np.float32) for x in (q, k, v, bias_h, bias_w)]
    dq, dk, dv, dh, dw = jax.ffi.ffi_call("got_jax_attend_back", shapes)(*kept, given, rounded=rounded)
    return dq, dk, dv, None, None, dh, dw


_attend.defvjp(_attend_forward, _attend_backward)
