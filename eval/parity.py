"""Does got-jax compute what PyTorch computes? Layer by layer, on one's own checkpoint, beside transformers.

python -m eval.parity stepfun-ai/GOT-OCR-2.0-hf
python -m eval.parity my_checkpoint --pictures page.png slice.png --tokens 200 --report parity.html

Each layer is given the reference's own input, so the first row that fails names the layer that differs. The rows
"whole" let errors add up from pixels to scores. Exit code 0: parity; 1: they differ; 2: nothing could be compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import html
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from got_jax import images, prompts
from got_jax.errors import GotError, require
from got_jax.generate import DecodeConfig, generate
from got_jax.inference import Prepared, prepare
from got_jax.models.got import apply, normalise_pixels
from got_jax.models.qwen2 import DecoderBlock
from got_jax.models.vitdet import Encoder, EncoderBlock, Neck, cut_patches
from got_jax.ops.attention import Spans
from got_jax.reader import model_folder
from got_jax.train.checkpoints import read_weights
from got_jax.weights.store import Model
from got_jax.weights.torch_folders import layout_of
from got_jax.weights.torch_write import write_torch_folder

TOLERANCE = 1e-4  # relative error of a float32 layer; sums in another order give about 1e-6


class Row(NamedTuple):
    """One line of the table: relative error is |ours - theirs| / |theirs| in L2."""

    name: str
    max_error: float
    relative_error: float


class Report(NamedTuple):
    """All that was measured. `agreement`: share of the greedy answer's tokens up to which both go together."""

    rows: list[Row]
    agreement: list[float]
    tokens: list[int]

    @property
    def first_difference(self) -> Row | None:
        return next((row for row in self.rows if not row.relative_error <= TOLERANCE), None)

    @property
    def passed(self) -> bool:
        return self.first_difference is None and min(self.agreement) == 1.0


def make_pictures(count: int, side: int) -> list[np.ndarray]:
    """Pages and slices of the documents engine, at the model's size."""
    from pipelines.documents import Documents

    engine = Documents(split="held_out")
    pages = (engine.example(0, index).images[0] for index in range(count))
    return [images.to_square(images.decode(page, "made page"), side) for page in pages]


def compare(model: Model, reference: Any, pictures: Sequence[np.ndarray], tokens: int) -> Report:
    """Runs `reference` (transformers' GotOcr2ForConditionalGeneration, float32) and ours on the pictures."""
    model = model._replace(config=dataclasses.replace(model.config, dtype="float32", remat="none"))
    rows = _merged([_layers(model, reference, picture) for picture in pictures])
    laid = prepare(model.config, model.params)
    runs = [_greedy(model, laid, reference, picture, tokens) for picture in pictures]
    return Report(rows, [share for share, _ in runs], [count for _, count in runs])


def _merged(runs: list[list[Row]]) -> list[Row]:
    """The worst of each layer over the pictures."""
    return [
        Row(rows[0].name, max(r.max_error for r in rows), max(r.relative_error for r in rows))
        for rows in zip(*runs, strict=True)
    ]


def _row(name: str, ours: Any, theirs: np.ndarray) -> Row:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    require(ours.shape == theirs.shape, f"{name} has shape {ours.shape} here and {theirs.shape} in the reference.")
    error = ours - theirs
    return Row(name, float(np.abs(error).max()), float(np.linalg.norm(error) / np.linalg.norm(theirs)))


def _layers(model: Model, reference: Any, picture: np.ndarray) -> list[Row]:
    import torch

    config, params = model.config, model.params
    e, encoder = config.encoder, params["encoder"]
    ids = _prompt(model)
    pixels = normalise_pixels(jnp.asarray(picture[None]), jnp.float32)
    seen: dict[str, np.ndarray] = {}

    def keep(name: str):
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            seen[name] = output.detach().float().numpy()

        return hook

    vision, language = reference.model.vision_tower, reference.model.language_model
    watched = {
        "encoder.patch_embed": vision.patch_embed,
        **{f"encoder.block.{n}": layer for n, layer in enumerate(vision.layers)},
        "encoder.neck": vision.neck,
        "connector": reference.model.multi_modal_projector,
        **{f"decoder.layer.{n}": layer for n, layer in enumerate(language.layers)},
        "decoder.norm": language.norm,
    }
    hooks = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    hooks.append(language.layers[0].register_forward_pre_hook(lambda _m, inputs: seen.update(embeds=inputs[0].numpy())))
    try:
        with torch.no_grad():
            values = torch.from_numpy(np.array(pixels).transpose(0, 3, 1, 2))
            seen["logits"] = reference(input_ids=torch.tensor([ids]), pixel_values=values).logits.float().numpy()
    finally:
        for hook in hooks:
            hook.remove()

    rows = []
    embedded = cut_patches(pixels, e.patch_px) @ encoder["patch_embed"]["kernel"] + encoder["patch_embed"]["bias"]
    rows.append(_row("encoder.patch_embed", embedded, seen["encoder.patch_embed"]))
    x = seen["encoder.patch_embed"] + np.asarray(encoder["pos_embed"])
    blocks = {window: jax.jit(EncoderBlock(e, window).apply) for window in (0, e.window)}
    for number, (window, weights) in enumerate(_blocks(model)):
        name = f"encoder.block.{number}"
        rows.append(_row(name, blocks[window]({"params": weights}, x), seen[name]))
        x = seen[name]
    neck = jax.jit(Neck(e).apply)({"params": encoder["neck"]}, x)
    rows.append(_row("encoder.neck", neck, seen["encoder.neck"].transpose(0, 2, 3, 1)))
    grid = jnp.asarray(seen["encoder.neck"].transpose(0, 2, 3, 1))
    run = lambda *a, method="__call__": jax.jit(functools.partial(apply, config, method=method))(params, *a)
    rows.append(_row("connector", run(grid, method="connect"), seen["connector"]))

    x = seen["embeds"]
    positions = jnp.arange(len(ids))[None]
    spans = Spans.up_to(positions)
    block = DecoderBlock(config.decoder)
    layer = jax.jit(lambda w, x: block.apply({"params": w}, (x, None), 0, positions, spans)[0][0])
    for number in range(config.decoder.depth):
        name = f"decoder.layer.{number}"
        weights = jax.tree.map(lambda leaf, n=number: leaf[n], params["decoder"]["layers"])
        rows.append(_row(name, layer(weights, x), seen[name]))
        x = seen[name]
    normed = jnp.asarray(seen["decoder.norm"])
    rows.append(_row("decoder.logits", run(normed, method="logits"), seen["logits"]))

    whole = jax.jit(Encoder(e).apply)({"params": encoder}, pixels)
    rows.append(_row("whole encoder", whole, seen["encoder.neck"].transpose(0, 2, 3, 1)))
    tokens = jnp.array([ids])
    is_image = tokens == model.tokenizer.special[prompts.IMG_PAD]
    args = (tokens, is_image, picture[None], jnp.zeros(1, jnp.int32), positions, jnp.ones_like(tokens))
    rows.append(_row("whole model", run(run(*args), method="logits"), seen["logits"]))
    return rows


def _blocks(model: Model) -> Iterator[tuple[int, dict]]:
    """Window (0: the whole grid) and weights of every encoder block, in order."""
    e, groups = model.config.encoder, model.params["encoder"]["groups"]
    for group in range(e.depth // e.global_every):
        for number in range(e.global_every - 1):
            weights = jax.tree.map(lambda leaf, i=(group, number): leaf[i], groups["windowed"])
            yield e.window, weights
        yield 0, jax.tree.map(lambda leaf, g=group: leaf[g], groups["global"])


def _prompt(model: Model) -> list[int]:
    return prompts.prompt_ids(model.tokenizer, prompts.PLAIN, model.config.encoder.image_tokens, 1)


def _greedy(model: Model, laid: Prepared, reference: Any, picture: np.ndarray, limit: int) -> tuple[float, int]:
    """(share of the reference's answer up to the first token that differs, its length), read with `laid` weights."""
    import torch

    ids, stops = _prompt(model), prompts.stop_ids(model.tokenizer)
    limit = min(limit, model.config.decoder.context_tokens - len(ids))
    pad = model.tokenizer.special[prompts.IMG_PAD]
    rows = np.zeros(1, np.int32)
    [ours] = generate(model.config, laid, [ids], picture[None], rows, pad, stops, DecodeConfig(limit, 0))
    pixels = np.array(normalise_pixels(jnp.asarray(picture[None]), jnp.float32)).transpose(0, 3, 1, 2)
    with torch.no_grad():
        answer = reference.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            pixel_values=torch.from_numpy(pixels),
            do_sample=False,
            max_new_tokens=limit,
            eos_token_id=list(stops),
        )[0, len(ids) :].tolist()
    answer = answer[:-1] if answer and answer[-1] in stops else answer
    pairs = zip(ours.tokens, answer, strict=False)
    together = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(ours.tokens), len(answer)))
    longest = max(len(ours.tokens), len(answer), 1)
    return (together / longest if longest > together else 1.0), len(answer)


def table(report: Report) -> list[tuple[str, str, str, str]]:
    """Header and lines of the table, as text."""
    ok = lambda row: "ok" if row.relative_error <= TOLERANCE else "DIFFERS"
    lines = [(row.name, f"{row.max_error:.2e}", f"{row.relative_error:.2e}", ok(row)) for row in report.rows]
    return [("layer", "max error", "relative error", f"at most {TOLERANCE:.0e}"), *lines]


def verdict(report: Report) -> str:
    """One paragraph."""
    agreed = ", ".join(f"{s:.0%} of {n}" for s, n in zip(report.agreement, report.tokens, strict=True))
    first = report.first_difference
    where = f"the first layer that differs is {first.name}" if first else "no layer differs"
    return f"{'Parity' if report.passed else 'NO parity'}: {where}; greedy tokens that agree, by picture: {agreed}."


def as_markdown(report: Report) -> str:
    head, *lines = table(report)
    rule = "|---|---|---|---|"
    return "\n".join([_bars(head), rule, *map(_bars, lines), "", verdict(report)])


def _bars(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def as_html(report: Report) -> str:
    cells = lambda tag, line: "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line)
    head, *lines = table(report)
    style = "body{font:15px sans-serif;margin:2em}td,th{padding:.2em 1em;text-align:left;border-bottom:1px solid #ddd}"
    body = "".join(f"<tr>{cells('td', line)}</tr>\n" for line in lines)
    return (
        f"<!doctype html><meta charset=utf-8><title>Parity</title><style>{style}</style>"
        f"<h1>got-jax beside transformers</h1><p>{html.escape(verdict(report))}</p>"
        f"<table><tr>{cells('th', head)}</tr>\n{body}</table>\n"
    )


def run(name: str, files: Sequence[str], count: int, tokens: int) -> Report:
    """Loads a checkpoint on both sides and compares them.

    Raises:
        GotError: when the checkpoint cannot be read, or PyTorch is missing.
    """
    try:
        import torch
        import transformers
    except ImportError as err:
        raise GotError(f"the reference needs {err.name}; run: pip install 'got-jax[parity]'") from None
    folder = model_folder(name)
    model = read_weights(folder)
    side = model.config.encoder.image_px
    pictures = [images.to_square(images.decode(Path(f), f), side) for f in files] or make_pictures(count, side)
    with tempfile.TemporaryDirectory() as scratch:
        theirs = folder
        if layout_of(folder) != "transformers":
            theirs = Path(scratch) / "transformers"
            write_torch_folder(theirs, model, "transformers")
        loaded = transformers.GotOcr2ForConditionalGeneration.from_pretrained(theirs, dtype=torch.float32)
        return compare(model, loaded.eval(), pictures, tokens)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m eval.parity",
        description="Compares got-jax with transformers on a checkpoint, in float32: layer by layer, and a greedy run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python -m eval.parity my_checkpoint\n"
        "  python -m eval.parity stepfun-ai/GOT-OCR-2.0-hf --pictures page.png --report parity.html\n\n"
        "Exit code 0: parity; 1: they differ; 2: nothing could be compared.",
    )
    parser.add_argument("model", metavar="FOLDER", help="transformers, original or got-jax folder, or a hub id")
    parser.add_argument("--reference", choices=["transformers"], default="transformers")
    parser.add_argument("--pictures", nargs="+", default=[], metavar="FILE", help="default: two made by the engines")
    parser.add_argument("--count", type=int, default=2, metavar="N", help="how many pictures to make (default: 2)")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="longest greedy answer (default: 64)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the table as .md or .html")
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        report = run(args.model, args.pictures, args.count, args.tokens)
        print(as_markdown(report))
        if args.report:
            text = as_html(report) if args.report.suffix == ".html" else as_markdown(report) + "\n"
            try:
                args.report.write_text(text, encoding="utf-8")
            except OSError as err:
                raise GotError(f"{args.report} cannot be written ({err.strerror}); choose another file.") from None
    except GotError as err:
        print(f"eval: {err}", file=sys.stderr)
        return 2
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
