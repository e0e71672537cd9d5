"""Data engines: pure functions (seed, index) -> Example, with the corpora and fonts they draw from."""
