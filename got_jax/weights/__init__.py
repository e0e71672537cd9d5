"""Weights on disk: got-jax model folders (orbax)."""
