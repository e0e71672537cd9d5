"""How many examples a second one core makes, engine by engine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

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

    Renderers that an engine starts count too. The slowest example is by the wall clock: to ask for the processor time
    of all processes takes long beside a small example, so it is asked for twice only.

    Args:
        seconds: how long each engine is at work, by the wall clock.
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
        begun = time.monotonic()
        for index in range(warm):
            engine.example(1, index)
            if time.monotonic() - begun > seconds:
                break
        count, size, slowest = 0, 0, 0.0
        block = getattr(engine, "block", 1)
        begun, used = time.monotonic(), processor_s()
        while (last := time.monotonic()) - begun < seconds or count % block:  # the first of a block takes all's time
            size += sum(map(len, engine.example(0, count).images))
            count += 1
            slowest = max(slowest, time.monotonic() - last)
        total = processor_s() - used
        yield (
            f"{name:14} {count / total:10.1f} {size / total / 1e6:7.1f} {size / count / 1e3:8.1f} {slowest * 1e3:12.0f}"
        )
