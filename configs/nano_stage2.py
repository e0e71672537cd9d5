"""Stage 2 at the size of a CPU: stage 1's encoder with a new Qwen2 decoder. `make stages` runs all three."""

from configs.nano_stages import stage
from got_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return stage("nano_stage2", before="runs/nano_stage1", steps=300, needs="encoder")
