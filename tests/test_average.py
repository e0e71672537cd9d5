"""The mean of models: parameter by parameter, whatever they are stored as, and only of models that are alike."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from got_jax.cli import main
from got_jax.errors import GotError
from got_jax.weights.average import averaged
from got_jax.weights.store import Model, read_model, write_model


def test_convert_writes_the_mean_of_runs_and_models(tiny, tiny_params, pieces, tmp_path):
    shifts = (0.0, 3.0, -1.5)
    for name, shift in zip("abc", shifts, strict=True):
        write_model(tmp_path / name, Model(tiny, jax.tree.map(lambda x, by=shift: x + by, tiny_params), pieces))
    a, b, c, mean = (str(tmp_path / name) for name in ("a", "b", "c", "mean"))
    assert main(["convert", a, mean, "--average", b, c]) == 0
    found = read_model(tmp_path / "mean")
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y + 0.5, atol=1e-6), found.params, tiny_params)
    assert found.config == tiny


def test_weights_in_half_precision_are_summed_in_single(tiny, pieces):
    large = Model(tiny, {"w": jnp.full((2,), 60_000, jnp.float16)}, pieces)
    mean = averaged([large] * 4).params["w"]
    assert mean.dtype == np.float16
    np.testing.assert_array_equal(mean.read(), large.params["w"])


def test_models_that_differ_have_no_mean(tiny, tiny_params, pieces):
    other = dataclasses.replace(tiny, decoder=dataclasses.replace(tiny.decoder, eps=1.0))
    with pytest.raises(GotError, match="have no mean"):
        averaged([Model(tiny, tiny_params, pieces), Model(other, tiny_params, pieces)])
