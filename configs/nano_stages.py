"""The three stages at the size of a CPU: the same model's parts, the same hand-over, in minutes (`make stages`)."""

import dataclasses

from got_jax.config import got_nano
from got_jax.train.config import DataConfig, TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from got_jax.train.step import LossConfig
from pipelines.documents import Documents

WORDS = Documents(pages=0.0, max_lines=2, line_chars=(4, 16), least_ems=6.0, effects=0.3)
HELD_OUT = dataclasses.replace(WORDS, split="held_out", scrambled=0.0)


def stage(name: str, before: str, steps: int, opt: bool = False, **changes) -> TrainConfig:
    model = got_nano()
    decoder = model.decoder
    if opt:
        decoder = dataclasses.replace(decoder, kind="opt", width=128, depth=2, mlp_width=512, context_tokens=256)
    return dataclasses.replace(
        TrainConfig(
            model=dataclasses.replace(model, encoder=dataclasses.replace(model.encoder, image_px=192), decoder=decoder),
            data=DataConfig(WORDS, HELD_OUT, rows=2, row_tokens=320, row_pictures=4, workers=1),
            losses=LossConfig(text=1.0, patches=0.5, cells=0.5),
            optimizer=OptimizerConfig(lr=1e-3, muon_lr=0.02, final=0.1, warmup_steps=20, b2=0.98),
            init_from=before,
            steps=steps,
            out=f"runs/{name}",
            tokenizer="got_jax/assets/nano",
            save_every=100,
            eval_every=1000,
            eval_examples=16,
        ),
        **changes,
    )
