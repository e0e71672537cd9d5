"""Processes that make samples ahead of the training step, and a thread that makes the next batch."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from got_jax.errors import GotError

T = TypeVar("T")


class Workers:
    """Computes `make(key)` for keys asked for ahead; with 0 processes, when the result is fetched.

    A process whose parent is gone ends itself: its pipe breaks.
    """

    def __init__(self, make: Callable[[Any], Any], count: int) -> None:
        self._make = make
        self._asked: dict[Any, Any] = {}  # key -> the pipe it was sent to
        self._ready: dict[Any, Any] = {}
        self._pipes, self._processes = [], []
        spawn = multiprocessing.get_context("spawn")  # forking a process that runs XLA's threads can hang
        for number in range(count):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(theirs, make), daemon=True, name=f"got-jax data {number}")
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._turn = 0

    def ask(self, key: Any) -> None:
        """Starts on `key`, unless it was asked for already."""
        if not self._pipes or key in self._asked or key in self._ready:
            return
        pipe = self._pipes[self._turn % len(self._pipes)]
        self._turn += 1
        try:
            pipe.send(key)
        except OSError:
            self._died()
        self._asked[key] = pipe

    def get(self, key: Any) -> Any:
        """The result of `key`."""
        if not self._pipes:
            return self._make(key)
        self.ask(key)
        while key not in self._ready:
            try:
                done, value = self._asked[key].recv()
            except (EOFError, OSError):
                self._died()
            del self._asked[done]
            self._ready[done] = value
        return self._ready.pop(key)

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
            process.join()

    def _died(self) -> None:
        raise GotError("a process that makes training data has died, perhaps for want of memory; lower data.workers.")


def _serve(pipe: Any, make: Callable[[Any], Any]) -> None:
    try:
        while True:
            key = pipe.recv()
            pipe.send((key, make(key)))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def ahead(values: Iterator[T]) -> Iterator[T]:
    """The same values, the next of which a thread makes while one is used."""
    made: queue.Queue[Any] = queue.Queue(maxsize=1)
    closed = threading.Event()

    def offer(item: tuple[Any, BaseException | None]) -> bool:
        """Whether the item could be put before the other side closed."""
        while not closed.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for value in values:
                if not offer((value, None)):
                    return
            offer((None, StopIteration()))
        except BaseException as err:
            offer((None, err))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            value, err = made.get()
            if isinstance(err, StopIteration):
                return
            if err is not None:
                raise err
            yield value
    finally:
        closed.set()
        thread.join()
