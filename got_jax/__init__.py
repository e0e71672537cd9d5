"""got-jax: GOT-OCR2.0 in JAX. `load` a model and `read` a picture."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from got_jax.errors import GotError
    from got_jax.reader import Reader, Reading, load

__all__ = ["GotError", "Reader", "Reading", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # lazy: importing got_jax must cost nothing and touch no device
    if name == "GotError":
        from got_jax.errors import GotError

        return GotError
    if name in __all__:
        from got_jax import reader

        return getattr(reader, name)
    raise AttributeError(f"module 'got_jax' has no attribute '{name}'")
