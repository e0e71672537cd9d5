"""Looks into built data: `check` (is it whole, and what the engine makes?) and `stats` (how much of what is it?)."""

from __future__ import annotations

import collections
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from got_jax.data.example import Example
from got_jax.data.shards import Shards
from got_jax.errors import GotError, require
from got_jax.tokenizers import Tokenizer
from pipelines.build import SPLIT, shard_fault, sources
from pipelines.engines import entries, remake
from pipelines.paper import from_png


def read_build(folder: Path) -> dict[str, Any]:
    """`build.json` of a folder that `build` finished."""
    path = folder / "build.json"
    require(path.exists(), f"{folder} holds no finished build; run `python -m pipelines build` with --out {folder}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise GotError(f"{path} cannot be read ({err}); build the folder again.") from None


def check(folder: Path, remade: int = 20, proved: int | None = None) -> list[str]:
    """What is wrong with a build, a sentence each: counts and hashes of every shard, some examples made again, answers
    proved against their pictures where the engine can.

    Args:
        proved: how many examples to prove (all by default).

    Raises:
        GotError: when the folder holds no build.
    """
    content = read_build(folder)
    wrong = []
    for part in tqdm(content["parts"], desc="check shards", unit="shard", disable=None):
        name = f"{content['name']}-{SPLIT}.array_record-{part['shard']:05}-of-{content['shards']:05}"
        fault = shard_fault(folder / name, part["count"], part["sha256"])
        if fault:
            wrong.append(f"shard {name} {fault}; start the same build again.")
    engine = remake(content["name"], content["engine"])
    now = sources(engine)
    for name, value in content["sources"].items():
        if now.get(name) != value:
            wrong.append(f"{name} is {now.get(name)} here, but the build was made with {value}; examples may differ.")
    if not wrong and remade:
        wrong += _compare(folder, content, remade)
    entry = entries().get(content["name"])
    proof = entry.proof if entry else None
    if not wrong and proof is not None:
        shards = Shards(str(folder))
        count = len(shards) if proved is None else min(proved, len(shards))
        for number in tqdm(range(count), desc="prove answers", unit="example", disable=None):
            try:
                fault = proof(shards.example(0, number))
            except GotError as err:
                fault = str(err).rstrip(".")
            if fault:
                wrong.append(f"example {number}: {fault}.")
    return wrong


def _compare(folder: Path, content: dict[str, Any], count: int) -> list[str]:
    engine, shards = remake(content["name"], content["engine"]), Shards(str(folder))
    wrong = []
    missing = {index for part in content["parts"] for index in part["missing"]}
    indices = [index for index in range(content["count"]) if index not in missing]
    for number in np.unique(np.linspace(0, len(indices) - 1, count).astype(int)).tolist():
        index = indices[number]
        made, read = engine.example(content["seed"], index), shards.example(0, number)
        pictures = len(made.images) == len(read.images) and all(map(_alike, made.images, read.images))
        if not pictures or (made.prompt, made.text, made.meta) != (read.prompt, read.text, read.meta):
            wrong.append(f"example {index} differs from what the engine makes here; see the versions in build.json.")
    return wrong


def _alike(one: bytes, other: bytes) -> bool:
    """Whether two picture files show the same pixels, however another kind of processor packed them."""
    return one == other or np.array_equal(from_png(one), from_png(other))


def stats(folder: Path, tokenizer: Tokenizer, most: int = 0) -> dict[str, Any]:
    """Counts over a build's examples (the first `most` of them, or all).

    Returns:
        tokens: answer lengths, one each; characters: how often each occurs; same_text, same_picture: answers and
        pictures that are an earlier one's; sizes_px: width and height, bytes: of each picture; pictures: of each
        example; kinds: how many of each language, layout and kind; examples_per_s: when built, if that is known.
    """
    shards = Shards(str(folder))
    count = min(len(shards), most or len(shards))
    tokens, sizes, size_bytes, pictures = [], [], [], []
    characters: collections.Counter[str] = collections.Counter()
    kinds: collections.Counter[str] = collections.Counter()
    texts, seen = set(), set()
    same_text = same_picture = redrawn = 0
    for index in tqdm(range(count), desc="read examples", unit="example", disable=None):
        example: Example = shards.example(0, index)
        tokens.append(len(tokenizer.encode(example.text)))
        characters.update(example.text)
        kinds["/".join(str(example.meta[k]) for k in ("language", "layout", "kind") if k in example.meta)] += 1
        redrawn += example.meta.get("redrawn", 0)
        pictures.append(len(example.images))
        for data in example.images:
            sizes.append(Image.open(io.BytesIO(data)).size)
            size_bytes.append(len(data))
            digest = hashlib.sha256(data).digest()
            same_picture += digest in seen
            seen.add(digest)
        same_text += example.text in texts
        texts.add(example.text)
    build = json.loads((folder / "build.json").read_text(encoding="utf-8")) if (folder / "build.json").exists() else {}
    return {
        "examples": count,
        "tokens": tokens,
        "characters": characters,
        "kinds": kinds,
        "pictures": pictures,
        "same_text": same_text,
        "same_picture": same_picture,
        "redrawn": redrawn,
        "sizes_px": sizes,
        "bytes": size_bytes,
        "examples_per_s": build.get("examples_per_s"),
    }


def table(found: dict[str, Any]) -> str:
    """The counts as lines."""
    tokens, sizes = np.array(found["tokens"]), np.array(found["sizes_px"])
    at = lambda values: ", ".join(f"{np.percentile(values, p):,.0f}" for p in (0, 10, 50, 90, 99, 100))
    rows = [
        ("examples", f"{found['examples']:,} ({sum(found['pictures']):,} pictures)"),
        ("answer tokens at 0, 10, 50, 90, 99, 100%", at(tokens)),
        ("answer tokens in all", f"{tokens.sum():,}"),
        ("different characters", f"{len(found['characters']):,}"),
        ("rarest", " ".join(ch for ch, _ in found["characters"].most_common()[-20:] if ch.strip())),
        ("answers equal to an earlier one", f"{found['same_text']:,}"),
        ("pictures equal to an earlier one", f"{found['same_picture']:,}"),
        ("draws that were refused and made again", f"{found['redrawn']:,}"),
        ("width, px", at(sizes[:, 0])),
        ("height, px", at(sizes[:, 1])),
        ("bytes of a picture", at(np.array(found["bytes"]))),
    ]
    if found["examples_per_s"]:
        rows.append(("examples/s when built", f"{found['examples_per_s']:,}"))
    rows += [(f"kind {name or '-'}", f"{count:,}") for name, count in found["kinds"].most_common()]
    return "\n".join(f"{name:42} {value}" for name, value in rows)


def plot(found: dict[str, Any], path: Path, title: str) -> None:
    """Histograms of answer lengths, picture sizes and character frequencies as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    axes[0].hist(found["tokens"], bins=40)
    axes[0].set(xlabel="answer tokens", ylabel="examples", title=title)
    sizes = np.array(found["sizes_px"])
    axes[1].plot(sizes[:, 0], sizes[:, 1], ".", alpha=0.3)
    axes[1].set(xlabel="width, px", ylabel="height, px")
    axes[2].loglog(sorted(found["characters"].values(), reverse=True))
    axes[2].set(xlabel="character's rank", ylabel="times")
    try:
        figure.savefig(path, dpi=110)
    except OSError as err:
        raise GotError(f"{path} cannot be written ({err.strerror}); choose another --plot.") from None
    finally:
        pyplot.close(figure)
