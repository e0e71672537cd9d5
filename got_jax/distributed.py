"""Several processes, one run: JAX's multi-controller runtime, found or told, and what happens when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax

from got_jax.errors import GotError, require

SUPERVISED = "GOT_JAX_SUPERVISED"  # set in the child
AGAIN = "see the others' logs, then start all of them again: the run goes on from its last checkpoint."
HEARTBEAT_S = 20  # after so many seconds without a word, a process counts as dead


@dataclass(frozen=True)
class ProcessConfig:
    """Attributes:
    coordinator: HOST:PORT of process 0. processes: how many there are. process: number of this one.
    """

    coordinator: str
    processes: int
    process: int

    def __post_init__(self) -> None:
        require(
            self.processes >= 1 and 0 <= self.process < self.processes,
            f"process {self.process} of {self.processes} cannot be; number them from 0 on with --process.",
        )
        host, _, port = self.coordinator.rpartition(":")
        require(bool(host) and port.isdigit(), f"coordinator '{self.coordinator}' is no HOST:PORT; write one.")


def cluster(env: Mapping[str, str]) -> str | None:
    """The kind of cluster that the environment tells of, or None: "SLURM", "Open MPI" or "TPU pod"."""
    many = lambda name: env.get(name, "1").isdigit() and int(env.get(name, "1")) > 1
    if "SLURM_JOB_ID" in env and many("SLURM_NTASKS") and "SLURM_PROCID" in env:
        return "SLURM"
    if many("OMPI_COMM_WORLD_SIZE"):
        return "Open MPI"
    if "," in env.get("TPU_WORKER_HOSTNAMES", ""):
        return "TPU pod"
    return None


def supervise(arguments: Sequence[str], env: Mapping[str, str] = os.environ) -> int:
    """Runs `got-jax ARGUMENTS` as a child, passes signals on, and says in a sentence how it ended.

    When a process of a run dies, JAX's runtime aborts the others from C++, which no handler in Python can word.
    """
    child = subprocess.Popen([sys.executable, "-m", "got_jax", *arguments], env={**env, SUPERVISED: "1"})
    before = {n: signal.signal(n, lambda number, _: child.send_signal(number)) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status == -signal.SIGABRT:
        print(f"got-jax: another process of this run is gone; {AGAIN}", file=sys.stderr)
    elif status < 0:
        name = signal.Signals(-status).name
        print(f"got-jax: this process was ended by {name}, perhaps for want of memory; {AGAIN}", file=sys.stderr)
    return status if status >= 0 else 2


def initialize(config: ProcessConfig | None, env: Mapping[str, str] = os.environ) -> None:
    """Joins this process to the others, if there are any. Must come before the first use of a device.

    Raises:
        GotError: when the others cannot be reached.
    """
    kind = cluster(env)
    if config is None and kind is None:
        return
    told = {}
    if config is not None:
        told = {
            "coordinator_address": config.coordinator,
            "num_processes": config.processes,
            "process_id": config.process,
        }
    try:
        jax.distributed.initialize(**told, heartbeat_timeout_seconds=HEARTBEAT_S, initialization_timeout=120)
    except Exception as err:  # the coordination service raises its own kinds
        line = (str(err) or type(err).__name__).splitlines()[0]
        where = f"coordinator {config.coordinator}" if config else kind
        raise GotError(
            f"the processes of this run did not come together ({where}: {line}); start all of them."
        ) from None
