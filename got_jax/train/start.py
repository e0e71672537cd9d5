"""What a run starts from: an earlier stage, a model, or PyTorch checkpoints of its parts."""

from __future__ import annotations

import jax

from got_jax.config import GotConfig
from got_jax.errors import GotError, require
from got_jax.models.got import abstract_params
from got_jax.reader import model_folder
from got_jax.tokenizers import Tokenizer
from got_jax.train import checkpoints
from got_jax.train.config import TrainConfig
from got_jax.train.lora import init_lora
from got_jax.weights.layouts import PARTS
from got_jax.weights.resize import resize_pictures
from got_jax.weights.store import Model
from got_jax.weights.torch_folders import layout_of, read_part

PROBE = "The quick brown fox, 1234567890: x² + y² = z² 光学文字认识\n"


def starting_params(config: TrainConfig, tokenizer: Tokenizer) -> tuple[dict, list[str]]:
    """The parameters that `init_from` holds, and a table of what is loaded, new and left out.

    A stage that changes the decoder takes encoder and convolutions of the stage before; its small decoder and the
    linear layer before that are left out (GOT paper 3.3; in the released code the convolutions are the encoder's).

    Raises:
        GotError: when a checkpoint does not fit the config, or does not hold what the stage needs.
    """
    params: dict = {}
    lines: list[str] = []
    for name in filter(None, config.init_from.split(",")):
        folder = model_folder(name)
        layout = "run" if checkpoints.is_run(folder) else layout_of(folder)
        if layout in PARTS:
            parts, left_out = read_part(folder, config.model, layout)
        else:
            stored = checkpoints.read_weights(folder, heads=True)
            _same_tokenizer(name, stored, tokenizer, config)
            stored, left_out = _without_decoder(stored, config.model)
            parts = resize_pictures(stored.params, stored.config, config.model)
            if "letters" in parts and not config.losses.letters:
                left_out += [f"letters.{name}" for name in parts.pop("letters")]
        params |= parts
        for part, tree in parts.items():
            lines.append(f"{part:10} {'loaded':9} {_size(tree):>12,} parameters from {name}")
        if left_out:
            lines.append(f"{'':10} {'left out':9} {len(left_out)} tensors of {name}, such as {left_out[0]}")
    wanted = abstract_params(config.model)
    for part in filter(None, config.needs.split(",")):
        require(part in wanted, f"needs names '{part}', which is no part; choose from {', '.join(wanted)}.")
        require(
            part in params,
            f"this stage goes on from a trained {part}, but init_from '{config.init_from}' holds none; give the folder "
            "of the stage before.",
        )
    for part, tree in wanted.items():
        new = {name: leaf for name, leaf in tree.items() if name not in params.get(part, {})}
        if new:
            whole = "" if len(new) == len(tree) else f" ({', '.join(new)})"
            lines.append(f"{part:10} {'new':9} {_size(new):>12,} parameters{whole}")
    if config.lora.rank:
        adapters = jax.eval_shape(lambda: init_lora(config.lora, config.model, jax.random.key(0)))
        lines.append(f"{'lora':10} {'new':9} {_size(adapters):>12,} parameters")
    return params, lines


def _without_decoder(stored: Model, config: GotConfig) -> tuple[Model, list[str]]:
    """The stored model without what belongs to a decoder of another kind, and the names of that."""
    if stored.config.decoder.kind == config.decoder.kind:
        return stored, []
    dropped = [f"decoder.{name}" for name in stored.params["decoder"]]
    dropped += ["connector.linear", *(["letters"] if "letters" in stored.params else [])]
    kept = {part: tree for part, tree in stored.params.items() if part not in ("decoder", "letters")}
    kept["connector"] = {name: leaf for name, leaf in kept["connector"].items() if name != "linear"}
    fits = GotConfig(encoder=stored.config.encoder, decoder=config.decoder, tokenizer=config.tokenizer)
    return Model(fits, kept, stored.tokenizer), dropped


def _same_tokenizer(name: str, stored: Model, tokenizer: Tokenizer, config: TrainConfig) -> None:
    same = (
        stored.config.tokenizer == config.model.tokenizer
        and stored.tokenizer.special == tokenizer.special
        and stored.tokenizer.encode(PROBE) == tokenizer.encode(PROBE)
    )
    if not same:
        raise GotError(
            f"the tokenizer of '{config.tokenizer}' cuts text otherwise than the one of {name}, so its weights would "
            f"mean other tokens; set tokenizer to {name}."
        )


def _size(tree: dict) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
