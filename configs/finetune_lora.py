"""Fine-tunes a GOT model on your own data with low-rank adapters; the README has the walk-through.

got-jax train configs/finetune_lora.py --init_from stepfun-ai/GOT-OCR-2.0-hf --data.engine.path my_data.jsonl
"""

import dataclasses

from got_jax.config import got_580m
from got_jax.data.records import Records
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.lora import LoraConfig
from got_jax.train.optimizer import OptimizerConfig
from got_jax.train.step import LossConfig


def config() -> TrainConfig:
    mine = Records("my_data.jsonl")  # {"image": "page.png", "prompt": "OCR: ", "text": "..."} a line
    return TrainConfig(
        model=dataclasses.replace(got_580m(), remat="blocks"),
        data=DataConfig(
            engine=mine,  # against forgetting, mix a fifth of other data in: Mixture(((mine, 4.0), (other, 1.0)))
            held_out=mine,
            rows=4,
            row_tokens=4096,
            row_pictures=4,
            workers=4,
        ),
        lora=LoraConfig(rank=8, alpha=16),
        losses=LossConfig(freeze="encoder"),
        optimizer=OptimizerConfig(lr=1e-4, warmup_steps=20),
        init_from="stepfun-ai/GOT-OCR-2.0-hf",
        needs="encoder,connector,decoder",
        steps=1000,
        out="runs/finetune_lora",
        tokenizer="",
        save_every=100,
        eval_every=200,
        eval_examples=16,
    )
