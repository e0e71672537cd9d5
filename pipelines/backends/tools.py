"""The renderers that engines need: which version is here, and what to do when one is missing."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import subprocess

from got_jax.errors import require
from pipelines.backends import latex, node, office

PACKAGES = ("verovio", "music21", "matplotlib")
NAMES = ("node", "latex", "office", *PACKAGES)


def missing(name: str) -> str:
    """What this machine lacks for a tool, as a sentence with the command that installs it; nothing if it is here."""
    if name in PACKAGES:
        here = importlib.util.find_spec(name) is not None
        return "" if here else f"{name} is missing; install it with `pip install 'got-jax[pipelines]'`."
    return {"node": node.missing, "latex": latex.missing, "office": office.missing}[name]()


@functools.lru_cache(maxsize=16)
def version(name: str) -> str:
    """A tool's version. Raises GotError when it is missing."""
    lacking = missing(name)
    require(not lacking, lacking)
    if name in PACKAGES:
        return importlib.metadata.version(name)
    if name == "node":  # the packages draw, whatever Node runs them
        return hashlib.sha256((node.FOLDER / "package-lock.json").read_bytes()).hexdigest()
    command = ["pdflatex", "--version"] if name == "latex" else [office.program(), "--version"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.splitlines()[0].strip()
