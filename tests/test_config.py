"""Shapes follow from the config, and a config that cannot work is refused with one sentence."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import jax
import pytest

from got_jax.config import (
    DecoderConfig,
    EncoderConfig,
    GotConfig,
    from_dict,
    got_580m,
    presets,
    read_config,
    to_dict,
    write_config,
)
from got_jax.errors import GotError
from got_jax.models.got import abstract_params


def test_parameter_counts_of_the_released_model():
    params = abstract_params(got_580m())
    counts = {name: sum(math.prod(x.shape) for x in jax.tree.leaves(part)) for name, part in params.items()}
    assert counts == {"encoder": 89_670_912, "connector": 6_947_840, "decoder": 463_909_888}


def test_tokens_per_picture_follow_from_the_config():
    assert got_580m().encoder.image_tokens == 256
    assert EncoderConfig(image_px=512, width=64, heads=2, window=8).image_tokens == 64


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: EncoderConfig(image_px=1000), "multiple of encoder.patch_px"),
        (lambda: EncoderConfig(image_px=96, window=4), "not divisible by 4"),
        (lambda: EncoderConfig(width=100), "not divisible by encoder.heads"),
        (lambda: EncoderConfig(depth=10), "multiple of encoder.global_every"),
        (lambda: EncoderConfig(window=65), "larger than the grid"),
        (lambda: EncoderConfig(depth=0), "at least 1"),
        (lambda: DecoderConfig(heads=3), "not divisible by decoder.heads"),
        (lambda: DecoderConfig(kv_heads=5), "multiple of decoder.kv_heads"),
        (lambda: DecoderConfig(width=48, heads=16, kv_heads=16), "is odd"),
        (lambda: GotConfig(decoder=DecoderConfig(context_tokens=256)), "fills decoder.context_tokens"),
        (lambda: GotConfig(dtype="int8"), "dtype 'int8' is unknown"),
        (lambda: GotConfig(tokenizer="words"), "tokenizer 'words' is unknown"),
    ],
)
def test_impossible_configs_are_refused(make, says):
    with pytest.raises(GotError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", presets())
def test_configs_survive_the_disk(name, tmp_path):
    write_config(presets()[name], tmp_path / "config.json")
    assert read_config(tmp_path / "config.json") == presets()[name]


def test_damaged_config_files_are_refused(tmp_path):
    values = to_dict(got_580m())
    for change, says in (({"colour": 1}, "unknown field 'colour'"), ({"dtype": 16}, "must be of type str")):
        with pytest.raises(GotError, match=says):
            from_dict(GotConfig, values | change)
    with pytest.raises(GotError, match=r"config\.encoder has an unknown field"):
        from_dict(GotConfig, {"encoder": {"px": 3}})
    with pytest.raises(GotError, match="does not exist"):
        read_config(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(GotError, match="cannot be read as JSON"):
        read_config(tmp_path / "bad.json")


def test_configs_are_frozen_and_hashable():
    config = got_580m()
    assert hash(config) == hash(got_580m())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dtype = "float32"  # type: ignore[misc]


def test_import_starts_no_backend():
    code = (
        "import got_jax, got_jax.config, got_jax.models.got, got_jax.train.loop, got_jax.reader, got_jax.cli\n"
        "import jax._src.xla_bridge as bridge\n"
        "assert not bridge._backends, bridge._backends"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
