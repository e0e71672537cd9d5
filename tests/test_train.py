"""Training: the loss, the optimizer, overfitting, resuming to the bit, meshes, and what a user may get wrong."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NANO, tiny_config

from got_jax.config import override
from got_jax.errors import GotError
from got_jax.models.got import abstract_params, init_params
from got_jax.train.checkpoints import read_weights
from got_jax.train.config import DataConfig, TrainConfig, load_config
from got_jax.train.loop import train
from got_jax.train.losses import token_loss
from got_jax.train.optimizer import OptimizerConfig, decays, make_optimizer, schedule
from got_jax.train.step import LossConfig
from got_jax.weights.resize import resize_pictures
from pipelines.documents import Documents

ROOT = Path(__file__).parents[1]
STAGES = ("stage1_encoder", "stage2_joint", "stage3_post")
# For processes with virtual devices. XLA:CPU has a thread a core, or a device if they are more, and a virtual device
# can need two at once: on two cores eight devices once all waited for each other. NPROC is the number of cores that it
# believes in.
THREADS = {"NPROC": "32"}


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
        data=DataConfig(FirstExamples(words, 8), words, rows=8, row_tokens=128, row_pictures=1, workers=0),
        steps=6,
        out=str(out),
        tokenizer=str(NANO),
        optimizer=OptimizerConfig(lr=3e-3, warmup_steps=0, final=1.0),  # constant: `steps` may change
        save_every=3,
        eval_every=100,
        eval_examples=0,
    )
    return dataclasses.replace(made, **changes)


def small_config():
    """Just large enough to learn something in a minute."""
    t = tiny_config()
    return dataclasses.replace(
        t,
        encoder=dataclasses.replace(t.encoder, width=64, depth=2, mlp_width=128, neck_width=16),
        decoder=dataclasses.replace(t.decoder, width=128, mlp_width=256),
    )


def rows(out: Path, column: str) -> list[float]:
    return [json.loads(line)[column] for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return rows(out, "loss")


@pytest.mark.parametrize("chunk", [2, 3, 64])
def test_loss_in_chunks_is_the_plain_one(chunk):
    """Value, guesses and both gradients; a length that no chunk divides."""
    keys = jax.random.split(jax.random.key(0), 4)
    hidden, table = jax.random.normal(keys[0], (2, 7, 6)), jax.random.normal(keys[1], (11, 6))
    targets = jax.random.randint(keys[2], (2, 7), 0, 11)
    weights = (jax.random.uniform(keys[3], (2, 7)) > 0.4).astype(jnp.float32)

    def plain(hidden, table):
        return -(jax.nn.log_softmax(hidden @ table.T)[jnp.arange(2)[:, None], jnp.arange(7), targets] * weights).sum()

    ours = lambda hidden, table: 3 * token_loss(hidden, table, targets, weights, chunk).total
    value, grads = jax.value_and_grad(plain, (0, 1))(hidden, table)
    got, got_grads = jax.value_and_grad(ours, (0, 1))(hidden, table)
    np.testing.assert_allclose(got, 3 * value, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 3 * b, rtol=1e-5, atol=1e-6), got_grads, grads)
    out = token_loss(hidden, table, targets, weights, chunk)
    np.testing.assert_array_equal(out.right, (hidden @ table.T).argmax(-1) == targets)
    np.testing.assert_allclose((out.nll * weights).sum(), value, rtol=1e-6)


def test_the_loss_never_holds_the_scores_of_a_row():
    """At Qwen's vocabulary and 8192 tokens they would be 5 GB; the compiler's figure is held against that."""
    row, width, vocabulary = 8192, 64, 151_860
    shapes = [((1, row, width), jnp.bfloat16), ((vocabulary, width), jnp.float32)]
    shapes += [((1, row), jnp.int32), ((1, row), jnp.float32)]
    args = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    grad = jax.jit(jax.grad(lambda h, t, y, w: token_loss(h, t, y, w, 256).total, (0, 1)))
    used = grad.lower(*args).compile().memory_analysis().temp_size_in_bytes  # type: ignore[union-attr]
    assert used < 0.2 * 4 * row * vocabulary


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


def test_muon_moves_every_direction_of_a_matrix_alike_and_leaves_the_rest_to_adam(tiny, tiny_params):
    """A gradient that is nearly one direction (blank paper) must not decide the whole step."""
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32) * 0.1, tiny_params)
    common = jnp.ones_like(grads["connector"]["linear"]["kernel"])
    grads["connector"]["linear"]["kernel"] += common
    optimizer = make_optimizer(OptimizerConfig(lr=0.5, muon_lr=1.0, warmup_steps=0, clip_norm=1e9), 10)
    update = jax.jit(lambda grads, params: optimizer.update(grads, optimizer.init(params), params)[0])
    updates: Any = update(grads, tiny_params)
    kernel = updates["connector"]["linear"]["kernel"]
    singular = np.linalg.svd(kernel, compute_uv=False)
    assert singular.max() / np.median(singular) < 2.5, "the common direction is no larger than the others"
    conv = np.asarray(updates["connector"]["conv1"]).reshape(-1, tiny.encoder.neck_width * 2)
    singular = np.linalg.svd(conv, compute_uv=False)
    assert singular.max() < 2 * singular.min(), "a convolution is one matrix over all its inputs"
    layer = updates["decoder"]["layers"]["down_proj"]["kernel"][0]
    singular = np.linalg.svd(layer, compute_uv=False)
    assert singular.max() < 2 * singular.min(), "each layer is a matrix of its own"
    bias = updates["connector"]["linear"]["bias"]
    for leaf in (updates["decoder"]["embedding"], updates["encoder"]["pos_embed"], bias):
        np.testing.assert_allclose(np.abs(leaf), 0.737, rtol=1e-2, err_msg="Adam moves every entry by one length")


def test_sixty_steps_learn_eight_examples(tmp_path):
    """All have one prompt, so a model that does not look at the pictures cannot get below ln(8) / 4."""
    model = small_config()
    optimizer = OptimizerConfig(lr=3e-3, muon_lr=0.03, warmup_steps=5, b2=0.95)
    config = run_config(tmp_path, model=model, steps=60, save_every=60, optimizer=optimizer)
    train(config, progress=False)
    assert losses(tmp_path)[0] > 3
    assert losses(tmp_path)[-1] < 0.1


def test_the_letters_lesson_teaches_the_encoder_and_a_reading_run_goes_on_from_it(tmp_path):
    letters = LossConfig(text=0.0, patches=1.0, cells=1.0, cells_from=20)
    optimizer = OptimizerConfig(lr=3e-3, muon_lr=0.03, warmup_steps=5, b2=0.95)
    longer: dict[str, Any] = {"model": small_config(), "steps": 60, "save_every": 60}
    lesson = run_config(tmp_path / "a", losses=letters, optimizer=optimizer, **longer)
    state = train(lesson, progress=False)
    rows = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["cell_accuracy"] > 0.8
    assert rows[0]["cell_accuracy"] < 0.2
    assert rows[-1]["patches"] < 0.4 * rows[0]["patches"]
    assert rows[-1]["cells"] < 0.7 * rows[18]["cells"], "from step 20 on"
    untouched = init_params(lesson.model, jax.random.key(0))["decoder"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), state.params["decoder"], untouched)
    assert "decoder" not in str(jax.tree_util.tree_structure(state.opt_state)), "a part at rest has no optimizer state"

    both = LossConfig(text=1.0, patches=0.5, cells=0.5, places=0.25)
    go_on: dict[str, Any] = {"model": small_config(), "steps": 1}
    train(run_config(tmp_path / "b", losses=both, init_from=str(tmp_path / "a"), **go_on), progress=False)
    row = json.loads((tmp_path / "b" / "log.jsonl").read_text())
    assert row["patches"] < 1.5 * rows[-1]["patches"], "encoder and heads carry over"
    lesson_loss = 0.5 * row["patches"] + 0.5 * row["cells"] + 0.25 * row["places"]
    assert row["loss"] == pytest.approx(row["text"] + lesson_loss, rel=1e-5)
    assert set(read_weights(tmp_path / "b").params) == {"encoder", "connector", "decoder"}, "the heads stay behind"
    train(run_config(tmp_path / "c", init_from=str(tmp_path / "b"), **go_on), progress=False)


def test_a_resumed_run_repeats_the_uninterrupted_one_to_the_bit(tmp_path):
    whole = train(run_config(tmp_path / "a"), progress=False)
    train(run_config(tmp_path / "b", steps=3), progress=False)
    resumed = train(run_config(tmp_path / "b"), progress=False)
    assert losses(tmp_path / "a")[3:] == losses(tmp_path / "b")[3:]
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)


def test_rounded_products_train_nearly_alike(tmp_path):
    train(run_config(tmp_path / "a", steps=4), progress=False)
    state = train(run_config(tmp_path / "b", steps=4, precision="bfloat16"), progress=False)
    exact, rounded = losses(tmp_path / "a"), losses(tmp_path / "b")
    assert exact != rounded
    assert rounded == pytest.approx(exact, rel=0.01)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}


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
    assert len(losses(tmp_path)) == 4, "metrics come one step late"
    state = train(run_config(tmp_path), progress=False)
    assert int(state.step) == 6
    assert losses(tmp_path)[3] == losses(tmp_path)[4], "step 4 ran again, alike"
    assert len(losses(tmp_path)) == 4 + 3


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


def test_a_lost_run_stops_with_advice(tmp_path):
    config = run_config(tmp_path, optimizer=OptimizerConfig(lr=1e30, warmup_steps=0), max_skipped=3)
    with pytest.raises(GotError, match=r"3 steps in a row were not finite; lower optimizer\.lr"):
        train(config, progress=False)


def test_an_unwritable_output_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GotError, match="cannot be written"):
        train(run_config(tmp_path / "file" / "run"), progress=False)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(GotError, match="no finished checkpoint"):
        read_weights(tmp_path / "run")


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "configs").glob("*.py") if "def config()" in path.read_text())
)
def test_committed_configs_load(name):
    config = load_config(ROOT / "configs" / f"{name}.py")
    small = name.startswith("nano")
    assert config.model.tokenizer == ("sentencepiece" if small else "qwen")
    assert config.out == f"runs/{name}"


def test_stages_follow_the_paper():
    """FACTS.md section 4."""
    one, two, three = (load_config(ROOT / "configs" / f"{name}.py") for name in STAGES)
    assert (one.model.decoder.kind, two.model.decoder.kind, three.model.decoder.kind) == ("opt", "qwen2", "qwen2")
    assert [c.data.row_tokens for c in (one, two, three)] == [4096, 6000, 8192]
    assert [c.optimizer.lr for c in (one, two, three)] == [1e-4, 1e-4, 2e-5]
    assert [c.losses.freeze for c in (one, two, three)] == ["", "", "encoder"]
    assert (three.optimizer.weight_decay, three.optimizer.warmup_steps) == (0, three.steps // 1000)
    assert [two.init_from, three.init_from] == [one.out, two.out]
    names = [f"nano_stage{n}" for n in (1, 2, 3)]
    twins = [load_config(ROOT / "configs" / f"{name}.py") for name in names]
    assert [twin.losses.freeze for twin in twins] == ["", "", "encoder"]
    assert [twin.init_from for twin in twins[1:]] == [twin.out for twin in twins[:2]]


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
        ("data.slips", "1.5", "data.slips is 1.5"),
        ("precision", "int8", "precision is 'int8'"),
    ):
        with pytest.raises(GotError, match=says):
            override(config, {path: value})


def test_config_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(GotError, match="does not exist"):
        load_config(tmp_path / "none.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(GotError, match=r"no function config\(\)"):
        load_config(tmp_path / "empty.py")
    (tmp_path / "unknown.py").write_text(
        "from pipelines.documents import Documents\n\n\ndef config():\n    Scrolls()\n"
    )
    with pytest.raises(GotError, match=r"unknown.py, line 5: NameError: name 'Scrolls' is not defined; correct it"):
        load_config(tmp_path / "unknown.py")
    (tmp_path / "wrong.py").write_text("def config():\n    return 3\n")
    with pytest.raises(GotError, match="returned no TrainConfig"):
        load_config(tmp_path / "wrong.py")
