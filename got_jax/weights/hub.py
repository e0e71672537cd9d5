"""Models from the Hugging Face hub, through its own client and cache."""

from __future__ import annotations

from pathlib import Path

from got_jax.errors import GotError

HUB_ID = r"[\w.-]+/[\w.-]+"
FILES = ("*.json", "*.safetensors", "*.tiktoken", "*.model", "params/**")  # no pickles, no code


def hub_folder(name: str) -> Path:
    """The local copy of a hub model, downloaded where it is not cached yet (HF_HUB_OFFLINE=1: only what is cached).

    Raises:
        GotError: when the model is neither cached nor to be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as err:  # the client raises its own kinds, the HTTP library's and the system's
        reason = (str(err).strip() or type(err).__name__).splitlines()[0]
        raise GotError(
            f"'{name}' is no folder here, and the hub does not give it ({reason}); check the name, the network and "
            "HF_HUB_OFFLINE."
        ) from None
