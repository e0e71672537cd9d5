"""Compiling for chips that are not here: what the command says and, where their compilers are, that it fits."""

from __future__ import annotations

import pytest

from eval import accelerators
from eval.accelerators import Compiled
from got_jax.errors import GotError
from got_jax.train.flops import GIB

SMALL = {
    "encoder.image_px": 512,  # squares that the Pallas kernel serves
    "encoder.width": 64,
    "encoder.heads": 2,
    "encoder.mlp_width": 96,
    "encoder.depth": 3,
    "encoder.window": 3,
    "encoder.neck_width": 16,
    "decoder.width": 256,
    "decoder.depth": 2,
    "decoder.heads": 4,
    "decoder.kv_heads": 4,
    "decoder.mlp_width": 96,
}


def test_a_line_tells_a_programs_memory_or_why_it_does_not_compile():
    fits = Compiled("decode 64 at 1312", 12.4, 3 * GIB, 5 * GIB)
    fails = Compiled("decode 99 at 1312", 3.0, 0, 0, "total memory required (24.88G) exceeds available HBM (15.75G)")
    first, second = accelerators.table({"v5e": [fits, fails]}).splitlines()[2:]
    assert first == "| v5e | decode 64 at 1312 | 3.00 | 5.00 | 50% | 12 |"
    assert second.split(" | ")[2:5] == ["does not compile", "", fails.fault]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["v5e", "--rows", "0"], "--rows, --pictures and --room must be at least 1"),
        (["v5e", "--decoder.size", "3"], "size' names no field of DecoderConfig"),
        (["v5e"], "run `make accelerators`"),
        (["h200", "--train", "configs/none.py"], "configs/none.py"),
    ],
)
def test_mistakes_are_told_in_a_sentence(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(accelerators, "COMPILERS", tmp_path / "none")
    assert accelerators.main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_a_slice_that_no_pod_has_is_refused():
    with pytest.raises(GotError, match="v5e has no slice of 6 chips here; choose 4, 8"):
        accelerators.devices_of("v5e", 6)


@pytest.mark.skipif(not accelerators.COMPILERS.is_dir(), reason="needs `make accelerators`")
@pytest.mark.parametrize("chip", ["v5e", "h200"])
def test_reading_compiles_and_decoding_copies_no_cache(chip, capsys):
    shape = [word for path, value in SMALL.items() for word in (f"--{path}", str(value))]
    assert accelerators.main([chip, "--rows", "256", "--pictures", "2", "--room", "512", *shape]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {chip}")]
    assert [line.split(" | ")[1] for line in lines] == ["encode 2", "prefill 256 x 288", "decode 256 at 800"]
    kept, temporaries = map(float, lines[-1].split(" | ")[2:4])
    cache = 2 * 2 * 256 * 800 * 256 * 2 / GIB  # layers, keys and values, rows, slots, width, bytes
    assert cache < kept < cache + 0.25
    if chip == "v5e":
        assert temporaries < cache / 2  # as much as the cache or twice that when steps turn it
