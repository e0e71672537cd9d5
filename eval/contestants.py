"""Who is timed by `eval.speed`: got-jax and transformers' GotOcr2, each in a process of its own, on the same work."""

from __future__ import annotations

import dataclasses
import io
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from got_jax.config import GotConfig
from got_jax.errors import GotError, require

ROWS = 8  # answered at once where lengths are mixed


class Side(Protocol):
    """A contestant's work; every method runs once and returns seconds, but for `memory`."""

    def encode(self, pictures: int) -> float: ...
    def prefill(self, tokens: int) -> float: ...
    def decode(self, rows: int, context: int, tokens: int) -> float: ...
    def mixed(self, longest: int, continuous: int) -> float: ...
    def page(self, tokens: int) -> float: ...
    def pages(self, rows: int, count: int, tokens: int) -> float: ...
    def memory(self) -> float: ...


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
        from got_jax.ops import kernels
        from got_jax.tokenizers import load_tokenizer

        jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda"}[device])
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # contestants share a card
        compilation_cache()
        self.jax, self.tokenizer = jax, load_tokenizer("qwen", None)
        kept, *plain = weights.split("-")
        os.environ[kernels.PLAIN] = ",".join(plain)
        kept, _, cached = kept.partition("+")
        dtype = "float32" if kept == "float32" else "bfloat16"
        self.config = dataclasses.replace(config, dtype=dtype)
        self.side = config.encoder.image_px
        self.cache = "int8" if cached else ""
        self.params = prepare(self.config, random_params(self.config), kept)
        jax.block_until_ready(self.params)

    def encode(self, pictures: int) -> float:
        from got_jax.inference import encode

        images = np.zeros((pictures, self.side, self.side, 3), np.uint8)
        return self._timed(lambda p, x: encode(self.config, p, x), self.params, images)

    def prefill(self, tokens: int) -> float:
        from got_jax.inference import activations, logits, prefill_embedded, rows_of

        def run(params: Any, ids: Any) -> Any:
            x = rows_of(params.decoder["embedding"], ids, activations(self.config))
            last = self.jax.numpy.full(len(ids), ids.shape[1] - 1)
            caches, hidden = prefill_embedded(self.config, params, x, ids.shape[1], self.cache, last)
            return caches, logits(params, hidden[:, 0])

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
        rules, room = Rules(0, (-1,), self.cache), 2 + tokens
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
            for _ in answers(self.config, [self.params], group, -1, (-1,), DecodeConfig(longest, 0, self.cache), ROWS):
                pass
        return time.perf_counter() - begun

    def traced(self, method: str, arguments: dict[str, int], folder: str) -> float:
        """Runs a work once more under JAX's profiler."""
        from got_jax.cli import traced

        with traced(Path(folder)):
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
        generate(self.config, self.params, [ids], picture[None], rows, pad, (-1,), DecodeConfig(tokens, 0, self.cache))
        return time.perf_counter() - begun

    def pages(self, rows: int, count: int, tokens: int) -> float:
        """Seconds of files read as users read them, `rows` at once."""
        from got_jax.reader import Reader

        options = {"max_new_tokens": tokens, "no_repeat_ngram_size": 0, "cache": self.cache}
        reader, files = Reader(self.config, self.params, self.tokenizer), [page_file()] * count
        begun = time.perf_counter()
        said = [len(getattr(reading, "logprobs", ())) for reading in reader.read_many(files, rows, **options)]
        seconds = time.perf_counter() - begun
        require(
            said == [tokens] * count, f"answers of {set(said)} tokens, not {tokens}: random weights said a stop mark"
        )
        return seconds

    def memory(self) -> float:
        peak = (self.jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        return peak / 2**30 if peak else peak_gib()

    def rates(self) -> dict[str, float]:
        """What the device can do, and what a step of decoding reads: weights once, a row's cache for each token."""
        from eval.trainstep import matrix_rate
        from got_jax.inference import activations

        jnp = self.jax.numpy
        array = jnp.ones((64, 2**24 if self.jax.default_backend() != "cpu" else 2**22), jnp.float32)
        read = min(self._timed(lambda a: a.max(-1), array) for _ in range(6))
        c = self.config.decoder
        kind = jnp.dtype(self.cache or self.config.dtype)
        return {
            "operations_per_s": matrix_rate(activations(self.config)),
            "bytes_per_s": array.nbytes / read,
            "weights_bytes": float(sum(leaf.nbytes for leaf in self.jax.tree.leaves(self.params.decoder))),
            "cache_bytes": 2.0 * c.depth * c.kv_heads * c.head_width * kind.itemsize,
        }


class Theirs:
    """transformers' GotOcr2: SDPA where it has it (the text's part), its own generate with its own cache.

    "bfloat16+static" has a static cache, for which transformers compiles the steps on a GPU.
    """

    def __init__(self, ours: GotConfig, setting: str, device: str) -> None:
        import jax
        import torch
        import transformers

        from got_jax.prompts import IMG_PAD
        from got_jax.tokenizers import load_tokenizer
        from got_jax.weights.torch_write import transformers_config

        jax.config.update("jax_platforms", "cpu")  # it normalises the pictures
        self.torch, self.device = torch, {"cpu": "cpu", "gpu": "cuda"}[device]
        self.tokenizer = load_tokenizer("qwen", None)
        dtype, _, kept = setting.partition("+")
        self.dtype, self.cache = getattr(torch, dtype), {"cache_implementation": kept} if kept else {}
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
        options |= self.cache
        mask = self.torch.ones_like(ids)
        return self._run(lambda: self.model.generate(input_ids=ids, attention_mask=mask, **options, **more))

    def mixed(self, longest: int, continuous: int) -> float:
        """Fixed batches, whatever is asked for: transformers' generate knows no other."""
        lengths = mixed_lengths(longest)
        ids = self.torch.full((ROWS, 300), 7, dtype=self.torch.long, device=self.device)
        return sum(self._generate(ids, max(lengths[n : n + ROWS])) for n in range(0, len(lengths), ROWS))

    def page(self, tokens: int) -> float:
        return self.pages(1, 1, tokens)

    def pages(self, rows: int, count: int, tokens: int) -> float:
        """Batch after batch, as its generate takes them; the batch's files are decoded by threads."""
        import jax.numpy as jnp

        from got_jax import images, prompts
        from got_jax.ahead import ahead
        from got_jax.models.got import normalise_pixels

        file, seconds = page_file(), 0.0
        square = lambda file: images.to_square(images.decode(file, "the page"), self.ours.encoder.image_px)
        for _ in range(0, count, rows):
            begun = time.perf_counter()
            pictures = jnp.asarray(np.stack(list(ahead(square, [file] * rows, rows))))
            pixels = np.array(normalise_pixels(pictures, jnp.dtype(jnp.float32))).transpose(0, 3, 1, 2)
            prompt = prompts.prompt_ids(self.tokenizer, prompts.PLAIN, self.ours.encoder.image_tokens, 1)
            ids = self.torch.tensor([prompt] * rows, device=self.device)
            values = self.torch.from_numpy(pixels).to(self.device, self.dtype)
            seconds += time.perf_counter() - begun + self._generate(ids, tokens, pixel_values=values)
        return seconds

    def memory(self) -> float:
        return self.torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else peak_gib()


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

    def ask(self, method: str, arguments: dict[str, Any]) -> Any:
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
