"""How fast the full-size model is on this machine, beside transformers' GotOcr2: the same work, turn by turn.

python -m eval.speed --quick                                        # a few minutes on two cores
python -m eval.speed --ours bfloat16 int8 --rival float32 bfloat16 --out speed/
python -m eval.speed --no-rival --curves --out speed/               # time against context and pictures, plotted
python -m eval.speed --only batch --trace trace/                    # and traces of JAX's profiler
python -m eval.speed --device gpu --out speed/

Every contestant is a process of its own with random weights; the parent asks one after another for each run, so that
a busy minute of the machine hits all of them. The ratio compares the fastest of ours with the fastest rival.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import multiprocessing
import platform
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from got_jax.cli import changes_of
from got_jax.config import GotConfig, got_580m, override
from got_jax.errors import GotError, require

PATIENCE_S = 60.0  # a first run that takes longer is not repeated
Runs = dict[str, dict[str, list[float]]]  # work -> contestant -> seconds


class Side(Protocol):
    """A contestant's work; every method runs once and returns seconds, but for `memory`."""

    def encode(self, pictures: int) -> float: ...
    def prefill(self, tokens: int) -> float: ...
    def decode(self, rows: int, context: int, tokens: int) -> float: ...
    def mixed(self, longest: int, continuous: int) -> float: ...
    def page(self, tokens: int) -> float: ...
    def memory(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class Work:
    """A line of the table: `amount` units are done in the time that `method(**arguments)` takes."""

    name: str
    unit: str
    method: str
    arguments: dict[str, int]
    amount: float


def works(quick: bool, batches: tuple[int, ...], page_tokens: int) -> list[Work]:
    decode = [
        Work(f"decode, batch {b}", "tokens/s", "decode", {"rows": b, "context": 300, "tokens": 16 if quick else 64}, 0)
        for b in batches
    ]
    decode = [dataclasses.replace(w, amount=w.arguments["rows"] * w.arguments["tokens"]) for w in decode]
    longest = 64 if quick else 256
    total = sum(mixed_lengths(longest))
    lines = [
        Work("encoder and connector", "pictures/s", "encode", {"pictures": 1}, 1),
        Work("prefill of 300 tokens", "tokens/s", "prefill", {"tokens": 300}, 300),
        *decode,
        *(
            Work(
                f"{ROWS} rows, mixed lengths, {how}", "tokens/s", "mixed", {"longest": longest, "continuous": c}, total
            )
            for c, how in enumerate(("fixed batches", "continuous"))
        ),
        Work("first token of a page", "s", "page", {"tokens": 1}, 0),
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


EXAMPLES = (__doc__ or "").split("\n\n")[1]
CONTEXTS = (256, 512, 1024, 2048, 4096, 8192)


ROWS = 8  # answered at once where lengths are mixed


def mixed_lengths(longest: int) -> list[int]:
    """Tokens of the answers of a mixed set, as pages and slices have them: many short ones, a few long ones."""
    drawn = np.random.default_rng(0).lognormal(np.log(longest / 8), 1.0, 8 * ROWS)
    return np.clip(drawn, 2, longest).astype(int).tolist()


def page_file() -> bytes:
    """A page's picture as a file: noise on white, which takes as long to decode as a scan."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(200, 256, (1600, 1200, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG", quality=85)
    return out.getvalue()


def random_params(config: GotConfig) -> dict:
    """Parameters that are drawn when they are read, as from a file."""
    import jax

    from got_jax.models.got import abstract_params
    from got_jax.weights.lazy import Lazy

    rng = np.random.default_rng(0)
    normal = lambda shape: rng.standard_normal(shape, np.float32) * np.float32(0.02)
    random = lambda leaf: Lazy(leaf.shape, np.dtype(np.float32), lambda: normal(leaf.shape))
    return jax.tree.map(random, abstract_params(config))


class Ours:
    """got-jax's own functions, as `Reader` calls them; no stop mark ends an answer."""

    def __init__(self, config: GotConfig, weights: str, device: str) -> None:
        import jax

        from got_jax.cli import compilation_cache
        from got_jax.inference import prepare
        from got_jax.tokenizers import load_tokenizer

        jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda"}[device])
        compilation_cache()
        self.jax, self.tokenizer = jax, load_tokenizer("qwen", None)
        dtype = "float32" if weights == "float32" else "bfloat16"
        self.config = dataclasses.replace(config, dtype=dtype)
        self.side = config.encoder.image_px
        self.params = prepare(self.config, random_params(self.config), weights)
        jax.block_until_ready(self.params)

    def encode(self, pictures: int) -> float:
        from got_jax.inference import encode

        images = np.zeros((pictures, self.side, self.side, 3), np.uint8)
        return self._timed(lambda p, x: encode(self.config, p, x), self.params, images)

    def prefill(self, tokens: int) -> float:
        from got_jax.inference import activations, logits, prefill_embedded, rows_of

        def run(params: Any, ids: Any) -> Any:
            x = rows_of(params.decoder["embedding"], ids, activations(self.config))
            caches, hidden = prefill_embedded(self.config, params, x, ids.shape[1])
            return caches, logits(params, hidden[:, -1])

        return self._timed(run, self.params, np.ones((1, tokens), np.int32))

    def _timed(self, function: Any, *arguments: Any) -> float:
        key = (function.__code__, *(np.shape(a) for a in arguments[1:]))
        jitted = self.__dict__.setdefault("jitted", {}).setdefault(key, self.jax.jit(function))
        begun = time.perf_counter()
        self.jax.block_until_ready(jitted(*arguments))
        return time.perf_counter() - begun

    def decode(self, rows: int, context: int, tokens: int) -> float:
        """Seconds of `tokens` steps after the prompts' and the first."""
        from got_jax.generate import Rules, advance, begin

        ids = np.full((rows, context), 7, np.int32)
        many = lambda value: np.full(rows, value, np.int32)
        nothing = np.zeros((0, self.side, self.side, 3), np.uint8), np.zeros(0, np.int32)
        rules, room = Rules(0, (-1,)), 2 + tokens
        state = begin(self.config, rules, room, self.params, ids, ids < 0, many(context), many(room), *nothing)
        state = self.jax.block_until_ready(advance(self.config, rules, self.params, state, 1))
        begun = time.perf_counter()
        self.jax.block_until_ready(advance(self.config, rules, self.params, state, tokens))
        return time.perf_counter() - begun

    def mixed(self, longest: int, continuous: int) -> float:
        """Seconds of a mixed set; fixed batches decode until their longest answer is done."""
        from got_jax.batching import Request, answers
        from got_jax.generate import DecodeConfig

        nothing = np.zeros((0, self.side, self.side, 3), np.uint8)
        requests = [Request([7] * 300, nothing, count) for count in mixed_lengths(longest)]
        groups = [requests] if continuous else [requests[n : n + ROWS] for n in range(0, len(requests), ROWS)]
        begun = time.perf_counter()
        for group in groups:
            for _ in answers(self.config, self.params, group, -1, (-1,), DecodeConfig(longest, 0), ROWS):
                pass
        return time.perf_counter() - begun

    def traced(self, method: str, arguments: dict[str, int], folder: str) -> float:
        """Runs a work once more under JAX's profiler."""
        with self.jax.profiler.trace(folder):
            return getattr(self, method)(**arguments)

    def page(self, tokens: int) -> float:
        from got_jax import images, prompts
        from got_jax.generate import DecodeConfig, generate

        file = page_file()
        begun = time.perf_counter()
        picture = images.to_square(images.decode(file, "the page"), self.side)
        ids = prompts.prompt_ids(self.tokenizer, prompts.PLAIN, self.config.encoder.image_tokens, 1)
        pad = self.tokenizer.special[prompts.IMG_PAD]
        rows = np.zeros(1, np.int32)
        generate(self.config, self.params, [ids], picture[None], rows, pad, (-1,), DecodeConfig(tokens, 0))
        return time.perf_counter() - begun

    def memory(self) -> float:
        return peak_gib()


class Theirs:
    """transformers' GotOcr2: SDPA where it has it (the text's part), its own generate with its own cache."""

    def __init__(self, ours: GotConfig, dtype: str, device: str) -> None:
        import torch
        import transformers

        from got_jax.prompts import IMG_PAD
        from got_jax.tokenizers import load_tokenizer
        from got_jax.weights.torch_write import transformers_config

        self.torch, self.device = torch, {"cpu": "cpu", "gpu": "cuda"}[device]
        self.tokenizer = load_tokenizer("qwen", None)
        self.dtype = getattr(torch, dtype)
        self.ours, pad = ours, self.tokenizer.special[IMG_PAD]
        values = {**transformers_config(ours), "image_token_index": pad, "image_token_id": pad}
        config: Any = transformers.GotOcr2Config(**values)
        config.text_config._attn_implementation = "sdpa"
        with torch.device(self.device):
            torch.set_default_dtype(self.dtype)
            self.model: Any = transformers.GotOcr2ForConditionalGeneration(config).eval()
        self.attention = self.model.model.language_model.config._attn_implementation

    def _run(self, work: Any) -> float:
        with self.torch.no_grad():
            begun = time.perf_counter()
            work()
            if self.device == "cuda":
                self.torch.cuda.synchronize()
            return time.perf_counter() - begun

    def encode(self, pictures: int) -> float:
        side = self.ours.encoder.image_px
        pixels = self.torch.zeros(pictures, 3, side, side, device=self.device, dtype=self.dtype)
        return self._run(lambda: self.model.model.get_image_features(pixel_values=pixels))

    def prefill(self, tokens: int) -> float:
        ids = self.torch.ones(1, tokens, dtype=self.torch.long, device=self.device)

        def work() -> None:
            hidden = self.model.model.language_model(input_ids=ids, use_cache=True).last_hidden_state
            self.model.lm_head(hidden[:, -1])

        return self._run(work)

    def decode(self, rows: int, context: int, tokens: int) -> float:
        """Seconds of `tokens` steps after the prompts' and the first two, as a stopping rule sees them pass."""
        ids = self.torch.full((rows, context), 7, dtype=self.torch.long, device=self.device)
        passed: list[float] = []

        def note(seen: Any, _scores: Any, **_: Any) -> Any:
            if self.device == "cuda":
                self.torch.cuda.synchronize()
            passed.append(time.perf_counter())
            return self.torch.zeros(len(seen), dtype=self.torch.bool, device=self.device)

        self._generate(ids, 2 + tokens, stopping_criteria=[note])
        return passed[-1] - passed[-1 - tokens]

    def _generate(self, ids: Any, tokens: int, **more: Any) -> float:
        options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
        mask = self.torch.ones_like(ids)
        return self._run(lambda: self.model.generate(input_ids=ids, attention_mask=mask, **options, **more))

    def mixed(self, longest: int, continuous: int) -> float:
        """Fixed batches, whatever is asked for: transformers' generate knows no other."""
        lengths = mixed_lengths(longest)
        ids = self.torch.full((ROWS, 300), 7, dtype=self.torch.long, device=self.device)
        return sum(self._generate(ids, max(lengths[n : n + ROWS])) for n in range(0, len(lengths), ROWS))

    def page(self, tokens: int) -> float:
        import jax.numpy as jnp

        from got_jax import images, prompts
        from got_jax.models.got import normalise_pixels

        file = page_file()
        begun = time.perf_counter()
        picture = images.to_square(images.decode(file, "the page"), self.ours.encoder.image_px)
        pixels = np.array(normalise_pixels(jnp.asarray(picture[None]), jnp.dtype(jnp.float32))).transpose(0, 3, 1, 2)
        prompt = prompts.prompt_ids(self.tokenizer, prompts.PLAIN, self.ours.encoder.image_tokens, 1)
        ids = self.torch.tensor([prompt], device=self.device)
        seconds = time.perf_counter() - begun
        values = self.torch.from_numpy(pixels).to(self.device, self.dtype)
        return seconds + self._generate(ids, tokens, pixel_values=values)

    def memory(self) -> float:
        return peak_gib()


def peak_gib() -> float:
    """The most memory that this process has held at once, in GiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _serve(pipe: Any, kind: str, *settings: Any) -> None:
    """A contestant's process: answers (method, arguments) until it is told to stop."""
    try:
        side: Side = Ours(*settings) if kind == "got-jax" else Theirs(*settings)
        pipe.send(None)
        while (asked := pipe.recv()) is not None:
            pipe.send(getattr(side, asked[0])(**asked[1]))
    except (GotError, ImportError, RuntimeError, MemoryError) as err:
        pipe.send(f"{type(err).__name__}: {str(err).splitlines()[0][:300]}")


class Contestant:
    """A side in its own process."""

    def __init__(self, name: str, config: GotConfig, device: str) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        kind, _, setting = name.partition(" ")
        self.process = context.Process(target=_serve, args=(theirs, kind, config, setting, device), daemon=True)
        self.process.start()
        theirs.close()
        self._answer()

    def ask(self, method: str, arguments: dict[str, Any]) -> float:
        self.pipe.send((method, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise GotError(f"{self.name} ended at once; is there memory enough for it?") from None
        require(not isinstance(answer, str), f"{self.name} cannot go on: {answer}.")
        return answer

    def stop(self) -> None:
        self.pipe.send(None)
        self.process.join(10)


def measure(
    names: list[str], lines: list[Work], config: GotConfig, device: str, repeats: int, trace: Path | None = None
) -> tuple[Runs, dict[str, float]]:
    """Seconds of every run (the warming one is left out), and each contestant's peak memory in GiB.

    Args:
        trace: a folder for a trace of each work of ours.
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
            for c in contestants:
                if trace is not None and c.name.startswith("got-jax"):
                    folder = str(trace / c.name.replace(" ", "-") / work.name.replace(" ", "-"))
                    c.ask("traced", {"method": work.method, "arguments": work.arguments, "folder": folder})
    memory = {c.name: c.ask("memory", {}) for c in contestants}
    for c in contestants:
        c.stop()
    return runs, memory


def table(lines: list[Work], runs: Runs, memory: dict[str, float]) -> str:
    """Markdown: the median of each contestant, its spread, and the best of ours over the best rival."""
    names = list(memory)
    head = ["work", "unit", *names, "ratio"]
    rows = []
    for work in lines:
        middles = {name: statistics.median(seconds) for name, seconds in runs[work.name].items()}
        shown = []
        for name in names:
            value = lambda s, w=work: w.amount / s if w.amount else s / _tokens(w)
            low, high = sorted((value(min(runs[work.name][name])), value(max(runs[work.name][name]))))
            shown.append(f"{value(middles[name]):.3g} ({low:.3g} to {high:.3g})")
        rows.append([work.name, work.unit, *shown, _ratio(middles)])
    rows.append(["peak memory", "GiB", *(f"{memory[name]:.2f}" for name in names), _ratio(memory)])
    bars = lambda cells: f"| {' | '.join(cells)} |"
    return "\n".join([bars(head), "|---" * len(head) + "|", *map(bars, rows)])


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
    kinds = ["float32", "bfloat16", "int8"]
    parser.add_argument("--ours", nargs="+", choices=kinds, default=["bfloat16", "int8"], help="weights of got-jax")
    parser.add_argument("--rival", nargs="+", choices=kinds[:2], default=["float32"], help="dtypes of transformers")
    parser.add_argument("--against", choices=["transformers"], default="transformers", help="the rival")
    parser.add_argument("--no-rival", action="store_true", help="got-jax alone")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16], metavar="N", help="rows of decoding")
    parser.add_argument("--page-tokens", type=int, default=1000, metavar="N", help="answer of a page (default: 1000)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="runs of each work (default: 3)")
    parser.add_argument("--quick", action="store_true", help="short answers, no whole page")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the works whose name holds TEXT")
    parser.add_argument("--curves", action="store_true", help="cost against context and pictures instead, plotted")
    parser.add_argument("--trace", type=Path, metavar="DIR", help="also write a profiler's trace of each work of ours")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write speed.json, speed.md and speed.png")
    args, rest = parser.parse_known_args(argv)
    names = [f"got-jax {kind}" for kind in args.ours]
    names += [] if args.no_rival else [f"transformers {kind}" for kind in args.rival]
    lines = curves() if args.curves else works(args.quick, tuple(args.batches), args.page_tokens)
    try:
        lines = [work for work in lines if args.only in work.name]
        require(bool(lines), f"--only '{args.only}' names no work; leave it out to see them all.")
        require(not args.curves or not args.only, "--curves draws all works; leave out --only.")
        require(args.repeats >= 1, f"--repeats is {args.repeats}, but it must be at least 1.")
        config = override(got_580m(), changes_of(rest))
        runs, memory = measure(names, lines, config, args.device, args.repeats, args.trace)
        text = f"{about()}\n\n{table(lines, runs, memory)}"
        print(text)
        if args.out:
            try:
                args.out.mkdir(parents=True, exist_ok=True)
                report = {"about": about(), "seconds": runs, "peak_gib": memory}
                (args.out / "speed.json").write_text(json.dumps(report, indent=1) + "\n")
                (args.out / "speed.md").write_text(text + "\n")
                if args.curves:
                    plot(lines, runs, args.out / "speed.png")
            except OSError as err:
                raise GotError(f"{args.out} cannot be written ({err.strerror}); choose another folder.") from None
    except GotError as err:
        print(f"eval: {err}", file=sys.stderr)
        return 2
    return 0


def about() -> str:
    """The machine, the date and the versions."""
    import os

    found = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in found if line.startswith("model name")), platform.processor())
    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "torch", "transformers"))
    return f"{time.strftime('%Y-%m-%d')}, {model}, {os.cpu_count()} cores, {packages}"


if __name__ == "__main__":
    sys.exit(main())
