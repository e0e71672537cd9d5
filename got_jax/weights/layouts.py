"""Names and shapes of the PyTorch checkpoints: ONE table a layout, used to read and to write.

A row says where a module of ours stands in the checkpoint; `{n}` is the number of the block or layer. Our blocks are
stacked for `nn.scan`, the checkpoints' are not: `entries` spells every tensor with the slice of ours that it fills.
Source: GOT_FACTS.md section 6 (the original repository, transformers' conversion script).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from got_jax.config import GotConfig
from got_jax.models.got import abstract_params

_BLOCK = ("norm1", "norm2", "attn.qkv", "attn.proj", "attn.rel_pos_h", "attn.rel_pos_w", "lin1", "lin2")
_LAYER = {
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "attn.o_proj": "self_attn.o_proj",
    "gate_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "down_proj": "mlp.down_proj",
}


def _decoder(prefix: str) -> dict[str, str]:
    return {
        "decoder.embedding": f"{prefix}.embed_tokens.weight",
        "decoder.norm": f"{prefix}.norm",
        **{f"decoder.layers.{ours}": f"{prefix}.layers.{{n}}.{theirs}" for ours, theirs in _LAYER.items()},
    }


ORIGINAL = {
    "encoder.pos_embed": "model.vision_tower_high.pos_embed",
    "encoder.patch_embed": "model.vision_tower_high.patch_embed.proj",
    **{
        f"encoder.blocks.{name}": "model.vision_tower_high.blocks.{n}." + name.replace("lin", "mlp.lin")
        for name in _BLOCK
    },
    "encoder.neck.conv1": "model.vision_tower_high.neck.0",
    "encoder.neck.norm1": "model.vision_tower_high.neck.1",
    "encoder.neck.conv2": "model.vision_tower_high.neck.2.weight",
    "encoder.neck.norm2": "model.vision_tower_high.neck.3",
    "connector.conv1": "model.vision_tower_high.net_2.weight",
    "connector.conv2": "model.vision_tower_high.net_3.weight",
    "connector.linear": "model.mm_projector_vary",
    **_decoder("model"),
}
TRANSFORMERS = {
    "encoder.pos_embed": "vision_tower.pos_embed",
    "encoder.patch_embed": "vision_tower.patch_embed.projection",
    **{
        f"encoder.blocks.{name}": "vision_tower.layers.{n}."
        + name.replace("lin", "mlp.lin").replace("norm", "layer_norm")
        for name in _BLOCK
    },
    "encoder.neck.conv1": "vision_tower.neck.conv1",
    "encoder.neck.norm1": "vision_tower.neck.layer_norm1",
    "encoder.neck.conv2": "vision_tower.neck.conv2.weight",
    "encoder.neck.norm2": "vision_tower.neck.layer_norm2",
    "connector.conv1": "multi_modal_projector.conv_upsampler1.weight",
    "connector.conv2": "multi_modal_projector.conv_upsampler2.weight",
    "connector.linear": "multi_modal_projector.multimodal_projector",
    **_decoder("language_model.model"),
}
SAM = {
    name: theirs.replace("vision_tower.", "vision_encoder.")
    for name, theirs in TRANSFORMERS.items()
    if name.startswith("encoder.")
}
QWEN2 = _decoder("model")
OPT = {
    "decoder.embedding": "model.decoder.embed_tokens.weight",
    "decoder.positions": "model.decoder.embed_positions.weight",
    "decoder.norm": "model.decoder.final_layer_norm",
    **{
        f"decoder.layers.{ours}": f"model.decoder.layers.{{n}}.{theirs}"
        for ours, theirs in {
            "norm1": "self_attn_layer_norm",
            "norm2": "final_layer_norm",
            "attn.q_proj": "self_attn.q_proj",
            "attn.k_proj": "self_attn.k_proj",
            "attn.v_proj": "self_attn.v_proj",
            "attn.o_proj": "self_attn.out_proj",
            "fc1": "fc1",
            "fc2": "fc2",
        }.items()
    },
}
LAYOUTS = {"original": ORIGINAL, "transformers": TRANSFORMERS, "sam": SAM, "qwen2": QWEN2, "opt": OPT}
LM_HEAD = {
    "original": "lm_head.weight",
    "transformers": "language_model.lm_head.weight",
    "qwen2": "lm_head.weight",
    "opt": "lm_head.weight",
}
# Layouts of one part of a model, from which a training may start.
PARTS = {"sam": ("encoder",), "qwen2": ("decoder",), "opt": ("decoder",)}
# What such checkpoints hold beside that part: SAM's prompt encoder and mask decoder.
BESIDE = {"sam": ("prompt_encoder.", "mask_decoder.", "shared_image_embedding.")}
DTYPES = {"F32": jnp.float32, "F16": jnp.float16, "BF16": jnp.bfloat16}  # as safetensors spells them
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


class Entry(NamedTuple):
    """One tensor of a checkpoint: the parameter of ours, the index of its slice, and how torch lays it out."""

    path: tuple[str, ...]
    index: tuple[int, ...]
    kind: str  # "same", "linear", "conv", "conv1x1", "patch" or "row"
    shape: tuple[int, ...]  # in torch


def entries(config: GotConfig, layout: str) -> dict[str, Entry]:
    """Every tensor of a checkpoint by name, without the `lm_head` that some files repeat."""
    table = LAYOUTS[layout]
    found: dict[str, Entry] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(part_shapes(config, layout)):
        names = tuple(part.key for part in path)
        stacks = _stacks(config, names)
        module = ".".join(name for name in names if name not in ("groups", "windowed", "global"))
        if "groups" in names:
            module = module.replace("encoder.", "encoder.blocks.", 1)
        if module in table:
            name = table[module]
        else:
            parent, _, last = module.rpartition(".")
            name = f"{table[parent]}.{_LEAVES[last]}"
        kind = _kind(names)
        for number, index in stacks:
            shape = _torch_shape(leaf.shape[len(index) :], kind, config)
            found[name.format(n=number)] = Entry(names, index, kind, shape)
    return found


def part_shapes(config: GotConfig, layout: str) -> dict:
    """Abstract parameters of the parts that a layout holds."""
    shapes = abstract_params(config)
    return {part: shapes[part] for part in PARTS.get(layout, shapes)}


def _stacks(config: GotConfig, names: tuple[str, ...]) -> list[tuple[int, tuple[int, ...]]]:
    """(number of the block or layer, index of its slice in the stacked parameter)."""
    every = config.encoder.global_every
    groups = range(config.encoder.depth // every)
    if "windowed" in names:
        return [(g * every + i, (g, i)) for g in groups for i in range(every - 1)]
    if "global" in names:
        return [(g * every + every - 1, (g,)) for g in groups]
    if names[:2] == ("decoder", "layers"):
        return [(n, (n,)) for n in range(config.decoder.depth)]
    return [(0, ())]


def _kind(names: tuple[str, ...]) -> str:
    if names[-2:] == ("patch_embed", "kernel"):
        return "patch"
    if names[-3:] == ("neck", "conv1", "kernel"):
        return "conv1x1"
    if names[-1] in ("conv1", "conv2"):
        return "conv"
    if names[-1] == "kernel":
        return "linear"
    return "row" if names[-1] == "pos_embed" else "same"


def _torch_shape(shape: tuple[int, ...], kind: str, config: GotConfig) -> tuple[int, ...]:
    patch = config.encoder.patch_px
    return {
        "same": lambda: shape,
        "row": lambda: (1, *shape),
        "linear": lambda: shape[::-1],
        "conv1x1": lambda: (*shape[::-1], 1, 1),
        "conv": lambda: (shape[3], shape[2], *shape[:2]),
        "patch": lambda: (shape[1], 3, patch, patch),
    }[kind]()


def from_torch(tensor: np.ndarray, entry: Entry) -> np.ndarray:
    """Our slice of a torch tensor: Linear [out, in] -> [in, out], Conv OIHW -> HWIO, patches as one matrix."""
    if entry.kind == "row":
        return tensor[0]
    if entry.kind == "linear":
        return tensor.T
    if entry.kind == "conv1x1":
        return tensor[:, :, 0, 0].T
    if entry.kind == "conv":
        return tensor.transpose(2, 3, 1, 0)
    if entry.kind == "patch":
        return tensor.transpose(2, 3, 1, 0).reshape(-1, tensor.shape[0])
    return tensor


def to_torch(slice_: np.ndarray, entry: Entry) -> np.ndarray:
    """The inverse of `from_torch`."""
    if entry.kind == "row":
        return slice_[None]
    if entry.kind == "linear":
        return slice_.T
    if entry.kind == "conv1x1":
        return slice_.T[:, :, None, None]
    if entry.kind == "conv":
        return slice_.transpose(3, 2, 0, 1)
    if entry.kind == "patch":
        out, _, height, width = entry.shape
        return slice_.reshape(height, width, 3, out).transpose(3, 2, 0, 1)
    return slice_
