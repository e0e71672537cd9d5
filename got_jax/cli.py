"""The command `got-jax`. Heavy imports wait until a command needs them, so `--help` is quick."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_jax.errors import GotError, require

if TYPE_CHECKING:
    from got_jax.reader import Reader
    from got_jax.train.config import TrainConfig

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "got-jax" / "xla"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; every problem the user can mend is one sentence on stderr and exit code 2."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    args.words = list(sys.argv[1:] if argv is None else argv)
    if rest and args.command not in ("train", "plan"):
        parser.error(f"unknown argument '{rest[0]}'; see got-jax {args.command} --help")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        command = {"ocr": _ocr, "train": _train, "plan": _plan, "convert": _convert, "info": _info}[args.command]
        return command(args, rest)
    except GotError as err:
        print(f"got-jax: {err}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("got-jax: stopped by the user.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="got-jax", description="GOT-OCR2.0 in JAX: read pictures, train, convert weights."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter

    ocr = commands.add_parser(
        "ocr",
        help="read pictures",
        formatter_class=raw,
        description="Reads pictures and prints their text.",
        epilog="examples:\n  got-jax ocr page.png\n  got-jax ocr *.jpg --out texts/\n"
        "  got-jax ocr form.png --box 100 40 620 90\n  got-jax ocr poster.png --crop --model path/to/model\n"
        "  got-jax ocr page.png --stream\n  got-jax ocr *.png --out texts/ --trace trace/",
    )
    ocr.add_argument("files", nargs="+", metavar="FILE", help="PNG, JPEG, TIFF, WebP, BMP or GIF (first frame)")
    ocr.add_argument("--model", default="nano", help="shipped model, model folder, run or hub id (default: nano)")
    ocr.add_argument("--format", action="store_true", help="formatted text: markdown, LaTeX, ...")
    ocr.add_argument("--box", nargs=4, type=float, metavar=("X1", "Y1", "X2", "Y2"), help="region in pixels")
    ocr.add_argument("--color", choices=["red", "green", "blue"], help="read inside the frame of this colour")
    ocr.add_argument("--boxes", action="store_true", help="every block with its box (needs a model trained on it)")
    ocr.add_argument("--layout", action="store_true", help="every block with its label, formatted; also with --boxes")
    ocr.add_argument("--locate", default="", metavar="TEXT", help="the boxes of a text")
    ocr.add_argument("--crop", action="store_true", help="cut a large picture into tiles")
    ocr.add_argument("--max-new-tokens", type=int, default=4096, metavar="N", help="longest answer")
    ocr.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="pictures each device reads at once (default: 8)"
    )
    ocr.add_argument(
        "--weights",
        choices=["float32", "bfloat16", "int8"],
        default="",
        help="how the decoder's weights are kept: smaller is faster, int8 is slightly inexact (default: the model's)",
    )
    ocr.add_argument(
        "--cache",
        choices=["float32", "bfloat16", "int8"],
        default="",
        help="how keys and values are kept: int8 for many long answers at once (default: as the model computes)",
    )
    ocr.add_argument("--out", type=Path, metavar="DIR", help="write DIR/NAME.txt instead of printing")
    ocr.add_argument("--stream", action="store_true", help="print the text while it is read, one picture at a time")
    ocr.add_argument("--trace", type=Path, metavar="DIR", help="write a trace of JAX's profiler, for XProf or Perfetto")

    train = commands.add_parser(
        "train",
        help="train a model",
        formatter_class=raw,
        description="Runs a config file; a run that was cut goes on from its last checkpoint.",
        epilog="examples:\n  got-jax train configs/nano_text.py\n"
        "  got-jax train configs/nano_text.py --steps 200 --out runs/try --optimizer.lr 5e-4 --data.workers 0\n\n"
        "  got-jax train --plot runs/nano_text\n"
        "  got-jax train configs/nano_text.py --coordinator 10.0.0.1:1234 --processes 4 --process 0\n\n"
        "Any field of the config can be set by its dotted name; --show prints them all. On TPU pods, under SLURM and\n"
        "Open MPI the processes find each other. SIGTERM and Ctrl-C save and end the run; the same command resumes it.",
    )
    train.add_argument("config", type=Path, metavar="CONFIG.py", nargs="?")
    train.add_argument("--plot", type=Path, metavar="RUN", help="draw the curves of a run to RUN/curves.png and stop")
    train.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 of several listens")
    train.add_argument("--processes", type=int, metavar="N", help="how many processes run together")
    train.add_argument("--process", type=int, metavar="I", help="number of this process, from 0")
    train.add_argument("--show", action="store_true", help="print the config and stop")

    plan = commands.add_parser(
        "plan",
        help="tell what a training needs on machines that are not here",
        formatter_class=raw,
        description="Bytes of a device, operations, traffic and time of a step, for a config on a mesh of chips. The "
        "step is\ncompiled for as many virtual CPU devices, which tells its memory; nothing is run.",
        epilog="examples:\n  got-jax plan configs/stage2_joint.py --mesh fsdp=8 --chip h100 --data.rows 8\n"
        "  got-jax plan configs/stage3_post.py --mesh data=4,fsdp=16 --chip v5p --data.rows 64 --no-compile",
    )
    plan.add_argument("config", type=Path, metavar="CONFIG.py")
    plan.add_argument("--mesh", required=True, metavar="data=N,fsdp=N,tensor=N", help="axes left out are 1")
    plan.add_argument("--chip", required=True, metavar="CHIP", help="v4, v5e, v5p, v6e, a100, h100 or h200")
    plan.add_argument("--no-compile", action="store_true", help="do without the compiler's figure")

    convert = commands.add_parser(
        "convert",
        help="turn a training run or a model into a model folder of any layout",
        formatter_class=raw,
        description="Writes the newest weights of a run, or a model's, as a folder of got-jax (orbax), of transformers "
        "or of the original repository. What SRC is, its files tell.",
        epilog="examples:\n  got-jax convert runs/nano_text my_model --dtype float16\n"
        "  got-jax convert stepfun-ai/GOT-OCR2_0 got_orbax\n"
        "  got-jax convert got_orbax got_hf --to transformers\n"
        "  got-jax convert runs/finetune merged_hf --to transformers      # adapters are merged\n"
        "  got-jax convert runs/finetune adapter --adapter                # adapters alone, for peft\n"
        "  got-jax convert runs/a mean --average runs/b runs/c            # the mean of three runs' weights",
    )
    convert.add_argument("source", metavar="SRC", help="run, model folder of any layout, or hub id")
    convert.add_argument("target", type=Path, metavar="DST")
    convert.add_argument("--to", choices=["orbax", "transformers", "original"], default="orbax", help="default: orbax")
    convert.add_argument(
        "--average", nargs="+", default=[], metavar="MODEL", help="the mean of SRC and these, which began as one model"
    )
    convert.add_argument("--adapter", action="store_true", help="write only a LoRA run's adapters, in PEFT's layout")
    convert.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="round the weights (default: as they are stored)"
    )

    info = commands.add_parser(
        "info",
        help="print a model's shape and parameter counts",
        formatter_class=raw,
        description="Prints the parameters of each part.",
        epilog="examples:\n  got-jax info got_580m\n  got-jax info nano",
    )
    info.add_argument("model", help="preset (got_580m, got_nano), shipped model or model folder")
    return parser


def _ocr(args: argparse.Namespace, _: list[str]) -> int:
    compilation_cache()
    import jax
    from tqdm import tqdm

    from got_jax.reader import Reader, model_folder
    from got_jax.train.checkpoints import open_weights

    require(not (args.stream and args.out), "--stream prints; leave out --out.")
    if args.out:
        try:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / ".writable").touch()
            (args.out / ".writable").unlink()
        except OSError as err:
            raise GotError(f"output folder {args.out} cannot be written ({err.strerror}); choose another.") from None
    names = _output_names(args.files) if args.out else {}
    batches = -(-len(args.files) // max(1, args.batch_size))
    devices = jax.local_devices()[: 1 if args.stream else batches]
    reader = Reader(*open_weights(model_folder(args.model))).prepared(args.weights, devices)
    options = {
        name: getattr(args, name)
        for name in ("format", "box", "color", "crop", "boxes", "layout", "locate", "max_new_tokens", "cache")
    }
    if args.stream:
        with traced(args.trace):
            return _stream(reader, args.files, options)
    readings = reader.read_many(args.files, args.batch_size, **options)
    failed = 0
    bar = tqdm(total=len(args.files), unit="picture", disable=None if args.out else True)
    with bar, traced(args.trace):
        for file, reading in zip(args.files, readings, strict=True):
            bar.update()
            if isinstance(reading, GotError):
                failed += 1
                bar.write(f"got-jax: {reading}", file=sys.stderr)
                continue
            if reading.stop == "length":
                bar.write(f"got-jax: {file}: the answer was cut at {len(reading.tokens)} tokens.", file=sys.stderr)
            if args.out:
                try:
                    names[file].parent.mkdir(parents=True, exist_ok=True)
                    (args.out / names[file]).write_text(reading.text + "\n", encoding="utf-8")
                except OSError as err:
                    raise GotError(f"{args.out / names[file]} cannot be written ({err.strerror}).") from None
            else:
                if len(args.files) > 1:
                    print(f"== {file}")
                print(reading.text, flush=True)
    return 2 if failed else 0


def _stream(reader: Reader, files: Sequence[str], options: dict[str, Any]) -> int:
    failed = 0
    for file in files:
        if len(files) > 1:
            print(f"== {file}")
        try:
            for piece in reader.stream(file, **options):
                print(piece, end="", flush=True)
            print()
        except GotError as err:
            failed += 1
            print(f"got-jax: {err}", file=sys.stderr)
    return 2 if failed else 0


@contextlib.contextmanager
def traced(folder: Path | None) -> Iterator[None]:
    """Traces what is computed meanwhile to `folder` with JAX's profiler; None: does nothing.

    Raises:
        GotError: when the folder cannot be written.
    """
    if folder is None:
        yield
        return
    import jax

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise GotError(f"trace folder {folder} cannot be written ({err.strerror}); choose another.") from None
    with jax.profiler.trace(str(folder)):
        yield


def _output_names(files: Sequence[str]) -> dict[str, Path]:
    """NAME.txt for each file; files whose names would collide keep their suffix, then get a number."""
    names: dict[str, Path] = {}
    taken: set[str] = set()
    for file in dict.fromkeys(files):
        path = Path(file)
        tries = [path.stem, path.name, *(f"{path.name}.{n}" for n in range(2, len(files) + 2))]
        name = next(t for t in tries if t not in taken)
        taken.add(name)
        names[file] = Path(f"{name}.txt")
    return names


def _train(args: argparse.Namespace, rest: list[str]) -> int:
    from got_jax.train.config import load_config

    if args.plot:
        from got_jax.train.report import plot

        print(plot(args.plot))
        return 0
    require(args.config is not None, "train needs a config file; see configs/, or --plot RUN.")
    config = override_all(load_config(args.config), rest)
    if args.show:
        for line in _flatten("", config):
            print(line)
        return 0
    compilation_cache()
    from got_jax.distributed import SUPERVISED, ProcessConfig, cluster, initialize, supervise

    told = (args.coordinator, args.processes, args.process)
    require(
        all(value is None for value in told) or all(value is not None for value in told),
        "--coordinator, --processes and --process belong together; give all three or none.",
    )
    process = ProcessConfig(*told) if args.coordinator else None
    if (process or cluster(os.environ)) and SUPERVISED not in os.environ:
        return supervise(args.words)
    initialize(process)
    import jax

    from got_jax.train.loop import train

    begun = time.monotonic()
    try:
        state = train(config)
    except GotError as err:
        if jax.process_count() == 1:
            raise
        print(f"got-jax: process {jax.process_index()}: {err}", file=sys.stderr, flush=True)
        os._exit(2)  # leaving in good order would wait for the others, which wait for this one
    if jax.process_index() == 0:
        print(f"{config.out}: step {int(state.step)} after {time.monotonic() - begun:.0f} s")
    return 0


def _plan(args: argparse.Namespace, rest: list[str]) -> int:
    import math

    import jax

    from got_jax.train.config import load_config
    from got_jax.train.plan import as_table, make_plan, mesh_config

    config, sizes = override_all(load_config(args.config), rest), mesh_config(args.mesh)
    if not args.no_compile:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", math.prod((sizes.data, sizes.fsdp, sizes.tensor)))
    print(as_table(config, make_plan(config, sizes, args.chip, not args.no_compile), sizes, args.chip))
    return 0


def override_all(config: TrainConfig, rest: Sequence[str]) -> TrainConfig:
    """`config` changed by `--a.b value` and `--a.b=value` arguments."""
    from got_jax.config import override

    return override(config, changes_of(rest))


def changes_of(rest: Sequence[str]) -> dict[str, str]:
    """{path: value} of such arguments."""
    words = iter(rest)
    changes: dict[str, str] = {}
    for word in words:
        require(word.startswith("--"), f"argument '{word}' is no override; write --field.path value.")
        name, equals, value = word[2:].partition("=")
        value = value if equals else next(words, None)
        require(value is not None, f"override --{name} has no value; write --{name} value.")
        changes[name.replace("-", "_")] = value  # type: ignore[assignment]
    return changes


def _flatten(prefix: str, value: object) -> list[str]:
    import dataclasses

    if not dataclasses.is_dataclass(value):
        return [f"--{prefix} {value!r}"]
    fields = [f.name for f in dataclasses.fields(value)]
    return [line for name in fields for line in _flatten(f"{prefix}.{name}".lstrip("."), getattr(value, name))]


def _convert(args: argparse.Namespace, _: list[str]) -> int:
    from got_jax.reader import model_folder
    from got_jax.train.checkpoints import export_adapter, open_weights
    from got_jax.weights.average import averaged
    from got_jax.weights.store import write_model
    from got_jax.weights.torch_write import write_torch_folder

    if args.adapter:
        export_adapter(Path(args.source), args.target)
        print(f"{args.target}: adapters")
        return 0
    model = averaged([open_weights(model_folder(name)) for name in (args.source, *args.average)])
    if args.to == "orbax":
        write_model(args.target, model, args.dtype)
    else:
        write_torch_folder(args.target, model, args.to, args.dtype)
    size = sum(p.stat().st_size for p in args.target.rglob("*") if p.is_file())
    print(f"{args.target}: {size / 2**20:.1f} MiB")
    return 0


def _info(args: argparse.Namespace, _: list[str]) -> int:
    import math

    import jax

    from got_jax.config import presets, read_config
    from got_jax.models.got import abstract_params
    from got_jax.reader import model_folder
    from got_jax.weights.store import CONFIG

    known = presets()
    config = known[args.model] if args.model in known else read_config(model_folder(args.model) / CONFIG)
    params = abstract_params(config)
    counts = {name: sum(math.prod(x.shape) for x in jax.tree.leaves(part)) for name, part in params.items()}
    for name, count in counts.items():
        print(f"{name:10} {count:>13,}")
    print(f"{'total':10} {sum(counts.values()):>13,}")
    side = config.encoder.image_px
    print(f"picture    {side} x {side} pixels -> {config.encoder.image_tokens} tokens")
    print(f"context    {config.decoder.context_tokens:,} tokens, vocabulary {config.decoder.vocab_size:,}")
    return 0


def compilation_cache() -> None:
    """Keeps compiled programs between runs of the command: a second start skips XLA."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


if __name__ == "__main__":
    sys.exit(main())
