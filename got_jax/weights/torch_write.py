"""Writes the two PyTorch checkpoint folders of GOT, complete enough for transformers or the original loader. No torch.

Each tensor is turned and written before the next is touched: of parameters that are read when they are needed (`Lazy`),
one is in memory at a time.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from got_jax.config import EncoderConfig, GotConfig
from got_jax.errors import require
from got_jax.models.got import PIXEL_MEAN, PIXEL_STD
from got_jax.tokenizers import QWEN_PATTERN, QwenTokenizer
from got_jax.weights.layouts import DTYPES, LM_HEAD, entries, to_torch
from got_jax.weights.lazy import lazy
from got_jax.weights.store import CONFIG, DType, Model, atomic_folder


def write_torch_folder(folder: Path, model: Model, layout: str, dtype: DType | None = None) -> None:
    """Writes `layout` ("transformers" or "original") whole or not at all.

    Args:
        dtype: what the tensors are rounded to; default: as they are.

    Raises:
        GotError: when the layout cannot hold the model, or the folder cannot be written.
    """
    config, tokenizer = model.config, model.tokenizer
    require(
        isinstance(tokenizer, QwenTokenizer),
        f"the {layout} layout holds Qwen's vocabulary, but this model reads with SentencePiece; convert it to orbax.",
    )
    assert isinstance(tokenizer, QwenTokenizer)
    if layout == "original":
        released = dataclasses.replace(EncoderConfig(), query_block=config.encoder.query_block)
        require(
            config.encoder == released,
            "the original layout's encoder has one shape (1024 pixels, 12 blocks of 768), which this model has not; "
            "convert it to transformers.",
        )
    require(config.decoder.kind == "qwen2", f"the {layout} layout has no {config.decoder.kind} decoder; use orbax.")
    require(
        config.encoder.out_width == config.decoder.width,
        f"PyTorch's GOT has a decoder as wide as the encoder's {config.encoder.out_width} channels (4 necks), but "
        f"this one is {config.decoder.width} wide; convert it to orbax.",
    )
    values = transformers_config(config) if layout == "transformers" else _original_config(config)
    stored = str(jnp.dtype(dtype)) if dtype is not None else str(model.params["decoder"]["embedding"].dtype)
    values["torch_dtype"] = stored
    with atomic_folder(folder) as made:
        _write_tensors(made / "model.safetensors", _tensors(model, layout, dtype))
        _write_json(made / CONFIG, values)
        _write_json(made / "generation_config.json", _generation(tokenizer))
        if layout == "original":
            tokenizer.save(made)
            names = {
                "tokenizer_class": "QWenTokenizer",
                "auto_map": {"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]},
            }
            _write_json(made / "tokenizer_config.json", {**names, "model_max_length": 8000, "padding_side": "right"})
        else:
            _write_json(made / "tokenizer.json", tokenizer_json(tokenizer))
            _write_json(made / "tokenizer_config.json", _tokenizer_config(tokenizer))
            _write_json(made / "preprocessor_config.json", _image_processor(config))


def _tensors(model: Model, layout: str, dtype: DType | None) -> list[tuple[str, np.dtype, tuple[int, ...], Any]]:
    """(name, dtype, shape, function that makes it); those of one parameter of ours stand together."""
    found = []
    leaves = jax.tree_util.tree_leaves_with_path(jax.tree.map(lazy, model.params))
    leaves = {tuple(part.key for part in path): leaf for path, leaf in leaves}
    read = functools.lru_cache(maxsize=1)(lambda path: leaves[path].read())
    for name, entry in entries(model.config, layout).items():
        kept = np.dtype(dtype or leaves[entry.path].dtype)
        make = lambda entry=entry, kept=kept: to_torch(read(entry.path)[entry.index], entry).astype(kept, copy=False)
        found.append((name, kept, entry.shape, make))
        if layout == "original" and entry.path == ("decoder", "embedding"):
            found.append((LM_HEAD[layout], kept, entry.shape, make))  # the released file repeats it
    return found


def _write_tensors(path: Path, tensors: list[tuple[str, np.dtype, tuple[int, ...], Any]]) -> None:
    """A safetensors file: header length, JSON header, then the tensors' bytes in order.

    The library's own writer wants every tensor in memory at once.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    spelled = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    for name, dtype, shape, _ in tensors:
        require(dtype in spelled, f"tensor {name} is {dtype}; checkpoints hold {', '.join(DTYPES)}.")
        size = int(np.prod(shape)) * dtype.itemsize
        header[name] = {"dtype": spelled[dtype], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, _, make in tensors:
            file.write(np.ascontiguousarray(make()).view(np.uint8).data)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _decoder_values(config: GotConfig) -> dict[str, Any]:
    d = config.decoder
    return {
        "vocab_size": d.vocab_size,
        "hidden_size": d.width,
        "intermediate_size": d.mlp_width,
        "num_hidden_layers": d.depth,
        "num_attention_heads": d.heads,
        "num_key_value_heads": d.kv_heads,
        "max_position_embeddings": d.context_tokens,
        "rms_norm_eps": d.eps,
        "rope_theta": d.rope_theta,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
    }


def transformers_config(config: GotConfig) -> dict[str, Any]:
    e = config.encoder
    marks = {"bos_token_id": 151_643, "eos_token_id": 151_643, "pad_token_id": 151_643}
    return {
        "architectures": ["GotOcr2ForConditionalGeneration"],
        "model_type": "got_ocr2",
        "image_token_index": 151_859,
        "image_token_id": 151_859,
        "image_seq_length": e.image_tokens,
        "pad_token_id": 151_643,
        "tie_word_embeddings": True,
        "text_config": {"model_type": "qwen2", **_decoder_values(config), **marks},
        "vision_config": {
            "hidden_size": e.width,
            "output_channels": e.neck_width,
            "num_hidden_layers": e.depth,
            "num_attention_heads": e.heads,
            "num_channels": 3,
            "image_size": e.image_px,
            "patch_size": e.patch_px,
            "hidden_act": "gelu",
            "layer_norm_eps": e.eps,
            "qkv_bias": True,
            "use_abs_pos": True,
            "use_rel_pos": True,
            "window_size": e.window,
            "global_attn_indexes": list(range(e.global_every - 1, e.depth, e.global_every)),
            "mlp_dim": e.mlp_width,
        },
    }


def _original_config(config: GotConfig) -> dict[str, Any]:
    return {
        "architectures": ["GOTQwenForCausalLM"],
        "auto_map": {"AutoConfig": "modeling_GOT.GOTConfig", "AutoModel": "modeling_GOT.GOTQwenForCausalLM"},
        "model_type": "GOT",
        **_decoder_values(config),
        "bos_token_id": 151_643,
        "eos_token_id": 151_643,
        "freeze_vision_tower": False,
        "im_start_token": 151_857,
        "im_end_token": 151_858,
        "im_patch_token": 151_859,
        "image_token_len": config.encoder.image_tokens,
        "max_window_layers": 21,
        "sliding_window": config.decoder.context_tokens,
        "use_im_start_end": True,
        "vision_tower": "",
    }


def _generation(tokenizer: QwenTokenizer) -> dict[str, Any]:
    end, stop = tokenizer.special["<|endoftext|>"], tokenizer.special["<|im_end|>"]
    return {"bos_token_id": end, "eos_token_id": [stop, end], "pad_token_id": end, "do_sample": False}


def _tokenizer_config(tokenizer: QwenTokenizer) -> dict[str, Any]:
    end = "<|endoftext|>"
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8000,
        "processor_class": "GotOcr2Processor",
    }


def _image_processor(config: GotConfig) -> dict[str, Any]:
    side = config.encoder.image_px
    return {
        "image_processor_type": "GotOcr2ImageProcessor",
        "processor_class": "GotOcr2Processor",
        "crop_to_patches": False,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(PIXEL_MEAN),
        "image_std": list(PIXEL_STD),
        "max_patches": 12,
        "min_patches": 1,
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
        "size": {"height": side, "width": side},
    }


def tokenizer_json(tokenizer: QwenTokenizer) -> dict[str, Any]:
    """Qwen's BPE as the `tokenizers` library stores it: byte-level vocabulary, and the merge that makes each token."""
    ranks = tokenizer.ranks
    letters = _byte_letters()
    spell = lambda token: "".join(letters[byte] for byte in token)
    added = [
        {
            "id": i,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for name, i in tokenizer.special.items()
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": QWEN_PATTERN}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {spell(token): rank for token, rank in ranks.items()},
            "merges": [[spell(left), spell(right)] for left, right in merges(ranks)],
        },
    }


def merges(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The pair that BPE joins to make each token of two bytes and more, in rank order.

    A ranks file has no merges: the pair is what is left of the token when only lower ranks may join.
    """
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            joined = [ranks.get(a + b, rank) for a, b in itertools.pairwise(parts)]
            best = min(joined)
            if best >= rank:
                break
            i = joined.index(best)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            yield parts[0], parts[1]


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
