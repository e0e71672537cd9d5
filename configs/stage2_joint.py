"""Stage 2 of GOT: encoder and a new Qwen-0.5B decoder together, on everything that is made of signs (GOT paper 3.3).

got-jax train configs/stage2_joint.py --init_from runs/stage1_encoder,path/to/Qwen1.5-0.5B

Encoder and convolutions go on from stage 1, its small decoder is left out, the linear layer before the decoder is
new. One epoch with stage 1's optimizer, 6000 tokens.
"""

import dataclasses

from configs.stages import HELD_OUT, STAGE_2, steps
from got_jax.config import got_580m
from got_jax.data.mixture import Mixture
from got_jax.sharding import MeshConfig
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from got_jax.train.step import LossConfig


def config() -> TrainConfig:
    return TrainConfig(
        model=dataclasses.replace(got_580m(), remat="blocks"),
        data=DataConfig(Mixture(STAGE_2), HELD_OUT, rows=32, row_tokens=6000, row_pictures=6, workers=8),
        optimizer=OptimizerConfig(lr=1e-4, warmup_steps=200, weight_decay=0.05),
        losses=LossConfig(chunk_tokens=500),
        mesh=MeshConfig(data=1, fsdp=-1),
        init_from="runs/stage1_encoder",
        needs="encoder",
        steps=steps(STAGE_2, epochs=1),
        out="runs/stage2_joint",
        tokenizer="",
        save_every=1000,
        eval_every=5000,
    )
