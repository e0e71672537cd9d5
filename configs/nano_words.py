"""Second lesson of the shipped model: encoder and decoder together, on small pictures.

got-jax train configs/nano_words.py    # after nano_letters.py, before nano_text.py
"""

import dataclasses

from got_jax.config import got_nano
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from got_jax.train.step import LossConfig
from pipelines.documents import Documents


def config() -> TrainConfig:
    model = got_nano()
    slices = Documents(pages=0.0, max_lines=4, line_chars=(4, 24), least_ems=6.0, scrambled=0.4, effects=0.7)
    return TrainConfig(
        model=dataclasses.replace(model, encoder=dataclasses.replace(model.encoder, image_px=192)),
        data=DataConfig(
            engine=slices,
            held_out=dataclasses.replace(slices, split="held_out", scrambled=0.0, effects=1.0),
            rows=4,
            row_tokens=320,
            row_pictures=4,
            workers=1,
        ),
        losses=LossConfig(text=1.0, patches=0.5, cells=0.5),
        optimizer=OptimizerConfig(lr=1e-3, muon_lr=0.02, final=0.3, warmup_steps=50, b2=0.98),
        init_from="runs/nano_letters",
        steps=2_500,
        out="runs/nano_words",
        tokenizer="got_jax/assets/nano",
        save_every=250,
        eval_every=500,
        eval_examples=0,
    )
