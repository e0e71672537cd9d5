"""Stage 1 at the size of a CPU: the encoder with a small OPT decoder. `make stages` runs all three."""

from configs.nano_stages import stage
from got_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return stage("nano_stage1", before="", steps=300, opt=True)
