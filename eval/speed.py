"""How fast the full-size model is on this machine, beside transformers' GotOcr2: the same work, turn by turn.

python -m eval.speed --quick                                        # a few minutes on two cores
python -m eval.speed --ours bfloat16 int8 --rival float32 bfloat16 --out speed/
python -m eval.speed --no-rival --curves --out speed/               # time against context and pictures, plotted
python -m eval.speed --quick --no-rival --ours bfloat16 bfloat16-rows bfloat16-square   # what two kernels give
python -m eval.speed --only prefill batch --trace trace/            # and traces of JAX's profiler
python -m eval.speed --device gpu --out speed/                      # with 64 rows, and shares of what the card can do

Every contestant is a process of its own with random weights; the parent asks one after another for each run, so that
a busy minute of the machine hits all of them. The ratio compares the fastest of ours with the fastest rival.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from eval.contestants import ROWS, Contestant, mixed_lengths
from got_jax.cli import changes_of
from got_jax.config import GotConfig, got_580m, override
from got_jax.errors import GotError, require
from got_jax.train.flops import decoder_flops, encoder_flops

PATIENCE_S = 60.0  # a first run that takes longer is not repeated
Runs = dict[str, dict[str, list[float]]]  # work -> contestant -> seconds


@dataclasses.dataclass(frozen=True)
class Work:
    """A line of the table: `amount` units are done in the time that `method(**arguments)` takes."""

    name: str
    unit: str
    method: str
    arguments: dict[str, int]
    amount: float


def works(
    quick: bool,
    batches: tuple[int, ...],
    page_tokens: int,
    context: int = 300,
    longest: int | None = None,
    pictures: tuple[int, ...] = (1,),
    pages: tuple[int, ...] = (),
) -> list[Work]:
    tokens, after = 16 if quick else 64, "" if context == 300 else f", after {context:,} tokens"
    decode = [
        Work(f"decode, batch {b}{after}", "tokens/s", "decode", {"rows": b, "context": context, "tokens": tokens}, 0)
        for b in batches
    ]
    decode = [dataclasses.replace(w, amount=w.arguments["rows"] * w.arguments["tokens"]) for w in decode]
    longest = longest or (64 if quick else 256)
    total = sum(mixed_lengths(longest))
    together = lambda n: f", {n} pictures" if n > 1 else ""
    at_once = [
        Work(
            f"{n} pages at once, {page_tokens} tokens",
            "pages/s",
            "pages",
            {"rows": n, "count": 2 * n, "tokens": page_tokens},
            2 * n,
        )
        for n in pages
    ]
    lines = [
        *(Work(f"encoder and connector{together(n)}", "pictures/s", "encode", {"pictures": n}, n) for n in pictures),
        Work("prefill of 300 tokens", "tokens/s", "prefill", {"tokens": 300}, 300),
        *decode,
        *(
            Work(
                f"{ROWS} rows, mixed lengths, {how}", "tokens/s", "mixed", {"longest": longest, "continuous": c}, total
            )
            for c, how in enumerate(("fixed batches", "continuous"))
        ),
        Work("first token of a page", "s", "page", {"tokens": 1}, 0),
        *at_once,
    ]
    return lines if quick else [*lines, Work(f"page, {page_tokens} tokens", "s", "page", {"tokens": page_tokens}, 0)]


def curves() -> list[Work]:
    """Cost against context, and against pictures (of a batch, of a page in tiles)."""
    contexts = [
        Work(f"decode at {n}", "s a token", "decode", {"rows": 1, "context": n, "tokens": 16}, 0) for n in CONTEXTS
    ]
    prompts = [Work(f"prefill of {n}", "s", "prefill", {"tokens": n}, 0) for n in CONTEXTS]
    pictures = [Work(f"pictures: {n}", "s", "encode", {"pictures": n}, 0) for n in (1, 2, 4, 8, 13)]
    return [*contexts, *prompts, *pictures]


KINDS = ("float32", "bfloat16", "int8", "int8+cache")
LEFT_OUT = (  # of `ops`, in reading
    *("linear", "rows", "decode_step", "square", "causal", "fused", "prefetch"),  # a CPU's
    *("flash", "windows", "few_linear", "few_decode_step", "graph"),  # an accelerator's
)


def _kind(text: str) -> str:
    """A kind of weights, and names of kernels to do without."""
    kind, *plain = text.split("-")
    if kind not in KINDS or not set(plain) <= set(LEFT_OUT):
        raise argparse.ArgumentTypeError(
            f"'{text}' is unknown; choose {', '.join(KINDS)}, or one of them without kernels, as bfloat16-rows or "
            f"int8-linear-square (of {', '.join(LEFT_OUT)})"
        )
    return text


EXAMPLES = (__doc__ or "").split("\n\n")[1]
CONTEXTS = (256, 512, 1024, 2048, 4096, 8192)


def measure(
    names: list[str],
    lines: list[Work],
    config: GotConfig,
    device: str,
    repeats: int,
    trace: Path | None = None,
    note: Callable[[Work, Runs], str] | None = None,
) -> tuple[Runs, dict[str, float], dict[str, dict[str, float]]]:
    """Seconds of every run (the warming one is left out), and each contestant's peak memory in GiB.

    On a GPU also what it can do for each of ours (`Ours.rates`).

    Args:
        trace: a folder for a trace of each work of ours.
        note: called when a work is done, since the last may never come; what it returns is told.
    """
    from tqdm import tqdm

    contestants = [Contestant(name, config, device) for name in names]
    runs: Runs = {}
    with tqdm(total=len(lines) * len(names), unit="work") as bar:
        for work in lines:
            taken: dict[str, list[float]] = {c.name: [] for c in contestants}
            slow = set()
            for turn in range(repeats + 1):
                for c in contestants:
                    if c.name in slow:
                        continue
                    seconds = c.ask(work.method, work.arguments)
                    if turn or seconds > PATIENCE_S:
                        taken[c.name].append(seconds)
                    if seconds > PATIENCE_S:
                        slow.add(c.name)
                    bar.update(turn == 0)
            runs[work.name] = taken
            if note is not None:
                bar.write(note(work, runs), file=sys.stderr)
            for c in contestants:
                if trace is not None and c.name.startswith("got-jax"):
                    folder = str(trace / c.name.replace(" ", "-") / work.name.replace(" ", "-"))
                    c.ask("traced", {"method": work.method, "arguments": work.arguments, "folder": folder})
    memory = {c.name: c.ask("memory", {}) for c in contestants}
    rates = {c.name: c.ask("rates", {}) for c in contestants if device == "gpu" and c.name.startswith("got-jax")}
    for c in contestants:
        c.stop()
    return runs, memory, rates


def table(lines: list[Work], runs: Runs, memory: dict[str, float]) -> str:
    """Markdown: the median of each contestant, its spread, and the best of ours over the best rival."""
    names = list(memory)
    head = ["work", "unit", *names, "ratio"]
    rows = []
    for work in lines:
        middles = {name: statistics.median(seconds) for name, seconds in runs[work.name].items()}
        rows.append([work.name, work.unit, *(_spread(work, runs[work.name][name]) for name in names), _ratio(middles)])
    rows.append(["peak memory", "GiB", *(f"{memory[name]:.2f}" for name in names), _ratio(memory)])
    return _markdown([head, *rows])


def _markdown(rows: list[list[str]]) -> str:
    head, *lines = (f"| {' | '.join(cells)} |" for cells in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *lines])


def bound(work: Work, config: GotConfig, rates: dict[str, float]) -> float | None:
    """Seconds that the work takes at least: its operations, or what decoding reads, at the device's measured rates."""
    of = work.arguments
    if work.method == "encode":
        return of["pictures"] * encoder_flops(config) / rates["operations_per_s"]
    vocabulary = 2 * config.decoder.width * config.decoder.vocab_size
    if work.method == "prefill":
        flops = decoder_flops(config, of["tokens"]) - (of["tokens"] - 1) * vocabulary
        return max(flops / rates["operations_per_s"], rates["weights_bytes"] / rates["bytes_per_s"])
    if work.method == "decode":
        seen = of["context"] + of["tokens"] / 2
        read = rates["weights_bytes"] + of["rows"] * seen * rates["cache_bytes"]
        flops = of["rows"] * decoder_flops(config, 1)
        return of["tokens"] * max(read / rates["bytes_per_s"], flops / rates["operations_per_s"])
    return None


def shares(lines: list[Work], runs: Runs, config: GotConfig, rates: dict[str, dict[str, float]]) -> str:
    """Markdown: how much of what the device can do each of ours reaches."""
    head = ["of the bound", *rates]
    rows = []
    for work in lines:
        least = {name: bound(work, config, rate) for name, rate in rates.items()}
        if None not in least.values():
            reached = [f"{(least[name] or 0) / statistics.median(runs[work.name][name]):.0%}" for name in rates]
            rows.append([work.name, *reached])
    rows.append(["matrix products, TFLOP/s", *(f"{rate['operations_per_s'] / 1e12:.0f}" for rate in rates.values())])
    rows.append(["reading memory, GB/s", *(f"{rate['bytes_per_s'] / 1e9:.0f}" for rate in rates.values())])
    return _markdown([head, *rows])


def _spread(work: Work, seconds: list[float]) -> str:
    value = lambda s: work.amount / s if work.amount else s / _tokens(work)
    low, high = sorted((value(min(seconds)), value(max(seconds))))
    return f"{value(statistics.median(seconds)):.3g} ({low:.3g} to {high:.3g})"


def _line(work: Work, taken: dict[str, list[float]]) -> str:
    return f"{work.name}, {work.unit}: " + ", ".join(f"{name} {_spread(work, s)}" for name, s in taken.items())


def _tokens(work: Work) -> int:
    return work.arguments["tokens"] if work.unit == "s a token" else 1


def _ratio(values: dict[str, float]) -> str:
    ours = [v for name, v in values.items() if name.startswith("got-jax")]
    rivals = [v for name, v in values.items() if not name.startswith("got-jax")]
    return f"{min(rivals) / min(ours):.2f} x" if ours and rivals else ""


def plot(lines: list[Work], runs: Runs, file: Path) -> None:
    """Three panels: a token's time and a prompt's against context, the encoder's against pictures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    kinds = (
        ("decode", "context", "context, tokens"),
        ("prefill", "tokens", "prompt, tokens"),
        ("encode", "pictures", "pictures"),
    )
    for panel, (method, key, label) in zip(panels, kinds, strict=True):
        chosen = [w for w in lines if w.method == method]
        for name in runs[chosen[0].name]:
            xs = [w.arguments[key] for w in chosen]
            ys = [statistics.median(runs[w.name][name]) / _tokens(w) for w in chosen]
            panel.plot(xs, ys, marker="o", label=name)
        panel.set(xlabel=label, ylabel="s a token" if method == "decode" else "s", title=method, ylim=(0, None))
        panel.legend()
    figure.savefig(file, dpi=120)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m eval.speed",
        description="Times the full-size model with random weights beside transformers' GotOcr2.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"{EXAMPLES}\n\nAny field of the shape can be set by its dotted name, as in --decoder.depth 12.",
    )
    ours = f"weights of got-jax: {', '.join(KINDS)} (keys and values too); bfloat16-rows: without the kernel `rows`"
    parser.add_argument("--ours", nargs="+", type=_kind, default=["bfloat16", "int8"], metavar="KIND", help=ours)
    theirs = [kind + cache for cache in ("", "+static") for kind in KINDS[:2]]
    rival = "dtypes of transformers; +static: with its static cache, compiled on a GPU"
    parser.add_argument("--rival", nargs="+", choices=theirs, default=["float32"], help=rival)
    parser.add_argument("--against", choices=["transformers"], default="transformers", help="the rival")
    parser.add_argument("--no-rival", action="store_true", help="got-jax alone")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    more = "(default on a GPU: {}, else {})"
    batches, pages, pictures = more.format("1 4 16 64", "1 4 16"), more.format("64", "none"), more.format("1 16", "1")
    parser.add_argument("--batches", nargs="+", type=int, metavar="N", help=f"rows of decoding {batches}")
    parser.add_argument("--pages", nargs="*", type=int, metavar="N", help=f"whole pages read at once {pages}")
    parser.add_argument("--pictures", nargs="+", type=int, metavar="N", help=f"encoded together {pictures}")
    parser.add_argument("--context", type=int, default=300, metavar="N", help="tokens before decoding (default: 300)")
    parser.add_argument("--page-tokens", type=int, default=1000, metavar="N", help="answer of a page (default: 1000)")
    longest = "longest answer of a mixed set (default: 256, or 64 with --quick)"
    parser.add_argument("--longest", type=int, metavar="N", help=longest)
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="runs of each work (default: 3)")
    parser.add_argument("--quick", action="store_true", help="short answers, no whole page")
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="only works whose name holds a TEXT")
    parser.add_argument("--curves", action="store_true", help="cost against context and pictures instead, plotted")
    parser.add_argument("--trace", type=Path, metavar="DIR", help="also write a profiler's trace of each work of ours")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write speed.json, speed.md and speed.png")
    args, rest = parser.parse_known_args(argv)
    names = [f"got-jax {kind}" for kind in args.ours]
    names += [] if args.no_rival else [f"transformers {kind}" for kind in args.rival]
    gpu = args.device == "gpu"
    told = lambda value, there, here: tuple((there if gpu else here) if value is None else value)
    asked = works(
        args.quick,
        told(args.batches, [1, 4, 16, 64], [1, 4, 16]),
        args.page_tokens,
        args.context,
        args.longest,
        told(args.pictures, [1, 16], [1]),
        told(args.pages, [64], []),
    )
    lines = curves() if args.curves else asked
    try:
        lines = [work for work in lines if any(text in work.name for text in args.only)]
        require(bool(lines), f"--only '{' '.join(args.only)}' names no work; leave it out to see them all.")
        require(not args.curves or args.only == [""], "--curves draws all works; leave out --only.")
        require(args.longest is None or args.longest >= 2, f"--longest is {args.longest}, but it must be at least 2.")
        require(args.repeats >= 1, f"--repeats is {args.repeats}, but it must be at least 1.")
        config = override(got_580m(), changes_of(rest))
        report: dict[str, object] = {"about": about()}

        def kept(work: Work, runs: Runs) -> str:
            _save(args.out, "speed.json", report | {"seconds": runs})
            return _line(work, runs[work.name])

        _save(args.out, "speed.json", report)
        runs, memory, rates = measure(names, lines, config, args.device, args.repeats, args.trace, kept)
        text = f"{about()}\n\n{table(lines, runs, memory)}"
        text += f"\n\n{shares(lines, runs, config, rates)}" if rates else ""
        print(text)
        _save(args.out, "speed.json", report | {"seconds": runs, "peak_gib": memory, "rates": rates})
        _save(args.out, "speed.md", text)
        if args.out and args.curves:
            plot(lines, runs, args.out / "speed.png")
    except GotError as err:
        print(f"eval: {err}", file=sys.stderr)
        return 2
    return 0


def _save(folder: Path | None, name: str, what: object) -> None:
    """Writes a report, where there is a folder for it."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text((what if isinstance(what, str) else json.dumps(what, indent=1)) + "\n")
    except OSError as err:
        raise GotError(f"{folder} cannot be written ({err.strerror}); choose another folder.") from None


def about() -> str:
    """The machine, the date and the versions."""
    import os

    found = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in found if line.startswith("model name")), platform.processor())
    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "torch", "transformers"))
    return f"{time.strftime('%Y-%m-%d')}, {model}, {os.cpu_count()} cores, {packages}"


if __name__ == "__main__":
    sys.exit(main())
