"""The speed comparison to its end, both sides, at a size of seconds; and what its table says."""

from __future__ import annotations

import json

import pytest

from eval import contestants, speed, startup
from got_jax.config import got_580m, override
from got_jax.errors import GotError
from got_jax.train.flops import encoder_flops

SMALL = {
    "encoder.image_px": 128,
    "encoder.width": 32,
    "encoder.heads": 2,
    "encoder.mlp_width": 64,
    "encoder.depth": 3,
    "encoder.window": 3,
    "encoder.neck_width": 16,
    "decoder.width": 64,
    "decoder.depth": 1,
    "decoder.heads": 4,
    "decoder.kv_heads": 4,
    "decoder.mlp_width": 96,
}


def test_both_sides_run_every_work(tmp_path, capsys):
    shape = [word for path, value in SMALL.items() for word in (f"--{path}", str(value))]
    options = ["--ours", "int8+cache", "--batches", "2", "--page-tokens", "3", "--longest", "6", "--repeats", "1"]
    options += ["--pages", "2", "--out", str(tmp_path)]
    assert speed.main([*options, "--trace", str(tmp_path / "trace"), *shape]) == 0
    every = speed.works(False, (2,), 3, pages=(2,))
    assert len(list((tmp_path / "trace").glob("got-jax-int8+cache/*"))) == len(every)
    assert speed.works(True, (), 3, pictures=(1, 16))[1].amount == 16
    report = json.loads((tmp_path / "speed.json").read_text())
    names = ["got-jax int8+cache", "transformers float32"]
    assert all(list(taken) == names and all(taken.values()) for taken in report["seconds"].values())
    assert all(report["peak_gib"][name] > 0 for name in names)
    text = (tmp_path / "speed.md").read_text()
    assert "page, 3 tokens" in text
    assert "2 pages at once, 3 tokens | pages/s" in text
    assert "decode, batch 2" in text
    said = capsys.readouterr()
    assert said.out.strip() == text.strip()
    assert "decode, batch 2, tokens/s: got-jax int8+cache " in said.err


def test_the_model_is_timed_without_a_kernel(tmp_path, capsys):
    shape = [word for path, value in SMALL.items() for word in (f"--{path}", str(value))]
    options = ["--ours", "int8", "int8-rows-fused", "--no-rival", "--repeats", "1", "--batches", "2", "--quick"]
    assert speed.main([*options, "--only", "prefill", "decode", "--out", str(tmp_path), *shape]) == 0
    report = json.loads((tmp_path / "speed.json").read_text())
    assert list(report["seconds"]) == ["prefill of 300 tokens", "decode, batch 2"]
    assert list(report["peak_gib"]) == ["got-jax int8", "got-jax int8-rows-fused"]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        speed.main(["--ours", "int8-row"])
    assert "'int8-row' is unknown; choose float32" in capsys.readouterr().err


def test_the_ratio_compares_the_best_of_both_sides():
    work = speed.Work("decode, batch 4", "tokens/s", "decode", {"rows": 4, "context": 9, "tokens": 10}, 40)
    taken = {"got-jax bfloat16": [2.0, 4.0, 2.5], "got-jax int8": [1.0, 1.0, 1.0], "transformers float32": [3.0] * 3}
    line, memory = speed.table([work], {work.name: taken}, dict.fromkeys(taken, 1.0)).splitlines()[2:]
    assert line.split(" | ")[2:] == ["16 (10 to 20)", "40 (40 to 40)", "13.3 (13.3 to 13.3)", "3.00 x |"]
    assert memory.endswith("1.00 x |")


def test_what_bounds_a_work():
    """Of the released model: decoding reads 0.93 GB of bfloat16 weights, and 96 KiB of cache for each token."""
    rates = {"operations_per_s": 800e12, "bytes_per_s": 4e12, "weights_bytes": 0.93e9, "cache_bytes": 98304.0}
    work = lambda method, **arguments: speed.Work(method, "", method, arguments, 1)
    least = lambda w: speed.bound(w, got_580m(), rates) or 0.0
    assert least(work("decode", rows=1, context=300, tokens=10)) == pytest.approx(10 * (0.93e9 + 305 * 98304) / 4e12)
    assert least(work("decode", rows=64, context=1024, tokens=64)) == pytest.approx(
        64 * (0.93e9 + 64 * 1056 * 98304) / 4e12
    )
    assert least(work("encode", pictures=16)) == pytest.approx(16 * encoder_flops(got_580m()) / 800e12)
    assert least(work("prefill", tokens=1)) == pytest.approx(0.93e9 / 4e12)
    assert least(work("prefill", tokens=2000)) == pytest.approx(2 * 2000 * 308e6 / 800e12, rel=0.5)
    assert speed.bound(work("page", tokens=9), got_580m(), rates) is None
    lines = [work("encode", pictures=16), work("page", tokens=9)]
    taken = {"encode": {"got-jax int8": [least(lines[0]) * 2] * 3}, "page": {"got-jax int8": [1.0]}}
    said = speed.shares(lines, taken, got_580m(), {"got-jax int8": rates}).splitlines()
    assert said[2:] == [
        "| encode | 50% |",
        "| matrix products, TFLOP/s | 800 |",
        "| reading memory, GB/s | 4000 |",
    ]


def test_a_contestant_tells_its_rates():
    config = override(got_580m(), {path: str(value) for path, value in SMALL.items()})
    ours = contestants.Contestant("got-jax bfloat16", config, "cpu")
    rates = ours.ask("rates", {})
    ours.stop()
    assert rates["cache_bytes"] == 2 * 1 * 4 * 16 * 2
    assert rates["weights_bytes"] > 2 * 151860 * 64
    assert min(rates["operations_per_s"], rates["bytes_per_s"]) > 1e6


def test_curves_are_drawn(tmp_path):
    lines = speed.curves()
    speed.plot(lines, {w.name: {"got-jax int8": [0.1 * n]} for n, w in enumerate(lines)}, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 5000


def test_what_is_measured_is_kept_at_once(tmp_path):
    """A run that is cut leaves the works that it has done, and a folder that cannot be written is told of before."""
    (tmp_path / "file").touch()
    assert speed.main(["--out", str(tmp_path / "file")]) == 2
    shape = [word for path, value in SMALL.items() for word in (f"--{path}", str(value))]
    options = [
        "--quick",
        "--ours",
        "int8",
        "--no-rival",
        "--repeats",
        "1",
        "--batches",
        "1",
        "--only",
        "prefill",
        "decode",
    ]
    seen = []

    def cut(work, taken):
        seen.append(json.loads((tmp_path / "speed.json").read_text())["seconds"])
        raise GotError("cut")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "_line", cut)
        assert speed.main([*options, "--out", str(tmp_path), *shape]) == 2
    assert [list(runs) for runs in seen] == [["prefill of 300 tokens"]]


@pytest.mark.parametrize(
    "words", [["--repeats", "0"], ["--longest", "1"], ["--encoder.heads", "5"], ["--decoder.nothing", "1"]]
)
def test_what_cannot_be_measured_is_told_at_once(words, capsys):
    assert speed.main(words) == 2
    assert capsys.readouterr().err.startswith("eval: ")


def test_answers_of_mixed_lengths():
    lengths = contestants.mixed_lengths(64)
    assert len(lengths) == 8 * contestants.ROWS
    assert min(lengths) >= 2
    assert max(lengths) <= 64
    assert max(lengths) > 3 * sum(lengths) / len(lengths)


def test_starts_are_timed_with_empty_and_full_caches(capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    shape = [word for path, value in SMALL.items() for word in (f"--{path}", str(value))]
    assert startup.main(["--repeats", "1", *shape]) == 0
    lines = capsys.readouterr().out.strip().splitlines()[-3:]
    assert [line.split(" | ")[0] for line in lines] == [
        "| got-jax, empty caches",
        "| got-jax, again",
        "| transformers, bfloat16",
    ]
    assert startup.main(["--repeats", "0"]) == 2
