"""What a run shows: a progress bar, log.jsonl, TensorBoard, and curves as a picture."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from got_jax.data.example import Example
from got_jax.errors import GotError, require

LOG = "log.jsonl"
SHOWN = (
    ("loss", "{:.3f}"),
    ("pictures_per_s", "{:.1f}"),
    ("tokens_per_s", "{:.0f}"),
    ("mfu", "{:.1%}"),
    ("cer", "{:.1%}"),
)


class Report:
    """Rows of metrics out; only process 0 of a run writes. Use as a context."""

    def __init__(self, out: Path, start: int, steps: int, progress: bool) -> None:
        self._main = jax.process_index() == 0
        self._bar = tqdm(
            total=steps, initial=start, disable=not (progress and self._main), unit="step", dynamic_ncols=True
        )
        self._shown: dict[str, str] = {}
        self._bad = out / ("bad_examples.log" if self._main else f"bad_examples.{jax.process_index()}.log")
        self._log = self._board = None
        if self._main:
            from tensorboardX import SummaryWriter

            self._log = (out / LOG).open("a", encoding="utf-8")
            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=start or None)

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._log and self._board:
            self._log.close()
            self._board.close()

    def say(self, line: str) -> None:
        if self._main:
            tqdm.write(line)

    def bad(self, reasons: Sequence[str]) -> None:
        """Names bad examples in a file of this process."""
        if reasons:
            with self._bad.open("a", encoding="utf-8") as file:
                file.writelines(reason.replace("\n", " ") + "\n" for reason in reasons)

    def step(self, row: dict[str, float]) -> None:
        """One step's metrics, with its number as "step"."""
        if self._log and self._board:
            self._log.write(json.dumps({k: v if math.isfinite(v) else str(v) for k, v in row.items()}) + "\n")
            self._log.flush()
            for name, value in row.items():
                self._board.add_scalar(name, value, int(row["step"]))
        self._shown |= {name: form.format(row[name]) for name, form in SHOWN if name in row}
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update()

    def readings(self, step: int, read: Sequence[tuple[Example, str]]) -> None:
        """Pictures of the held-out engine with their truths and answers."""
        if not self._board:
            return
        for number, (example, answer) in enumerate(read):
            picture = np.asarray(Image.open(io.BytesIO(example.images[0])).convert("RGB"))
            self._board.add_image(f"held_out/{number}", picture, step, dataformats="HWC")
            quoted = lambda text: "    " + text.replace("\n", "\n    ")
            text = f"truth:\n\n{quoted(example.text)}\n\nanswer:\n\n{quoted(answer)}"
            self._board.add_text(f"held_out/{number}", text, step)


def plot(run: Path) -> Path:
    """Draws the curves of a run's log to `RUN/curves.png` and returns that path.

    Raises:
        GotError: when there is no log, or matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise GotError("curves need matplotlib; run pip install 'got-jax[plot]'.") from None
    try:
        lines = (run / LOG).read_text(encoding="utf-8").splitlines()
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as err:
        raise GotError(f"{run / LOG} cannot be read ({err}); give the folder of a run.") from None
    require(bool(rows), f"{run / LOG} holds no step yet; train the run further.")
    rows = list({row["step"]: row for row in rows}.values())  # a step that ran twice counts once
    names = [n for n in dict.fromkeys(name for row in rows for name in row) if n not in ("step", "skipped")]
    columns = 3
    figure = Figure(figsize=(5 * columns, 2.6 * -(-len(names) // columns)), layout="constrained")
    axes = figure.subplots(-(-len(names) // columns), columns, squeeze=False).ravel()
    for name, axis in zip(names, axes, strict=False):
        points = [(row["step"], float(row[name])) for row in rows if name in row]
        steps, values = np.array(points).T
        axis.plot(steps, values, color="0.8", linewidth=0.8)
        window = max(1, len(values) // 50)
        if window > 1:
            smooth = np.convolve(values, np.ones(window) / window, "valid")
            axis.plot(steps[window - 1 :], smooth, color="C0", linewidth=1.4)
        elif len(values) < 3:
            axis.plot(steps, values, "o", color="C0")
        low, high = np.nanpercentile(values, [0, 99]) if np.isfinite(values).any() else (0, 1)
        if high > low:
            axis.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))
        axis.set_title(name, fontsize=10)
        axis.tick_params(labelsize=8)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    figure.suptitle(str(run))
    figure.savefig(run / "curves.png", dpi=110)
    return run / "curves.png"
