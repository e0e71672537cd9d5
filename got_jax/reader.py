"""Pictures in, `Reading`s out: the public face of inference.

from got_jax import load
got = load("nano")
print(got.read("page.png").text)
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8
from PIL import Image

from got_jax import images, prompts
from got_jax.ahead import ahead
from got_jax.batching import Request, answers
from got_jax.blocks import Block, Box, parse, read_boxes, spell
from got_jax.config import GotConfig, presets
from got_jax.errors import GotError, require
from got_jax.generate import DecodeConfig, Decoded, generate, stream
from got_jax.inference import Prepared, prepare
from got_jax.models.got import abstract_params
from got_jax.sharding import place
from got_jax.tokenizers import Tokenizer
from got_jax.weights.hub import HUB_ID, hub_folder
from got_jax.weights.lazy import lazy, read_all
from got_jax.weights.store import CONFIG
from got_jax.weights.torch_folders import open_folder, read_folder

SHIPPED = Path(__file__).parent / "assets"
Source = str | Path | bytes | Image.Image


@dataclass(frozen=True)
class Reading:
    """What was read from one picture.

    Attributes:
        prompt: the query that was asked. tokens, logprobs: the answer's ids and the log-probability of each, the stop
            mark's last. stop: "end" (stop mark) or "length" (cut at the limit). seconds: since the reading before
            it was done, or its share of a batch.
    """

    text: str
    prompt: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: str
    seconds: float

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks with their boxes (thousandths of the picture) of an answer to `layout` or `boxes`."""
        return parse(self.text)

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes of an answer to `locate`."""
        return read_boxes(self.text)

    @property
    def confidence(self) -> float:
        """Geometric mean of the token probabilities."""
        return float(np.exp(np.mean(self.logprobs))) if self.logprobs else 0.0


@dataclass(frozen=True)
class ReadOptions:
    """What is asked of a picture, and how the answer is decoded.

    Attributes:
        format: formatted text instead of plain. box: (x1, y1, x2, y2) in pixels. color: frame to read.
        crop: dynamic resolution, up to `max_tiles` tiles and a thumbnail.
        no_repeat_ngram_size: default 20, and 0 with `crop`, as in the original, and with boxes, which repeat.
        layout: label every block. boxes: tell where each stands. locate: tell where this text stands. They need a
            model that was trained on them; `Reading.blocks` and `Reading.boxes` hold what it says.
        cache: how keys and values are kept while answers grow; see `DecodeConfig`.
    """

    format: bool = False
    box: Sequence[float] | None = None
    color: str | None = None
    crop: bool = False
    max_tiles: int = 12
    max_new_tokens: int = 4096
    no_repeat_ngram_size: int | None = None
    dialect: prompts.Dialect = "training"
    layout: bool = False
    boxes: bool = False
    locate: str = ""
    cache: str = ""

    def __post_init__(self) -> None:
        if self.box is None:
            self.query((1, 1))  # an option that no picture can satisfy is refused at once

    @property
    def decode(self) -> DecodeConfig:
        free = self.crop or self.boxes or self.layout or self.locate
        ngram = (0 if free else 20) if self.no_repeat_ngram_size is None else self.no_repeat_ngram_size
        return DecodeConfig(self.max_new_tokens, ngram, self.cache)

    def query(self, size: tuple[int, int]) -> str:
        """The question for a picture of so many pixels."""
        return prompts.query(
            self.format,
            self.box,
            size,
            self.color,
            self.crop,
            dialect=self.dialect,
            boxes=self.boxes,
            layout=self.layout,
            locate=self.locate,
        )


@dataclass(frozen=True)
class _Request:
    name: str
    query: str
    pictures: UInt8[np.ndarray, "N H W 3"]


@dataclass(frozen=True)
class Reader:
    """A loaded model.

    Attributes:
        others: replicas of `params` on further devices, which `read_many` and `answer_many` use too (`prepared`).
        mesh: what `params`, too large for one device, are split over (`on`).
    """

    config: GotConfig
    params: dict | Prepared
    tokenizer: Tokenizer
    others: tuple[Prepared, ...] = ()
    mesh: Mesh | None = None

    def prepared(self, weights: str = "", devices: Sequence[Any] = ()) -> Reader:
        """The same model laid out for fast reading; `weights` as in `inference.prepare`.

        Args:
            devices: each gets all weights, and batches of its own to read; default: JAX's default device alone.

        Raises:
            GotError: for unknown weights.
        """
        params = self._trained()
        if self.config.decoder.kind == "opt":  # stage 1's, which is read with only to look at a training
            require(not weights, "OPT's decoder cannot be rounded; leave its weights as they are.")
            return dataclasses.replace(self, params=read_all(jax.tree.map(lazy, params)))
        if not devices:
            return dataclasses.replace(self, params=prepare(self.config, params, weights))
        with jax.default_device(devices[0]):
            laid = prepare(self.config, params, weights)
        first, *others = (jax.device_put(laid, device) for device in devices)
        return dataclasses.replace(self, params=first, others=tuple(others))

    def on(self, mesh: Mesh) -> Reader:
        """The same model split over a mesh, for what one device cannot hold; `prepared` for several is much faster.

        Raises:
            GotError: when its weights are laid out for one device already.
        """
        params = place(self._trained(), abstract_params(self.config, boxed=True), mesh)
        return dataclasses.replace(self, params=params, mesh=mesh)

    def _trained(self) -> dict:
        if isinstance(self.params, Prepared):
            raise GotError("the model is laid out for one device already; load it with weights=None.")
        return self.params

    def read(self, source: Source, **options: Any) -> Reading:
        """Reads one picture (path, file contents or PIL image); `options` are the fields of `ReadOptions`.

        Raises:
            GotError: when the picture or an option cannot be used.
        """
        reading = next(self.read_many([source], batch_size=1, **options))
        if isinstance(reading, GotError):
            raise reading
        return reading

    def read_many(self, sources: Iterable[Source], batch_size: int = 8, **options: Any) -> Iterator[Reading | GotError]:
        """Reads pictures in batches, in order; a picture that cannot be read gives its `GotError` as a value.

        Pictures are decoded by threads while earlier ones are read: sources are drawn from up to a batch ahead for
        each device, by one more picture at least.

        Args:
            batch_size: pictures that each device reads at once.
            options: the fields of `ReadOptions`.
        """
        asked = ReadOptions(**options)
        yield from self._answers(
            lambda source: self._request(source, asked), sources, batch_size, asked.decode, asked.dialect
        )

    def stream(self, source: Source, **options: Any) -> Iterator[str]:
        """The text of one picture piece by piece, while it is read; `options` are the fields of `ReadOptions`.

        Together the pieces are the text that `read` gives.

        Raises:
            GotError: when the picture or an option cannot be used, or the model lies on a mesh.
        """
        require(self.mesh is None, "a model on a mesh reads batches; use read_many, or load it without a mesh.")
        asked = ReadOptions(**options)
        request = self._request(source, asked)
        if isinstance(request, GotError):
            raise request
        ids = prompts.prompt_ids(
            self.tokenizer, request.query, self.config.encoder.image_tokens, len(request.pictures), asked.dialect
        )
        pad, stops = self.tokenizer.special[prompts.IMG_PAD], prompts.stop_ids(self.tokenizer)
        said = text = ""
        for answer in stream(self.config, self.params, ids, request.pictures, pad, stops, asked.decode):
            text = spell(self.tokenizer, answer.tokens).strip()
            sure = text.rstrip("\N{REPLACEMENT CHARACTER}")  # a letter's bytes may be spread over tokens
            if sure.startswith(said) and len(sure) > len(said):
                yield sure[len(said) :]
                said = sure
        if text != said:
            yield text[len(said) :]

    def _request(self, source: Source, asked: ReadOptions) -> _Request | GotError:
        return self._about([source], lambda first: asked.query(first.size), asked.max_tiles if asked.crop else None)

    def _about(
        self, sources: Sequence[Source], query: Callable[[Image.Image], str], max_tiles: int | None
    ) -> _Request | GotError:
        """A request about pictures; `query` is given the first, which names it. None for `max_tiles`: resized whole."""
        side = self.config.encoder.image_px
        try:
            names = [str(source) if isinstance(source, (str, Path)) else "the picture" for source in sources]
            opened = [open_picture(source, name) for source, name in zip(sources, names, strict=True)]
            cut = [
                [images.to_square(p, side)] if max_tiles is None else images.tiles(p, side, 1, max_tiles)
                for p in opened
            ]
            return _Request(names[0], query(opened[0]), np.stack([tile for tiles in cut for tile in tiles]))
        except GotError as err:
            return err

    def answer_many(
        self,
        questions: Iterable[tuple[str, Sequence[Source]]],
        batch_size: int = 8,
        max_new_tokens: int = 4096,
        no_repeat_ngram_size: int = 20,
        max_tiles: int = 0,
    ) -> Iterator[Reading | GotError]:
        """Answers questions as training puts them: (query, pictures); order and errors as above.

        Args:
            max_tiles: each picture comes as so many tiles at most and a thumbnail; 0: resized whole.
        """
        decode = DecodeConfig(max_new_tokens, no_repeat_ngram_size)

        def request(question: tuple[str, Sequence[Source]]) -> _Request | GotError:
            query, sources = question
            return self._about(sources, lambda _: query, max_tiles or None)

        yield from self._answers(request, questions, batch_size, decode, "training")

    def _answers(
        self,
        request: Callable[[Any], _Request | GotError],
        items: Iterable[Any],
        batch_size: int,
        decode: DecodeConfig,
        dialect: prompts.Dialect,
    ) -> Iterator[Reading | GotError]:
        """To the requests that `request` makes of the items, in order; as trained or on a mesh batch after batch."""
        require(batch_size >= 1, f"batch_size is {batch_size}, but it must be at least 1.")
        requests = ahead(request, items, max(2, batch_size * (1 + len(self.others))))
        if isinstance(self.params, Prepared):
            yield from self._continuous(self.params, requests, batch_size, decode, dialect)
            return
        while group := list(islice(requests, batch_size)):
            yield from self._answer(group, decode, dialect)

    def _continuous(
        self,
        params: Prepared,
        requests: Iterator[_Request | GotError],
        batch_size: int,
        decode: DecodeConfig,
        dialect: prompts.Dialect,
    ) -> Iterator[Reading | GotError]:
        asked: dict[int, _Request] = {}  # by the number among all
        numbers: list[int] = []  # of those that can be answered
        ready: dict[int, Reading | GotError] = {}
        image_tokens = self.config.encoder.image_tokens

        def good() -> Iterator[Request]:
            for number, request in enumerate(requests):
                if isinstance(request, GotError):
                    ready[number] = request
                    continue
                asked[number] = request
                numbers.append(number)
                ids = prompts.prompt_ids(self.tokenizer, request.query, image_tokens, len(request.pictures), dialect)
                yield Request(ids, request.pictures)

        pad, stops = self.tokenizer.special[prompts.IMG_PAD], prompts.stop_ids(self.tokenizer)
        replicas, following, since = (params, *self.others), 0, time.monotonic()
        for index, answer in answers(self.config, replicas, good(), pad, stops, decode, batch_size):
            number = numbers[index]
            request = asked.pop(number)
            seconds, since = time.monotonic() - since, time.monotonic()
            if isinstance(answer, GotError):
                ready[number] = GotError(f"{request.name} gives {answer}")
            else:
                ready[number] = self._reading(request, answer, seconds)
            while following in ready:
                yield ready.pop(following)
                following += 1
        for number in sorted(ready):
            yield ready[number]

    def _reading(self, request: _Request, decoded: Decoded, seconds: float) -> Reading:
        return Reading(
            spell(self.tokenizer, decoded.tokens).strip(),
            request.query,
            tuple(decoded.tokens),
            tuple(decoded.logprobs),
            "end" if decoded.stopped else "length",
            seconds,
        )

    def _answer(
        self, requests: Sequence[_Request | GotError], decode: DecodeConfig, dialect: prompts.Dialect
    ) -> Iterator[Reading | GotError]:
        good = [r for r in requests if isinstance(r, _Request)]
        results: Iterator[Reading | GotError] = iter(())
        if good:
            begun = time.monotonic()
            tokens = self.config.encoder.image_tokens
            ids = [prompts.prompt_ids(self.tokenizer, r.query, tokens, len(r.pictures), dialect) for r in good]
            try:
                decoded = generate(
                    self.config,
                    self.params,
                    ids,
                    np.concatenate([r.pictures for r in good]),
                    np.repeat(np.arange(len(good), dtype=np.int32), [len(r.pictures) for r in good]),
                    self.tokenizer.special[prompts.IMG_PAD],
                    prompts.stop_ids(self.tokenizer),
                    decode,
                    self.mesh,
                )
            except GotError as err:
                if len(good) > 1:  # one row spoils the batch: find it by reading each alone
                    results = (result for r in good for result in self._answer([r], decode, dialect))
                else:
                    results = iter([GotError(f"{good[0].name} gives {err}")])
            else:
                seconds = (time.monotonic() - begun) / len(good)
                results = (self._reading(r, d, seconds) for r, d in zip(good, decoded, strict=True))
        for r in requests:
            yield r if isinstance(r, GotError) else next(results)


def open_picture(source: Source, name: str) -> Image.Image:
    """An upright RGB image of a path, of a file's contents, or of a PIL image; `name` stands in messages."""
    if isinstance(source, Image.Image):
        return images.upright_rgb(source)
    return images.decode(source if isinstance(source, bytes) else Path(source), name)


def load(name: str | Path, weights: str | None = "", devices: Sequence[Any] = ()) -> Reader:
    """Loads a model: "nano" (shipped with the package), a got-jax, transformers or original folder, or a hub id.

    Args:
        weights: how the decoder's matrices are kept: "float32", "bfloat16", "int8" (fastest, slightly inexact);
            default: as the model computes. None: parameters as they are trained, for `Reader.on`.
        devices: what `read_many` works with, as `jax.local_devices()`; default: JAX's default device alone.

    Raises:
        GotError: when there is no such model, or its files are damaged.
    """
    folder = model_folder(name)
    if weights is None:
        return Reader(*read_folder(folder))
    return Reader(*open_folder(folder)).prepared(weights, devices)


def model_folder(name: str | Path) -> Path:
    """The folder of a shipped model, of a path, or of a hub id ("owner/name"; cached by huggingface_hub).

    Raises:
        GotError: when there is no such model.
    """
    shipped = sorted(p.parent.name for p in SHIPPED.glob(f"*/{CONFIG}"))
    folder = SHIPPED / name if str(name) in shipped else Path(name)
    hint = f"give a model folder or one of: {', '.join(shipped)}"
    require(
        str(name) not in presets(),
        f"'{name}' names a shape, not trained weights; {hint}.",
    )
    if not folder.exists() and re.fullmatch(HUB_ID, str(name)):
        return hub_folder(str(name))
    require(folder.is_dir(), f"model '{name}' is unknown; {hint}.")
    return folder
