"""How many pictures a second a training config takes on this machine, without the data's part.

python -m eval.trainstep configs/nano_text.py
python -m eval.trainstep configs/nano_text.py --model.encoder.patch_px 16 --model.encoder.depth 6
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import jax

from got_jax.cli import override_all
from got_jax.data.lanes import Lanes, new_state
from got_jax.errors import GotError
from got_jax.sharding import batch_sharding, make_mesh
from got_jax.tokenizers import load_tokenizer
from got_jax.train.config import TrainConfig, load_config
from got_jax.train.loop import check, draws_of, training_of
from got_jax.train.optimizer import make_optimizer
from got_jax.train.step import init_state, make_step

STEPS = 6


def measure(config: TrainConfig) -> str:
    """Median and spread of the jitted step on one packed batch."""
    tokenizer = load_tokenizer(config.model.tokenizer, Path(config.tokenizer))
    mesh = make_mesh(config.mesh)
    check(config, mesh, tokenizer)
    rows = config.data.rows
    lanes = Lanes(draws_of(config, tokenizer), rows, range(rows), new_state(rows), workers=0)
    batch = next(lanes.batches())[0]
    optimizer = make_optimizer(config.optimizer, 1000)
    training = training_of(config)
    state = init_state(training, optimizer, 0, mesh)
    step = make_step(training, optimizer, mesh)
    placed = jax.device_put(batch, batch_sharding(mesh))
    seconds = []
    for _ in range(STEPS + 1):
        begun = time.perf_counter()
        state, metrics = step(state, placed)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - begun)
    compiled, *rest = seconds
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    middle = statistics.median(rest)
    speed = batch.pictures.sum() / middle
    return (
        f"{size:,} parameters, {config.model.encoder.image_tokens} tokens a picture: {speed:.1f} "
        f"pictures/s (step {middle:.2f} s, {min(rest):.2f} to {max(rest):.2f}; first step {compiled:.0f} s)"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m eval.trainstep",
        description="Times the training step of a config.",
        epilog="Any field of the config can be set by its dotted name, as in got-jax train.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.py")
    args, rest = parser.parse_known_args(argv)
    try:
        print(measure(override_all(load_config(args.config), rest)))
    except GotError as err:
        print(f"eval: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
