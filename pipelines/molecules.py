"""The molecules engine: structural formulas drawn by RDKit and mathpix-markdown-it, with their canonical SMILES.

Source: GOT paper 3.3.2 (ChEMBL's SMILES drawn by RDKit and mathpix-markdown-it). Molecules
come from a file of SMILES, or are put together from common rings, chains and groups, every one checked by RDKit.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import GotError, require
from pipelines import fonts
from pipelines.backends import svg
from pipelines.backends.node import node
from pipelines.documents import draw_font
from pipelines.paper import TINTS, scanned, to_png, uncoloured, wobbled

RINGS = (
    "c1ccccc1 c1ccncc1 c1ccoc1 c1ccsc1 c1cc[nH]c1 c1cnc[nH]1 c1ccc2ccccc2c1 c1ccc2[nH]ccc2c1 c1ccc2ncccc2c1 C1CCCCC1 "
    "C1CCNCC1 C1CCOCC1 C1COCCN1 C1CNCCN1 C1CCCC1 C1CCNC1 C1CCC1 C1CC1 c1cncnc1 c1cc2ccccc2o1 c1nc2ccccc2s1 C1=CCCCC1 "
    "O=C1CCCN1 O=c1cc[nH]cc1 c1nnc[nH]1 c1cnoc1 C1CC2CCC1C2 c1ccc2OCOc2c1 O=C1NC(=O)c2ccccc12 C1CCC2CCCCC2C1"
).split()
LINKS = "C CC CCC C=C C#C O N S C(=O) C(=O)N C(=O)O S(=O)(=O)N CO CN NC(=O)N N=N CCO C(C)C CC(C)C".split()
GROUPS = (
    "C CC C(C)C C(C)(C)C O OC N N(C)C F Cl Br I C#N C(=O)O C(=O)OC C(=O)N C=O [NH+](=O)[O-] C(F)(F)F S SC S(C)(=O)=O "
    "OC(C)=O NC(C)=O C=C C#C OP(=O)(O)O B(O)O N=[N+]=[N-] [SiH](C)(C)C CCO CCN OCC P(C)C [OH-] [NH4+]"
).split()


@dataclass(frozen=True)
class Molecules:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        smiles: a file with a SMILES at the beginning of each line (.smi, .txt, .csv); "nci": 4,697 real ones of the
            National Cancer Institute's open set, which comes with RDKit; nothing: generated ones.
        rings: the least and most rings and chains that a generated molecule is put together from.
        stereo: share of generated molecules with stereo centres set.
        most_atoms: larger molecules are left out.
        picture_px: the least and most of a picture's longer side.
        effects: share of pictures that look scanned.
        smilesdrawer: share of pictures that mathpix-markdown-it draws (by SmilesDrawer), the others RDKit does.
        split: "train" or "held_out", of the fonts of these.
    """

    smiles: str = ""
    rings: tuple[int, int] = (1, 4)
    stereo: float = 0.3
    most_atoms: int = 60
    picture_px: tuple[int, int] = (220, 640)
    effects: float = 0.4
    smilesdrawer: float = 0.3
    split: str = "train"

    tools: ClassVar[tuple[str, ...]] = ("node",)

    def __post_init__(self) -> None:
        for name, (low, high) in (("rings", self.rings), ("picture_px", self.picture_px)):
            require(1 <= low <= high, f"molecules: {name} is {low, high}; it must be two ascending numbers from 1 on.")
        require(self.most_atoms >= 1, f"molecules: most_atoms is {self.most_atoms}; it must be at least 1.")

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why lines of the file are left out."""
        return _file(self.smiles, self.most_atoms)[1] if self.smiles else ()

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        rng = np.random.default_rng([zlib.crc32(b"molecules"), seed, index])
        molecule: Any
        if self.smiles:
            found = _file(self.smiles, self.most_atoms)[0]
            molecule = parse(found[rng.integers(len(found))])
        else:
            molecule = generate(rng, self.rings, self.most_atoms)
            if rng.random() < self.stereo:
                set_stereo(molecule, rng)
        from rdkit import Chem

        text = Chem.MolToSmiles(molecule)
        longest = int(rng.integers(self.picture_px[0], self.picture_px[1] + 1))
        if rng.random() < self.smilesdrawer and 3 <= molecule.GetNumAtoms() <= 40:
            pixels, style = draw_mathpix(text, rng, longest, self.split), "mathpix"
        else:
            pixels, style = draw(parse(text), rng, longest, self.split)
        meta: dict[str, Any] = {"engine": "molecules", "atoms": molecule.GetNumAtoms(), "style": style, "lines": 1}
        if rng.random() < self.effects:
            pixels, meta["effects"] = scanned(pixels, rng)
        else:
            pixels = uncoloured(pixels)
        return Example((to_png(pixels),), prompts.FORMAT, f"<smiles>{text}</smiles>", meta)


def parse(smiles: str) -> Any:
    """A molecule as RDKit has it. Raises GotError for what is no molecule."""
    from rdkit import Chem, rdBase

    rdBase.DisableLog("rdApp.*")
    molecule = Chem.MolFromSmiles(smiles)
    require(molecule is not None and molecule.GetNumAtoms() > 0, f"'{smiles}' is no molecule in SMILES.")
    return molecule


@functools.lru_cache(maxsize=1024)
def _fragment(smiles: str) -> Any:
    return parse(smiles)


METAL = "[!#1;!#5;!#6;!#7;!#8;!#9;!#14;!#15;!#16;!#17;!#34;!#35;!#53]"


@functools.lru_cache(maxsize=4)
def _file(path: str, most_atoms: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The canonical SMILES of a file, and why its other lines are left out."""
    from rdkit import Chem, RDConfig

    metal = None
    if path == "nci":  # complexes of metals and mixtures lie on top of each other when they are drawn
        path = str(Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi")
        metal = Chem.MolFromSmarts(METAL)
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as err:
        raise GotError(f"SMILES file {path} cannot be read ({err.strerror}); check the path.") from None
    good, bad = [], []
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").replace("\t", " ").split()
        if not words or (number == 1 and words[0].lower() in ("smiles", "canonical_smiles")):
            continue
        try:
            molecule = parse(words[0])
            atoms = molecule.GetNumAtoms()
            require(atoms <= most_atoms, f"it has {atoms} atoms, over the limit of {most_atoms}.")
            require(not (metal and molecule.HasSubstructMatch(metal)), "it holds a metal.")
            require(not (metal and "." in words[0]), "it is a mixture.")
            good.append(Chem.MolToSmiles(molecule))
        except GotError as err:
            bad.append(f"{path} line {number}: {err}")
    if not good:
        raise GotError(f"SMILES file {path} holds no molecule" + (f"; the first: {bad[0]}" if bad else "; add some."))
    return tuple(good), tuple(bad)


def generate(rng: np.random.Generator, rings: tuple[int, int], most_atoms: int) -> Any:
    """A valid molecule: rings and chains joined to a tree, groups on its free places."""
    from rdkit import Chem

    while True:
        molecule = _fragment(RINGS[rng.integers(len(RINGS))])
        count = int(rng.integers(rings[0], rings[1] + 1))
        for _ in range(count - 1):
            if rng.random() < 0.6:
                molecule = _joined(molecule, _fragment(LINKS[rng.integers(len(LINKS))]), rng)
            molecule = _joined(molecule, _fragment(RINGS[rng.integers(len(RINGS))]), rng)
        for _ in range(int(rng.integers(3, 6) if count == 1 else rng.integers(0 if count > 2 else 1, 5))):
            molecule = _joined(molecule, _fragment(GROUPS[rng.integers(len(GROUPS))]), rng)
        made = Chem.MolFromSmiles(Chem.MolToSmiles(molecule))
        if made is not None and made.GetNumAtoms() <= most_atoms:
            return made


@functools.cache
def _free() -> Any:
    """A pattern of atoms that have hydrogens to give."""
    from rdkit import Chem

    return Chem.MolFromSmarts("[!H0]")


def _joined(one: Any, other: Any, rng: np.random.Generator) -> Any:
    """Both with a single bond between free places; the first alone if there is none or the result is no molecule."""
    from rdkit import Chem

    mine, theirs = ([index for (index,) in molecule.GetSubstructMatches(_free())] for molecule in (one, other))
    if not mine or not theirs:
        return one
    # Groups and links are spelt from the atom that binds.
    first = theirs[0] if other.GetRingInfo().NumRings() == 0 else int(rng.choice(theirs))
    at = int(rng.choice(mine))
    if one.GetAtomWithIdx(at).GetSymbol() == other.GetAtomWithIdx(first).GetSymbol() == "O":
        return one  # peroxides are rare
    both = Chem.RWMol(Chem.CombineMols(one, other))
    both.AddBond(at, one.GetNumAtoms() + first, Chem.BondType.SINGLE)
    for index in (at, one.GetNumAtoms() + first):
        atom = both.GetAtomWithIdx(index)
        if atom.GetNumExplicitHs():
            atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
    made = both.GetMol()
    return made if Chem.SanitizeMol(made, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE else one


def set_stereo(molecule: Any, rng: np.random.Generator) -> None:
    """Chooses a hand for most of a molecule's stereo centres, in place."""
    from rdkit import Chem

    tags = (Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW)
    for index, _ in Chem.FindMolChiralCenters(molecule, includeUnassigned=True, useLegacyImplementation=False):
        if rng.random() < 0.8:
            molecule.GetAtomWithIdx(index).SetChiralTag(tags[rng.integers(2)])
    Chem.AssignStereochemistry(molecule, cleanIt=True, force=True)


def draw(
    molecule: Any, rng: np.random.Generator, longest_px: int, split: str = "train"
) -> tuple[UInt8[np.ndarray, "H W 3"], str]:
    """A picture of a molecule and the name of its style: "black", "coloured", "highlighted" or "hand" drawn.

    RDKit lays it out; the SVG that it writes is painted with the engines' fonts, which takes half the time of its PNG.
    """
    from rdkit.Chem.Draw import rdMolDraw2D

    style = str(rng.choice(["black", "coloured", "highlighted", "hand"], p=[0.4, 0.3, 0.15, 0.15]))
    width, height = longest_px, max(90, int(longest_px * rng.uniform(0.55, 1.0)))
    drawer = rdMolDraw2D.MolDraw2DSVG(width, height, -1, -1, True)  # letters as text, not as outlines
    options = drawer.drawOptions()
    options.rotate = float(rng.choice([0.0, 90.0, 180.0, 270.0, rng.uniform(0, 360)]))
    options.bondLineWidth = float(rng.uniform(1.0, 3.5))
    options.padding = float(rng.uniform(0.03, 0.12))
    options.additionalAtomLabelPadding = float(rng.uniform(0.0, 0.15))
    options.multipleBondOffset = float(rng.uniform(0.11, 0.2))
    options.explicitMethyl = bool(rng.random() < 0.2)
    options.addStereoAnnotation = bool(rng.random() < 0.1)
    options.minFontSize = 6
    if style != "coloured":
        options.useBWAtomPalette()
    elif rng.random() < 0.4:
        options.useCDKAtomPalette()
    if rng.random() < 0.2:
        options.setBackgroundColour(tuple(float(v) / 255 for v in TINTS[rng.integers(len(TINTS))]))
    highlighted: list[int] = []
    if style == "highlighted":
        count = int(rng.integers(1, max(2, molecule.GetNumAtoms() // 3)))
        highlighted = [int(i) for i in rng.choice(molecule.GetNumAtoms(), min(count, molecule.GetNumAtoms()), False)]
        options.setHighlightColour(tuple(float(v) for v in rng.uniform(0.5, 1.0, 3)))
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, molecule, highlightAtoms=highlighted)
    drawer.FinishDrawing()
    letters = [draw_font(rng, split, "en", ("sans", "serif"), "normal")]
    if style == "hand":
        hands = fonts.choose(split, "hand", "normal", "en")
        letters.insert(0, fonts.typeface(hands[rng.integers(len(hands))]))
    pixels = svg.paint(svg.parse(drawer.GetDrawingText()), 1.0, letters)
    if style == "hand":
        pixels = wobbled(pixels, 2.0, 40, rng)  # RDKit's own comic mode draws another picture at every call
    return pixels, style


def draw_mathpix(
    smiles: str, rng: np.random.Generator, longest_px: int, split: str = "train"
) -> UInt8[np.ndarray, "H W 3"]:
    """A picture by mathpix-markdown-it. Raises GotError when SmilesDrawer refuses the molecule."""
    drawing = svg.parse(node().call("molecule", smiles=smiles))
    font = draw_font(rng, split, "en", ("sans",), "normal")
    paper = tuple(v / 255 for v in TINTS[rng.integers(len(TINTS))]) if rng.random() < 0.1 else (1.0, 1.0, 1.0)
    margin = float(rng.uniform(4, 24))
    scale = max(0.5, (longest_px - 2 * margin) / max(drawing.width, drawing.height))
    return svg.paint(drawing, scale, [font], paper, margin)  # type: ignore[arg-type]


def proof(example: Example) -> str:
    """What is wrong with an example: its SMILES must be canonical, and the drawn structure must have the same InChI.

    The structure is laid out, written as a mol block with its wedges, read back, and its InChI taken.
    """
    from rdkit import Chem
    from rdkit.Chem import AllChem, inchi

    smiles = example.text.removeprefix("<smiles>").removesuffix("</smiles>")
    try:
        molecule = parse(smiles)
    except GotError as err:
        return str(err)
    if Chem.MolToSmiles(molecule) != smiles:
        return "the SMILES is not canonical"
    key = inchi.MolToInchi(molecule)
    AllChem.Compute2DCoords(molecule)  # type: ignore[attr-defined]
    drawn = Chem.MolFromMolBlock(Chem.MolToMolBlock(molecule))
    return "" if drawn is not None and inchi.MolToInchi(drawn) == key else "the drawn structure has another InChI"
