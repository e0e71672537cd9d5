"""Planning: the formula beside the compiler's figure at full size, and what a plan says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import pytest
from test_train import ROOT, run_config

from got_jax.config import got_580m, override
from got_jax.errors import GotError
from got_jax.models.got import abstract_params
from got_jax.sharding import MeshConfig
from got_jax.train.config import load_config
from got_jax.train.flops import chip_of, decoder_flops, encoder_flops
from got_jax.train.plan import make_plan, mesh_config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "mesh", "rows"), [("stage2_joint", "fsdp=4,tensor=2", 4), ("stage3_post", "data=4,fsdp=16", 64)]
)
def test_the_formula_is_within_15_percent_of_the_compiler(stage, mesh, rows):
    """The whole command; docs/scaling.md has more meshes."""
    command = ["plan", f"configs/{stage}.py", "--mesh", mesh, "--chip", "h100", "--data.rows", str(rows)]
    done = subprocess.run([sys.executable, "-m", "got_jax", *command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "as compiled" in line)
    assert abs(int(line.partition("(")[2].partition("(")[2].partition("%")[0])) <= 15, line
    assert "<- bottleneck" in done.stdout
    assert "does NOT fit" not in done.stdout


def test_of_a_part_at_rest_nothing_is_kept_for_the_backward_pass(tmp_path):
    """The compiler's figure: many pictures and one short row, so that the encoder's activations are what counts."""
    config = override(run_config(tmp_path), {"data.rows": "1", "data.row_pictures": "16", "data.row_tokens": "160"})
    needed = {}
    for freeze in ("", "encoder"):
        plan = make_plan(override(config, {"losses.freeze": freeze}), MeshConfig(1, 1, 1), "h100")
        needed[freeze] = (plan.compiled or 0) - plan.params - plan.optimizer
    assert needed["encoder"] < 0.5 * needed[""]


def test_the_state_is_counted_exactly():
    config = override(load_config(Path(ROOT / "configs/stage2_joint.py")), {"data.rows": "64"})
    alone = make_plan(override(config, {"data.rows": "1"}), MeshConfig(1, 1, 1), "v5p", compile=False)
    size = 4 * sum(leaf.size for leaf in jax.tree.leaves(abstract_params(got_580m())))
    assert alone.params == alone.gradients == size == 4 * 560_528_640
    assert alone.optimizer == pytest.approx(2 * size, abs=100)
    assert sum(alone.traffic.values()) == 0
    many = make_plan(config, MeshConfig(1, 64, 1), "v5p", compile=False)
    assert many.params < size / 64 * 1.05, "what cannot be split is small"
    assert many.flops == pytest.approx(64 * alone.flops)
    frozen = make_plan(override(config, {"losses.freeze": "encoder"}), MeshConfig(1, 64, 1), "v5p", compile=False)
    assert frozen.flops < many.flops
    assert frozen.optimizer < many.optimizer


def test_work_is_that_of_the_papers_model():
    """FACTS.md section 7: about 1.0 TFLOP a picture; the decoder 2 operations a weight and token, and attention."""
    assert encoder_flops(got_580m()) == pytest.approx(1.0e12, rel=0.1)
    short = decoder_flops(got_580m(), 100) / 100
    weights = sum(leaf.size for leaf in jax.tree.leaves(abstract_params(got_580m())["decoder"]))
    assert short == pytest.approx(2 * weights, rel=0.03)
    assert decoder_flops(got_580m(), 8192) > 81.92 * 1.3 * decoder_flops(got_580m(), 100)


@pytest.mark.parametrize(
    ("kind", "chip"),
    [("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H200", "h200"), ("TPU v5 lite", "v5e"), ("TPU v5p", "v5p")],
)
def test_chips_are_known_by_their_device_kind(kind, chip):
    from got_jax.train.flops import CHIPS

    assert chip_of(kind) is CHIPS[chip]
    assert chip_of("cpu") is None


def test_what_cannot_be_planned_is_refused(tmp_path):
    config = run_config(tmp_path)
    assert mesh_config("fsdp=8,data=2") == MeshConfig(2, 8, 1)
    for text in ("fsdp", "rows=2", "fsdp=0", "fsdp=x", ""):
        with pytest.raises(GotError, match="write data=N"):
            mesh_config(text)
    with pytest.raises(GotError, match="chip 'k80' is unknown"):
        make_plan(config, MeshConfig(1, 1, 1), "k80")
    with pytest.raises(GotError, match="8 is not divisible by 3"):
        make_plan(config, MeshConfig(1, 3, 1), "h100", compile=False)
    with pytest.raises(GotError, match="too few to compile for 8"):
        make_plan(config, MeshConfig(1, 8, 1), "h100")
