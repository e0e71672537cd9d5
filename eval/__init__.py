"""Evaluation: suites run from the command line, `python -m eval SUITE`."""
