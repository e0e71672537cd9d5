"""Training: losses, optimizer, state, step, loop."""
