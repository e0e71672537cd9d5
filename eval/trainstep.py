"""How fast a training config's step is on this machine, alone or beside a plain PyTorch loop over the same samples.

python -m eval.trainstep configs/nano_text.py
python -m eval.trainstep configs/nano_text.py --against transformers --model.encoder.neck_width 64
python -m eval.trainstep configs/stage2_joint.py --data.rows 2 --against transformers     # on a GPU
python -m eval.trainstep configs/stage2_joint.py --data.rows 2 --batch batch.npz  # for a machine without the engines
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eval.command import printed
from got_jax.cli import override_all
from got_jax.data.batches import Batch
from got_jax.data.lanes import Lanes, new_state
from got_jax.errors import GotError, require
from got_jax.models.got import normalise_pixels
from got_jax.prompts import IMG_PAD
from got_jax.sharding import batch_sharding, make_mesh
from got_jax.tokenizers import load_tokenizer
from got_jax.train.config import TrainConfig, load_config
from got_jax.train.flops import step_flops
from got_jax.train.loop import check, draws_of, training_of
from got_jax.train.optimizer import make_optimizer
from got_jax.train.step import init_state, make_step
from got_jax.weights.torch_write import transformers_config

STEPS = 6


def measure(config: TrainConfig, against: bool, file: Path | None = None) -> str:
    """Median and spread of the jitted step on one packed batch; with `against`, PyTorch's steps between ours.

    Args:
        file: of the batch, see `drawn`.
    """
    batch, d = drawn(config, file), config.data
    ours, size, trained = _ours(config, batch, make_mesh(config.mesh))
    steps = {"got-jax": ours}
    if against:
        tokenizer = load_tokenizer(config.model.tokenizer, Path(config.tokenizer))
        steps["transformers"] = _theirs(config, batch, tokenizer.special[IMG_PAD])
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(STEPS + 1):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begun)
    pictures, tokens = int(batch.pictures.sum()), int((batch.segments > 0).sum())
    work = step_flops(config.model, trained, config.losses.text > 0, d.rows, d.row_tokens, d.rows * d.row_pictures)
    rate = matrix_rate(jnp.dtype(config.model.dtype))
    device = jax.devices()[0].device_kind
    lines = [
        f"{device}, {size:,} parameters, {config.model.dtype}; a batch of {pictures} pictures and "
        f"{tokens:,} tokens in {d.rows} rows of {d.row_tokens}",
        f"{'':14} {'pictures/s':>10} {'tokens/s':>9} {'step s':>8}   spread, first step",
    ]
    for name, (first, *rest) in seconds.items():
        middle = statistics.median(rest)
        lines.append(
            f"{name:14} {pictures / middle:10.1f} {tokens / middle:9.0f} {middle:8.3f}   {min(rest):.3f} to "
            f"{max(rest):.3f}, {first:.0f}"
        )
    middles = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    lines.append(
        f"model FLOP utilisation: {work / middles['got-jax'] / rate:.1%} of this device's {rate / 1e12:.2f} TFLOP/s in "
        "large matrix products"
    )
    if against:
        lines.append(f"got-jax is {middles['transformers'] / middles['got-jax']:.2f} x as fast as transformers")
    return "\n".join(lines)


def drawn(config: TrainConfig, file: Path | None = None) -> Batch:
    """A config's first batch.

    Args:
        file: what it is read from, as .npz, or written to where there is no such file.

    Raises:
        GotError: when the config cannot be trained, or the file is not its batch.
    """
    rows = config.data.rows
    if file is not None and file.exists():
        batch = _read(file)
        require(len(batch.tokens) == rows, f"{file} has {len(batch.tokens)} rows; give --data.rows the same number.")
        return batch
    tokenizer = load_tokenizer(config.model.tokenizer, Path(config.tokenizer))
    check(config, make_mesh(config.mesh), tokenizer)
    batch = next(Lanes(draws_of(config, tokenizer), rows, range(rows), new_state(rows), workers=0).batches())[0]
    if file is not None:
        require(batch.letters is None, "a batch with letters for the letters lesson is not kept; leave --batch out.")
        try:
            with file.open("wb") as stream:
                np.savez_compressed(stream, **{k: kept for k, kept in batch._asdict().items() if kept is not None})
        except OSError as err:
            raise GotError(f"batch {file} cannot be written ({err.strerror}); choose another file.") from None
    return batch


def _read(file: Path) -> Batch:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return Batch(**stored)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as err:
        reason = (str(err) or type(err).__name__).splitlines()[0]
        raise GotError(f"batch {file} cannot be read ({reason}); delete it, and --batch makes it anew.") from None


def _ours(config: TrainConfig, batch: Batch, mesh: Any) -> tuple[Callable[[], None], int, tuple[str, ...]]:
    optimizer = make_optimizer(config.optimizer, 1000)
    training = training_of(config)
    state = init_state(training, optimizer, 0, mesh)
    step = make_step(training, optimizer, mesh)
    placed = jax.device_put(batch, batch_sharding(mesh))
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))

    def one() -> None:
        nonlocal state
        state, metrics = step(state, placed)
        jax.block_until_ready((state, metrics))

    return one, size, training.trained


def _theirs(config: TrainConfig, batch: Batch, image_pad: int) -> Callable[[], None]:
    """A plain loop: every row's samples as one padded batch, AdamW after the last row."""
    import torch
    import transformers

    require(
        config.model.decoder.kind == "qwen2" and config.model.encoder.out_width == config.model.decoder.width,
        "transformers' GotOcr2 has a Qwen2 decoder as wide as 4 necks; change the config to compare.",
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, config.model.dtype)
    values = {**transformers_config(config.model), "image_token_index": image_pad, "image_token_id": image_pad}
    marks = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}  # of any vocabulary: nothing is generated
    values = {**values, **marks, "text_config": {**values["text_config"], **marks}}
    model: Any = transformers.GotOcr2ForConditionalGeneration(transformers.GotOcr2Config(**values))
    model = model.to(device, dtype)
    if config.model.remat != "none":
        model.gradient_checkpointing_enable()
    if "encoder" not in training_of(config).trained:
        model.model.vision_tower.requires_grad_(False)
    model.train()
    rule = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    rows = [_padded(batch, row, torch, device, dtype) for row in range(len(batch.tokens))]
    counted = float(batch.weights.sum())

    def one() -> None:
        rule.zero_grad()
        for inputs, labels in rows:
            logits = model(**inputs).logits[:, :-1].float()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
            (loss / counted).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rule.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return one


def _padded(batch: Batch, row: int, torch: Any, device: str, dtype: Any) -> tuple[dict, Any]:
    """A row's samples as transformers takes them: right-padded ids, and labels of -100 where nothing counts."""
    samples = []
    for segment in range(1, int(batch.segments[row].max()) + 1):
        here = batch.segments[row] == segment
        ids = np.append(batch.tokens[row, here], batch.targets[row, here][-1])
        counts = np.append(0, batch.weights[row, here])
        samples.append((ids, np.where(counts > 0, ids, -100)))
    longest = max(len(ids) for ids, _ in samples)
    pad = lambda values, fill: np.stack([np.pad(v, (0, longest - len(v)), constant_values=fill) for v in values])
    per = len(batch.images) // len(batch.tokens)
    used = batch.images[row * per : row * per + int(batch.pictures[row])]
    pixels = np.asarray(normalise_pixels(jnp.asarray(used), jnp.dtype(jnp.float32))).transpose(0, 3, 1, 2)
    tensor = lambda value: torch.tensor(value, device=device)
    ids = pad([ids for ids, _ in samples], 0)
    inputs = {
        "input_ids": tensor(ids),
        "attention_mask": tensor(pad([np.ones(len(ids), np.int64) for ids, _ in samples], 0)),
        "pixel_values": tensor(pixels).to(dtype),
    }
    return inputs, tensor(pad([labels for _, labels in samples], -100).astype(np.int64))


def matrix_rate(dtype: Any) -> float:
    """Operations a second of a large matrix product on this device, the best of a few."""
    side = 8192 if jax.default_backend() != "cpu" else 2048
    a = jax.random.normal(jax.random.key(0), (side, side), dtype)  # of zeros a card makes more
    product = jax.jit(lambda a: jnp.matmul(a, a, preferred_element_type=jnp.float32))
    product(a).block_until_ready()
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - begun)
    return 2 * side**3 / min(seconds)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m eval.trainstep",
        description="Times the training step of a config.",
        epilog="Any field of the config can be set by its dotted name, as in got-jax train.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.py")
    parser.add_argument("--against", choices=["transformers"], help="also time a plain PyTorch loop, turn by turn")
    told = "reads the batch from there, or writes it there, so that it can be taken to another machine"
    parser.add_argument("--batch", type=Path, metavar="FILE.npz", help=told)
    parser.add_argument("--draw", action="store_true", help="only draw the batch")
    args, rest = parser.parse_known_args(argv)

    def work() -> str:
        config = override_all(load_config(args.config), rest)
        if args.draw:
            return f"{int(drawn(config, args.batch).pictures.sum())} pictures"
        return measure(config, args.against is not None, args.batch)

    return printed(work)


if __name__ == "__main__":
    sys.exit(main())
