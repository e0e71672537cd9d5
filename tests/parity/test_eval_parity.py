"""`python -m eval.parity` agrees on a sound checkpoint, names the layer of a spoilt one, and shows no traceback."""

from __future__ import annotations

import json

import pytest

from eval import parity
from got_jax.weights.torch_write import write_torch_folder

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(qwen_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("parity") / "hf"
    write_torch_folder(path, qwen_model, "transformers")
    return path


def test_a_sound_checkpoint_has_parity(folder, tmp_path, capsys):
    assert parity.main([str(folder), "--count", "1", "--tokens", "8", "--report", str(tmp_path / "report.html")]) == 0
    out = capsys.readouterr().out
    names = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")]
    blocks = [f"encoder.block.{n}" for n in range(4)]
    assert names[2:] == [
        *("encoder.patch_embed", *blocks, "encoder.neck", "connector", "decoder.layer.0", "decoder.layer.1"),
        *("decoder.logits", "whole encoder", "whole model"),
    ]
    assert "Parity: no layer differs; greedy tokens that agree, by picture: 100% of 8." in out
    assert "<td>encoder.block.3</td>" in (tmp_path / "report.html").read_text()


def test_a_layer_that_differs_is_named(folder, monkeypatch):
    """The reference with one changed weight: every other layer still agrees, given the reference's input."""
    real = transformers.GotOcr2ForConditionalGeneration.from_pretrained

    def spoilt(*args, **options):
        model = real(*args, **options)
        model.model.vision_tower.layers[2].mlp.lin2.bias.data[3] += 5.0
        return model

    monkeypatch.setattr(transformers.GotOcr2ForConditionalGeneration, "from_pretrained", spoilt)
    report = parity.run(str(folder), [], 1, 4)
    first = report.first_difference
    assert first is not None
    assert first.name == "encoder.block.2"
    wrong = {row.name for row in report.rows if row.relative_error > parity.TOLERANCE}
    assert wrong == {"encoder.block.2", "whole encoder", "whole model"}
    assert not report.passed
    assert "NO parity: the first layer that differs is encoder.block.2" in parity.verdict(report)


def test_what_cannot_be_compared_is_one_sentence(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    for name, says in ((str(tmp_path), "model_type 'bert'"), ("nothing", "model 'nothing' is unknown")):
        assert parity.main([name]) == 2
        err = capsys.readouterr().err
        assert says in err
        assert len(err.splitlines()) == 1
    assert parity.main(["nano"]) == 2
    assert "reads with SentencePiece" in capsys.readouterr().err
