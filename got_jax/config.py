"""Model shapes as frozen dataclasses, and the presets. Everything about a model's shape follows from here.

Sources: GOT paper section 3 (arXiv 2409.01704); ViTDet-B of SAM for the encoder; Qwen1.5-0.5B for the decoder.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from got_jax.errors import GotError, require


@dataclass(frozen=True)
class EncoderConfig:
    """ViTDet encoder: `depth` blocks, of which every `global_every`-th attends globally and the rest in windows."""

    image_px: int = 1024
    patch_px: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    window: int = 14
    global_every: int = 3
    neck_width: int = 256
    eps: float = 1e-6
    query_block: int = 0  # queries of a global block that are scored at once; 0 = all (bounds memory, not results)

    @property
    def grid(self) -> int:
        """Patches along one side of the picture."""
        return self.image_px // self.patch_px

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def out_width(self) -> int:
        """Channels after the connector's two stride-2 convolutions, each of which doubles the neck's."""
        return 4 * self.neck_width

    @property
    def image_tokens(self) -> int:
        """Tokens one picture costs the decoder: the grid, halved twice along each side."""
        return (self.grid // 4) ** 2

    def __post_init__(self) -> None:
        for name in ("image_px", "patch_px", "width", "depth", "heads", "mlp_width", "window", "neck_width"):
            _positive("encoder", name, getattr(self, name))
        _positive("encoder", "global_every", self.global_every)
        require(
            self.image_px % self.patch_px == 0,
            f"encoder.image_px {self.image_px} is not a multiple of encoder.patch_px {self.patch_px}; change one.",
        )
        require(
            self.grid % 4 == 0,
            f"encoder grid {self.grid} (image_px / patch_px) is not divisible by 4, which the two stride-2 "
            "convolutions need; change image_px or patch_px.",
        )
        require(
            self.width % self.heads == 0,
            f"encoder.width {self.width} is not divisible by encoder.heads {self.heads}; change one.",
        )
        require(
            self.depth % self.global_every == 0,
            f"encoder.depth {self.depth} is not a multiple of encoder.global_every {self.global_every}; change one.",
        )
        require(
            self.window <= self.grid,
            f"encoder.window {self.window} is larger than the grid {self.grid}; choose a smaller window.",
        )


@dataclass(frozen=True)
class DecoderConfig:
    """The decoder. `context_tokens` bounds prompt plus answer.

    Attributes:
        query_block: tokens of a row that are scored at once in training; 0 = all (bounds memory, not results).
        kind: "qwen2", or "opt" for stage 1, which has no `rope_theta` and as many key heads as heads.
    """

    kind: str = "qwen2"
    vocab_size: int = 151_860
    width: int = 1024
    depth: int = 24
    heads: int = 16
    kv_heads: int = 16
    mlp_width: int = 2816
    rope_theta: float = 1e6
    eps: float = 1e-6
    context_tokens: int = 32_768
    query_block: int = 0

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def __post_init__(self) -> None:
        for name in ("vocab_size", "width", "depth", "heads", "kv_heads", "mlp_width", "context_tokens"):
            _positive("decoder", name, getattr(self, name))
        require(
            self.width % self.heads == 0,
            f"decoder.width {self.width} is not divisible by decoder.heads {self.heads}; change one.",
        )
        require(
            self.head_width % 2 == 0,
            f"decoder head width {self.head_width} (width / heads) is odd, but rotary positions pair its channels; "
            "change width or heads.",
        )
        require(self.kind in ("qwen2", "opt"), f"decoder.kind '{self.kind}' is unknown; choose 'qwen2' or 'opt'.")
        require(
            self.kind == "qwen2" or self.kv_heads == self.heads,
            f"decoder.kv_heads {self.kv_heads} differs from decoder.heads {self.heads}, which OPT has not; change one.",
        )
        require(
            self.heads % self.kv_heads == 0,
            f"decoder.heads {self.heads} is not a multiple of decoder.kv_heads {self.kv_heads}; change one.",
        )


@dataclass(frozen=True)
class GotConfig:
    """Encoder, connector and decoder of one model, with its tokenizer's kind and its compute dtype."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    tokenizer: str = "qwen"  # "qwen" or "sentencepiece"
    dtype: str = "bfloat16"  # of activations and matrix products; norms, softmax and losses stay float32
    remat: str = "none"  # what is recomputed backwards: "none", "dots" (all but weights' products) or "blocks" (all)
    scan_unroll: int = 1  # layers of a scan that the compiler sees at once

    def __post_init__(self) -> None:
        require(
            self.tokenizer in ("qwen", "sentencepiece"),
            f"tokenizer '{self.tokenizer}' is unknown; choose 'qwen' or 'sentencepiece'.",
        )
        require(
            self.dtype in ("float32", "bfloat16", "float16"),
            f"dtype '{self.dtype}' is unknown; choose 'float32', 'bfloat16' or 'float16'.",
        )
        require(
            self.remat in ("none", "dots", "blocks"),
            f"remat '{self.remat}' is unknown; choose 'none', 'dots' or 'blocks'.",
        )
        _positive("config", "scan_unroll", self.scan_unroll)
        require(
            self.encoder.image_tokens < self.decoder.context_tokens,
            f"one picture takes {self.encoder.image_tokens} tokens, which fills decoder.context_tokens "
            f"{self.decoder.context_tokens}; enlarge the context or shrink the picture.",
        )


def got_580m() -> GotConfig:
    """The released GOT-OCR2.0 (560,528,640 parameters)."""
    return GotConfig(encoder=EncoderConfig(query_block=256), decoder=DecoderConfig(query_block=512))


def got_nano() -> GotConfig:
    """The shape of the shipped model: reads slices of up to 8 lines on a CPU (docs/nano.md tells how it was chosen)."""
    return GotConfig(
        encoder=EncoderConfig(
            image_px=480,
            patch_px=12,
            width=128,
            depth=4,
            heads=2,
            mlp_width=512,
            window=8,
            global_every=4,
            neck_width=96,
        ),
        decoder=DecoderConfig(
            vocab_size=375,
            width=256,
            depth=4,
            heads=4,
            kv_heads=4,
            mlp_width=704,
            rope_theta=1e4,
            context_tokens=1024,
        ),
        tokenizer="sentencepiece",
        dtype="float32",
        scan_unroll=4,
    )


def got_stage1() -> GotConfig:
    """Stage 1 (GOT paper 3.2): the released encoder before an OPT-125M decoder, on Qwen's vocabulary."""
    decoder = DecoderConfig(
        kind="opt",
        width=768,
        depth=12,
        heads=12,
        kv_heads=12,
        mlp_width=3072,
        eps=1e-5,
        context_tokens=2048,
        query_block=512,
    )
    return dataclasses.replace(got_580m(), decoder=decoder)


def presets() -> dict[str, GotConfig]:
    """Every named shape."""
    return {"got_580m": got_580m(), "got_stage1": got_stage1(), "got_nano": got_nano()}


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(cls: type, values: dict[str, Any], where: str = "config") -> Any:
    """Builds the frozen dataclass `cls` from JSON values; an unknown or missing name is refused."""
    require(isinstance(values, dict), f"{where} is not a JSON object; it must hold the fields of {cls.__name__}.")
    known = {f.name: f for f in dataclasses.fields(cls)}
    for name in values:
        require(name in known, f"{where} has an unknown field '{name}'; remove it or update got-jax.")
    nested = {"encoder": EncoderConfig, "decoder": DecoderConfig}
    made = {
        name: from_dict(nested[name], value, f"{where}.{name}") if cls is GotConfig and name in nested else value
        for name, value in values.items()
    }
    for name, value in made.items():
        default = known[name].default
        if isinstance(default, (int, float, str)):
            fits = isinstance(value, (int, float)) if isinstance(default, float) else type(value) is type(default)
            require(fits, f"{where}.{name} is {value!r}, but it must be of type {type(default).__name__}.")
    return cls(**made)


def override(config: Any, changes: dict[str, str]) -> Any:
    """`config` with the fields at dotted paths set to the values that texts spell (numbers, words, JSON lists).

    All changes of a group are made at once, so fields that must fit each other can be changed together.

    Raises:
        GotError: when a path names no field, or a text is not of its field's type.
    """
    fields = [f.name for f in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
    values: dict[str, Any] = {}
    deeper: dict[str, dict[str, str]] = {}
    for path, text in changes.items():
        name, _, rest = path.partition(".")
        require(
            name in fields,
            f"override '{path}' names no field of {type(config).__name__}; it has {', '.join(fields)}.",
        )
        if rest:
            deeper.setdefault(name, {})[rest] = text
        else:
            old = getattr(config, name)
            require(not dataclasses.is_dataclass(old), f"override '{path}' names a group; name one field of it.")
            endless = Ellipsis in typing.get_args(typing.get_type_hints(type(config))[name])
            values[name] = _parse(old, text, path, endless)
    values |= {name: override(getattr(config, name), rest) for name, rest in deeper.items()}
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def _parse(old: Any, text: str, path: str, endless: bool) -> Any:
    kind = type(old)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
        if kind is tuple:
            return _tuple(old, json.loads(text), endless)
    except (ValueError, KeyError, TypeError):
        pass
    raise GotError(f"override --{path} '{text}' is no {kind.__name__}; the value so far is {json.dumps(old)}.")


def _tuple(old: tuple, values: Any, endless: bool) -> tuple:
    """A JSON list as a tuple of the old one's types, and of its length unless that may vary (`endless`)."""
    if not isinstance(values, list) or (len(values) != len(old) and not endless):
        raise ValueError
    like = [old[0]] * len(values) if endless and old else old
    return tuple(
        _tuple(a, b, endless=False) if isinstance(a, tuple) else type(a)(b) for a, b in zip(like, values, strict=True)
    )


def read_config(path: Path) -> GotConfig:
    """Reads a `config.json` that `write_config` wrote."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GotError(f"{path} does not exist; point to a got-jax model folder.") from None
    except (OSError, ValueError) as err:
        raise GotError(f"{path} cannot be read as JSON ({err}); restore the file.") from None
    return from_dict(GotConfig, values, str(path))


def write_config(config: GotConfig, path: Path) -> None:
    path.write_text(json.dumps(to_dict(config), indent=2) + "\n", encoding="utf-8")


def _positive(part: str, name: str, value: int) -> None:
    require(value > 0, f"{part}.{name} is {value}, but it must be at least 1.")
