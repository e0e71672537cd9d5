"""Fine-tuning a transformers folder on a user's lines: the adapter alone, and merged back for transformers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from test_train import run_config

from got_jax.cli import main
from got_jax.data.records import Records
from got_jax.train.loop import train
from got_jax.train.lora import LoraConfig
from got_jax.weights.torch_write import write_torch_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def test_adapters_on_a_transformers_folder(tmp_path, qwen_model, capsys):
    write_torch_folder(tmp_path / "base", qwen_model, "transformers")
    for number in range(4):
        Image.new("RGB", (30, 20), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
    lines = [{"image": f"{n}.png", "prompt": "OCR: ", "text": f"Number {n}: 文字 {n * n}"} for n in range(4)]
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    mine = Records(str(tmp_path / "mine.jsonl"))
    config = run_config(tmp_path / "run", steps=3, model=qwen_model.config, tokenizer=str(tmp_path / "base"))
    data = dataclasses.replace(config.data, engine=mine, held_out=mine, rows=2, row_pictures=2)
    changes = {"init_from": str(tmp_path / "base"), "needs": "decoder", "lora": LoraConfig(rank=2, alpha=8)}
    train(dataclasses.replace(config, data=data, **changes), progress=False)

    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "adapter"), "--adapter"]) == 0
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "merged"), "--to", "transformers"]) == 0
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(adapter) == 2 * (2 * 7 + 1), "two layers of seven linear maps, and the connector's"
    load = transformers.GotOcr2ForConditionalGeneration.from_pretrained
    base, merged = (dict(load(tmp_path / name).named_parameters()) for name in ("base", "merged"))
    moved = 0
    for name, tensor in base.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        expected = tensor.detach().numpy()
        if f"{module}.lora_A.weight" in adapter:
            product = adapter[f"{module}.lora_B.weight"] @ adapter[f"{module}.lora_A.weight"]
            moved += bool(np.abs(product).max() > 0)
            expected = expected + 8 / 2 * product
        np.testing.assert_allclose(merged[name].detach().numpy(), expected, atol=1e-6, err_msg=name)
    assert moved == 15

    capsys.readouterr()
    arguments = ["--max-new-tokens", "3", str(tmp_path / "1.png")]
    assert main(["ocr", "--model", str(tmp_path / "run"), *arguments]) == 0
    of_run = capsys.readouterr().out
    assert main(["ocr", "--model", str(tmp_path / "merged"), *arguments]) == 0
    assert capsys.readouterr().out == of_run, "the run itself reads like the merged folder"
