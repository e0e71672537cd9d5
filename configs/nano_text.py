"""The shipped model: reads slices of up to 8 lines of English print.

    got-jax train configs/nano_warm.py                        # first: short lines on small pictures
    got-jax train configs/nano_text.py                        # (re)start; `make train` runs both
    got-jax train configs/nano_text.py --init_from got_jax/assets/nano   # from the shipped weights

About 12 pictures a second on 2 CPU cores (python -m eval.trainstep configs/nano_text.py).
"""

from got_jax.config import got_nano
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from pipelines.documents import Documents


def config() -> TrainConfig:
    slices = Documents(pages=0.0, ramp=10_000)
    return TrainConfig(
        model=got_nano(),
        data=DataConfig(
            engine=slices,
            held_out=Documents(split="held_out", pages=0.0, scrambled=0.0),
            pictures=16,
            row_tokens=640,  # the longest slices: 8 lines of 60 narrow characters, and 64 tokens of the picture
            rows_multiple=2,
            workers=1,
        ),
        optimizer=OptimizerConfig(lr=5e-4, final=0.05, warmup_steps=50, weight_decay=0.05, b2=0.98, full_lr_inputs=128),
        init_from="runs/nano_warm",
        steps=12_000,
        out="runs/nano_text",
        tokenizer="got_jax/assets/nano",
        save_every=200,
        eval_every=1000,
    )
