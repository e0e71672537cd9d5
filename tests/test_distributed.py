"""Several processes on loopback: the losses of one, each example read once, and an end when one of them dies."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from test_run import config_file
from test_train import ROOT, THREADS, losses, run_config

from got_jax.data.mixture import place_at
from got_jax.distributed import ProcessConfig, cluster
from got_jax.errors import GotError
from got_jax.train.config import TrainConfig
from got_jax.train.loop import train
from pipelines.documents import Documents

STEPS = 4


def start(config: Path, out: Path, processes: int, *more: str) -> list[subprocess.Popen]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "got_jax", "train", str(config), "--out", str(out), *more]
    command += ["--coordinator", f"localhost:{port}", "--processes", str(processes), "--process"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    env = os.environ | THREADS
    return [subprocess.Popen([*command, str(i)], **pipes, cwd=ROOT, env=env) for i in range(processes)]  # type: ignore[call-overload]


def wait_for_steps(out: Path, runs: list[subprocess.Popen]) -> None:
    log = out / "log.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= 1):
        assert all(process.poll() is None for process in runs)
        time.sleep(0.2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> list[float]:
    out = tmp_path_factory.mktemp("alone")
    train(run_config(out, steps=STEPS), progress=False)
    return losses(out)


def test_sigterm_saves_the_work_of_all_processes(tmp_path):
    runs = start(config_file(tmp_path), tmp_path / "run", 2, "--steps", "1000000", "--save_every", "1000000")
    wait_for_steps(tmp_path / "run", runs)
    for process in runs:
        process.send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=120)[0] for process in runs]
    assert [process.returncode for process in runs] == [0, 0], said
    assert "resume with the same command" in said[0]
    saved = [int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert saved == [len(losses(tmp_path / "run"))]


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_give_the_losses_of_one(tmp_path, alone, processes):
    """One process resumes what they saved."""
    config = config_file(tmp_path)
    runs = start(config, tmp_path / "run", processes, "--steps", str(STEPS // 2))
    said = [process.communicate(timeout=280)[0] for process in runs]
    assert [process.returncode for process in runs] == [0] * processes, said
    assert f"step {STEPS // 2} after" in said[0]
    np.testing.assert_allclose(losses(tmp_path / "run"), alone[: STEPS // 2], rtol=1e-5)
    train(run_config(tmp_path / "run", steps=STEPS), progress=False)
    np.testing.assert_allclose(losses(tmp_path / "run"), alone, rtol=1e-5)


def test_a_process_that_dies_ends_the_others(tmp_path):
    runs = start(config_file(tmp_path), tmp_path / "run", 2, "--steps", "1000000", "--save_every", "1000000")
    wait_for_steps(tmp_path / "run", runs)
    # the trainer is the child of the process that watches over it
    child = subprocess.run(["pgrep", "-P", str(runs[1].pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(child[0]), signal.SIGKILL)
    begun = time.monotonic()
    said = [process.communicate(timeout=60)[0] for process in runs]
    assert time.monotonic() - begun < 60
    assert [process.returncode for process in runs] == [2, 2]
    assert "another process of this run is gone" in said[0]
    assert "the run goes on from its last checkpoint" in said[0]
    assert "this process was ended by SIGKILL" in said[1]


def test_clusters_are_found_by_their_environment():
    assert cluster({}) is None
    assert cluster({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) == "SLURM"
    assert cluster({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None, "a job of one task"
    assert cluster({"OMPI_COMM_WORLD_SIZE": "2"}) == "Open MPI"
    assert cluster({"TPU_WORKER_HOSTNAMES": "a,b"}) == "TPU pod"
    assert cluster({"TPU_WORKER_HOSTNAMES": "localhost"}) is None


def test_flags_that_cannot_be_are_refused(capsys):
    from got_jax.cli import main

    for config, says in ((("h:1", 2, 2), "process 2 of 2 cannot be"), (("h", 2, 0), "no HOST:PORT")):
        with pytest.raises(GotError, match=says):
            ProcessConfig(*config)
    assert main(["train", "configs/nano_text.py", "--processes", "2"]) == 2
    assert "belong together" in capsys.readouterr().err


@dataclass(frozen=True)
class Logged:
    """A finite engine that writes down which process read what."""

    engine: Documents
    folder: str
    count: int = 12

    def __len__(self) -> int:
        return self.count

    def example(self, seed: int, index: int):
        with (Path(self.folder) / f"{os.getpid()}.read").open("a") as file:
            file.write(f"{index}\n")
        return self.engine.example(0, index)


def logged_config(folder: str) -> TrainConfig:
    """Four steps of eight rows with one picture each: 32 examples, or nearly three epochs of twelve."""
    config = run_config(Path(folder) / "run", steps=STEPS)
    words = Documents(pages=0, max_lines=1, line_chars=(4, 8))
    return dataclasses.replace(config, data=dataclasses.replace(config.data, engine=Logged(words, folder)))


def test_every_example_is_read_by_one_process_and_none_is_lost(tmp_path):
    """A row reads one example here, so the run reads 32, and those that were made ahead of its end."""
    path = tmp_path / "config.py"
    path.write_text(
        f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "from test_distributed import logged_config\n"
        f"def config():\n    return logged_config({str(tmp_path)!r})\n"
    )
    for process in (runs := start(path, tmp_path / "run", 2)):
        process.communicate(timeout=280)
    assert [process.returncode for process in runs] == [0, 0]
    read = [list(map(int, file.read_text().split())) for file in tmp_path.glob("*.read")]
    assert len(read) == 2
    engine = logged_config(str(tmp_path)).data.engine
    steps = min(len(some) for some in read) // 4  # each process fills four rows of a batch
    assert steps >= STEPS
    # process p has rows 4 p to 4 p + 3: draw k of lane r is example 8 k + r of the run
    expected = [
        [place_at(engine, 0, 8 * k + r).index for k in range(steps) for r in rows] for rows in (range(4), range(4, 8))
    ]
    assert sorted(some[: 4 * steps] for some in read) == sorted(expected)
    drawn = Counter(index for some in expected for index in some)
    assert max(drawn.values()) - min(drawn.values()) <= 1, "whole epochs, and a part of the next"
