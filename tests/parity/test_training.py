"""Loss, gradients and AdamW against torch autograd and torch.optim, at a tiny odd-shaped config (float32, CPU)."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_config

from got_jax.data.batches import Sample, pack
from got_jax.models.got import normalise_pixels
from got_jax.sharding import make_mesh
from got_jax.train.optimizer import OptimizerConfig, make_optimizer, schedule
from got_jax.train.step import Training, init_state, loss_fn, make_step
from got_jax.weights.layouts import entries, to_torch
from got_jax.weights.torch_folders import read_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
PAD = 511
STEPS = 20


def samples() -> list[Sample]:
    """Two prompts of unequal length, one with two pictures; only the answers count."""
    rng = np.random.default_rng(0)
    picture = lambda: rng.integers(0, 255, (96, 96, 3), np.uint8)
    return [
        Sample([5, *[PAD] * 9, 7, 8], [33, 44, 55, 66], (picture(),)),
        Sample([5, *[PAD] * 18, 7], [101, 102, 9], (picture(), picture())),
    ]


def torch_loss(model, rows: list[Sample]) -> Any:
    """Mean over all counted tokens of all samples, each run alone."""
    total: Any = 0.0
    count = 0
    for sample in rows:
        ids = torch.tensor([sample.prompt + sample.answer])
        pixels = np.array(normalise_pixels(jnp.asarray(np.stack(sample.pictures)), jnp.float32)).transpose(0, 3, 1, 2)
        logits = model(input_ids=ids, pixel_values=torch.from_numpy(pixels)).logits[0, :-1].float()
        first = len(sample.prompt) - 1
        total = total + torch.nn.functional.cross_entropy(logits[first:], ids[0, first + 1 :], reduction="sum")
        count += len(sample.answer)
    return total / count


@pytest.fixture
def both(reference, tmp_path):
    """transformers' model and ours with the same weights."""
    reference = copy.deepcopy(reference)
    reference.save_pretrained(tmp_path)
    model = read_folder(tmp_path)
    config = dataclasses.replace(model.config, dtype="float32", encoder=tiny_config().encoder)
    return reference, config, model.params


def torch_name(name: str) -> str:
    """The in-memory name of a saved tensor in transformers 5."""
    if name.startswith("language_model.model."):
        return "model.language_model." + name.removeprefix("language_model.model.")
    return "model." + name


def test_loss_and_every_gradient(both):
    """Packed rows here, one sample at a time there."""
    reference, config, params = both
    batch = pack([samples()], 64, 4, 96, PAD)  # one row for both
    (loss, _), grads = jax.value_and_grad(lambda p: loss_fn(Training(config), p, batch), has_aux=True)(params)
    reference.zero_grad()
    expected = torch_loss(reference, samples())
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    theirs = dict(reference.named_parameters())
    worst = {}
    for name, entry in entries(config, "transformers").items():
        leaf = grads
        for part in entry.path:
            leaf = leaf[part]
        got = to_torch(np.asarray(leaf[entry.index]), entry)  # type: ignore[index]
        wanted = theirs[torch_name(name)].grad.numpy()
        worst[name] = float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))
    assert len(worst) > 80
    name = max(worst, key=worst.__getitem__)
    assert worst[name] <= 1e-4, (name, worst[name])


def test_twenty_adamw_steps(both):
    """Warm-up, cosine and clipping included; torch decays every tensor of two axes and more but position tables."""
    reference, config, params = both
    optimizer = OptimizerConfig(lr=1e-3, warmup_steps=4, weight_decay=0.1, final=0.1, clip_norm=0.5)
    rate = schedule(optimizer, STEPS)
    mesh = make_mesh(devices=jax.devices()[:1])
    rule = make_optimizer(optimizer, STEPS)
    state = init_state(Training(config), rule, 0, mesh, params)
    step = make_step(Training(config), rule, mesh)
    batch = pack([samples()], 64, 4, 96, PAD)
    ours = []
    for _ in range(STEPS):
        state, metrics = step(state, batch)
        ours.append(float(metrics["loss"]))

    named = dict(reference.named_parameters())
    decayed = [p for n, p in named.items() if p.ndim >= 2 and "pos" not in n]
    kept = [p for n, p in named.items() if p.ndim < 2 or "pos" in n]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": kept, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.999), eps=1e-8)
    theirs = []
    for number in range(STEPS):
        for group in adamw.param_groups:
            group["lr"] = float(np.asarray(rate(number)))
        adamw.zero_grad()
        loss = torch_loss(reference, samples())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        adamw.step()
        theirs.append(loss.item())
    assert theirs[-1] < 0.7 * theirs[0]
    assert math.isfinite(theirs[-1])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
