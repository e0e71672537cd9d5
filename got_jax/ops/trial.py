"""Kernels of GPUs and TPUs are tried once on the device that is there, against their twins, before they are used."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
from jaxtyping import Array

from got_jax.ops import kernels

NEAR = 0.05  # of 16-bit numbers, beside one more than their size; a wrong kernel is further off


def usable(name: str, trial: Callable[[], tuple[Array, Array]]) -> bool:
    """May programs for this device use this kernel? Not when the environment leaves it out, or its trial fails.

    Args:
        trial: computes a small case: the kernel's result, and its twin's.
    """
    return not kernels.without(name) and _passed(name, trial, _present())


def _present() -> str:
    """The kind of device that runs programs here: "cpu" also while they are only compiled for others."""
    return jax.devices()[0].platform


def _distance(trial: Callable[[], tuple[Array, Array]]) -> float:
    got, want = (x.astype(jnp.float32) for x in trial())
    return float((jnp.abs(got - want) / (1 + jnp.abs(want))).max())


@functools.cache
def _passed(name: str, trial: Callable[[], tuple[Array, Array]], device: str) -> bool:
    if device == "cpu":
        return True
    try:
        with ThreadPoolExecutor(1) as apart:  # whatever is being traced here
            far = apart.submit(_distance, trial).result()
        if far < NEAR:  # and is a number
            return True
        fault = f"it is {far:.2g} off its twin"
    except Exception as err:  # whatever a compiler or a driver raises
        fault = f"{type(err).__name__}: {str(err).strip().splitlines()[0][:200] if str(err).strip() else ''}"
    log = logging.getLogger(__name__)
    log.warning("got-jax reads without its kernel '%s' on this %s, slower: %s", name, device, fault)
    return False
