"""Who reads: got-jax in this process, tesseract and rapidocr, transformers' GotOcr2, or answers from files."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from eval.question import Answer, PdfPage, Picture, Question
from got_jax import images, prompts
from got_jax.errors import GotError, require
from got_jax.generate import DecodeConfig

RIVALS = ("tesseract", "rapidocr")


class Reader(Protocol):
    """Answers questions in order, one each."""

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]: ...


@dataclass(frozen=True)
class ReadConfig:
    """How models read. `max_tiles`: of questions that come as tiles. `dtype` of computing; nothing: the model's own."""

    batch_size: int = 8
    max_new_tokens: int = 4096
    max_tiles: int = 12
    dtype: str = ""


def make(name: str, config: ReadConfig) -> Reader:
    """The reader of a `--model`.

    Raises:
        GotError: for an unknown model, or a program that is not installed.
    """
    if name in RIVALS:
        return Program(name)
    kind, _, folder = name.partition(":")
    if kind == "transformers" and folder:
        return Transformers(folder, config)
    return GotJax(name, config)


def ngram_of(question: Question) -> int:
    """As the original decodes: no 20 tokens twice for single pictures, no such rule for tiles and many pages."""
    single = len(question.pictures) == 1 and not question.crop
    return DecodeConfig().no_repeat_ngram_size if single else 0


class GotJax:
    """A model of ours over all devices of this process."""

    def __init__(self, name: str, config: ReadConfig) -> None:
        import jax

        from got_jax.cli import compilation_cache
        from got_jax.reader import load

        compilation_cache()
        self.config = config
        reader = load(name, weights=None)
        if config.dtype:
            reader = dataclasses.replace(reader, config=dataclasses.replace(reader.config, dtype=config.dtype))
        self.reader = reader.prepared(devices=jax.local_devices())

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        """In batches of questions of one kind; those that are neighbours stay so."""
        start = 0
        while start < len(questions):
            kind = lambda q: (ngram_of(q), q.crop)
            end = start
            while end < len(questions) and kind(questions[end]) == kind(questions[start]):
                end += 1
            group = questions[start:end]
            readings = self.reader.answer_many(
                ((q.query, [source(picture) for picture in q.pictures]) for q in group),
                batch_size=self.config.batch_size,
                max_new_tokens=self.config.max_new_tokens,
                no_repeat_ngram_size=ngram_of(group[0]),
                max_tiles=self.config.max_tiles if group[0].crop else 0,
            )
            for reading in readings:
                if isinstance(reading, GotError):
                    yield Answer("", str(reading))
                else:
                    yield Answer(reading.text, "", reading.stop, reading.seconds)
            start = end


class Program:
    """tesseract or rapidocr: no prompt; a region is cut out of the picture first."""

    def __init__(self, name: str) -> None:
        self.name = name

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        for question in questions:
            begun = time.monotonic()
            try:
                parts = [part for picture in question.pictures for part in self._parts(picture, question)]
                text = "\n".join(self._read(part, question) for part in parts)
            except GotError as err:
                yield Answer("", str(err))
                continue
            yield Answer(text, "", "end", time.monotonic() - begun)

    def _parts(self, picture: Picture, question: Question) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        pixels = np.asarray(opened(picture))
        yield pixels if question.region is None else cut(pixels, question.region)

    def _read(self, pixels: UInt8[np.ndarray, "H W 3"], question: Question) -> str:
        from pipelines import readers, reading_order

        if self.name == "rapidocr":
            found = readers.rapidocr(pixels)
            if question.region is not None:  # rows, though words far apart look like columns
                found = [found[i] for i in reading_order.rows([line.box for line in found])]
            return "".join(_after(a, b) + b.text for a, b in zip([None, *found], found, strict=False))
        language = next((name for name in readers.TESSERACT if name in question.group.replace("-", " ").split()), "en")
        return "\n".join(readers.tesseract(pixels, language, block=question.region is not None))


def _after(before: Any, line: Any) -> str:
    """What parts a found line from the one before: a space on one row, else a line break."""
    if before is None:
        return ""
    middle = (line.box[1] + line.box[3]) / 2
    return " " if before.box[1] < middle < before.box[3] and before.box[0] < line.box[0] else "\n"


def opened(picture: Picture) -> Image.Image:
    """An upright RGB picture. Raises GotError when it cannot be read."""
    if isinstance(picture, PdfPage):
        return _drawn(picture)
    return images.decode(picture, str(picture) if isinstance(picture, Path) else "the picture")


def source(picture: Picture) -> Path | bytes | Image.Image:
    """A picture as `got_jax.Reader` takes it; a PDF page that cannot be drawn is left to it as an empty file."""
    if not isinstance(picture, PdfPage):
        return picture
    try:
        return _drawn(picture)
    except GotError:
        return b""


def _drawn(page: PdfPage) -> Image.Image:
    from pipelines import pdfs

    document = pdfs.opened(str(page.path))
    try:
        return Image.fromarray(pdfs.picture(document[page.number], page.longest_px, []))
    except Exception as err:  # MuPDF raises many kinds for broken pages
        raise GotError(
            f"{page} cannot be drawn ({str(err).splitlines()[0] if str(err) else type(err).__name__})."
        ) from None


def cut(pixels: UInt8[np.ndarray, "H W 3"], region: tuple[int, ...] | str) -> UInt8[np.ndarray, "h w 3"]:
    """What stands in a box (thousandths) or within a coloured frame, white paper round it.

    Raises:
        GotError: for a point, which marks no part, or where no such frame is found.
    """
    from pipelines.readers import framed

    height, width = pixels.shape[:2]
    if isinstance(region, str):
        left, top, right, bottom = _within_frame(pixels, region)
    else:
        require(len(region) == 4, f"a point {list(region)} marks no part that could be cut out for this program.")
        left, top, right, bottom = (round(v * (height if i % 2 else width) / 1000) for i, v in enumerate(region))
    part = pixels[top:bottom, left:right]
    require(part.size > 0, f"region {region} is empty.")
    return framed(part)


def _within_frame(pixels: UInt8[np.ndarray, "H W 3"], colour: str) -> tuple[int, int, int, int]:
    """The largest rectangle of this colour, by pixels where its channel stands far above the other two."""
    import cv2

    require(colour in prompts.COLOURS, f"colour '{colour}' is unknown; choose one of {', '.join(prompts.COLOURS)}.")
    wanted = pixels[..., prompts.COLOURS.index(colour)].astype(int)
    others = np.delete(pixels, prompts.COLOURS.index(colour), axis=2).max(-1).astype(int)
    mask = ((wanted > 110) & (wanted - others > 70)).astype(np.uint8)
    count, _, found, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    require(count > 1, f"no {colour} frame is in the picture.")
    largest = found[1 + int(np.argmax(found[1:, cv2.CC_STAT_WIDTH] * found[1:, cv2.CC_STAT_HEIGHT]))]
    left, top, width, height = (int(v) for v in largest[:4])
    thick = int(mask[top : top + height, left + width // 2].argmin())
    return left + thick, top + thick, left + width - thick, top + height - thick


class Transformers:
    """transformers' GotOcr2 from a folder of its layout, with our prompts and pixels: the models alone are compared."""

    def __init__(self, folder: str, config: ReadConfig) -> None:
        try:
            import torch
            import transformers
        except ImportError as err:
            raise GotError(f"this reader needs {err.name}; run: pip install 'got-jax[parity]'.") from None
        from got_jax.weights.torch_folders import layout_of, open_folder

        path = Path(folder)
        require(path.is_dir(), f"model folder {folder} does not exist; check the path.")
        require(
            layout_of(path) == "transformers",
            f"{folder} is no folder of transformers; run got-jax convert {folder} DST --to transformers first.",
        )
        self.torch, self.limit, self.tiles = torch, config.max_new_tokens, config.max_tiles
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        ours = open_folder(path)
        self.tokenizer, self.shape = ours.tokenizer, ours.config
        dtype = getattr(torch, config.dtype or self.shape.dtype)
        model: Any = transformers.GotOcr2ForConditionalGeneration.from_pretrained(path, dtype=dtype)
        self.model = model.to(self.device).eval()

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        for question in questions:
            begun = time.monotonic()
            try:
                text, stop = self._answer(question)
            except GotError as err:
                yield Answer("", str(err))
                continue
            yield Answer(text, "", stop, time.monotonic() - begun)

    def _answer(self, question: Question) -> tuple[str, str]:
        import jax.numpy as jnp

        from got_jax.models.got import normalise_pixels

        torch, side = self.torch, self.shape.encoder.image_px
        pictures: list[np.ndarray] = []
        for picture in question.pictures:
            whole = opened(picture)
            tiles = images.tiles(whole, side, 1, self.tiles) if question.crop else [images.to_square(whole, side)]
            pictures += tiles
        ids = prompts.prompt_ids(self.tokenizer, question.query, self.shape.encoder.image_tokens, len(pictures))
        pixels = np.array(normalise_pixels(jnp.asarray(np.stack(pictures)), jnp.dtype(jnp.float32)))
        stops = prompts.stop_ids(self.tokenizer)
        room = self.shape.decoder.context_tokens - len(ids)
        require(room > 0, f"{question.name} gives a prompt of {len(ids)} tokens, over the model's context.")
        with torch.no_grad():
            out = self.model.generate(
                input_ids=torch.tensor([ids], device=self.device),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=self.device),
                pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2)).to(self.device, self.model.dtype),
                do_sample=False,
                max_new_tokens=min(self.limit, room),
                eos_token_id=list(stops),
                pad_token_id=stops[1],
                no_repeat_ngram_size=ngram_of(question),
            )[0, len(ids) :].tolist()
        ended = bool(out) and out[-1] in stops
        answer = out[:-1] if ended else out
        return self.tokenizer.decode(answer).strip(), "end" if ended else "length"
