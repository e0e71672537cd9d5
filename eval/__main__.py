"""Runs a benchmark: `python -m eval SUITE --model nano tesseract --data DIR --out DIR`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from eval import report as reports
from eval.question import Options
from eval.readers import ReadConfig
from eval.run import RunConfig, run
from eval.suites import suites
from got_jax.errors import GotError, require


def _parser(known: dict) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval",
        description="Runs a benchmark with one or more readers, scores all answers alike, and writes a report.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="suites:\n" + "".join(f"  {name:14} {suite.about}\n" for name, suite in known.items()) + "\nexamples:\n"
        "  python -m eval synth --model nano tesseract rapidocr --count 20\n"
        "  python -m eval fox-page --data focus_benchmark_test --model stepfun-ai/GOT-OCR-2.0-hf\n"
        "  python -m eval formatted --crop --data got_benchmarks --model my_model transformers:GOT-OCR-2.0-hf\n"
        "  python -m eval chartqa-se --data ChartSE_Benchmark --answers my_answers.json\n"
        "  python -m eval scene --data scene --model my_model --processes 8 --process 3   # one of eight\n\n"
        "A run that was cut goes on where it stopped. Exit code 0: all was scored; 1: something is missing, named in\n"
        "the report; 2: nothing was scored.\n"
        "See also python -m eval.slices (the shipped model), eval.parity, eval.trainstep, eval.speed, eval.startup,\n"
        "eval.agreement (what rounded weights cost) and eval.products (the CPU kernels).",
    )
    parser.add_argument("suite", choices=list(known), metavar="SUITE", help="one of those below")
    parser.add_argument(
        "--model",
        nargs="+",
        default=["nano"],
        metavar="MODEL",
        help="model folder, hub id, nano, tesseract, rapidocr or transformers:FOLDER; several share a table",
    )
    parser.add_argument("--answers", type=Path, metavar="PATH", help="score these answers instead of a model's")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the benchmark's files as downloaded, or one annotation file"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="at most so many questions of each group")
    parser.add_argument("--crop", action="store_true", help="pictures as tiles (dynamic resolution)")
    parser.add_argument("--max-tiles", type=int, default=12, metavar="N", help="with --crop (default: 12)")
    parser.add_argument("--languages", nargs="+", default=[], metavar="L", help="of synth (default: en zh)")
    parser.add_argument("--engines", nargs="+", default=[], metavar="E", help="of synth (default: all)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="pictures read at once (default: 8)")
    parser.add_argument("--max-new-tokens", type=int, default=4096, metavar="N", help="longest answer")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="", help="(default: the model's own)")
    parser.add_argument("--processes", type=int, metavar="N", help="how many processes share the questions")
    parser.add_argument("--process", type=int, metavar="I", help="number of this one, from 0; they share --out")
    parser.add_argument("--allow-missing", action="store_true", help="exit with 0 though something is missing")
    return parser


def shares(process: int | None, processes: int | None) -> tuple[int, int]:
    """(number of this process, how many there are), as told, or as SLURM or Open MPI tell."""
    for number, count in (("SLURM_PROCID", "SLURM_NTASKS"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")):
        numbered = os.environ.get(count, "").isdigit() and os.environ.get(number, "").isdigit()
        if processes is None and process is None and numbered and int(os.environ[count]) > 1:
            return int(os.environ[number]), int(os.environ[count])
    process, processes = process or 0, processes or 1
    require(
        processes >= 1 and 0 <= process < processes,
        f"process {process} of {processes} cannot be; number them from 0 on with --process.",
    )
    return process, processes


def main(argv: list[str] | None = None) -> int:
    """Runs a suite; a mistake of the user's is one sentence and exit code 2."""
    known = suites()
    args = _parser(known).parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        require(args.count >= 0, f"--count is {args.count}, but it must be 0 (all) or more.")
        for name in ("batch_size", "max_new_tokens", "max_tiles"):
            value = getattr(args, name)
            require(value >= 1, f"--{name.replace('_', '-')} is {value}, but it must be at least 1.")
        process, processes = shares(args.process, args.processes)
        config = RunConfig(
            models=tuple(dict.fromkeys(args.model)),
            data=args.data,
            out=args.out,
            options=Options(args.count, args.crop, args.max_tiles, tuple(args.languages), tuple(args.engines)),
            read=ReadConfig(args.batch_size, args.max_new_tokens, args.max_tiles, args.dtype),
            answers=args.answers,
            process=process,
            processes=processes,
        )
        found = run(known[args.suite], config)
        if found is None:
            print(f"process {process} of {processes} has answered its share; the last to finish writes the report.")
            return 0
        files = reports.write(found, args.out)
    except GotError as err:
        print(f"eval: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("eval: stopped by the user; the same command goes on.", file=sys.stderr)
        return 130
    print(reports.text_table(found))
    print(f"report: {', '.join(map(str, files))}")
    missing = reports.faults(found)
    for line in missing[:20]:
        print(f"missing: {line}", file=sys.stderr)
    if len(missing) > 20:
        print(f"missing: {len(missing) - 20} more, listed in the report", file=sys.stderr)
    return 0 if found.whole or args.allow_missing else 1


if __name__ == "__main__":
    sys.exit(main())
