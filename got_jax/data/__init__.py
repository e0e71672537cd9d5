"""Examples, the sources that yield them, and the batches made of them."""
