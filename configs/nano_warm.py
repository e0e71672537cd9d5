"""Second lesson of the shipped model: one to three short lines in pictures of a quarter of the area.

    got-jax train configs/nano_warm.py      # after nano_glyphs.py, before nano_text.py

At 192 x 192 pixels a picture costs a quarter of one of 384 x 384, with letters as large.
"""

import dataclasses

from got_jax.config import got_nano
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from pipelines.documents import Documents


def config() -> TrainConfig:
    model = got_nano()
    words = Documents(
        pages=0.0, max_lines=3, line_chars=(4, 22), least_ems=4.0, most_aspect=2.5, scrambled=0.25, ramp=20_000
    )
    return TrainConfig(
        model=dataclasses.replace(model, encoder=dataclasses.replace(model.encoder, image_px=192)),
        data=DataConfig(
            engine=words,
            held_out=dataclasses.replace(words, split="held_out", scrambled=0.0, ramp=0),
            pictures=48,
            row_tokens=384,
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
        ),
        init_from="runs/nano_glyphs",
        steps=4_000,
        out="runs/nano_warm",
        tokenizer="got_jax/assets/nano",
        save_every=200,
        eval_every=500,
    )
