"""Reads the two PyTorch checkpoint folders of GOT: transformers' and the original repository's. No torch needed."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from got_jax.config import DecoderConfig, EncoderConfig, GotConfig
from got_jax.errors import GotError, require
from got_jax.tokenizers import load_tokenizer
from got_jax.weights.layouts import BESIDE, DTYPES, LM_HEAD, PARTS, Entry, entries, from_torch, part_shapes
from got_jax.weights.lazy import Lazy, read_all
from got_jax.weights.store import CONFIG, DType, Model, open_model, read_model

INDEX = "model.safetensors.index.json"
# transformers 5 names its modules like this in memory; some files are saved that way.
NEWER = (
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.language_model.", "language_model.model."),
)


def layout_of(folder: Path) -> str:
    """What config.json says: "transformers", "original", "orbax" (a got-jax folder), "sam", "qwen2" or "opt".

    Raises:
        GotError: when the folder is none of them.
    """
    values = _json(folder / CONFIG)
    if "encoder" in values:
        return "orbax"
    kinds = {"got_ocr2": "transformers", "GOT": "original"}
    kinds |= {"sam": "sam", "sam_vision_model": "sam", "qwen2": "qwen2", "opt": "opt"}
    kind = values.get("model_type")
    require(
        kind in kinds,
        f"{folder}: {CONFIG} says model_type {kind!r}; GOT checkpoints say 'got_ocr2' (transformers) or 'GOT'.",
    )
    return kinds[str(kind)]


def read_folder(folder: Path, dtype: DType | None = jnp.float32) -> Model:
    """A model from any of the three kinds of folder.

    Args:
        dtype: what parameters come as; None = as they are stored.

    Raises:
        GotError: when a file or tensor is missing, damaged, of another shape, or not finite.
    """
    if layout_of(folder) == "orbax":
        return read_model(folder, dtype)
    model = open_folder(folder)
    return model._replace(params=read_all(jax.tree.map(lambda leaf: leaf.astype(dtype or leaf.dtype), model.params)))


def open_folder(folder: Path) -> Model:
    """The same with parameters that are read when they are needed (`Lazy`), as they are stored.

    Raises:
        GotError: as `read_folder`; of values, when they are read.
    """
    layout = layout_of(folder)
    if layout == "orbax":
        return open_model(folder)
    require(
        layout not in PARTS,
        f"{folder} holds only a part of a model ({layout}); it can start a training (init_from), not be read with.",
    )
    values = _json(folder / CONFIG)
    try:
        config = _from_transformers(values) if layout == "transformers" else _from_original(values)
    except KeyError as err:
        raise GotError(f"{folder / CONFIG} has no field {err}; copy it from the checkpoint again.") from None
    return Model(config, _open_params(folder, config, layout), load_tokenizer(config.tokenizer, folder))


def _from_transformers(values: dict[str, Any]) -> GotConfig:
    return GotConfig(encoder=_encoder_config(values["vision_config"]), decoder=_decoder_config(values["text_config"]))


def _encoder_config(vision: dict[str, Any]) -> EncoderConfig:
    depth, every = vision.get("num_hidden_layers", 12), len(vision.get("global_attn_indexes", (2, 5, 8, 11)))
    group = depth // max(every, 1)
    require(
        list(vision.get("global_attn_indexes", (2, 5, 8, 11))) == list(range(group - 1, depth, group)),
        f"the checkpoint attends globally in blocks {vision.get('global_attn_indexes')} of {depth}; got-jax needs "
        "every n-th block to be global.",
    )
    return EncoderConfig(
        image_px=vision.get("image_size", 1024),
        patch_px=vision.get("patch_size", 16),
        width=vision.get("hidden_size", 768),
        depth=depth,
        heads=vision.get("num_attention_heads", 12),
        mlp_width=vision.get("mlp_dim") or 4 * vision.get("hidden_size", 768),
        window=vision.get("window_size", 14),
        global_every=group,
        neck_width=vision.get("output_channels", 256),
        eps=vision.get("layer_norm_eps", 1e-6),
        query_block=256,
    )


def _from_original(values: dict[str, Any]) -> GotConfig:
    """The original config.json tells the decoder only; its encoder has one shape."""
    return GotConfig(encoder=EncoderConfig(query_block=256), decoder=_decoder_config(values))


def _decoder_config(values: dict[str, Any]) -> DecoderConfig:
    rope_theta = values.get("rope_theta") or (values.get("rope_parameters") or {}).get("rope_theta", 1e6)
    return DecoderConfig(
        vocab_size=values["vocab_size"],
        width=values["hidden_size"],
        depth=values["num_hidden_layers"],
        heads=values["num_attention_heads"],
        kv_heads=values["num_key_value_heads"],
        mlp_width=values["intermediate_size"],
        rope_theta=float(rope_theta),
        eps=values["rms_norm_eps"],
        context_tokens=values["max_position_embeddings"],
        query_block=512,
    )


def _opt_config(folder: Path, values: dict[str, Any]) -> DecoderConfig:
    narrow = values.get("word_embed_proj_dim", values["hidden_size"]) != values["hidden_size"]
    require(
        values.get("do_layer_norm_before", True) and not narrow and values.get("activation_function", "relu") == "relu",
        f"{folder} is an OPT of another kind (norms after, narrow embeddings or no ReLU); use OPT-125M or 1.3B and up.",
    )
    return DecoderConfig(
        kind="opt",
        vocab_size=values["vocab_size"],
        width=values["hidden_size"],
        depth=values["num_hidden_layers"],
        heads=values["num_attention_heads"],
        kv_heads=values["num_attention_heads"],
        mlp_width=values["ffn_dim"],
        eps=1e-5,
        context_tokens=values["max_position_embeddings"],
    )


def read_part(folder: Path, config: GotConfig, layout: str) -> tuple[dict, list[str]]:
    """The part of a model that a SAM, Qwen2 or OPT checkpoint holds, in float32, and the names of tensors left out.

    Rows of the embedding that the checkpoint has not are drawn at random, rows past the config's vocabulary left out.
    A head of its own that scores words is left out: GOT's decoder ties it to the embedding.

    Raises:
        GotError: when the checkpoint's shape is not the config's, or a tensor is missing, damaged or not finite.
    """
    values = _json(folder / CONFIG)
    try:
        if layout == "sam":
            stored, wanted = _encoder_config(values.get("vision_config", values)), config.encoder
            free = ("query_block",)
        elif layout == "qwen2":
            stored, wanted = _decoder_config(values), config.decoder
            free = ("vocab_size", "context_tokens", "query_block")
        else:
            stored, wanted = _opt_config(folder, values), config.decoder
            free = ("vocab_size", "rope_theta", "query_block")
    except KeyError as err:
        raise GotError(f"{folder / CONFIG} has no field {err}; copy it from the checkpoint again.") from None
    for field in dataclasses.fields(stored):
        was, now = getattr(stored, field.name), getattr(wanted, field.name)
        require(
            was == now or field.name in free,
            f"{folder} has {field.name} {was} where the config has {now}; change model.{PARTS[layout][0]}.",
        )
    left_out: list[str] = []
    params = _open_params(folder, config, layout, left_out)
    return read_all(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)), left_out


def _open_params(folder: Path, config: GotConfig, layout: str, left_out: list[str] | None = None) -> dict:
    """Our stacked parameters, filled tensor by tensor when they are read; names and shapes are checked here."""
    wanted = entries(config, layout)
    get = _open(folder, layout)
    head, beside = LM_HEAD.get(layout, ""), [n for n in get if n.startswith(BESIDE.get(layout, ()))]
    extra = sorted(set(get) - set(wanted) - {head, *beside})
    require(not extra, f"{folder}: tensor {extra[0] if extra else ''} is not part of the {layout} layout.")
    parts: dict[tuple[str, ...], list[tuple[str, Entry]]] = {}
    for name, entry in wanted.items():
        require(
            name in get,
            f"{folder}: tensor {name} of the {layout} layout is missing; shape {list(entry.shape)} was expected.",
        )
        resized = layout in ("qwen2", "opt") and entry.path == ("decoder", "embedding")
        if resized:
            get[name] = _resize_vocabulary(get[name], entry.shape[0])
        require(
            get[name].shape == entry.shape,
            f"{folder}: tensor {name} of the {layout} layout has shape {list(get[name].shape)}, but the config asks "
            f"for {list(entry.shape)}.",
        )
        parts.setdefault(entry.path, []).append((name, entry))

    def opened(path: tuple, leaf: jax.ShapeDtypeStruct) -> Lazy:
        rows = parts[tuple(part.key for part in path)]
        dtype = np.dtype(functools.reduce(jnp.promote_types, [get[name].dtype for name, _ in rows]))

        def read() -> np.ndarray:
            if rows[0][1].kind == "linear":  # lies as torch has it: `inference.prepare` turns it back
                array = np.empty((*leaf.shape[:-2], *leaf.shape[:-3:-1]), dtype).swapaxes(-1, -2)
            else:
                array = np.empty(leaf.shape, dtype)
            for name, entry in rows:
                tensor = get[name].read()
                require(
                    _finite(tensor),
                    f"{folder}: tensor {name} of the {layout} layout holds values that are not finite, where numbers "
                    "were expected; copy the checkpoint again.",
                )
                array[entry.index] = from_torch(tensor, entry)
            if head in get and left_out is None and rows[0][1].path == ("decoder", "embedding"):
                require(
                    np.array_equal(get[head].read().astype(dtype), array),
                    f"{folder}: tensor {head} differs from the embedding, but GOT ties them; this is another model.",
                )
            return array

        return Lazy(leaf.shape, dtype, read)

    if left_out is not None:
        left_out += [*beside, *([head] if head in get else [])]
    return jax.tree_util.tree_map_with_path(opened, part_shapes(config, layout))


def _finite(tensor: np.ndarray) -> bool:
    if tensor.dtype == jnp.bfloat16 and tensor.size:  # NumPy goes through these one by one
        return int((tensor.reshape(-1).view(np.uint16) & 0x7FFF).max()) < 0x7F80
    return bool(np.isfinite(tensor).all())


def _resize_vocabulary(table: Lazy, rows: int) -> Lazy:
    """The first `rows` rows; missing ones are drawn as an embedding is."""

    def read() -> np.ndarray:
        known = table.read()[:rows]
        new = np.random.default_rng(0).normal(0, 0.02, (rows - known.shape[0], known.shape[1]))
        return np.concatenate([known, new.astype(known.dtype)])

    return Lazy((rows, *table.shape[1:]), table.dtype, read)


def _open(folder: Path, layout: str) -> dict[str, Lazy]:
    """The tensors by name, over one safetensors file or the shards of an index."""
    from safetensors import SafetensorError, safe_open

    if (folder / INDEX).is_file():
        files = sorted({str(name) for name in _json(folder / INDEX).get("weight_map", {}).values()})
    else:
        files = [path.name for path in sorted(folder.glob("*.safetensors"))]
    if not files:
        pickled = next(iter(sorted(folder.glob("*.bin"))), None)
        require(
            pickled is None,
            f"{pickled} is a pickle, which can run any code when it is loaded; convert it to safetensors first.",
        )
        raise GotError(f"{folder} holds no .safetensors file; copy the checkpoint again.")
    found: dict[str, Lazy] = {}
    for name in files:
        require(Path(name).name == name, f"{folder / INDEX} points outside its folder ('{name}'); copy it again.")
        try:
            shard = safe_open(folder / name, framework="numpy")
        except (OSError, SafetensorError) as err:
            raise GotError(f"{folder / name} cannot be read ({err}); copy the checkpoint again.") from None
        for key in shard.keys():  # noqa: SIM118  (a safetensors handle is no mapping)
            view = shard.get_slice(key)
            dtype = DTYPES.get(view.get_dtype())
            require(dtype is not None, f"{folder / name}: tensor {key} is {view.get_dtype()}; use {', '.join(DTYPES)}.")
            saved = _saved_name(key) if layout == "transformers" else key
            found[saved] = Lazy(tuple(view.get_shape()), np.dtype(dtype), lambda s=shard, k=key: s.get_tensor(k))
    return found


def _saved_name(key: str) -> str:
    for newer, saved in NEWER:
        if key.startswith(newer):
            return saved + key[len(newer) :]
    return LM_HEAD["transformers"] if key == "lm_head.weight" else key


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GotError(f"{path} does not exist; point to a model folder.") from None
    except (OSError, ValueError) as err:
        raise GotError(f"{path} cannot be read as JSON ({err}); restore the file.") from None
    require(isinstance(values, dict), f"{path} is no JSON object; restore the file.")
    return values
