"""The shipped model: reads slices of up to 8 lines of English print.

    got-jax train configs/nano_text.py                        # (re)start
    got-jax train configs/nano_text.py --steps 20000          # longer; resumes from the last checkpoint

On 2 CPU cores about 17 pictures a second (docs/nano.md).
"""

from got_jax.config import got_nano
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from pipelines.documents import Documents


def config() -> TrainConfig:
    slices = Documents(pages=0.0, ramp=20_000)
    return TrainConfig(
        model=got_nano(),
        data=DataConfig(
            engine=slices,
            held_out=Documents(split="held_out", pages=0.0, scrambled=0.0),
            pictures=16,
            row_tokens=576,
            rows_multiple=2,
            workers=1,
        ),
        optimizer=OptimizerConfig(
            lr=1e-3, final=0.05, warmup_steps=400, weight_decay=0.05, b2=0.98, full_lr_inputs=128
        ),
        steps=6_000,
        out="runs/nano_text",
        tokenizer="got_jax/assets/nano",
        save_every=250,
        eval_every=1000,
    )
