"""First lesson of the shipped model: the encoder alone learns letters, on small pictures, from where they stand.

got-jax train configs/nano_letters.py    # then nano_words.py, then nano_text.py; `make train` runs all
"""

import dataclasses

from got_jax.config import got_nano
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from got_jax.train.step import LossConfig
from pipelines.documents import Documents


def config() -> TrainConfig:
    model = got_nano()
    # A quarter of nano_text's slices: letters are as large, and a step takes a quarter of the time.
    slices = Documents(pages=0.0, max_lines=5, line_chars=(4, 24), least_ems=6.0, scrambled=0.5, effects=0.4)
    return TrainConfig(
        model=dataclasses.replace(model, encoder=dataclasses.replace(model.encoder, image_px=192)),
        data=DataConfig(
            engine=slices,
            held_out=dataclasses.replace(slices, split="held_out", scrambled=0.0, effects=1.0),
            rows=2,
            row_tokens=384,
            row_pictures=4,
            workers=1,
        ),
        losses=LossConfig(text=0.0, patches=1.0, cells=1.0, cells_from=1200),
        optimizer=OptimizerConfig(lr=1e-3, muon_lr=0.02, final=0.3, warmup_steps=50, b2=0.98),
        steps=5_000,
        out="runs/nano_letters",
        tokenizer="got_jax/assets/nano",
        save_every=500,
        eval_every=5_000,
        eval_examples=0,
    )
