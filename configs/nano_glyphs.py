"""First lesson of the shipped model: one to four characters on pictures of 96 x 96 pixels.

got-jax train configs/nano_glyphs.py    # then nano_warm.py, then nano_text.py
"""

import dataclasses

from got_jax.config import got_nano
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from pipelines.glyphs import Glyphs


def config() -> TrainConfig:
    model = got_nano()
    return TrainConfig(
        model=dataclasses.replace(model, encoder=dataclasses.replace(model.encoder, image_px=96)),
        data=DataConfig(
            engine=Glyphs(ramp=200_000),
            held_out=Glyphs(split="held_out"),
            pictures=128,
            row_tokens=320,
            rows_multiple=2,
            workers=1,
        ),
        optimizer=OptimizerConfig(
            lr=6e-4,
            final=0.3,
            warmup_steps=200,
            weight_decay=0.05,
            b2=0.98,
            full_lr_inputs=128,
            encoder_delay_steps=50,
        ),
        steps=8_000,
        out="runs/nano_glyphs",
        tokenizer="got_jax/assets/nano",
        save_every=250,
        eval_every=1000,
        eval_examples=256,
    )
