"""The parts of GOT as Flax linen modules: `vitdet` (encoder), `got` (connector and the whole), `qwen2` (decoder)."""
