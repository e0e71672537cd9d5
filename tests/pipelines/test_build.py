"""Data sets: built by Beam in several processes, resumed, checked, counted, and the same as the live engine."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from got_jax.data.mixture import Mixture, place_at
from got_jax.data.shards import Shards
from got_jax.errors import GotError
from got_jax.tokenizers import SentencePieceTokenizer
from pipelines import __main__ as cli
from pipelines import build, engines, inspection
from pipelines.documents import Documents

ENGINE: Any = engines.make("slices", {"languages": '[["en", 1.0]]', "max_lines": "2"})
ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Faulty:
    """An engine two of whose examples cannot be made."""

    bad: tuple[int, ...] = (3, 8)

    def example(self, seed: int, index: int):
        if index in self.bad:
            raise ZeroDivisionError("no ink") if index == 3 else GotError("no paper.")
        return ENGINE.example(seed, index)


def plan(out: Path, **changes) -> build.Plan:
    return dataclasses.replace(build.Plan("slices", ENGINE, seed=5, count=20, shards=4, out=out), **changes)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Built by the command, in two processes of the DirectRunner."""
    out = tmp_path_factory.mktemp("build") / "slices"
    arguments = ["build", "slices", "--set", 'languages=[["en", 1.0]]', "--set", "max_lines=2", "--seed", "5"]
    assert cli.main([*arguments, "--count", "20", "--shards", "4", "--workers", "2", "--out", str(out)]) == 0
    return out


def same(one, other) -> bool:
    return (one.images, one.prompt, one.text, one.meta) == (other.images, other.prompt, other.text, other.meta)


def test_shards_are_the_live_examples_byte_for_byte(built):
    """What training draws from the engine through Grain, and what it reads from the shards."""
    shards = Shards(str(built))
    assert len(shards) == 20
    for index in range(20):
        live = place_at(Mixture(((ENGINE, 1.0),)), 5, index)
        assert same(shards.example(0, index), live.engine.example(live.seed, live.index))
    assert "tensorflow" not in sys.modules


def test_a_build_is_whole_and_its_faults_are_named(built, tmp_path):
    assert inspection.check(built) == []
    with pytest.raises(GotError, match="holds no finished build"):
        inspection.check(tmp_path)
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(built), str(copy)], check=True)
    first, second, third = sorted(copy.glob("*.array_record-*"))[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:1000])
    third.write_bytes(sorted(copy.glob("*.array_record-*"))[-1].read_bytes())
    found = inspection.check(copy)
    for words, sentence in zip(("is missing", "cannot be read", "differs from its hash"), found, strict=True):
        assert words in sentence
    build.build(plan(copy), 1, [])
    assert inspection.check(copy) == [], "the same build again mends what is damaged"


def test_an_answer_that_cannot_be_read_is_one_examples_fault(built, monkeypatch):
    texts = [Shards(str(built)).example(0, number).text for number in range(20)]

    def proof(example):
        if example.text == texts[3]:
            raise GotError("the list has no numbers.")
        return "it is the last" if example.text == texts[19] else ""

    slices = dataclasses.replace(engines.entries()["slices"], proof=proof)
    monkeypatch.setattr(inspection, "entries", lambda: {"slices": slices})
    assert inspection.check(built) == ["example 3: the list has no numbers.", "example 19: it is the last."]


def test_a_build_with_other_fonts_is_named(built, monkeypatch):
    others = build.sources() | {"fonts": "other"}
    monkeypatch.setattr(inspection, "sources", lambda engine=None: others)
    assert any("fonts is other here" in sentence for sentence in inspection.check(built))
    monkeypatch.setattr(build, "sources", lambda engine=None: others)
    with pytest.raises(GotError, match="holds another build .its sources differ"):
        build.build(plan(built), 1, [])


def test_a_killed_build_goes_on_with_the_missing_shards(tmp_path):
    """SIGKILL in the middle; the shards that stood are not made again, and the end is as if nothing had been."""
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "pipelines", "build", "slices", "--set", 'languages=[["en", 1.0]]']
    command += [
        "--set",
        "max_lines=2",
        "--seed",
        "5",
        "--count",
        "600",
        "--shards",
        "12",
        "--workers",
        "1",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list((out / "parts").glob("*.json"))) < 2:
        time.sleep(0.02)
    process.kill()
    process.wait()
    stood = {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("*.json")}
    assert 2 <= len(stood) < 12
    assert not (out / "build.json").exists()
    content = build.build(plan(out, count=600, shards=12), 1, [])
    assert content["written"] == 600
    assert {name: (out / "parts" / name).stat().st_mtime_ns for name in stood} == stood
    assert inspection.check(out, remade=5) == []
    assert not list(out.glob("*.unfinished"))


def test_failed_examples_are_named_and_the_others_are_written(tmp_path, monkeypatch, capsys):
    content = build.build(plan(tmp_path / "a", name="faulty", engine=Faulty(), shards=2, most_failed=0.2), 1, [])
    assert content["written"] == 18
    assert content["failed"] == [
        "example (faulty, seed 5, index 3): ZeroDivisionError: no ink",
        "example (faulty, seed 5, index 8): no paper.",
    ]
    assert len(Shards(str(tmp_path / "a"))) == 18
    monkeypatch.setattr(inspection, "remake", lambda name, described: Faulty())
    assert inspection.check(tmp_path / "a", remade=18) == [], "the others stand at their place"
    monkeypatch.setattr(inspection, "remake", lambda name, described: dataclasses.replace(ENGINE, max_lines=3))
    assert len(inspection.check(tmp_path / "a", remade=18)) > 5
    with pytest.raises(GotError, match="examples of shard 0 failed, the last: example .faulty, seed 5, index"):
        build.build(plan(tmp_path / "b", name="faulty", engine=Faulty(tuple(range(20))), shards=2), 1, [])


def test_what_cannot_be_built_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for arguments, says in (
        (["build", "slices", "--out", str(tmp_path / "x")], "--count is missing"),
        (["build", "slices", "--count", "0", "--out", str(tmp_path / "x")], "--count is 0"),
        (["build", "slices", "--count", "2", "--shards", "3", "--out", str(tmp_path / "x")], "--shards is 3"),
        (["build", "slices", "--count", "2", "--out", str(tmp_path / "file" / "x")], "cannot be written"),
        (["build", "slides", "--count", "2", "--out", str(tmp_path / "x")], "engine 'slides' is unknown"),
        (["build", "slices", "--set", "pages", "--count", "2", "--out", str(tmp_path / "x")], "has no '='"),
        (["build", "pdfs", "--out", str(tmp_path / "x")], "folder is not given"),
        (["sample", "slices", "--out", str(tmp_path / "file")], "cannot be written"),
        (["check", str(tmp_path)], "holds no finished build"),
        (["stats", str(tmp_path)], "holds no readable split"),
    ):
        assert cli.main(arguments) == 2, arguments
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert says in message
        assert "Traceback" not in message


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    from tensorflow_datasets.core import file_adapters

    def full(path, iterator):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_adapters.ArrayRecordFileAdapter, "write_examples", staticmethod(full))
    with pytest.raises(GotError, match=r"cannot be written \(No space left on device\); free space") as caught:
        build.build(plan(tmp_path / "a"), 1, [])
    assert "\n" not in str(caught.value)


def test_counts_of_a_build(built, pieces: SentencePieceTokenizer, tmp_path):
    found = inspection.stats(built, pieces)
    assert found["examples"] == 20
    texts = [Shards(str(built)).example(0, index).text for index in range(20)]
    assert found["tokens"] == [len(pieces.encode(text)) for text in texts]
    assert sum(found["characters"].values()) == sum(map(len, texts))
    assert found["same_text"] == 20 - len(set(texts))
    inspection.plot(found, tmp_path / "plot.png", "slices")
    assert (tmp_path / "plot.png").stat().st_size > 5000
    assert "answer tokens" in inspection.table(found)


def test_a_build_names_the_engine_that_made_it(built):
    content = json.loads((built / "build.json").read_text())
    assert engines.remake("slices", content["engine"]) == ENGINE
    assert isinstance(ENGINE, Documents)
    with pytest.raises(GotError, match="made by a Other"):
        engines.remake("slices", {"class": "Other"})


def test_sheets_lists_and_rates_from_the_command_line(tmp_path, capsys):
    assert cli.main(["list"]) == 0
    assert "scenes" in capsys.readouterr().out
    assert cli.main(["sample", "slices", "--count", "3", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "slices.png").exists()
    assert (tmp_path / "slices.html").exists()
    assert cli.main(["bench", "slices", "--seconds", "0.1", "--warm", "2", "--set", "split=held_out"]) == 0
    assert "slices" in capsys.readouterr().out
