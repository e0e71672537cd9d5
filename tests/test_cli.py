"""The command line: what it prints, and one sentence with exit code 2 for everything a user can get wrong."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from got_jax import cli
from got_jax.errors import GotError
from got_jax.reader import Reader, load
from got_jax.weights.store import Model, write_model


@pytest.fixture(scope="module")
def model(tiny, tiny_params, pieces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "tiny"
    write_model(folder, Model(tiny, tiny_params, pieces))
    return folder


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def run(capsys, *argv) -> tuple[int, str, str]:
    try:
        code = cli.main([str(word) for word in argv])
    except SystemExit as stop:
        code = int(stop.code or 0)
    out = capsys.readouterr()
    return code, out.out, out.err


def test_info_prints_the_papers_counts(capsys):
    code, out, _ = run(capsys, "info", "got_580m")
    assert code == 0
    for count in ("89,670,912", "6,947,840", "463,909,888", "560,528,640"):
        assert count in out


def test_ocr_prints_text_and_reads_on_after_bad_files(capsys, model, picture, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    data = picture.read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    names = ["empty.png", "a.png", "text.png", "cut.png", "none.png", "dot.png"]
    code, out, err = run(
        capsys, "ocr", *(tmp_path / n for n in names), "--model", model, "--max-new-tokens", 6, "--batch-size", 4
    )
    assert code == 2
    assert [line for line in out.splitlines() if line.startswith("== ")] == [
        f"== {tmp_path / 'a.png'}",
        f"== {tmp_path / 'dot.png'}",
    ]
    problems = [line for line in err.splitlines() if "cut at" not in line]
    assert len(problems) == 4
    for name, line in zip(("empty.png", "text.png", "cut.png", "none.png"), problems, strict=True):
        assert line.startswith(f"got-jax: {tmp_path / name} ")
    assert "Traceback" not in err


def test_ocr_writes_one_file_each(capsys, model, picture, tmp_path):
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / "a.png"
    other.write_bytes(picture.read_bytes())
    code, out, _ = run(
        capsys, "ocr", picture, other, "--model", model, "--max-new-tokens", 5, "--out", tmp_path / "texts"
    )
    assert code == 0
    assert not out
    assert sorted(p.name for p in (tmp_path / "texts").iterdir()) == ["a.png.txt", "a.txt"]
    reading = load(model).read(picture, max_new_tokens=5)
    assert (tmp_path / "texts" / "a.txt").read_text() == reading.text + "\n"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["ocr", "PICTURE", "--model", "got_9000m"], "model 'got_9000m' is unknown"),
        (["ocr", "PICTURE", "--model", "got_580m"], "names a shape, not trained weights"),
        (["ocr", "PICTURE", "--model", "MODEL", "--out", "PICTURE/deep"], "cannot be written"),
        (["ocr", "PICTURE", "--model", "MODEL", "--box", 0, 0, 999, 10], "outside the picture of 90 x 60"),
        (["ocr", "PICTURE", "--model", "MODEL", "--box", 9, 9, 9, 9], "is empty"),
        (["ocr", "PICTURE", "--model", "MODEL", "--crop", "--color", "red"], "cannot be combined"),
        (["ocr", "PICTURE", "--model", "MODEL", "--max-new-tokens", 0], "must be at least 1"),
        (["ocr", "PICTURE", "--model", "MODEL", "--batch-size", 0], "must be at least 1"),
        (["info", "nothing"], "model 'nothing' is unknown"),
        (["train", "nothing.py"], "config file nothing.py does not exist"),
        (["train", "configs/nano_text.py", "--optimizer.speed", "3"], "names no field"),
        (["train", "configs/nano_text.py", "--optimizer.lr"], "has no value"),
        (["train", "configs/nano_text.py", "lr", "3"], "is no override"),
        (["convert", "nothing", "x"], "model 'nothing' is unknown"),
        (["ocr", "PICTURE", "--stream", "--out", "x"], "leave out --out"),
        (["ocr", "PICTURE", "--model", "MODEL", "--trace", "PICTURE/deep"], "cannot be written"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(capsys, model, picture, argv, says):
    swap = {"PICTURE": str(picture), "MODEL": str(model), "PICTURE/deep": f"{picture}/deep"}
    code, _, err = run(capsys, *(swap.get(str(word), word) for word in argv))
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("got-jax: ")
    assert says in err


def test_usage_mistakes_exit_with_2(capsys):
    for argv in (["ocr"], ["read"], [], ["ocr", "a.png", "--colour", "red"]):
        code, _, err = run(capsys, *argv)
        assert code == 2
        assert "got-jax" in err


@pytest.mark.parametrize("command", [[], ["ocr"], ["train"], ["convert"], ["info"]])
def test_help(capsys, command):
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    assert "got-jax" in out
    if command:
        assert "example" in out


def test_convert_rounds_and_names_the_size(capsys, model, tmp_path):
    code, out, _ = run(capsys, "convert", model, tmp_path / "half", "--dtype", "float16")
    assert code == 0
    assert "MiB" in out
    assert load(tmp_path / "half").config == load(model).config


def test_train_shows_its_config(capsys):
    code, out, _ = run(
        capsys, "train", "configs/nano_text.py", "--show", "--optimizer.lr=2e-4", "--data.engine.max-lines", "3"
    )
    assert code == 0
    assert "--optimizer.lr 0.0002" in out
    assert "--data.engine.max_lines 3" in out


def test_a_closed_pipe_is_no_error(model, picture):
    line = f"{sys.executable} -m got_jax.cli ocr {picture} {picture} --model {model} --max-new-tokens 5 | head -c 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_reader_takes_paths_bytes_and_images(model, picture):
    reader = load(model)
    assert isinstance(reader, Reader)
    readings = [
        reader.read(source, max_new_tokens=8)
        for source in (picture, str(picture), picture.read_bytes(), Image.open(picture))
    ]
    assert len({r.text for r in readings}) == 1
    first = readings[0]
    assert first.prompt == "OCR: "
    assert first.stop in ("end", "length")
    assert len(first.logprobs) in (len(first.tokens), len(first.tokens) + 1)
    assert 0 < first.confidence <= 1


def test_read_many_gives_errors_as_values_in_order(model, picture):
    broken = io.BytesIO(b"nothing").getvalue()
    results = list(load(model).read_many([picture, broken, picture], batch_size=2, max_new_tokens=4))
    assert [isinstance(r, GotError) for r in results] == [False, True, False]
    with pytest.raises(GotError, match="not a picture"):
        load(model).read(broken)


@pytest.mark.parametrize("options", [{}, {"crop": True}, {"no_repeat_ngram_size": 2}])
def test_pieces_of_a_stream_are_the_text(model, picture, options):
    reader = load(model)
    pieces = list(reader.stream(picture, max_new_tokens=30, **options))
    assert "".join(pieces) == reader.read(picture, max_new_tokens=30, **options).text
    assert len(pieces) > 1 or "crop" in options  # whose answer is no letters, which wait for their other bytes
    with pytest.raises(GotError, match="not a picture"):
        list(reader.stream(b"nothing"))
    with pytest.raises(TypeError, match="colour"):
        list(reader.stream(picture, colour="red"))


def test_ocr_prints_a_stream_and_writes_a_trace(capsys, model, picture, tmp_path):
    few = ["--model", model, "--max-new-tokens", "12"]
    _, whole, _ = run(capsys, "ocr", picture, *few)
    code, out, err = run(capsys, "ocr", picture, tmp_path / "none.png", *few, "--stream", "--trace", tmp_path / "trace")
    assert code == 2
    assert out.splitlines()[1:-1] == whole.rstrip("\n").split("\n")
    assert "none.png" in err
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


def test_tiles_and_prompts_too_long_are_refused_by_name(model, picture):
    """12 tiles of 9 tokens fit the context of 256; larger models' limits are met the same way."""
    reader = load(model)
    assert reader.read(picture, crop=True, max_new_tokens=2).prompt == "OCR with format upon the patch reference: "
    wide = Image.new("RGB", (3000, 90))
    with pytest.raises(GotError, match=r"the picture gives a prompt of \d+ tokens, which does not fit"):
        reader.read(wide, crop=True, max_tiles=40)
