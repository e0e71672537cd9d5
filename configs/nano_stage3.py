"""Stage 3 at the size of a CPU: the encoder rests. `make stages` runs all three."""

from configs.nano_stages import stage
from got_jax.train.config import TrainConfig
from got_jax.train.optimizer import OptimizerConfig
from got_jax.train.step import LossConfig


def config() -> TrainConfig:
    return stage(
        "nano_stage3",
        before="runs/nano_stage2",
        steps=100,
        needs="encoder,connector,decoder",
        losses=LossConfig(freeze="encoder"),
        optimizer=OptimizerConfig(lr=2e-4, warmup_steps=5, final=0.1),
    )
