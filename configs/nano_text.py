"""Last lesson of the shipped model: slices of up to 8 lines of English print.

    got-jax train configs/nano_letters.py                     # first, then nano_words.py; `make train` runs all
    got-jax train configs/nano_text.py                        # (re)start
    got-jax train configs/nano_text.py --init_from got_jax/assets/nano --out runs/more   # from the shipped weights

python -m eval.trainstep configs/nano_text.py tells how fast it goes.
"""

from got_jax.config import got_nano
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from got_jax.train.step import LossConfig
from pipelines.documents import Documents


def config() -> TrainConfig:
    return TrainConfig(
        model=got_nano(),
        data=DataConfig(
            engine=Documents(pages=0.0, scrambled=0.4),
            held_out=Documents(split="held_out", pages=0.0, scrambled=0.0),
            rows=2,
            row_tokens=1024,  # four slices of 240 tokens on average, 100 of them the picture's
            row_pictures=4,
            workers=1,
            slips=0.015,  # 6% of what the decoder is given is wrong, so that it learns to find its place again
        ),
        losses=LossConfig(text=1.0, patches=0.25, cells=0.25, places=0.25),
        optimizer=OptimizerConfig(lr=5e-4, muon_lr=0.01, final=0.05, warmup_steps=50, b2=0.98),
        init_from="runs/nano_words",
        precision="bfloat16",
        steps=8_000,
        out="runs/nano_text",
        tokenizer="got_jax/assets/nano",
        save_every=200,
        eval_every=1000,
    )
