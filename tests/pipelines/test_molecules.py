"""Molecules: always valid, the label canonical and of the very molecule that is drawn."""

from __future__ import annotations

import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image
from rdkit import Chem
from renderers import need

from got_jax import prompts
from got_jax.errors import GotError
from pipelines import molecules
from pipelines.molecules import Molecules


def test_labels_are_canonical_and_of_what_is_drawn(monkeypatch):
    drawn = []
    draw = molecules.draw
    monkeypatch.setattr(molecules, "draw", lambda m, *rest: (drawn.append(Chem.MolToSmiles(m)), draw(m, *rest))[1])
    texts = set()
    for index in range(60):
        example = Molecules(smilesdrawer=0).example(0, index)
        found = re.fullmatch("<smiles>(.+)</smiles>", example.text)
        assert found
        assert found[1] == Chem.MolToSmiles(molecules.parse(found[1])) == drawn[-1]
        assert "." not in found[1], "one molecule, not several"
        assert sum(atom.GetNumRadicalElectrons() for atom in molecules.parse(found[1]).GetAtoms()) == 0
        assert example.prompt == prompts.FORMAT
        texts.add(found[1])
    assert len(texts) > 55
    together = " ".join(texts)
    assert "@" in together
    assert "[N+](=O)[O-]" in together


def test_groups_and_links_are_molecules_with_a_free_place():
    for smiles in (*molecules.RINGS, *molecules.LINKS, *molecules.GROUPS):
        atoms = molecules.parse(smiles).GetAtoms()
        assert any(atom.GetTotalNumHs() > 0 for atom in atoms), smiles


def test_every_style_leaves_ink(monkeypatch):
    styles = set()
    aspirin = molecules.parse("CC(=O)Oc1ccccc1C(=O)O")
    for seed in range(40):
        pixels, style = molecules.draw(aspirin, np.random.default_rng(seed), 300)
        styles.add(style)
        assert pixels.shape[1] == 300
        assert 0.005 < (pixels.min(-1) < 120).mean() < 0.4
    assert styles == {"black", "coloured", "highlighted", "hand"}


def test_a_file_of_smiles_is_read_and_bad_lines_are_named(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("smiles,name\nC1=CC=CC=C1,benzene\nnonsense,x\n\nOCC\tethanol\n" + "C" * 80 + "\n")
    engine = Molecules(smiles=str(path), smilesdrawer=0)
    assert {engine.example(0, index).text for index in range(20)} == {
        "<smiles>c1ccccc1</smiles>",
        "<smiles>CCO</smiles>",
    }
    assert len(engine.rejected) == 2
    assert "line 3: 'nonsense' is no molecule" in engine.rejected[0]
    assert "80 atoms" in engine.rejected[1]
    (tmp_path / "bare.smi").write_text("?\n")
    for name, says in (("bare.smi", "holds no molecule; the first"), ("none.smi", "cannot be read")):
        with pytest.raises(GotError, match=says):
            Molecules(smiles=str(tmp_path / name)).example(0, 0)
    with pytest.raises(GotError, match="rings is .3, 1."):
        Molecules(rings=(3, 1))


def test_pictures_keep_the_size_that_is_asked_for():
    for index in range(10):
        picture = Image.open(
            io.BytesIO(Molecules(picture_px=(250, 250), effects=0, smilesdrawer=0).example(1, index).images[0])
        )
        assert picture.width == 250


def test_mathpix_draws_them_too_and_answers_are_proved():
    need("node")
    engine = Molecules(smilesdrawer=0.6, picture_px=(400, 400), effects=0)
    made = [engine.example(2, index) for index in range(16)]
    assert [molecules.proof(example) for example in made] == [""] * 16
    drawn = [Image.open(io.BytesIO(e.images[0])) for e in made if e.meta["style"] == "mathpix"]
    assert 3 < len(drawn) < 16
    assert all(max(picture.size) in (399, 400, 401) for picture in drawn)
    assert all(0.004 < (np.asarray(picture.convert("L")) < 120).mean() < 0.3 for picture in drawn)
    wrong = dataclasses.replace(made[0], text="<smiles>C1=CC=CC=C1</smiles>")
    assert molecules.proof(wrong) == "the SMILES is not canonical"


def test_every_style_draws_the_same_picture_again():
    """RDKit's comic mode does not."""
    aspirin = molecules.parse("CC(=O)Oc1ccccc1C(=O)O")
    for seed in range(20):
        one, style = molecules.draw(aspirin, np.random.default_rng(seed), 300)
        assert (one == molecules.draw(aspirin, np.random.default_rng(seed), 300)[0]).all(), style


def test_real_molecules_come_with_rdkit():
    engine = Molecules(smiles="nci", smilesdrawer=0.0)
    made = [engine.example(0, index) for index in range(12)]
    assert [molecules.proof(example) for example in made] == [""] * 12
    assert len({example.text for example in made}) == 12
    assert any("it holds a metal" in why for why in engine.rejected)
