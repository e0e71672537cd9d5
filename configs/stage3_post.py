"""Stage 3 of GOT: the decoder learns regions, huge pictures and many pages; the encoder rests (GOT paper 3.4).

got-jax train configs/stage3_post.py                                              # goes on from runs/stage2_joint
got-jax train configs/stage3_post.py --init_from stepfun-ai/GOT-OCR-2.0-hf        # or from the released weights

One epoch from 2e-5 with a warm-up of 0.1% and no decay, 8192 tokens (the released script's settings).
"""

import dataclasses

from configs.stages import HELD_OUT, STAGE_3, steps
from got_jax.config import got_580m
from got_jax.data.mixture import Mixture
from got_jax.sharding import MeshConfig
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from got_jax.train.step import LossConfig


def config() -> TrainConfig:
    total = steps(STAGE_3, epochs=1)
    return TrainConfig(
        model=dataclasses.replace(got_580m(), remat="blocks"),
        data=DataConfig(Mixture(STAGE_3), HELD_OUT, rows=32, row_tokens=8192, row_pictures=13, workers=8),
        optimizer=OptimizerConfig(lr=2e-5, warmup_steps=max(1, total // 1000), weight_decay=0.0),
        losses=LossConfig(chunk_tokens=512, freeze="encoder"),
        mesh=MeshConfig(data=1, fsdp=-1),
        init_from="runs/stage2_joint",
        needs="encoder,connector,decoder",
        steps=total,
        out="runs/stage3_post",
        tokenizer="",
        save_every=1000,
        eval_every=5000,
    )
