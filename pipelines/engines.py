"""The engines by name, as `python -m pipelines` and configs of training find them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from got_jax.config import override
from got_jax.data.example import Engine, Example
from got_jax.errors import require
from pipelines import charts, formatted, formulas, geometry, molecules, music, papers, regions, stitched, tables
from pipelines.charts import Charts
from pipelines.documents import Documents
from pipelines.formatted import FormattedPages
from pipelines.formulas import Formulas
from pipelines.geometry import Geometry
from pipelines.grounding import Layouts, Locate
from pipelines.hands import Hands
from pipelines.molecules import Molecules
from pipelines.music import Music
from pipelines.papers import Papers
from pipelines.pdfs import Pdfs
from pipelines.prose import HALF
from pipelines.regions import Regions
from pipelines.scenes import Scenes
from pipelines.stitched import ManyPages, Tiles
from pipelines.tables import Tables


@dataclass(frozen=True)
class Entry:
    """An engine's default settings and what it makes, in a line."""

    engine: Any
    about: str
    proof: Callable[[Example], str] | None = None  # what is wrong with an example; nothing if its answer is proved


def entries() -> dict[str, Entry]:
    """Every engine, in the order of the paper."""
    pages = Documents(pages=1.0, paragraphs=0.0, lines=0.0, languages=HALF)
    slices = dataclasses.replace(pages, pages=0.0, paragraphs=0.5, lines=0.5)
    return {
        "pages": Entry(pages, "whole typeset pages in many layouts, English and Chinese"),
        "slices": Entry(slices, "paragraphs and lines of print"),
        "pdfs": Entry(Pdfs(), "pages of your PDF files, and paragraphs and lines of them (needs --set folder=DIR)"),
        "scenes": Entry(Scenes(), "words and lines on photographs, whole pictures and slices"),
        "hands": Entry(Hands(), "6 to 8 lines of handwriting on a page"),
        "formulas": Entry(Formulas(), "formulas, by themselves and in prose", formulas.proof),
        "molecules": Entry(Molecules(), "structural formulas and their SMILES", molecules.proof),
        "tables": Entry(Tables(), "tables by LaTeX and HTML", tables.proof),
        "formatted": Entry(FormattedPages(), "pages of papers and reports in markdown", formatted.proof),
        "papers": Entry(
            Papers(), "pages of LaTeX sources with PDF and of Word files (needs --set folder=DIR)", papers.proof
        ),
        "music": Entry(Music(), "systems of sheet music in **kern", music.proof),
        "geometry": Entry(Geometry(), "plane and solid geometry in TikZ", geometry.proof),
        "charts": Entry(Charts(), "charts and what they plot", charts.proof),
        "regions": Entry(Regions(), "parts of pages and photographs, by box or coloured frame", regions.proof),
        "layout": Entry(Layouts(), "blocks of pages by label and box, their text as markdown"),
        "locate": Entry(Locate(), "where a text stands"),
        "tiles": Entry(Tiles(), "huge pictures: pages joined, posters; tiles and a thumbnail", stitched.proof),
        "manypages": Entry(ManyPages(), "two to eight formatted pages, one after another"),
    }


def make(name: str, settings: dict[str, str] | None = None) -> Engine:
    """An engine with some of its fields set from text.

    Raises:
        GotError: for an unknown name or field, or a value that does not fit.
    """
    found = entries()
    require(name in found, f"engine '{name}' is unknown; choose one of {', '.join(found)}.")
    return override(found[name].engine, settings or {})


def remake(name: str, described: dict[str, Any]) -> Engine:
    """The engine that a build describes (`build.describe`)."""
    engine = make(name)
    require(
        type(engine).__name__ == described.get("class"),
        f"engine '{name}' is a {type(engine).__name__} now, but the build was made by a {described.get('class')}.",
    )
    known = {field.name for field in dataclasses.fields(engine)}  # type: ignore[arg-type]
    values = {key: _tuples(value) for key, value in described.items() if key != "class"}
    require(set(values) <= known, f"engine '{name}' has no field {', '.join(sorted(set(values) - known))} any more.")
    return dataclasses.replace(engine, **values)  # type: ignore[type-var]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
