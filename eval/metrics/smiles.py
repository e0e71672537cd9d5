"""Whether a molecule was read: the same SMILES after RDKit's canonical form, and how alike the two are."""

from __future__ import annotations

import re
from typing import Any

from got_jax.errors import GotError

RADIUS, BITS = 2, 2048  # Morgan fingerprints as ECFP4


def inside(text: str) -> str:
    """What stands between <smiles> marks, or the text itself."""
    found = re.search(r"<smiles>(.*?)(?:</smiles>|$)", text, re.DOTALL)
    return (found[1] if found else text).strip()


def score(label: str, answer: str) -> dict[str, float]:
    """Of one molecule: `valid` (RDKit can read the answer), `exact` (the same molecule), `tanimoto` (likeness, 0..1).

    Raises:
        GotError: when RDKit is not installed, or the label is no molecule.
    """
    try:
        from rdkit import Chem, DataStructs, RDLogger
        from rdkit.Chem import rdFingerprintGenerator
    except ImportError:
        raise GotError("molecules are compared by RDKit; run pip install 'got-jax[pipelines]'.") from None
    with_quiet: Any = RDLogger
    with_quiet.DisableLog("rdApp.*")
    truth, found = Chem.MolFromSmiles(inside(label)), Chem.MolFromSmiles(inside(answer))
    if truth is None:
        raise GotError(f"the label '{label[:60]}' is no molecule; correct it.")
    if found is None or not inside(answer):
        return {"valid": 0.0, "exact": 0.0, "tanimoto": 0.0}
    maker = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    likeness = DataStructs.TanimotoSimilarity(maker.GetFingerprint(truth), maker.GetFingerprint(found))
    same = Chem.MolToSmiles(truth) == Chem.MolToSmiles(found)
    return {"valid": 1.0, "exact": float(same), "tanimoto": float(likeness)}
