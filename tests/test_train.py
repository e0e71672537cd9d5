"""Training: the loss, the optimizer, overfitting, resuming to the bit, meshes, and what a user may get wrong."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NANO, tiny_config

from got_jax.errors import GotError
from got_jax.models.got import abstract_params
from got_jax.sharding import MeshConfig, make_mesh, shardings
from got_jax.train.checkpoints import read_weights
from got_jax.train.config import DataConfig, TrainConfig, load_config, override
from got_jax.train.loop import train
from got_jax.train.losses import cross_entropy
from got_jax.train.optimizer import OptimizerConfig, decays, make_optimizer, schedule
from got_jax.weights.resize import resize_pictures
from pipelines.documents import Documents

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class FirstExamples:
    """The first `count` examples of an engine, again and again."""

    engine: Documents
    count: int

    def example(self, seed: int, index: int):
        return self.engine.example(seed, index % self.count)


def run_config(out: Path, **changes) -> TrainConfig:
    words = Documents(pages=0, max_lines=1, line_chars=(4, 8), effects=False)
    made = TrainConfig(
        model=tiny_config(),
        data=DataConfig(FirstExamples(words, 8), words, pictures=8, row_tokens=128, rows_multiple=2, workers=0),
        steps=6,
        out=str(out),
        tokenizer=str(NANO),
        optimizer=OptimizerConfig(lr=3e-3, warmup_steps=0, final=1.0),  # constant: `steps` may change
        save_every=3,
        eval_every=100,
        eval_examples=0,
    )
    return dataclasses.replace(made, **changes)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_loss_counts_weighted_tokens_only():
    logits = jax.random.normal(jax.random.key(0), (2, 3, 5))
    targets = jnp.array([[0, 1, 2], [3, 4, 0]])
    weights = jnp.array([[1.0, 0, 1], [0, 0, 1]])
    probabilities = np.asarray(jax.nn.softmax(logits))
    kept = [probabilities[0, 0, 0], probabilities[0, 2, 2], probabilities[1, 2, 0]]
    loss, accuracy = cross_entropy(logits, targets, weights)
    np.testing.assert_allclose(loss, -np.log(kept).mean(), rtol=1e-5)
    right = [probabilities[0, 0].argmax() == 0, probabilities[0, 2].argmax() == 2, probabilities[1, 2].argmax() == 0]
    np.testing.assert_allclose(accuracy, np.mean(right), rtol=1e-6)
    assert np.isfinite(cross_entropy(logits, targets, weights * 0)[0])


def test_schedule_warms_up_and_falls():
    rate = schedule(OptimizerConfig(lr=1.0, warmup_steps=10, final=0.1), 110)
    np.testing.assert_allclose(
        np.array([rate(s) for s in (0, 5, 10, 60, 110)], float), [0, 0.5, 1, 0.55, 0.1], atol=1e-6
    )


def test_norms_biases_and_positions_do_not_decay(tiny):
    kept = decays(abstract_params(tiny))
    assert kept["decoder"]["embedding"]
    assert kept["connector"]["conv1"]
    assert kept["encoder"]["groups"]["global"]["attn"]["qkv"]["kernel"]
    for name in ("pos_embed",):
        assert not kept["encoder"][name]
    assert not kept["encoder"]["groups"]["global"]["attn"]["rel_pos_h"]
    assert not kept["encoder"]["groups"]["global"]["norm1"]["scale"]
    assert not kept["connector"]["linear"]["bias"]


def test_wide_matrices_learn_slower(tiny_params):
    grads = jax.tree.map(jnp.ones_like, tiny_params)
    first = lambda inputs: (lambda o: o.update(grads, o.init(tiny_params), tiny_params)[0])(
        make_optimizer(OptimizerConfig(lr=1.0, warmup_steps=0, full_lr_inputs=inputs), 10)
    )
    plain, slowed = first(0), first(32)
    ratio = jax.tree.map(lambda a, b: float(jnp.abs(b).max() / jnp.abs(a).max()), plain, slowed)
    assert ratio["connector"]["conv1"] == pytest.approx(32 / 72)
    assert ratio["decoder"]["layers"]["down_proj"]["kernel"] == pytest.approx(32 / 48)
    assert ratio["encoder"]["patch_embed"]["kernel"] == pytest.approx(32 / 192)
    assert ratio["decoder"]["layers"]["attn"]["q_proj"]["kernel"] == 1
    assert ratio["decoder"]["embedding"] == 1


def test_sixty_steps_learn_eight_examples(tmp_path):
    """All have one prompt, so a model that does not look at the pictures cannot get below ln(8) / 4."""
    t = tiny_config()
    model = dataclasses.replace(
        t,
        encoder=dataclasses.replace(t.encoder, width=64, depth=2, mlp_width=128, neck_width=16),
        decoder=dataclasses.replace(t.decoder, width=128, mlp_width=256),
    )
    optimizer = OptimizerConfig(lr=5e-3, warmup_steps=5, b2=0.95, full_lr_inputs=64, encoder_delay_steps=12)
    config = run_config(tmp_path, model=model, steps=60, save_every=60, optimizer=optimizer)
    train(config, progress=False)
    assert losses(tmp_path)[0] > 3
    assert losses(tmp_path)[-1] < 0.1


def test_a_resumed_run_repeats_the_uninterrupted_one_to_the_bit(tmp_path):
    whole = train(run_config(tmp_path / "a"), progress=False)
    train(run_config(tmp_path / "b", steps=3), progress=False)
    resumed = train(run_config(tmp_path / "b"), progress=False)
    assert losses(tmp_path / "a")[3:] == losses(tmp_path / "b")[3:]
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)


def test_a_killed_run_loses_only_the_steps_since_its_last_save(tmp_path):
    code = f"""
import os, sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from test_train import run_config
from got_jax.train import loop
real = loop.make_step
saved = Path({str(tmp_path)!r}) / "checkpoints"
def dying(*args):
    step = real(*args)
    def wrapped(state, batch):
        if int(state.step) == 5:
            while not (saved / "3").is_dir():  # saves run in the background; a half-made one has another name
                time.sleep(0.01)
            os._exit(9)
        return step(state, batch)
    return wrapped
loop.make_step = dying
loop.train(run_config(Path({str(tmp_path)!r})), progress=False)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert len(losses(tmp_path)) == 5
    state = train(run_config(tmp_path), progress=False)
    assert int(state.step) == 6
    assert losses(tmp_path)[5:] == losses(tmp_path)[3:5] + losses(tmp_path)[-1:], "steps 4 and 5 ran again, alike"


def test_weights_of_a_run_start_another_with_larger_pictures(tmp_path):
    train(run_config(tmp_path / "small", steps=1), progress=False)
    model = tiny_config()
    larger = dataclasses.replace(model, encoder=dataclasses.replace(model.encoder, image_px=128))
    state = train(
        run_config(tmp_path / "large", model=larger, steps=1, init_from=str(tmp_path / "small")), progress=False
    )
    assert state.params["encoder"]["pos_embed"].shape == (16, 16, 24)
    wider = dataclasses.replace(model, decoder=dataclasses.replace(model.decoder, width=64))
    with pytest.raises(GotError, match="have width 32 where the config has 64"):
        train(run_config(tmp_path / "wide", model=wider, init_from=str(tmp_path / "small")), progress=False)


def test_resized_positions(tiny, tiny_params):
    larger = dataclasses.replace(tiny, encoder=dataclasses.replace(tiny.encoder, image_px=192))
    resized = resize_pictures(tiny_params, tiny, larger)
    assert jax.tree.map(jnp.shape, resized) == jax.tree.map(lambda x: x.shape, abstract_params(larger))
    old, new = (p["encoder"]["groups"] for p in (tiny_params, resized))
    np.testing.assert_array_equal(old["windowed"]["attn"]["rel_pos_h"], new["windowed"]["attn"]["rel_pos_h"])
    np.testing.assert_array_equal(old["global"]["attn"]["rel_pos_w"], new["global"]["attn"]["rel_pos_w"][:, 12:-12])
    back = resize_pictures(resized, larger, tiny)["encoder"]["groups"]["global"]["attn"]["rel_pos_w"]
    np.testing.assert_array_equal(back, old["global"]["attn"]["rel_pos_w"])
    flat = jax.tree.map(jnp.ones_like, tiny_params)
    np.testing.assert_allclose(resize_pictures(flat, tiny, larger)["encoder"]["pos_embed"], 1.0, rtol=1e-5)
    assert resize_pictures(tiny_params, tiny, tiny) is tiny_params


def test_every_mesh_gives_the_same_losses(tmp_path):
    """On 8 virtual devices; also that parameters are really split."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import jax
jax.config.update("jax_num_cpu_devices", 8)
from pathlib import Path
from test_train import run_config, losses
from got_jax.sharding import MeshConfig
from got_jax.train.loop import train
for sizes in ((8, 1, 1), (2, 4, 1), (2, 2, 2), (1, 1, 8)):
    out = Path({str(tmp_path)!r}) / "".join(map(str, sizes))
    state = train(run_config(out, steps=2, mesh=MeshConfig(*sizes)), progress=False)
    table = state.params["decoder"]["layers"]["gate_proj"]["kernel"]
    share = table.addressable_shards[0].data.size / table.size
    print(sizes, share, losses(out))
    assert share == 1 / (sizes[1] * sizes[2]), share
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    train(run_config(tmp_path / "one", steps=2), progress=False)
    expected = losses(tmp_path / "one")
    for name in ("811", "241", "222", "118"):
        np.testing.assert_allclose(losses(tmp_path / name), expected, rtol=1e-5)


def test_meshes_that_do_not_fit_are_refused():
    with pytest.raises(GotError, match="does not use the"):
        make_mesh(MeshConfig(data=64))
    with pytest.raises(GotError, match="may be -1"):
        make_mesh(MeshConfig(data=-1, fsdp=-1))


def test_an_axis_that_does_not_divide_stays_whole(tiny):
    mesh = jax.sharding.AbstractMesh((1, 3, 1), ("data", "fsdp", "tensor"))
    specs = shardings(abstract_params(tiny, boxed=True), mesh)  # type: ignore[arg-type]
    assert specs["encoder"]["patch_embed"]["kernel"].spec == jax.sharding.PartitionSpec("fsdp", None)
    assert specs["decoder"]["embedding"].spec == jax.sharding.PartitionSpec("tensor", None), "32 is no multiple of 3"


def test_a_lost_run_stops_with_advice(tmp_path):
    config = run_config(tmp_path, optimizer=OptimizerConfig(lr=1e30, warmup_steps=0))
    with pytest.raises(GotError, match=r"lower optimizer\.lr"):
        train(config, progress=False)


def test_an_unwritable_output_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GotError, match="cannot be written"):
        train(run_config(tmp_path / "file" / "run"), progress=False)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(GotError, match="no finished checkpoint"):
        read_weights(tmp_path / "run")


@pytest.mark.parametrize("name", ["nano_glyphs", "nano_warm", "nano_text"])
def test_committed_configs_load(name):
    assert load_config(ROOT / "configs" / f"{name}.py").model.tokenizer == "sentencepiece"


def test_overrides(tmp_path):
    config = run_config(tmp_path)
    assert override(config, {"optimizer.lr": "2e-4"}).optimizer.lr == 2e-4
    assert override(config, {"data.held_out.line_chars": "[5, 9]"}).data.held_out.line_chars == (5, 9)
    assert override(config, {"data.held_out.effects": "true"}).data.held_out.effects is True
    assert override(config, {"out": "elsewhere"}).out == "elsewhere"
    together = override(config, {"model.encoder.depth": "6", "model.encoder.global_every": "3"})
    assert (together.model.encoder.depth, together.model.encoder.global_every) == (6, 3)
    for path, value, says in (
        ("optimizer.speed", "1", "names no field of OptimizerConfig; it has lr, "),
        ("steps.more", "1", "names no field of int"),
        ("optimizer", "1", "names a group"),
        ("steps", "many", "is no int"),
        ("steps", "1.5", "is no int"),
        ("data.held_out.effects", "maybe", "is no bool"),
        ("data.held_out.line_chars", "[1]", "is no tuple"),
        ("data.held_out.line_chars", "__import__('os')", "is no tuple"),
        ("steps", "0", "at least 1"),
    ):
        with pytest.raises(GotError, match=says):
            override(config, {path: value})


def test_config_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(GotError, match="does not exist"):
        load_config(tmp_path / "none.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(GotError, match=r"no function config\(\)"):
        load_config(tmp_path / "empty.py")
    (tmp_path / "wrong.py").write_text("def config():\n    return 3\n")
    with pytest.raises(GotError, match="returned no TrainConfig"):
        load_config(tmp_path / "wrong.py")
