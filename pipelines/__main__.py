"""The data engines from the command line.

python -m pipelines list
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import logging
import os
import re
import sys
from collections.abc import Sized
from pathlib import Path

from tqdm import tqdm

from got_jax.errors import GotError, require
from pipelines import bench, build, contact, engines, flywheel, inspection, label, truth
from pipelines.backends import tools

EXAMPLES = """examples:
  python -m pipelines list
  python -m pipelines sample pages --count 12 --out sheets/
  python -m pipelines sample slices --set split=held_out --set 'languages=[["ru", 1.0]]'
  python -m pipelines build pages --count 2000 --seed 1 --out data/pages --workers 2
  python -m pipelines build pages --count 1000000 --shards 1000 --out /shared/pages -- --runner=FlinkRunner ...
  python -m pipelines check data/pages
  python -m pipelines stats data/pages --plot pages.png
  python -m pipelines build pdfs --set folder=my_pdfs --out data/pdfs
  python -m pipelines label my_photos --out data/photos
  python -m pipelines flywheel my_pdfs --language zh --labeller rapidocr --judge tesseract --out data/round2
  python -m pipelines bench
  python -m pipelines bench charts --set 'renderers=[["echarts", 1.0]]'
  python -m pipelines truth --language zh --reader rapidocr

A build that was killed goes on where it was when the same command is given again. Train with what was built:
Shards("data/pages") is an engine for a config's data.engine (see docs/training.md)."""


def main(argv: list[str] | None = None) -> int:
    """Runs one action; a mistake of the user's is one sentence and exit code 2."""
    argv = sys.argv[1:] if argv is None else argv
    beam_flags = argv[argv.index("--") + 1 :] if "--" in argv else []
    args = _parser().parse_args(argv[: argv.index("--")] if "--" in argv else argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        if args.action == "build":
            return _build(args, beam_flags)
        actions = {"list": _list, "sample": _sample, "check": _check, "stats": _stats, "bench": _bench}
        return (actions | {"label": _label, "truth": _truth, "flywheel": _flywheel})[args.action](args)
    except GotError as err:
        print(f"pipelines: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pipelines: interrupted; the same command goes on where it was.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines",
        description="Makes training data: look at engines, build data sets, check them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="the engines and their settings")
    engine = argparse.ArgumentParser(add_help=False)
    engine.add_argument("engine", help="one of `list`")
    engine.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of the engine")
    engine.add_argument("--seed", type=int, default=0)
    sample = actions.add_parser("sample", parents=[engine], help="a contact sheet to look at")
    sample.add_argument("--count", type=int, default=12, metavar="N")
    sample.add_argument("--first", type=int, default=0, metavar="INDEX")
    sample.add_argument("--columns", type=int, default=4, metavar="N")
    sample.add_argument("--out", type=Path, default=Path("."), metavar="DIR", help="gets ENGINE.png and ENGINE.html")
    make = actions.add_parser("build", parents=[engine], help="write a data set (ArrayRecord shards that TFDS reads)")
    make.add_argument("--count", type=int, metavar="N", help="examples (of a finite engine, all by default)")
    make.add_argument("--shards", type=int, default=0, metavar="N", help="files (default: one for 500 examples)")
    make.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: cores)"
    )
    make.add_argument("--most-failed", type=float, default=0.05, metavar="SHARE", help="of a shard (default: 0.05)")
    make.add_argument("--out", type=Path, required=True, metavar="DIR")
    look = actions.add_parser("check", help="is a data set whole, and what the engine makes?")
    look.add_argument("folder", type=Path)
    look.add_argument("--remade", type=int, default=20, metavar="N", help="examples to make again and compare")
    look.add_argument("--proved", type=int, metavar="N", help="answers to prove against their pictures (default: all)")
    counts = actions.add_parser("stats", help="token lengths, characters, duplicates, sizes")
    counts.add_argument("folder", type=Path)
    counts.add_argument("--tokenizer", default="qwen", help="'qwen' or a model folder (default: qwen)")
    counts.add_argument("--most", type=int, default=0, metavar="N", help="look at the first N examples only")
    counts.add_argument("--plot", type=Path, metavar="FILE.png")
    rates = actions.add_parser("bench", help="examples per second of one core")
    rates.add_argument("engines", nargs="*", help="default: all")
    rates.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of the engines")
    rates.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of each engine (default: 10)")
    rates.add_argument("--warm", type=int, default=200, metavar="N", help="examples before the clock (default: 200)")
    labels = actions.add_parser("label", help="label real pictures with PaddleOCR's models")
    labels.add_argument("folder", type=Path, help="of pictures")
    labels.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets labels.jsonl and slices/")
    labels.add_argument("--confidence", type=float, default=0.9, metavar="P", help="least of a line (default: 0.9)")
    wheel = actions.add_parser(
        "flywheel", help="label pages by a model, keep what two readers agree on: a set for the next round"
    )
    wheel.add_argument("folder", type=Path, help="of PDF files or pictures")
    wheel.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="gets labels.jsonl, patches/, report.html"
    )
    for field in dataclasses.fields(flywheel.Settings):
        text = str(field.default)
        wheel.add_argument(f"--{field.name}", type=type(field.default), default=field.default, help=f"default: {text}")
    judged = actions.add_parser("truth", help="character error of an independent reader on clean pages")
    judged.add_argument("--regions", action="store_true", help="of regions cut out by their boxes, by rapidocr")
    judged.add_argument("--language", default="en")
    judged.add_argument("--reader", default="tesseract", choices=["tesseract", "rapidocr"])
    judged.add_argument("--count", type=int, default=200, metavar="N", help="pages (default: 200)")
    return parser


def _settings(args: argparse.Namespace) -> dict[str, str]:
    for text in args.set:
        require("=" in text, f"--set {text} has no '='; write --set FIELD=VALUE.")
    return dict(text.split("=", 1) for text in args.set)


def _list(args: argparse.Namespace) -> int:
    for name, entry in engines.entries().items():
        print(f"{name:14} {entry.about}")
        for tool in getattr(entry.engine, "tools", ()):
            if lacking := tools.missing(tool):
                print(f"    ! {lacking}")
        for field, value in vars(entry.engine).items():
            print(f"    {field} = {value!r}")
    return 0


def _sample(args: argparse.Namespace) -> int:
    require(args.count >= 1 and args.columns >= 1, "--count and --columns must be at least 1.")
    engine = engines.make(args.engine, _settings(args))
    made = [
        engine.example(args.seed, args.first + i)
        for i in tqdm(range(args.count), desc=args.engine, unit="example", disable=None)
    ]
    picture, page = args.out / f"{args.engine}.png", args.out / f"{args.engine}.html"
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        contact.as_picture(made, args.columns).save(picture)
        page.write_text(contact.as_html(args.engine, made), encoding="utf-8")
    except OSError as err:
        raise GotError(f"{args.out} cannot be written ({err.strerror}); choose another --out.") from None
    print(f"{picture} and {page}: {args.count} examples")
    return 0


def _build(args: argparse.Namespace, beam_flags: list[str]) -> int:
    require(args.workers >= 1, f"--workers is {args.workers}; it must be at least 1.")
    engine = engines.make(args.engine, _settings(args))
    count = args.count
    if isinstance(engine, Sized):
        count = min(count or sys.maxsize, len(engine))
    require(count is not None, f"--count is missing; engine '{args.engine}' has no end.")
    plan = build.Plan(
        name=args.engine,
        engine=engine,  # type: ignore[arg-type]
        seed=args.seed,
        count=count,
        shards=args.shards or -(-count // 500),
        out=args.out,
        most_failed=args.most_failed,
    )
    content = build.build(plan, args.workers, beam_flags)
    for why in content["failed"]:
        print(f"pipelines: {why}", file=sys.stderr)
    if content["rejected"]:
        print(f"{len(content['rejected'])} pages or files left out, each with its reason in {args.out / 'build.json'}:")
        reasons = collections.Counter(re.sub(r".* page \d+: |\d[\d,]*", "", why) for why in content["rejected"])
        for why, times in reasons.most_common():
            print(f"  {times:6} {why}")
    failed = f", {len(content['failed'])} failed (named above and in build.json)" if content["failed"] else ""
    print(f"{args.out}: {content['written']} examples in {plan.shards} shards{failed}, {content['examples_per_s']}/s")
    return 2 if content["failed"] else 0


def _check(args: argparse.Namespace) -> int:
    wrong = inspection.check(args.folder, args.remade, args.proved)
    for sentence in wrong:
        print(f"pipelines: {sentence}", file=sys.stderr)
    content = inspection.read_build(args.folder)
    for why in content["failed"]:
        print(f"not made: {why}")
    print(f"{args.folder}: {content['written']} examples, " + (f"{len(wrong)} faults" if wrong else "whole"))
    return 2 if wrong else 0


def _stats(args: argparse.Namespace) -> int:
    from got_jax.tokenizers import load_tokenizer

    name = args.tokenizer
    tokenizer = load_tokenizer("qwen", None) if name == "qwen" else load_tokenizer("sentencepiece", Path(name))
    found = inspection.stats(args.folder, tokenizer, args.most)
    print(inspection.table(found))
    if args.plot:
        inspection.plot(found, args.plot, str(args.folder))
    return 0


def _label(args: argparse.Namespace) -> int:
    counts = label.label(args.folder, args.out, args.confidence)
    skipped = f"{counts['skipped']} pictures gave no page (reasons in {args.out / 'skipped.log'})"
    print(f"{args.out / 'labels.jsonl'}: {counts['pages']} pages, {counts['slices']} slices; {skipped}")
    return 0


def _flywheel(args: argparse.Namespace) -> int:
    names = [field.name for field in dataclasses.fields(flywheel.Settings)]
    report = flywheel.run(args.folder, args.out, flywheel.Settings(**{name: getattr(args, name) for name in names}))
    for line in flywheel.lines(report):
        print(line)
    print(f"{args.out / 'labels.jsonl'}: {report['kept']} records; see {args.out / 'report.html'}")
    return 0


def _truth(args: argparse.Namespace) -> int:
    require(args.count >= 1, f"--count is {args.count}; it must be at least 1.")
    for line in truth.regions(args.count) if args.regions else truth.report(args.language, args.reader, args.count):
        print(line)
    return 0


def _bench(args: argparse.Namespace) -> int:
    for line in bench.lines(args.engines or list(engines.entries()), args.seconds, _settings(args), args.warm):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
