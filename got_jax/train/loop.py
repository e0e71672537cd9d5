"""The training loop: batches in, checkpoints and a log out; the same run on any mesh, by any number of processes."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from got_jax.config import write_config
from got_jax.data.batches import Batch
from got_jax.data.lanes import BAD, NEXT, Draws, Lanes, check_share, new_state
from got_jax.data.mixture import leaves, names
from got_jax.data.placement import batch_on_mesh, lanes_on_mesh, my_rows
from got_jax.data.workers import ahead
from got_jax.distributed import AGAIN
from got_jax.errors import GotError, require
from got_jax.reader import Reader
from got_jax.sharding import BATCH, make_mesh, replicated
from got_jax.tokenizers import Tokenizer, load_tokenizer
from got_jax.train import checkpoints
from got_jax.train.config import TrainConfig
from got_jax.train.flops import chip_of, step_flops
from got_jax.train.heldout import held_out_cer, read_held_out
from got_jax.train.lora import merged, write_lora
from got_jax.train.optimizer import make_optimizer, schedule
from got_jax.train.report import LOG, Report
from got_jax.train.start import starting_params
from got_jax.train.step import Training, TrainState, abstract_state, init_state, make_step
from got_jax.train.stop import Stop
from got_jax.weights.store import CONFIG

SHOWN = 4  # held-out pictures that TensorBoard shows


def train(config: TrainConfig, progress: bool = True) -> TrainState:
    """Runs or continues the run in `config.out` up to `config.steps`, and returns the final state.

    Metrics of every step go to `out/log.jsonl` and TensorBoard, with the held-out character error rate every
    `eval_every` steps. After SIGTERM or Ctrl-C it saves and returns the state so far.

    Raises:
        GotError: when the config, its data or its checkpoints do not fit together, nothing can be written, too many
            examples are bad, too many steps in a row are not finite, or another process of the run is gone.
    """
    try:
        return _train(config, progress)
    except OSError as err:
        raise GotError(
            f"{config.out} could not be written ({err.strerror or err}); free space and resume with the same command: "
            "the saves before are whole."
        ) from None
    except jax.errors.JaxRuntimeError as err:
        if jax.process_count() == 1:
            raise
        line = str(err).splitlines()[0][:200]
        raise GotError(f"another process of this run is gone ({line}); {AGAIN}") from None


def _train(config: TrainConfig, progress: bool) -> TrainState:
    out = Path(config.out)
    mesh = make_mesh(config.mesh)
    tokenizer = load_tokenizer(config.model.tokenizer, Path(config.tokenizer))
    check(config, mesh, tokenizer)
    _make_folder(config, tokenizer)
    training = training_of(config)
    optimizer = make_optimizer(config.optimizer, config.steps)
    with checkpoints.open_manager(out / checkpoints.CHECKPOINTS, config.keep) as manager:
        first = manager.latest_step() or 0
        with Stop() as stop, Report(out, first, config.steps, progress) as report:
            state, lanes = _start(config, training, optimizer, mesh, manager, tokenizer, report)
            run = _Run(config, training, mesh, tokenizer, manager, report, stop)
            try:
                state = run.go(make_step(training, optimizer, mesh), state, lanes)
                checkpoints.finish(manager)
            finally:
                lanes.close()
    return state


def training_of(config: TrainConfig) -> Training:
    """What a config's step is compiled for."""
    return Training(config.model, config.losses, config.lora, len(leaves(config.data.engine)), config.precision)


def draws_of(config: TrainConfig, tokenizer: Tokenizer) -> Draws:
    """The examples of a config's run."""
    data, letters = config.data, config.losses.labels
    sizes = data.row_tokens, data.row_pictures
    return Draws(data.engine, tokenizer, config.model, config.seed, *sizes, letters, data.slips)


def check(config: TrainConfig, mesh: Mesh, tokenizer: Tokenizer) -> None:
    """Refuses, before anything is compiled, what cannot work together."""
    data = config.data
    check_rows(config, int(np.prod([mesh.shape[axis] for axis in BATCH])))
    vocabulary = config.model.decoder.vocab_size
    require(
        data.row_tokens > config.model.encoder.image_tokens,
        f"data.row_tokens {data.row_tokens} does not hold even one picture, which takes "
        f"{config.model.encoder.image_tokens} tokens; enlarge it.",
    )
    require(
        tokenizer.vocab_size <= vocabulary,
        f"the tokenizer has {tokenizer.vocab_size} tokens, more than decoder.vocab_size {vocabulary}; enlarge it.",
    )
    for engine in leaves(data.engine):
        if isinstance(engine, Sized):
            len(engine)  # reads its file, or says what is wrong with it


def check_rows(config: TrainConfig, ways: int) -> None:
    """Raises GotError when a mesh that splits a batch so many ways, and `losses.accumulate`, do not divide its rows."""
    parts = ways * config.losses.accumulate
    require(
        config.data.rows % parts == 0,
        f"data.rows {config.data.rows} is not divisible by {parts}: the mesh splits a batch {ways} ways, and "
        f"losses.accumulate works through it in {config.losses.accumulate}; change one.",
    )


def _make_folder(config: TrainConfig, tokenizer: Tokenizer) -> None:
    out = Path(config.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            (out / LOG).touch()
            write_config(config.model, out / CONFIG)
            tokenizer.save(out)
            if config.lora.rank:
                write_lora(config.lora, config.init_from, out)
    except OSError as err:
        raise GotError(f"output folder {out} cannot be written ({err.strerror}); choose another with --out.") from None


def _start(
    config: TrainConfig,
    training: Training,
    optimizer: Any,
    mesh: Mesh,
    manager: Any,
    tokenizer: Tokenizer,
    report: Report,
) -> tuple[TrainState, Lanes]:
    """The newest checkpoint of the run, else a state with fresh weights or those of `init_from`; and its data."""
    rows = config.data.rows
    mine = my_rows(mesh, rows)
    lanes = new_state(rows)
    state = None
    if manager.latest_step() is not None:
        like = abstract_state(training, optimizer, mesh)
        sums = jax.eval_shape(checkpoints.bit_sums, like)
        sums = jax.ShapeDtypeStruct(sums.shape, sums.dtype, sharding=replicated(mesh))
        saved = checkpoints.restore(manager, checkpoints.Saved(like, lanes_on_mesh(lanes, mesh), sums), report.say)
        if saved:
            state = saved.state
            for shard in saved.lanes.addressable_shards:
                lanes[shard.index] = np.asarray(shard.data)
    if state is None:
        params, lines = starting_params(config, tokenizer)
        for line in lines:
            report.say(line)
        state = init_state(training, optimizer, config.seed, mesh, jax.tree.map(np.asarray, params))
    return state, Lanes(draws_of(config, tokenizer), rows, mine, lanes, config.data.workers)


class _Placed(NamedTuple):
    """One batch on the mesh, with what belongs to it on the host."""

    batch: Batch
    lanes: np.ndarray
    reasons: list[str]
    pictures: float  # of all processes' rows, told from mine
    tokens: float  # in use


class _Run:
    """One call of `train`: the loop and what it does beside stepping."""

    def __init__(
        self,
        config: TrainConfig,
        training: Training,
        mesh: Mesh,
        tokenizer: Tokenizer,
        manager: Any,
        report: Report,
        stop: Stop,
    ) -> None:
        self.config, self.training, self.mesh, self.tokenizer = config, training, mesh, tokenizer
        self.manager, self.report, self.stop = manager, report, stop
        self.rate = schedule(config.optimizer, config.steps)
        self.engines = names(config.data.engine)
        self.skipped = 0  # in a row
        self.waited = 0.0
        self.begun = time.monotonic()
        data, chip = config.data, chip_of(jax.devices()[0].device_kind)
        places, text = data.rows * data.row_pictures, config.losses.text > 0
        work = step_flops(config.model, training.trained, text, data.rows, data.row_tokens, places)
        self.least_seconds = work / (chip.flops_per_s * jax.device_count()) if chip else None  # of a step at the peak

    def go(self, step: Any, state: TrainState, lanes: Lanes) -> TrainState:
        """Steps until the end or until asked to stop. Metrics are fetched one step late, so that devices never wait."""
        c, start = self.config, int(state.step)
        stream = ahead(self._placed(lanes))
        late: tuple[int, dict, _Placed] | None = None
        try:
            for number in range(start + 1, c.steps + 1):
                waiting = time.monotonic()
                placed = next(stream)
                self.waited += time.monotonic() - waiting
                state, metrics = step(state, placed.batch)
                if late:
                    self._log(*late)
                late = (number, metrics, placed)
                last = number == c.steps or self.stop.asked(number)
                if number % c.save_every == 0 or last:
                    checkpoints.save(self.manager, state, lanes_on_mesh(placed.lanes, self.mesh))
                if c.eval_examples and (number % c.eval_every == 0 or number == c.steps):
                    self._log(*late, cer=self._read(number, state))
                    late = None
                if last and number < c.steps:
                    checkpoints.finish(self.manager)
                    self.report.say(f"stopped after step {number}; resume with the same command: {c.out} is saved.")
                if last:
                    break
            if late:
                self._log(*late)
        finally:
            stream.close()  # type: ignore[attr-defined]
        return state

    def _placed(self, lanes: Lanes) -> Iterator[_Placed]:
        scale = self.config.data.rows / len(lanes.mine)
        for batch, state, reasons in lanes.batches():
            pictures, tokens = batch.pictures.sum() * scale, (batch.segments > 0).sum() * scale
            global_batch = batch_on_mesh(batch, lanes.mine, self.config.data.rows, self.mesh)
            yield _Placed(global_batch, state, reasons, float(pictures), float(tokens))

    def _log(self, number: int, metrics: dict, placed: _Placed, cer: float | None = None) -> None:
        host = jax.device_get(metrics)
        now = time.monotonic()
        seconds, waited = max(now - self.begun, 1e-9), self.waited
        self.begun, self.waited = now, 0.0
        data = self.config.data
        losses, tokens = host.pop("engine_loss", ()), host.pop("engine_tokens", ())
        row = {name: float(value) for name, value in host.items()}
        if len(self.engines) > 1:
            pairs = zip(self.engines, losses, tokens, strict=True)
            row |= {f"text/{name}": float(loss / count) for name, loss, count in pairs if count}
        rate = self.rate(number - 1)
        row |= {
            "step": number,
            "lr": float(np.asarray(rate)),
            "pictures_per_s": placed.pictures / seconds,
            "tokens_per_s": placed.tokens / seconds,
            "row_tokens_used": placed.tokens / (data.rows * data.row_tokens),
            "row_pictures_used": placed.pictures / (data.rows * data.row_pictures),
            "waiting_for_data": min(1.0, waited / seconds),
            "memory_gib": _memory_bytes() / 2**30,
        }
        if self.least_seconds:
            row["mfu"] = self.least_seconds / seconds
        if cer is not None:
            row["cer"] = cer
            self.begun = time.monotonic()
        self.report.step(row)
        self.report.bad(placed.reasons)
        mine = [r for r in range(data.rows) if placed.lanes[r, NEXT]]
        check_share(
            int(placed.lanes[mine, BAD].sum()),
            int(placed.lanes[mine, NEXT].sum()),
            data.max_bad,
            f"{self.config.out}/bad_examples.log",
        )
        self.skipped = self.skipped + 1 if row["skipped"] else 0
        if row["skipped"]:
            self.report.say(f"step {number} is skipped: its loss is {row['loss']}, its gradient {row['grad_norm']}.")
        require(
            self.skipped < self.config.max_skipped,
            f"{self.skipped} steps in a row were not finite; lower optimizer.lr and resume from {self.config.out}.",
        )

    def _read(self, number: int, state: TrainState) -> float:
        """Held-out error; process 0 reads with weights gathered from all, the others wait."""
        params = {part: tree for part, tree in state.params.items() if part != "letters"}
        if jax.process_count() > 1:
            params = multihost_utils.process_allgather(params, tiled=True)
        cer = math.nan
        if jax.process_index() == 0:
            params = merged(self.config.lora, params) if self.config.lora.rank else params
            reader = Reader(self.config.model, params, self.tokenizer)
            read = read_held_out(reader, self.config.data.held_out, self.config.eval_examples)
            self.report.readings(number, read[:SHOWN])
            cer = held_out_cer(read)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("held-out pictures are read")
        return cer


def _memory_bytes() -> int:
    """The most memory so far: of the busiest local device where it tells, else of this process."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in jax.local_devices()]
    return max(peaks) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
