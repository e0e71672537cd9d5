"""Stage 1 of GOT: the encoder learns to read plain text, with OPT-125M as its small decoder (GOT paper 3.2).

got-jax train configs/stage1_encoder.py --init_from path/to/sam-vit-base,path/to/opt-125m    # or "": fresh weights

The paper trains 3 epochs of 5M pictures, 128 at a time, with AdamW and a cosine from 1e-4, 4096 tokens. Positions
restart with every sample of a row, so OPT's 2048 bound a sample, not a row.
"""

import dataclasses

from configs.stages import HELD_OUT, STAGE_1, steps
from got_jax.config import got_stage1
from got_jax.data.mixture import Mixture
from got_jax.sharding import MeshConfig
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from got_jax.train.step import LossConfig


def config() -> TrainConfig:
    return TrainConfig(
        model=dataclasses.replace(got_stage1(), remat="blocks"),
        data=DataConfig(Mixture(STAGE_1), HELD_OUT, rows=32, row_tokens=4096, row_pictures=4, workers=8),
        optimizer=OptimizerConfig(lr=1e-4, warmup_steps=200, weight_decay=0.05),
        losses=LossConfig(chunk_tokens=512),
        mesh=MeshConfig(data=1, fsdp=-1),
        steps=steps(STAGE_1, epochs=3),
        out="runs/stage1_encoder",
        tokenizer="",
        save_every=1000,
        eval_every=5000,
    )
