"""What the three stages of GOT share: their engines and how much of each (GOT paper section 3, tables of data).

A new engine is one line here.
"""

import dataclasses

from pipelines.charts import Charts
from pipelines.documents import Documents
from pipelines.formatted import FormattedPages
from pipelines.formulas import Formulas
from pipelines.geometry import Geometry
from pipelines.grounding import Layouts, Locate
from pipelines.hands import Hands
from pipelines.molecules import Molecules
from pipelines.music import Music
from pipelines.prose import HALF
from pipelines.regions import Regions
from pipelines.scenes import Scenes
from pipelines.stitched import ManyPages, Tiles
from pipelines.tables import Tables

PAGES = Documents(pages=1.0, paragraphs=0.0, lines=0.0, languages=HALF)
SLICES = Documents(pages=0.0, paragraphs=0.5, lines=0.5, languages=HALF)
SCENES = Scenes(slices=0.0)
SCENE_SLICES = Scenes(slices=1.0)
HELD_OUT = dataclasses.replace(PAGES, split="held_out", pages=0.2, paragraphs=0.4, lines=0.4, scrambled=0.0)

# (engine, millions of pictures). Stage 1 of the paper: plain text of documents and scenes, pages and slices.
STAGE_1 = ((SCENES, 2.0), (SCENE_SLICES, 1.0), (PAGES, 1.2), (SLICES, 0.8))
# Everything that is formatted, in the paper's numbers. These draw with Node, LaTeX and Verovio (`make renderers`).
FORMATTED = (
    (Formulas(), 1.0),
    (Molecules(), 0.9),
    (Molecules(smiles="nci"), 0.1),
    (Tables(), 0.3),
    (FormattedPages(), 1.2),
    (Music(), 0.5),
    (Geometry(), 1.0),
    (Charts(renderers=(("matplotlib", 1.0),)), 1.0),
    (Charts(renderers=(("echarts", 1.0),)), 1.0),
)
# 80% of stage 1, handwriting (the paper gives no number), and everything formatted.
STAGE_2 = (*((engine, 0.8 * size) for engine, size in STAGE_1), (Hands(), 0.3), *FORMATTED)
# 80% of the stages before; regions, huge pictures and many pages in the paper's numbers; layout and places are ours.
STAGE_3 = (
    *((engine, 0.8 * size) for engine, size in STAGE_2),
    (Regions(), 0.6),
    (Tiles(), 0.5),
    (ManyPages(), 0.2),
    (Layouts(), 0.4),
    (Locate(), 0.1),
)


def steps(parts: tuple, epochs: int, batch: int = 128) -> int:
    """Updates of so many epochs over the parts' millions of pictures."""
    return round(epochs * sum(size for _, size in parts) * 1e6 / batch)
