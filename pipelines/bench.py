"""How many examples a second one core makes, engine by engine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import numpy as np

from pipelines import engines


def processor_s() -> float:
    """Processor time of this process and the renderers it started, dead or alive (Node lives on)."""
    import psutil

    own = time.process_time() + sum(os.times()[2:4])
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            own += sum(child.cpu_times()[:2])
    return own


def lines(names: list[str], seconds: float, settings: dict[str, str], warm: int) -> Iterator[str]:
    """A table: examples per second of processor time (not of a busy machine's wall clock), megabytes per second.

    Renderers that an engine starts count too.

    Args:
        settings: fields of the engines, as text.
        warm: examples made before the clock starts, for at most as many seconds: they read fonts and corpora, and Node
            compiles what it runs often. Of engines that draw in blocks, whole blocks are made.
    """
    import cv2

    cv2.setNumThreads(1)
    yield f"{'engine':14} {'examples/s':>10} {'MB/s':>7} {'kB each':>8} {'slowest, ms':>12}"
    for name in names:
        engine = engines.make(name, settings)
        if name in ("pdfs", "papers") and not getattr(engine, "folder", ""):
            yield f"{name:14} needs a folder; see `build`"
            continue
        begun = processor_s()
        for index in range(warm):
            engine.example(1, index)
            if processor_s() - begun > seconds:
                break
        took, size = [], 0
        block = getattr(engine, "block", 1)
        while sum(took) < seconds or len(took) % block:  # the first of a block takes the time of all
            begun = processor_s()
            example = engine.example(0, len(took))
            took.append(processor_s() - begun)
            size += sum(map(len, example.images))
        total = sum(took)
        yield (
            f"{name:14} {len(took) / total:10.1f} {size / total / 1e6:7.1f} {size / len(took) / 1e3:8.1f} "
            f"{np.max(took) * 1e3:12.0f}"
        )
