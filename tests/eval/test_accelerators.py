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
    fits = Compiled("decode 64 at 1312", 12.4, 3 * GIB, 5 * GIB, 167, 12_340_000)
    fails = Compiled(
        "decode 99 at 1312", 3.0, 0, 0, fault="total memory required (24.88G) exceeds available HBM (15.75G)"
    )
    lines = accelerators.table({"v5e": [fits, fails], "h200": [fits]}).splitlines()
    assert lines[2] == "| v5e | decode 64 at 1312 | 3.00 | 5.00 | 50% |  | 12.3 | 12 |"
    assert lines[3].split(" | ")[2:5] == ["does not compile", "", fails.fault]
    assert lines[4] == "| h200 | decode 64 at 1312 | 3.00 | 5.00 | 6% | 167 |  | 12 |"
    assert len({line.count("|") for line in lines}) == 1


def test_kernels_of_a_loop_count_once_and_those_within_fusions_not():
    text = """HloModule jit_advance

%fused_add (p: f32[4]) -> f32[4] {
  ROOT %copy.1 = f32[4]{0} copy(%p), backend_config={"estimated_cycles":"7"}
}

%body.2 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %fusion.1 = f32[4]{0} fusion(%p), kind=kLoop, calls=%fused_add, backend_config={"estimated_cycles":"100"}
  %call.1 = f32[4]{0} custom-call(%fusion.1), custom_call_target="__gpu$xla.gpu.triton"
  %other = f32[4]{0} add(%call.1, %call.1)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %copy.2 = f32[4]{0} copy(%p), backend_config={"estimated_cycles":"20"}
  %while.1 = (s32[], f32[4]) while(%copy.2), condition=%cond.1, body=%body.2
}
"""
    assert accelerators.kernels_and_cycles(text) == (3, 120)


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
def test_reading_compiles_and_decoding_copies_no_cache(chip, capsys, tmp_path):
    shape = [word for path, value in SMALL.items() for word in (f"--{path}", str(value))]
    sizes = ["--rows", "4", "256", "--pictures", "2", "--room", "512"]
    assert accelerators.main([chip, *sizes, "--dump", str(tmp_path), *shape]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {chip}")]
    programs = {line.split(" | ")[1]: line.split(" | ")[2:] for line in lines}
    assert list(programs) == [
        "encode 2",
        "prefill 4 x 288",
        "decode 4 at 800",
        "prefill 256 x 288",
        "decode 256 at 800",
    ]
    kept, temporaries = map(float, programs["decode 256 at 800"][:2])
    cache = 2 * 2 * 256 * 800 * 256 * 2 / GIB  # layers, keys and values, rows, slots, width, bytes
    assert cache < kept < cache + 0.25
    if chip == "v5e":
        assert temporaries < cache / 2  # as much as the cache or twice that when steps turn it
    else:
        assert int(programs["decode 4 at 800"][3]) <= 6 * SMALL["decoder.depth"] + 25
        [*_, steps] = sorted((tmp_path / chip).glob("*advance*thunk_sequence_after_thunk_passes.txt"))
        lines = steps.read_text().splitlines()
        [number] = [n for n, line in enumerate(lines) if "kWhile" in line]
        assert "kCommandBuffer" in lines[0]  # the loop is part of a graph
        assert lines[number].startswith(" ")
        assert not any("kCommandBuffer" in line for line in lines[number:])
