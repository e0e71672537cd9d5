"""The training loop: batches in, checkpoints and a log out."""

from __future__ import annotations

import json
import time
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from got_jax.config import write_config
from got_jax.data.sources import BatchSource, batches
from got_jax.errors import GotError, require
from got_jax.models.got import abstract_params
from got_jax.reader import Reader, model_folder
from got_jax.sharding import BATCH, batch_sharding, make_mesh
from got_jax.tokenizers import load_tokenizer
from got_jax.train import checkpoints
from got_jax.train.config import TrainConfig
from got_jax.train.heldout import held_out_cer
from got_jax.train.optimizer import make_optimizer
from got_jax.train.step import TrainState, init_state, make_step
from got_jax.weights.layouts import PARTS
from got_jax.weights.resize import resize_pictures
from got_jax.weights.store import CONFIG
from got_jax.weights.torch_folders import layout_of, read_part


def train(config: TrainConfig, progress: bool = True) -> TrainState:
    """Runs or continues the run in `config.out` up to `config.steps`, and returns the final state.

    Metrics of every step go to `out/log.jsonl`, with the held-out character error rate every `eval_every` steps.

    Raises:
        GotError: when the output folder cannot be written, or a loss is not finite.
    """
    out = Path(config.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "log.jsonl").touch()
    except OSError as err:
        raise GotError(f"output folder {out} cannot be written ({err.strerror}); choose another with --out.") from None

    mesh = make_mesh(config.mesh)
    ways = int(np.prod([mesh.shape[axis] for axis in BATCH]))
    require(
        config.data.pictures % ways == 0,
        f"data.pictures {config.data.pictures} is not divisible by the mesh's {ways} ways of splitting a batch; "
        "change one.",
    )
    tokenizer = load_tokenizer(config.model.tokenizer, Path(config.tokenizer))
    require(
        tokenizer.vocab_size <= config.model.decoder.vocab_size,
        f"the tokenizer has {tokenizer.vocab_size} tokens, more than decoder.vocab_size "
        f"{config.model.decoder.vocab_size}; enlarge it.",
    )
    write_config(config.model, out / CONFIG)
    tokenizer.save(out)
    optimizer = make_optimizer(config.optimizer, config.steps)
    manager = checkpoints.open_manager(out / checkpoints.CHECKPOINTS, config.keep)
    state = _start(config, optimizer, mesh, manager)
    start = int(state.step)

    step = make_step(config.model, optimizer, mesh, config.losses)
    source = BatchSource(
        config.data.engine,
        tokenizer,
        config.model,
        config.seed,
        config.data.pictures,
        config.data.row_tokens,
        int(np.lcm(config.data.rows_multiple, ways)),
        config.steps,
        config.losses.letters,
    )
    bar = tqdm(total=config.steps, initial=start, disable=not progress, unit="step", dynamic_ncols=True)
    shown: dict[str, str] = {}
    begun = time.monotonic()
    stream = batches(source, start, config.data.workers)
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        for number in range(start, config.steps):
            batch = next(stream)
            state, metrics = step(state, jax.device_put(batch, batch_sharding(mesh)))
            row = {name: float(value) for name, value in metrics.items()}
            require(
                np.isfinite(row["loss"]),
                f"the loss of step {number + 1} is {row['loss']}; lower optimizer.lr and resume from {out}.",
            )
            now = time.monotonic()
            seconds, begun = max(now - begun, 1e-9), now
            row |= {
                "step": number + 1,
                "pictures_per_s": int((batch.image_rows < len(batch.tokens)).sum()) / seconds,
                "tokens_per_s": int(batch.weights.sum()) / seconds,
            }
            last = number + 1 == config.steps
            if (number + 1) % config.save_every == 0 or last:
                checkpoints.save(manager, state)
            if config.eval_examples and ((number + 1) % config.eval_every == 0 or last):
                reader = Reader(config.model, state.params, tokenizer)
                row["cer"] = held_out_cer(reader, config.data.held_out, config.eval_examples)
                begun = time.monotonic()
            log.write(json.dumps(row) + "\n")
            log.flush()
            bar.update()
            shown["loss"] = f"{row['loss']:.3f}"
            shown["pictures/s"] = f"{row['pictures_per_s']:.1f}"
            shown["tokens/s"] = f"{row['tokens_per_s']:.0f}"
            if "cer" in row:
                shown["CER"] = f"{row['cer']:.1%}"
            bar.set_postfix(shown)
    bar.close()
    manager.wait_until_finished()
    manager.close()
    return state


def _start(config: TrainConfig, optimizer, mesh, manager) -> TrainState:
    """The newest checkpoint of the run, else a state with fresh weights or those of `init_from`."""
    if manager.latest_step() is not None:
        like = init_state(config.model, optimizer, config.seed, mesh, losses=config.losses)
        return checkpoints.restore(manager, like)
    params, lines = starting_params(config)
    for line in lines:
        tqdm.write(line)
    return init_state(config.model, optimizer, config.seed, mesh, params, config.losses)


def starting_params(config: TrainConfig) -> tuple[dict, list[str]]:
    """The parts that `init_from` holds, and a table of what is loaded, new and left out."""
    params: dict = {}
    lines: list[str] = []
    for name in filter(None, config.init_from.split(",")):
        folder = model_folder(name)
        layout = "run" if (folder / checkpoints.CHECKPOINTS).is_dir() else layout_of(folder)
        if layout in PARTS:
            parts, left_out = read_part(folder, config.model, layout)
        else:
            stored = checkpoints.read_weights(folder, heads=True)
            parts, left_out = resize_pictures(stored.params, stored.config, config.model), []
        params |= parts
        for part, tree in parts.items():
            lines.append(f"{part:10} {'loaded':9} {_size(tree):>12,} parameters from {name}")
        if left_out:
            lines.append(f"{'':10} {'left out':9} {len(left_out)} tensors of {name}, such as {left_out[0]}")
    fresh = {part: tree for part, tree in abstract_params(config.model).items() if part not in params}
    lines += [f"{part:10} {'new':9} {_size(tree):>12,} parameters" for part, tree in fresh.items()]
    return params, lines


def _size(tree: dict) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
