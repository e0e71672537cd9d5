"""Compiles the full-size model for GPUs and TPUs that are not here: each program's memory, kernels or expected cycles.

python -m eval.accelerators v5e h200
python -m eval.accelerators h200 --pictures 1 --rows 1 --decoder.depth 2 --dump dump/
python -m eval.accelerators v6e --rows 1 16 --room 4096 --weights int8
python -m eval.accelerators v5p --train configs/stage2_joint.py --mesh data=2,fsdp=2 --data.rows 8

`make accelerators` fetches the compilers (libtpu and JAX's CUDA plugin, 250 MB) into .accelerators. Programs are what
the chip's own compiler makes of them, but for a GPU nothing is chosen by timing, as it would be there.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from eval.command import printed
from got_jax.cli import changes_of
from got_jax.config import GotConfig, got_580m, override
from got_jax.errors import GotError, require
from got_jax.train.flops import CHIPS, GIB

COMPILERS = Path(__file__).parents[1] / ".accelerators"
PROMPT = 288  # tokens of a picture's usual prompt, padded
GRIDS = {"v5e": ("2x2", "2x4", "4x4", "4x8", "8x8"), "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4")}
GRIDS |= {"v6e": GRIDS["v5e"], "v4": GRIDS["v5p"]}  # slices of 4, 8, 16, 32 and 64 chips
GPUS = {"h100": 132, "h200": 132}  # streaming multiprocessors
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # as other processes may be at it too
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
GPU_FLAGS = "--xla_gpu_autotune_level=0"  # nothing can be timed
WITHOUT_TRITON = {"xla_gpu_enable_triton_gemm": False}  # which finds no way to cut some products, if none is timed


class Compiled(NamedTuple):
    """A program's figures on one device, memory in bytes, or why it does not compile.

    `kernels`: how many a GPU's program starts; `cycles`: what a TPU's compiler thinks it takes, its Pallas kernels not
    counted. Both count a loop once.
    """

    name: str
    seconds: float
    arguments: int
    temporaries: int
    kernels: int = 0
    cycles: int = 0
    fault: str = ""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is compiled for a chip: the programs of reading, or a config's training step on a mesh."""

    config: Any  # GotConfig, or TrainConfig
    mesh: str = ""
    rows: tuple[int, ...] = ()
    pictures: tuple[int, ...] = ()
    room: int = 0
    weights: str = ""


def devices_of(chip: str, count: int) -> list[Any]:
    """`count` devices of a chip that is not here.

    Raises:
        GotError: for another number than a slice has, or when the compiler is missing.
    """
    from jax.experimental import topologies

    try:
        if chip in GPUS:
            shape = f"1x1x{count}"
            return topologies.get_topology_desc(chip, "cuda", target_config=_gpu(chip), topology=shape).devices
        grids = {4 * 2**n: grid for n, grid in enumerate(GRIDS[chip])}
        shape = grids[4] if count == 1 else grids.get(count)
        require(shape is not None, f"{chip} has no slice of {count} chips here; choose {', '.join(map(str, grids))}.")
        return topologies.get_topology_desc(f"{chip}:{shape}", "tpu").devices[:count]
    except (RuntimeError, NotImplementedError) as err:
        reason = str(err).splitlines()[0][:200]
        raise GotError(f"no compiler for {chip} ({reason}); run `make accelerators` first.") from None


def _gpu(chip: str) -> str:
    """A GPU as XLA's compiler is told of it."""
    c = CHIPS[chip]
    return f"""
        platform_name: "CUDA"
        device_description_str: "{chip}"
        runtime_version {{ major: 12 minor: 8 }}
        dnn_version_info {{ major: 9 minor: 7 }}
        gpu_device_info {{
          cuda_compute_capability {{ major: 9 }}
          core_count: {GPUS[chip]} fpus_per_core: 128 clock_rate_ghz: 1.98
          threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
          registers_per_core_limit: 65536 registers_per_block_limit: 65536
          shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
          driver_version: "12.9.0" runtime_version: "12.9.0"
          memory_bandwidth: {int(c.memory_bytes_per_s)} l2_cache_size: 52428800 device_memory_size: {c.memory_bytes}
        }}"""


def compile_all(chip: str, asked: Asked) -> list[Compiled]:
    """Every program for one chip, in the process that it is called in."""
    import jax

    platform = "gpu" if chip in GPUS else "tpu"  # what tracing asks JAX for
    with mock.patch.object(jax, "default_backend", return_value=platform):
        programs = training(chip, asked) if asked.mesh else reading(chip, asked)
        return [_compiled(name, lowered) for name, lowered in programs]


def _compiled(name: str, lowered: Callable[[], Any]) -> Compiled:
    begun = time.perf_counter()
    try:
        program = lowered()
        try:
            made = program.compile()
        except RuntimeError as err:
            if "tile sizes" not in str(err):
                raise
            made = program.compile(WITHOUT_TRITON)
    except (RuntimeError, ValueError) as err:  # the compiler's, and Pallas'
        text = " ".join(str(err).split())
        found = re.search(r"total memory required .*? available HBM \([^)]*\)", text)
        return Compiled(name, time.perf_counter() - begun, 0, 0, fault=found.group() if found else text[:200])
    memory = made.memory_analysis()
    taken = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Compiled(
        name, time.perf_counter() - begun, taken, memory.temp_size_in_bytes, *kernels_and_cycles(made.as_text())
    )


def kernels_and_cycles(text: str) -> tuple[int, int]:
    """How many kernels a compiled program starts, and the cycles that its compiler notes; those of a loop once.

    Fusions, calls of libraries and of Pallas kernels, and copies are kernels.
    """
    bodies = set(re.findall(r"body=%([\w.-]+)", text))
    blocks = [block for block in re.split(r"\n(?=ENTRY |%)", text) if block.startswith(("ENTRY ", "%"))]
    run = [block for block in blocks if block.startswith("ENTRY ") or block[1:].split(" ", 1)[0] in bodies]
    kernels = sum(len(re.findall(r" (?:fusion|custom-call|copy|scatter|sort|dot)\(", block)) for block in run)
    return kernels, sum(int(n) for block in run for n in re.findall(r'"estimated_cycles":"(\d+)"', block))


Programs = Iterator[tuple[str, Callable[[], Any]]]


def reading(chip: str, asked: Asked) -> Programs:
    """Encoding, prefill and decoding on one device."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import SingleDeviceSharding

    from got_jax.generate import Rules, begin, loop
    from got_jax.inference import encode, prepare
    from got_jax.models.got import abstract_params
    from got_jax.weights.lazy import Lazy

    config: GotConfig = asked.config
    where = SingleDeviceSharding(devices_of(chip, 1)[0])
    shape = lambda dtype, *sizes: jax.ShapeDtypeStruct(sizes, dtype, sharding=where)
    there = lambda tree: jax.tree.map(lambda leaf: shape(leaf.dtype, *leaf.shape), tree)
    zeros = lambda leaf: Lazy(leaf.shape, np.dtype(np.float32), lambda: np.zeros(leaf.shape, np.float32))
    kept, _, cache = asked.weights.partition("+")
    params = there(prepare(config, jax.tree.map(zeros, abstract_params(config)), kept))
    side, tokens, ints = config.encoder.image_px, config.encoder.image_tokens, jnp.int32
    rules = Rules(20, (1,), "int8" if cache else "")
    for n in asked.pictures:
        images = shape(jnp.uint8, n, side, side, 3)
        yield f"encode {n}", functools.partial(jax.jit(encode, static_argnums=0).lower, config, params, images)
    for n in asked.rows:
        prompts = shape(ints, n, PROMPT), shape(bool, n, PROMPT), shape(ints, n), shape(ints, n)
        given = params, *prompts, shape(jnp.dtype(config.dtype), n, tokens, config.decoder.width), shape(ints, n)
        yield f"prefill {n} x {PROMPT}", functools.partial(begin.lower, config, rules, asked.room, *given)
        state = there(jax.eval_shape(functools.partial(begin, config, rules, asked.room), *given))
        name = f"decode {n} at {PROMPT + asked.room}"
        yield name, functools.partial(loop(True).lower, config, rules, params, state, shape(ints))


def training(chip: str, asked: Asked) -> Programs:
    """A training step on a mesh."""
    import math

    from got_jax.sharding import make_mesh
    from got_jax.train.loop import check_rows
    from got_jax.train.plan import abstract_step, mesh_config
    from got_jax.train.step import make_step

    sizes = mesh_config(asked.mesh)
    check_rows(asked.config, sizes.data * sizes.fsdp)
    mesh = make_mesh(sizes, devices_of(chip, math.prod((sizes.data, sizes.fsdp, sizes.tensor))))
    steps, optimizer, state, batch = abstract_step(asked.config, mesh)
    name = f"step of {asked.config.data.rows} rows, {asked.mesh}"
    yield name, functools.partial(make_step(steps, optimizer, mesh).lower, state, batch)


def table(results: dict[str, list[Compiled]]) -> str:
    """Markdown: a line a program."""
    heads = (
        "chip",
        "program",
        "arguments and results, GiB",
        "temporaries, GiB",
        "of its memory",
        "kernels",
        "million cycles",
    )
    lines = [f"| {' | '.join((*heads, 'compiled in, s'))} |", "|---" * 8 + "|"]
    for chip, programs in results.items():
        for p in programs:
            part = f"{(p.arguments + p.temporaries) / CHIPS[chip].memory_bytes:.0%}"
            sizes = [f"{size / GIB:.2f}" for size in (p.arguments, p.temporaries)]
            counts = [str(p.kernels), ""] if chip in GPUS else ["", f"{p.cycles / 1e6:.1f}"]
            cells = ["does not compile", "", p.fault, "", ""] if p.fault else [*sizes, part, *counts]
            lines.append(f"| {chip} | {p.name} | {' | '.join(cells)} | {p.seconds:.0f} |")
    return "\n".join(lines)


def _apart(chip: str, asked: Asked, dump: Path | None) -> list[Compiled]:
    """`compile_all` in a process of its own, which finds the chip's compiler."""
    compiler, flags = ("cuda", GPU_FLAGS) if chip in GPUS else ("tpu", "")
    flags += f" --xla_dump_to={dump / chip} --xla_dump_hlo_as_text" if dump else ""
    variables = mock.patch.dict(os.environ, ENVIRONMENT | {"XLA_FLAGS": flags})
    path = mock.patch.object(sys, "path", [str(COMPILERS / compiler), *sys.path])  # a spawned process gets it
    with variables, path, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(compile_all, chip, asked).result()


def measure(chips: list[str], asked: Asked, dump: Path | None = None) -> str:
    """The versions and the table; a process a chip. What the compilers make goes to `dump`.

    Raises:
        GotError: when the compilers are missing.
    """
    from importlib.metadata import version

    from tqdm import tqdm

    require(
        COMPILERS.is_dir(), f"{COMPILERS.name} is missing, the compilers for accelerators; run `make accelerators`."
    )
    results = {chip: _apart(chip, asked, dump) for chip in tqdm(chips, unit="chip")}
    return f"{time.strftime('%Y-%m-%d')}, jax {version('jax')}\n\n{table(results)}"


def main(argv: list[str] | None = None) -> int:
    about = (__doc__ or "").split("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m eval.accelerators",
        description=about[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"{about[1]}\n\n{about[2]}\nOther arguments change the config, as --decoder.depth 12.",
    )
    parser.add_argument(
        "chips", nargs="+", choices=sorted({*GPUS, *GRIDS}), metavar="CHIP", help="of h100 h200 v4 v5e v5p v6e"
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 64], metavar="N", help="answers at once (1 64)")
    parser.add_argument("--pictures", type=int, nargs="+", default=[1, 8], metavar="N", help="encoded at once (1 8)")
    parser.add_argument("--room", type=int, default=1024, metavar="N", help="longest answer in tokens (default: 1024)")
    parser.add_argument("--weights", choices=["bfloat16", "int8", "int8+cache"], default="bfloat16")
    parser.add_argument("--train", type=Path, metavar="CONFIG", help="a training step instead of reading")
    parser.add_argument("--mesh", default="data=1", metavar="SIZES", help="of --train, as data=2,fsdp=2")
    parser.add_argument("--dump", type=Path, metavar="DIR", help="keep what XLA's compilers make of the programs")
    args, rest = parser.parse_known_args(argv)

    def work() -> str:
        require(min(*args.rows, *args.pictures, args.room) >= 1, "--rows, --pictures and --room must be at least 1.")
        if args.train:
            from got_jax.train.config import load_config

            asked = Asked(override(load_config(args.train), changes_of(rest)), args.mesh)
        else:
            config = override(dataclasses.replace(got_580m(), dtype="bfloat16"), changes_of(rest))
            asked = Asked(config, "", tuple(args.rows), tuple(args.pictures), args.room, args.weights)
        return measure(args.chips, asked, args.dump)

    return printed(work)


if __name__ == "__main__":
    sys.exit(main())
