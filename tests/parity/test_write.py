"""Folders that got-jax writes: transformers loads them and generates from them; every tensor survives to the bit."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from got_jax import prompts
from got_jax.cli import main
from got_jax.config import got_580m
from got_jax.errors import GotError
from got_jax.generate import DecodeConfig, generate
from got_jax.models.got import abstract_params
from got_jax.reader import Reader, load
from got_jax.weights.layouts import entries
from got_jax.weights.store import Model, read_model, write_model
from got_jax.weights.torch_folders import read_folder
from got_jax.weights.torch_write import merges, tokenizer_json, write_torch_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_numpy = pytest.importorskip("safetensors.numpy")
TEXTS = (
    "OCR: ",
    "Hello, world! It's 1234 o'clock\u00a0\u2014 \\frac{a}{b}\n\n  indented\ttab",
    "通用光学字符识别 日本語テキスト 한국어 Ελληνικά العربية 🙂🏽",
    "<|im_end|> \r\n١٢٣ １０ ²³ ǅ",
)


def same(a: dict, b: dict) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        left, right = np.asarray(left), np.asarray(right)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left.view(np.uint8), right.view(np.uint8))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_round_trips_keep_every_bit(qwen_model, tmp_path, dtype, capsys):
    params = jax.tree.map(lambda p: p.astype(dtype), qwen_model.params)
    write_model(tmp_path / "a", qwen_model._replace(params=params))
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "hf"), "--to", "transformers"]) == 0
    assert main(["convert", str(tmp_path / "hf"), str(tmp_path / "b")]) == 0
    back = read_model(tmp_path / "b", dtype=None)
    same(back.params, params)
    assert back.tokenizer.encode(TEXTS[2]) == qwen_model.tokenizer.encode(TEXTS[2])
    assert dataclasses.replace(back.config.decoder, query_block=0) == qwen_model.config.decoder
    assert dataclasses.replace(back.config.encoder, query_block=0) == qwen_model.config.encoder
    assert "MiB" in capsys.readouterr().out


def test_transformers_loads_and_reads_what_is_written(qwen_model, tmp_path):
    write_torch_folder(tmp_path / "hf", qwen_model, "transformers")
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "hf")
    reference, report = transformers.AutoModelForImageTextToText.from_pretrained(
        tmp_path / "hf", output_loading_info=True, dtype=torch.float32
    )
    assert not report["missing_keys"], report
    assert not report["unexpected_keys"], report
    side = qwen_model.config.encoder.image_px
    assert processor.image_processor.size == {"height": side, "width": side}
    picture = np.random.default_rng(1).integers(0, 255, (side, side, 3), np.uint8)
    ids = prompts.prompt_ids(qwen_model.tokenizer, prompts.PLAIN, qwen_model.config.encoder.image_tokens, 1)
    pixels = processor.image_processor(Image.fromarray(picture), return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = reference.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            pixel_values=pixels,
            max_new_tokens=12,
        )[0, len(ids) :].tolist()
    stops = prompts.stop_ids(qwen_model.tokenizer)
    assert set(reference.generation_config.eos_token_id) == set(stops)
    pad = qwen_model.tokenizer.special[prompts.IMG_PAD]
    pages = np.stack([picture])
    [got] = generate(
        qwen_model.config, qwen_model.params, [ids], pages, np.zeros(1, np.int32), pad, stops, DecodeConfig(12, 0)
    )
    assert got.tokens == [token for token in expected if token not in stops]
    assert isinstance(load(tmp_path / "hf"), Reader)


def test_the_written_tokenizer_spells_every_text_alike(qwen, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json(qwen)))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert len(fast) == 151_860
    for text in TEXTS[:3]:
        assert fast.encode(text) == qwen.encode(text)
        assert fast.decode(fast.encode(text)) == text
    for name, i in qwen.special.items():
        assert fast.convert_tokens_to_ids(name) == i


def test_merges_rebuild_the_vocabulary(qwen):
    """Every token of two bytes and more has one merge, of two tokens of lower rank."""
    pairs = list(merges(qwen.ranks))
    assert len(pairs) == sum(len(token) > 1 for token in qwen.ranks)
    ranks = [qwen.ranks[left + right] for left, right in pairs]
    assert ranks == sorted(ranks)
    assert all(
        max(qwen.ranks[left], qwen.ranks[right]) < rank for (left, right), rank in zip(pairs, ranks, strict=True)
    )


def test_the_original_folder_has_every_released_name(qwen, tmp_path):
    """The encoder at full shape, the decoder cut short: names, config, lm_head, and values where they belong."""
    full = got_580m()
    config = dataclasses.replace(full, decoder=dataclasses.replace(full.decoder, depth=1, mlp_width=24))
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.bfloat16), abstract_params(config))
    params["encoder"]["neck"]["conv1"]["kernel"] = params["encoder"]["neck"]["conv1"]["kernel"].at[3, 5].set(2.0)
    write_torch_folder(tmp_path / "got", Model(config, params, qwen), "original")
    written = safetensors_numpy.load_file(tmp_path / "got" / "model.safetensors")
    assert set(written) == {*entries(config, "original"), "lm_head.weight"}
    assert written["model.vision_tower_high.neck.0.weight"][5, 3, 0, 0] == 2.0
    values = json.loads((tmp_path / "got" / "config.json").read_text())
    assert values["model_type"] == "GOT"
    assert values["image_token_len"] == 256
    assert values["im_patch_token"] == 151_859
    assert (tmp_path / "got" / "qwen.tiktoken").is_file()
    assert values["torch_dtype"] == "bfloat16"
    back = read_folder(tmp_path / "got", dtype=None)
    assert back.config == dataclasses.replace(config, dtype=back.config.dtype)
    same(back.params, params)


def test_heads_and_shards(reference, tmp_path):
    """An absent or repeated lm_head, one file or many with an index: the same model."""
    reference.save_pretrained(tmp_path / "one")
    reference.save_pretrained(tmp_path / "many", max_shard_size="100KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    one, many = read_folder(tmp_path / "one", dtype=None), read_folder(tmp_path / "many", dtype=None)
    same(one.params, many.params)
    path = tmp_path / "one" / "model.safetensors"
    tensors = safetensors_numpy.load_file(path)
    embedding = next(value for key, value in tensors.items() if key.endswith("embed_tokens.weight"))
    assert not any("lm_head" in key for key in tensors)
    safetensors_numpy.save_file({**tensors, "lm_head.weight": embedding}, path)
    same(read_folder(tmp_path / "one", dtype=None).params, one.params)
    shard = next((tmp_path / "many").glob("*.safetensors"))
    shard.unlink()
    with pytest.raises(GotError, match="cannot be read"):
        read_folder(tmp_path / "many")


def test_a_killed_conversion_leaves_no_folder(qwen_model, tmp_path):
    """Killed while the tensors are written; the target of an earlier conversion stays as it was."""
    write_model(tmp_path / "a", qwen_model)
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "hf"), "--to", "transformers"]) == 0
    before = (tmp_path / "hf" / "model.safetensors").read_bytes()
    code = f"""
import os
from got_jax.weights import torch_write
real = torch_write.to_torch
def dying(tensor, entry, seen=[]):
    seen.append(1)
    if len(seen) == 20:
        os._exit(9)
    return real(tensor, entry)
torch_write.to_torch = dying
from got_jax.cli import main
main(["convert", {str(tmp_path / "a")!r}, {str(tmp_path)!r} + "/" + os.environ["TARGET"], "--to", "transformers"])
"""
    for target in ("new", "hf"):
        environment = {**os.environ, "TARGET": target}
        assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 9
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "hf" / "model.safetensors").read_bytes() == before
    for half in tmp_path.glob(".*"):
        with pytest.raises(GotError):
            read_folder(half)


def test_what_a_layout_cannot_hold_is_refused(qwen_model, tiny, tiny_params, pieces, tmp_path):
    with pytest.raises(GotError, match="encoder has one shape"):
        write_torch_folder(tmp_path / "x", qwen_model, "original")
    with pytest.raises(GotError, match="reads with SentencePiece; convert it to orbax"):
        write_torch_folder(tmp_path / "x", Model(tiny, tiny_params, pieces), "transformers")
    assert not (tmp_path / "x").exists()


def test_an_interrupted_write_leaves_nothing(qwen_model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "got_jax.weights.torch_write._write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(GotError, match="cannot be written"):
        write_torch_folder(tmp_path / "hf", qwen_model, "transformers")
    assert list(tmp_path.iterdir()) == []


def test_hub_ids_go_through_the_hub_client(monkeypatch, qwen_model, tmp_path, capsys):
    write_torch_folder(tmp_path / "hf", qwen_model, "transformers")
    asked: list = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **k: asked.append((name, k)) or tmp_path / "hf"
    )
    assert main(["convert", "someone/got", str(tmp_path / "ours")]) == 0
    assert asked[-1][0] == "someone/got"
    assert "*.bin" not in asked[-1][1]["allow_patterns"]
    same(read_model(tmp_path / "ours", dtype=None).params, qwen_model.params)
    monkeypatch.undo()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    capsys.readouterr()
    assert main(["convert", "nobody/nothing-here", str(tmp_path / "no")]) == 2
    assert "'nobody/nothing-here' is no folder here, and the hub does not give it" in capsys.readouterr().err
    assert Path(tmp_path / "no").exists() is False
