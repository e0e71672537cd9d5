"""What rounded weights cost: how often the likeliest next token is the one that float32 chooses.

python -m eval.agreement                                  # the shipped model, 1,000 tokens of held-out slices
python -m eval.agreement --model path/to/model --data my_test.jsonl --tokens 5000     # pictures and texts of your own
python -m eval.agreement --write slices/                  # the slices as such a file, for a machine without the engines

Every kind is fed the same true text token by token, through its own KV cache, so that one difference does not lead to
others. bfloat16 is computed and cached in bfloat16; int8 has int8 weights, the rest as bfloat16; "int8, int8 cache"
keeps keys and values in int8 as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Iterator, Sized
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

from eval.command import printed
from eval.slices import ENGINE
from got_jax import images, inference, prompts
from got_jax.config import GotConfig
from got_jax.data.example import Engine
from got_jax.data.records import Records
from got_jax.errors import GotError, require
from got_jax.generate import bucket
from got_jax.inference import Prepared
from got_jax.reader import Reader, load, open_picture
from got_jax.train.heldout import SEED

WRITTEN = 30  # slices, of 1,000 tokens and more
KINDS = {"bfloat16": ("bfloat16", ""), "int8": ("int8", ""), "int8, int8 cache": ("int8", "int8")}  # weights, cache


@functools.partial(jax.jit, static_argnums=(0, 1))
def choices(
    config: GotConfig,
    cache: str,
    params: Prepared,
    prompt: Int[Array, "1 L"],
    is_image: Array,
    picture: UInt8[Array, "1 H W 3"],
    answer: Int[Array, "T"],
    length: Int[Array, ""],
) -> Int[Array, "T"]:
    """The likeliest token at each place of `answer`, given what is true before it; the prompt is `length` long."""
    slots = prompt.shape[1] + len(answer)
    rows = jnp.zeros(1, jnp.int32)
    caches, hidden = inference.prefill(config, params, prompt, is_image, picture, rows, slots, cache)
    best = lambda hidden: inference.logits(params, hidden).argmax(-1)[0].astype(jnp.int32)
    first = best(hidden[:, length - 1])

    def feed(carry: tuple, token: Array) -> tuple[tuple, Array]:
        place, caches = carry
        hidden, caches = inference.step(config, params, token[None], place[None], caches)
        return (place + 1, caches), best(hidden)

    _, others = jax.lax.scan(feed, (length, caches), answer[:-1])
    return jnp.concatenate([first[None], others])


def questions(reader: Reader, engine: Engine, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(prompt, picture, answer with its stop mark) of examples, until `count` tokens have been answered."""
    config, tokenizer = reader.config, reader.tokenizer
    index = 0
    while count > 0 and (not isinstance(engine, Sized) or index < len(engine)):
        example = engine.example(SEED, index)
        index += 1
        picture = images.to_square(open_picture(example.images[0], f"example {index}"), config.encoder.image_px)
        answer = [*tokenizer.encode(example.text), prompts.stop_ids(tokenizer)[0]][:count]
        ids = prompts.prompt_ids(tokenizer, example.prompt, config.encoder.image_tokens, 1, "training")
        count -= len(answer)
        yield np.array(ids), picture, np.array(answer)


def written(engine: Engine, count: int, folder: Path) -> str:
    """The engine's first examples, of one picture each, as records that `--data` reads; returns their file's name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for index in range(count):
            example = engine.example(SEED, index)
            (folder / f"{index}.png").write_bytes(example.images[0])
            lines.append(json.dumps({"image": f"{index}.png", "prompt": example.prompt, "text": example.text}))
        (folder / "data.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as err:
        raise GotError(f"{folder} cannot be written ({err.strerror}); choose another folder.") from None
    return str(folder / "data.jsonl")


def agreement(model: str, tokens: int, engine: Engine = ENGINE) -> dict[str, float]:
    """Share of places, by kind, where its choice is float32's.

    Raises:
        GotError: for an unknown model, a bad record, or fewer than one token.
    """
    require(tokens >= 1, f"--tokens is {tokens}, but it must be at least 1.")
    trained = load(model, weights=None)
    plain = dataclasses.replace(trained.config, dtype="float32")
    half = dataclasses.replace(trained.config, dtype="bfloat16")
    sides = {"float32": (plain, "", inference.prepare(plain, trained.params, "float32"))}  # type: ignore[arg-type]
    for kind, (weights, cache) in KINDS.items():
        sides[kind] = (half, cache, inference.prepare(half, trained.params, weights))  # type: ignore[arg-type]
    pad = trained.tokenizer.special[prompts.IMG_PAD]
    same, places = dict.fromkeys(KINDS, 0), 0
    for ids, picture, answer in questions(trained, engine, tokens):
        prompt = np.zeros((1, bucket(len(ids))), np.int32)
        prompt[0, : len(ids)] = ids
        padded = np.zeros(bucket(len(answer)), np.int32)
        padded[: len(answer)] = answer
        chosen = {
            kind: np.asarray(choices(config, cache, params, prompt, prompt == pad, picture[None], padded, len(ids)))
            for kind, (config, cache, params) in sides.items()
        }
        places += len(answer)
        for kind in KINDS:
            same[kind] += int((chosen[kind] == chosen["float32"])[: len(answer)].sum())
    return {kind: count / places for kind, count in same.items()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m eval.agreement",
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(__doc__ or "").split("\n\n", 1)[1],
    )
    parser.add_argument("--model", default="nano", help="default: nano")
    parser.add_argument("--tokens", type=int, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--data", metavar="FILE", help="your own examples, as for fine-tuning (default: slices)")
    parser.add_argument("--write", type=Path, metavar="DIR", help=f"only write {WRITTEN} slices to DIR/data.jsonl")
    args = parser.parse_args(argv)
    if args.write:
        return printed(lambda: written(ENGINE, WRITTEN, args.write))
    return printed(lambda: table(agreement(args.model, args.tokens, Records(args.data) if args.data else ENGINE)))


def table(shares: dict[str, float]) -> str:
    """Markdown, a line a kind."""
    return "\n".join(
        ["| weights | top-1 as float32 |", "|---|---|", *(f"| {k} | {v:.2%} |" for k, v in shares.items())]
    )


if __name__ == "__main__":
    sys.exit(main())
