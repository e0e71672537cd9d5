"""Runs that are stopped, killed, damaged or short of space; parts at rest; stages; adapters; what a run shows."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_config
from safetensors.numpy import load_file
from test_train import ROOT, THREADS, losses, rows, run_config

from got_jax.cli import main
from got_jax.data.lanes import Lanes, new_state
from got_jax.data.mixture import Mixture
from got_jax.data.records import Records
from got_jax.errors import GotError
from got_jax.models.got import init_params
from got_jax.reader import load
from got_jax.sharding import MeshConfig
from got_jax.train.checkpoints import read_weights
from got_jax.train.config import load_config
from got_jax.train.loop import draws_of, train, training_of
from got_jax.train.lora import LoraConfig, init_lora, merged
from got_jax.train.optimizer import OptimizerConfig, make_optimizer
from got_jax.train.step import LossConfig, Training, fresh_params, loss_fn, state_shardings
from got_jax.weights.store import Model, write_model


def script(out: Path, changes: str = "", before: str = "") -> str:
    """A program that trains `run_config` with changes."""
    return f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from test_train import run_config
from got_jax.sharding import MeshConfig
from got_jax.train import loop
{before}
loop.train(run_config(Path({str(out)!r}), {changes}), progress=False)
"""


def config_file(folder: Path, changes: str = "") -> Path:
    """The same as a config file for the command line."""
    path = folder / "config.py"
    path.write_text(
        f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\nfrom pathlib import Path\n"
        f"from test_train import run_config\n"
        f"def config():\n    return run_config(Path({str(folder / 'run')!r}), {changes})\n"
    )
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """An uninterrupted run of six steps."""
    out = tmp_path_factory.mktemp("whole")
    train(run_config(out), progress=False)
    return out


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path, whole):
    command = [sys.executable, "-m", "got_jax", "train", str(config_file(tmp_path, "steps=100_000, save_every=10**6"))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    log = tmp_path / "run" / "log.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= 2):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    done = len(losses(tmp_path / "run"))
    assert f"stopped after step {done}; resume with the same command" in said
    assert (tmp_path / "run" / "checkpoints" / str(done)).is_dir()
    n = min(done, 6)
    assert losses(tmp_path / "run")[:n] == losses(whole)[:n]


@pytest.mark.parametrize("harm", ["truncated", "flipped", "missing"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, whole, harm, capsys):
    train(run_config(tmp_path), progress=False)
    newest = tmp_path / "checkpoints" / "6"
    files = [path for path in newest.rglob("d/*") if path.is_file()]
    for path in sorted(files, key=lambda p: -p.stat().st_size)[:1] if harm == "flipped" else files:
        data = bytearray(path.read_bytes())
        if harm == "truncated":
            path.write_bytes(data[: len(data) // 2])
        elif harm == "missing":
            path.unlink()
        else:
            middle = len(data) // 2
            data[middle] ^= 0x40
            path.write_bytes(data)
    state = train(run_config(tmp_path), progress=False)
    assert int(state.step) == 6
    assert "checkpoints/6 is damaged" in capsys.readouterr().out
    assert losses(tmp_path)[-3:] == losses(whole)[3:], "from step 3 on, as if nothing had happened"
    assert (tmp_path / "checkpoints" / "6").is_dir()
    assert [p.name for p in (tmp_path / "damaged").iterdir()] == ["6.0"]


def test_checkpoints_of_another_model_are_left_alone(whole):
    before = sorted(p.name for p in (whole / "checkpoints").iterdir())
    wider = tiny_config()
    wider = dataclasses.replace(wider, decoder=dataclasses.replace(wider.decoder, mlp_width=64))
    with pytest.raises(GotError, match="no checkpoint under .* can be resumed"):
        train(run_config(whole, model=wider, steps=7), progress=False)
    assert sorted(p.name for p in (whole / "checkpoints").iterdir()) == before
    assert not (whole / "damaged").exists()


def test_a_full_disk_ends_the_run_in_a_sentence_and_keeps_the_older_save(tmp_path, whole):
    """Files larger than a few bytes cannot be written once the first checkpoint is there."""
    before = f"""
import resource, signal, threading, time
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
saved = Path({str(tmp_path)!r}) / "checkpoints" / "3"
real = loop.checkpoints.save
def full(manager, state, lanes):
    if int(state.step) > 3:
        manager.wait_until_finished()
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
    real(manager, state, lanes)
loop.checkpoints.save = full
from got_jax.errors import GotError
"""
    code = script(tmp_path, before=before).replace("loop.train(", "try:\n    loop.train(")
    code += "except GotError as err:\n    print('said:', err)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "could not be written" in done.stdout
    assert "the saves before are whole" in done.stdout
    assert int(train(run_config(tmp_path), progress=False).step) == 6
    assert losses(tmp_path)[-3:] == losses(whole)[3:]


def test_another_mesh_goes_on_with_the_same_losses(tmp_path, whole):
    train(run_config(tmp_path, steps=3), progress=False)
    eight = "import jax\njax.config.update('jax_num_cpu_devices', 8)\n"
    code = script(tmp_path, "mesh=MeshConfig(2, 2, 2)", before=eight)
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | THREADS)
    np.testing.assert_allclose(losses(tmp_path), losses(whole), rtol=1e-5)


def test_accumulated_parts_are_the_whole_batch(tmp_path, whole):
    train(run_config(tmp_path, losses=LossConfig(accumulate=4, chunk_tokens=50)), progress=False)
    for column in ("loss", "grad_norm", "accuracy"):
        np.testing.assert_allclose(rows(tmp_path, column), rows(whole, column), rtol=2e-5)


def test_a_skipped_step_changes_nothing(tmp_path, monkeypatch):
    """The third batch's weights are not finite: after it, weights and moments are those of two steps."""
    from got_jax.train import loop

    two = train(run_config(tmp_path / "two", steps=2), progress=False)
    real = loop.make_step

    def poisoned(*args):
        step = real(*args)
        return lambda state, batch: step(
            state, batch._replace(weights=batch.weights * jnp.where(state.step == 2, jnp.nan, 1.0))
        )

    monkeypatch.setattr(loop, "make_step", poisoned)
    three = train(run_config(tmp_path / "three", steps=3), progress=False)
    jax.tree.map(np.testing.assert_array_equal, three[1:], two[1:])
    assert int(three.step) == 3
    train(run_config(tmp_path / "three"), progress=False)
    assert rows(tmp_path / "three", "skipped") == [0, 0, 1, 0, 0, 0]


def test_parts_at_rest_have_no_optimizer_state_and_do_not_move(tmp_path):
    config = run_config(tmp_path, steps=2, losses=LossConfig(freeze="encoder"))
    state = train(config, progress=False)
    fresh = init_params(config.model, jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), state.params["encoder"], fresh["encoder"])
    assert not np.allclose(state.params["decoder"]["embedding"], fresh["decoder"]["embedding"])
    assert "encoder" not in str(jax.tree_util.tree_structure(state.opt_state))
    with pytest.raises(GotError, match="names 'eyes', which is no part"):
        LossConfig(freeze="eyes")
    with pytest.raises(GotError, match="leaves nothing to train"):
        LossConfig(freeze="encoder,connector,decoder")


def test_a_second_stage_takes_the_encoder_and_leaves_the_small_decoder(tmp_path, capsys):
    model = tiny_config()
    small = dataclasses.replace(model.decoder, kind="opt", width=16, kv_heads=4, mlp_width=24)
    first = train(run_config(tmp_path / "1", steps=1, model=dataclasses.replace(model, decoder=small)), progress=False)
    second = run_config(tmp_path / "2", steps=1, init_from=str(tmp_path / "1"), needs="encoder")
    still = dataclasses.replace(second.optimizer, lr=1e-12)
    state = train(dataclasses.replace(second, optimizer=still), progress=False)
    same = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)
    jax.tree.map(same, state.params["encoder"], first.params["encoder"])
    same(state.params["connector"]["conv2"], first.params["connector"]["conv2"])
    said = capsys.readouterr().out
    assert f"encoder    loaded          28,344 parameters from {tmp_path / '1'}" in said
    assert "left out  5 tensors" in said
    assert "connector  new              1,056 parameters (linear)" in said
    assert "decoder    new             32,032 parameters" in said
    with pytest.raises(GotError, match=r"goes on from a trained decoder, but init_from .* holds none"):
        train(dataclasses.replace(second, needs="decoder", out=str(tmp_path / "3")), progress=False)


def test_another_tokenizer_is_refused(tmp_path, tiny, tiny_params, pieces):
    class Other(type(pieces)):
        def encode(self, text):
            return super().encode(text)[::-1]

    write_model(tmp_path / "model", Model(tiny, tiny_params, pieces))
    from got_jax.train.start import starting_params

    config = run_config(tmp_path / "run", init_from=str(tmp_path / "model"))
    assert set(starting_params(config, pieces)[0]) == {"encoder", "connector", "decoder"}
    with pytest.raises(GotError, match="cuts text otherwise than the one of"):
        starting_params(config, Other(pieces._model))


def test_what_cannot_be_is_refused_before_anything_is_compiled(tmp_path):
    data = run_config(tmp_path).data
    for changes, says in (
        ({"data": dataclasses.replace(data, rows=8), "losses": LossConfig(accumulate=3)}, "8 is not divisible by 3"),
        ({"data": dataclasses.replace(data, row_tokens=9)}, "does not hold even one picture"),
        ({"mesh": MeshConfig(3, 1, 1)}, "does not use the"),
        (
            {"data": dataclasses.replace(data, engine=Records(str(tmp_path / "none.jsonl")))},
            "none.jsonl cannot be read",
        ),
    ):
        with pytest.raises(GotError, match=says):
            train(run_config(tmp_path / "run", **changes), progress=False)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_adapters_train_alone_save_and_merge(tmp_path, tiny, tiny_params, pieces):
    write_model(tmp_path / "base", Model(tiny, tiny_params, pieces))
    config = run_config(
        tmp_path / "run", init_from=str(tmp_path / "base"), needs="decoder", lora=LoraConfig(rank=2, alpha=4)
    )
    state = train(config, progress=False)
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
    base = {part: tree for part, tree in state.params.items() if part != "lora"}
    jax.tree.map(np.testing.assert_array_equal, base, tiny_params)
    assert "encoder" not in str(jax.tree_util.tree_structure(state.opt_state))
    made = read_weights(tmp_path / "run").params
    name = lambda tree: tree["decoder"]["layers"]["attn"]["q_proj"]["kernel"]
    a, b = (name(state.params["lora"])[x] for x in "ab")
    np.testing.assert_allclose(name(made), name(tiny_params) + 2.0 * (a @ b), atol=1e-6)
    np.testing.assert_array_equal(made["encoder"]["pos_embed"], tiny_params["encoder"]["pos_embed"])

    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "alone"), "--adapter"]) == 0
    settings = json.loads((tmp_path / "alone" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["base_model_name_or_path"]) == (
        2,
        4,
        str(tmp_path / "base"),
    )
    assert "q_proj" in settings["target_modules"]
    tensors = load_file(tmp_path / "alone" / "adapter_model.safetensors")
    module = "base_model.model.model.language_model.layers.1.self_attn.q_proj"
    np.testing.assert_array_equal(tensors[f"{module}.lora_A.weight"], np.asarray(a[1]).T)
    np.testing.assert_array_equal(tensors[f"{module}.lora_B.weight"], np.asarray(b[1]).T)
    assert "base_model.model.model.multi_modal_projector.multimodal_projector.lora_A.weight" in tensors
    assert main(["convert", str(tmp_path / "base"), str(tmp_path / "none"), "--adapter"]) == 2

    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "merged")]) == 0
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), load(tmp_path / "merged", weights=None).params, made
    )


@pytest.mark.parametrize(("dtype", "remat", "near"), [("float32", "none", 1e-5), ("bfloat16", "blocks", 3e-2)])
def test_a_step_with_adapters_is_one_with_the_merged_weights(tmp_path, tiny, tiny_params, pieces, dtype, remat, near):
    """Loss and gradients of A and B: what the product rule gives from the gradient of W + alpha / rank A B."""
    model = dataclasses.replace(tiny, dtype=dtype, remat=remat)
    lora = LoraConfig(rank=3, alpha=6)
    adapters = jax.tree.map(
        lambda leaf: 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape),
        init_lora(lora, model, jax.random.key(1)),
    )
    config = run_config(tmp_path, model=model)
    lanes = Lanes(draws_of(config, pieces), 1, range(1), new_state(1), workers=0)
    batch = next(lanes.batches())[0]
    plain = lambda params: loss_fn(Training(model), params, batch)[0]
    with_adapters = lambda lora_tree: loss_fn(Training(model, lora=lora), {**tiny_params, "lora": lora_tree}, batch)[0]
    whole = merged(lora, {**tiny_params, "lora": adapters})
    loss, grads = jax.jit(jax.value_and_grad(with_adapters))(adapters)
    wanted, whole_grads = jax.jit(jax.value_and_grad(plain))(whole)
    np.testing.assert_allclose(loss, wanted, rtol=near)
    for layer in (
        lambda t: t["decoder"]["layers"]["down_proj"]["kernel"],
        lambda t: t["connector"]["linear"]["kernel"],
    ):
        dw, a, b = layer(whole_grads), layer(adapters)["a"], layer(adapters)["b"]
        by_rule = {"a": 2.0 * dw @ b.swapaxes(-1, -2), "b": 2.0 * a.swapaxes(-1, -2) @ dw}
        for (
            name,
            rule,
        ) in by_rule.items():  # as a whole; in bfloat16, W + A B is rounded and W and A B are by themselves
            assert np.linalg.norm(layer(grads)[name] - rule) < 3 * near * np.linalg.norm(rule)


def test_adapters_are_split_as_their_kernels_are(tiny):
    training = Training(tiny, LossConfig(), LoraConfig(rank=2))
    mesh: Any = jax.sharding.AbstractMesh((2, 2, 2), ("data", "fsdp", "tensor"))
    placed = state_shardings(training, make_optimizer(OptimizerConfig(), 10), mesh).params
    layer = lambda tree: tree["decoder"]["layers"]["gate_proj"]["kernel"]
    kernel, adapter = layer(placed).spec, layer(placed["lora"])
    assert (adapter["a"].spec[1], adapter["b"].spec[2]) == (kernel[1], kernel[2])
    assert kernel[1] != kernel[2]


@pytest.mark.parametrize(
    ("targets", "says"),
    [("nothing", "matches no parameter"), (r"connector\.conv1", "are for the kernels of linear layers")],
)
def test_targets_that_cannot_have_adapters_are_named(tiny, targets, says):
    with pytest.raises(GotError, match=says):
        init_lora(LoraConfig(rank=2, targets=targets), tiny, jax.random.key(0))


def test_the_readmes_fine_tuning_trains_few_parameters():
    """At full size, rank 8, as the README says."""
    training = training_of(load_config(ROOT / "configs" / "finetune_lora.py"))
    shapes = jax.eval_shape(lambda: fresh_params(training, jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["lora"])) == 3_801_088
    assert training.trained == ("lora",)


def test_a_mixture_with_users_records_shows_each_engines_loss(tmp_path):
    good = [{"image": f"{i}.png", "text": f"number {i}"} for i in range(9)]
    for i in range(9):
        from PIL import Image

        Image.new("L", (40, 20), 20 * i).save(tmp_path / f"{i}.png")
    bad = {"image": "gone.png", "text": "x"}
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(r) for r in [*good, bad]))
    config = run_config(tmp_path / "run", steps=4, eval_every=2, eval_examples=2)
    mixture = Mixture(((config.data.engine, 3.0), (Records(str(tmp_path / "mine.jsonl")), 1.0)))
    data = dataclasses.replace(config.data, engine=mixture, max_bad=0.2)
    train(dataclasses.replace(config, data=data), progress=False)
    found = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite([row["text/firstexamples"], row["text/mine"]]).all() for row in found)
    assert "cer" in found[1]
    assert "cer" not in found[0]
    named = (tmp_path / "run" / "bad_examples.log").read_text()
    assert "gone.png is missing" in named
    assert next((tmp_path / "run" / "tensorboard").glob("events*")).stat().st_size > 1000

    assert main(["train", "--plot", str(tmp_path / "run")]) == 0
    from PIL import Image

    assert Image.open(tmp_path / "run" / "curves.png").size[0] > 1000
    assert main(["train", "--plot", str(tmp_path / "none")]) == 2


def test_too_many_bad_examples_stop_the_run(tmp_path):
    bad = {"image": "gone.png", "text": "x"}
    (tmp_path / "mine.jsonl").write_text("\n".join([json.dumps(bad)] * 3))
    config = run_config(tmp_path / "run", steps=4)
    data = dataclasses.replace(config.data, engine=Records(str(tmp_path / "mine.jsonl")))
    with pytest.raises(
        GotError, match=r"of \d+ training examples are bad, more than data.max_bad 1.0%; .*bad_examples"
    ):
        train(dataclasses.replace(config, data=data), progress=False)
    assert "gone.png is missing" in (tmp_path / "run" / "bad_examples.log").read_text()
