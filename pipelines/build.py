"""Writes examples of an engine to TFDS ArrayRecord shards with Apache Beam; a killed build goes on where it was.

One Beam element is one shard: the examples of a range of indices, in order. A shard is written under another name and
renamed when it is whole, with a note beside it (`parts/`) of what it holds, so a second run makes only what is missing.
When every shard stands, TFDS's metadata and `build.json` are written: the folder is then what `got_jax.data.shards` and
`tfds.builder_from_directory` read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath
from tqdm import tqdm

from got_jax.data.example import Engine, Example
from got_jax.data.shards import features, to_record
from got_jax.errors import GotError, require
from pipelines import corpora, fonts, photos
from pipelines.backends import tools

SPLIT, VERSION = "train", "1.0.0"


@dataclass(frozen=True)
class Plan:
    """What a build makes.

    Attributes:
        name: of the data set. count: examples, those of indices 0 to count - 1. shards: files they are shared over.
        most_failed: share of a shard's examples that may fail before the build gives up.
    """

    name: str
    engine: Engine
    seed: int
    count: int
    shards: int
    out: Path
    most_failed: float = 0.05

    def __post_init__(self) -> None:
        require(self.count >= 1, f"--count is {self.count}; it must be at least 1.")
        require(
            1 <= self.shards <= self.count,
            f"--shards is {self.shards}; it must be from 1 to the {self.count} examples.",
        )

    def indices(self, shard: int) -> range:
        """The examples of a shard."""
        return range(shard * self.count // self.shards, (shard + 1) * self.count // self.shards)

    def file(self, shard: int) -> Path:
        return self.out / f"{self.name}-{SPLIT}.array_record-{shard:05}-of-{self.shards:05}"

    def part(self, shard: int) -> Path:
        return self.out / "parts" / f"{shard:05}.json"


def describe(engine: Any) -> dict[str, Any]:
    """An engine's class and fields, so that a build can be compared with another and made again."""
    return {"class": type(engine).__name__, **json.loads(json.dumps(dataclasses.asdict(engine), default=str))}


def sources(engine: Any = None) -> dict[str, str]:
    """Hashes of the manifests of fonts, corpora and photographs, and versions of what draws an engine's pictures."""
    return {
        "fonts": hashlib.sha256((fonts.FILES / "manifest.json").read_bytes()).hexdigest(),
        "corpora": hashlib.sha256((corpora.TEXTS / "manifest.json").read_bytes()).hexdigest(),
        "photographs": hashlib.sha256((photos.FILES / "manifest.json").read_bytes()).hexdigest(),
        **{name: importlib.metadata.version(name) for name in ("numpy", "opencv-python-headless", "pymupdf", "rdkit")},
        **{name: tools.version(name) for name in getattr(engine, "tools", ())},
    }


def examples(plan: Plan, shard: int) -> Iterator[tuple[int, Example | GotError]]:
    """The examples of a shard, or why one could not be made, named by engine, seed and index."""
    for index in plan.indices(shard):
        try:
            yield index, plan.engine.example(plan.seed, index)
        except Exception as err:  # an engine's fault must not cost the others' work
            why = str(err) if isinstance(err, GotError) else f"{type(err).__name__}: {err}"
            yield index, GotError(f"example ({plan.name}, seed {plan.seed}, index {index}): {why}")


def write_shard(plan: Plan, shard: int) -> dict[str, Any]:
    """Makes and writes one shard, unless it stands already, and returns its note.

    Raises:
        GotError: when the folder cannot be written, or too many of the examples fail.
    """
    found = _finished(plan, shard)
    if found:
        return found
    from tensorflow_datasets.core import example_serializer, file_adapters

    described = features()
    serializer = example_serializer.ExampleSerializer(described.get_serialized_info())
    adapter = file_adapters.ADAPTER_FOR_FORMAT[file_adapters.FileFormat.ARRAY_RECORD]
    total = len(plan.indices(shard))
    digest, size, told = hashlib.sha256(), 0, 0.0
    written = 0
    failed: dict[int, str] = {}
    working = plan.part(shard).with_suffix(f".{os.getpid()}.working")

    def records() -> Iterator[tuple[int, bytes]]:
        nonlocal size, told, written
        for index, example in examples(plan, shard):
            if isinstance(example, GotError):
                failed[index] = str(example)
                if len(failed) > max(1, plan.most_failed * total):
                    raise GotError(f"{len(failed)} of {total} examples of shard {shard} failed, the last: {example}")
                continue
            record = serializer.serialize_example(described.encode_example(to_record(example)))
            digest.update(record)
            size += len(record)
            written += 1
            if time.monotonic() - told > 1:
                told = time.monotonic()
                working.write_text(str(written))
            yield index, record

    unfinished = plan.file(shard).with_suffix(f".{os.getpid()}.unfinished")
    try:
        adapter.write_examples(unfinished, records())
        os.replace(unfinished, plan.file(shard))
        note = {"shard": shard, "count": written, "bytes": size, "sha256": digest.hexdigest()}
        note |= {"missing": list(failed), "failed": list(failed.values())}
        temporary = plan.part(shard).with_suffix(".unfinished")
        temporary.write_text(json.dumps(note, ensure_ascii=False), encoding="utf-8")
        os.replace(temporary, plan.part(shard))
    except OSError as err:
        why = f"{plan.file(shard)} cannot be written ({err.strerror}); free space or choose another --out."
        raise GotError(why) from None
    finally:
        unfinished.unlink(missing_ok=True)
        working.unlink(missing_ok=True)
    return note


def _finished(plan: Plan, shard: int) -> dict[str, Any] | None:
    if not plan.part(shard).exists() or not plan.file(shard).exists():
        return None
    return json.loads(plan.part(shard).read_text(encoding="utf-8"))


def shard_fault(path: Path, count: int, sha256: str) -> str:
    """What is wrong with a shard: missing, unreadable, or not the records that were written; nothing if all is well."""
    from array_record.python import array_record_data_source

    if not path.exists():
        return "is missing"
    try:
        with array_record_data_source.ArrayRecordDataSource([str(path)]) as source:
            found, digest = len(source), hashlib.sha256()
            for index in range(found):
                digest.update(source[index])  # type: ignore[arg-type]
    except Exception as err:  # array_record raises several kinds for damaged files
        return f"cannot be read ({str(err).splitlines()[0]})"
    if found != count:
        return f"holds {found} records, not {count}"
    return "" if digest.hexdigest() == sha256 else "differs from its hash"


def build(plan: Plan, workers: int, beam_flags: list[str]) -> dict[str, Any]:
    """Writes every shard that is missing with Beam, then the metadata, and returns `build.json`'s content.

    Args:
        workers: processes of the DirectRunner. beam_flags: flags for another runner; then `out` must be a path that
            its workers share.

    Raises:
        GotError: when the folder holds another build, cannot be written, or too many examples fail.
    """
    _prepare(plan)
    missing = [shard for shard in range(plan.shards) if not _stands(plan, shard)]
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(plan, stop), daemon=True)
    watcher.start()
    begun = time.monotonic()
    try:
        if missing:
            _run_beam(plan, missing, workers, beam_flags)
    finally:
        stop.set()
        watcher.join()
    notes = [_finished(plan, shard) for shard in range(plan.shards)]
    require(all(notes), f"{plan.out} misses shards that Beam reported as done; is it a folder that all workers share?")
    made = sum(len(plan.indices(shard)) for shard in missing)
    return _finish(plan, [note for note in notes if note], made / max(time.monotonic() - begun, 1e-9))


def _stands(plan: Plan, shard: int) -> bool:
    """Whether an earlier run wrote the shard and it is as it was; a damaged one is named and made again."""
    note = _finished(plan, shard)
    if note is None:
        return False
    fault = shard_fault(plan.file(shard), note["count"], note["sha256"])
    if fault:
        logging.warning("shard %s %s; it is made again.", plan.file(shard).name, fault)
        plan.part(shard).unlink()
    return not fault


def _prepare(plan: Plan) -> None:
    """Makes the folder, or checks that it holds the same build unfinished."""
    recipe = {
        "name": plan.name,
        "engine": describe(plan.engine),
        "seed": plan.seed,
        "count": plan.count,
        "shards": plan.shards,
        "sources": sources(plan.engine),
    }
    path = plan.out / "recipe.json"
    try:
        (plan.out / "parts").mkdir(parents=True, exist_ok=True)
        if path.exists():
            old = json.loads(path.read_text(encoding="utf-8"))
            different = sorted(key for key in recipe if old.get(key) != recipe[key])
            require(
                not different,
                f"{plan.out} holds another build (its {', '.join(different)} differ); choose another --out.",
            )
        else:
            path.write_text(json.dumps(recipe, ensure_ascii=False, indent=1), encoding="utf-8")
        for left in (*plan.out.glob("*.unfinished"), *(plan.out / "parts").glob("*.working")):
            left.unlink(missing_ok=True)
    except OSError as err:
        raise GotError(f"{plan.out} cannot be written ({err.strerror}); choose another --out.") from None
    except ValueError:
        raise GotError(f"{path} is damaged; remove the folder and build it again.") from None


def _run_beam(plan: Plan, missing: list[int], workers: int, flags: list[str]) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    own = ["--default_sdk_harness_log_level=ERROR"]
    if not any(flag.startswith("--runner") for flag in flags):
        own.append("--runner=DirectRunner")
        if workers > 1:
            own += [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
    try:
        with beam.Pipeline(options=PipelineOptions(own + flags)) as pipeline:
            _ = (
                pipeline
                | "shards" >> beam.Create(missing)
                | "spread" >> beam.Reshuffle()
                | "write" >> beam.Map(lambda shard: write_shard(plan, shard)["count"])
            )
    except Exception as err:  # Beam wraps what a worker raised in a text of its own
        text = str(err)
        ours = [line.split("GotError: ")[-1] for line in text.splitlines() if "GotError: " in line]
        if ours:
            raise GotError(ours[-1].split(" [while running")[0]) from None
        raise GotError(f"Beam could not finish ({text.strip().splitlines()[-1]}); mend that and start again.") from None


def _watch(plan: Plan, stop: threading.Event) -> None:
    """A progress bar from what stands in the folder: shards may be made anywhere."""
    with tqdm(total=plan.count, desc=f"build {plan.name}", unit="example", disable=None, file=sys.stderr) as bar:
        ended = False
        while not ended:
            ended = stop.wait(1.0)
            done = 0
            for path in (plan.out / "parts").iterdir():
                try:
                    if path.suffix == ".json":
                        note = json.loads(path.read_text(encoding="utf-8"))
                        done += note["count"] + len(note["failed"])
                    elif path.suffix == ".working":
                        done += int(path.read_text() or 0)
                except (OSError, ValueError):  # it has just been renamed or is being written
                    continue
            bar.update(max(0, min(done, plan.count) - bar.n))


def _finish(plan: Plan, notes: list[dict[str, Any]], rate: float) -> dict[str, Any]:
    """Writes TFDS's metadata and `build.json`."""
    import tensorflow_datasets as tfds

    failed = [why for note in notes for why in note["failed"]]
    if not any(note["count"] for note in notes):
        raise GotError(f"no example could be made; the first: {failed[0]}")
    info = tfds.core.SplitInfo(
        name=SPLIT,
        shard_lengths=[note["count"] for note in notes],
        num_bytes=sum(note["bytes"] for note in notes),
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=epath.Path(plan.out), dataset_name=plan.name, split=SPLIT, filetype_suffix="array_record"
        ),
    )
    content = {
        **json.loads((plan.out / "recipe.json").read_text(encoding="utf-8")),
        "written": sum(note["count"] for note in notes),
        "failed": failed,
        "rejected": list(getattr(plan.engine, "rejected", ())),
        "parts": [{key: note[key] for key in ("shard", "count", "missing", "bytes", "sha256")} for note in notes],
        "examples_per_s": round(rate, 2),
    }
    try:
        tfds.folder_dataset.write_metadata(
            data_dir=plan.out,
            features=features(),
            split_infos=[info],
            version=VERSION,
            check_data=False,
            description=f"got-jax examples of the engine {plan.name}, seed {plan.seed}.",
        )
        (plan.out / "build.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    except OSError as err:
        raise GotError(f"{plan.out} cannot be written ({err.strerror}); free space and start again.") from None
    return content
