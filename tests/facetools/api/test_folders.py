"""Folders of photos as ``import facetools`` offers them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

import facetools
from _toolio.errors import InputError, UsageError
from conftest import saved

CPU = {"device": "cpu"}


def test_perturb_writes_what_it_says_and_resumes(plain_photos: Path, tmp_path: Path) -> None:
    (plain_photos / "notes.txt").write_text("no photo")
    out = tmp_path / "out"
    first, second = facetools.perturb(plain_photos, out, attack="none", **CPU)
    assert (first["relative"], first["moved"]) == ("0.png", 0)
    assert (out / "0.png").is_file()
    assert (second["moved"], second["face"]) == (None, None)
    refused, _ = facetools.perturb(plain_photos, out, attack="none", **CPU)
    assert "force" in refused["error"]["message"]
    again = facetools.perturb([plain_photos / "0.png"], out, attack="none", resume=True, **CPU)
    assert [record["path"] for record in again] == [first["path"]]
    with pytest.raises(UsageError, match="nothing"):
        facetools.perturb(plain_photos, out, attack="nothing")
    with pytest.raises(TypeError, match="knob"):
        facetools.perturb(plain_photos, out, attack="none", knob=3)


def test_evaluate_returns_each_person_and_all(people_folder: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    shutil.copytree(people_folder, copies)
    for photo in copies.rglob("*.jpg"):
        photo.write_bytes(saved(Image.open(photo), "JPEG", quality=60))
    *each, everybody = facetools.evaluate(people_folder, copies, classifier="nn")
    assert sorted(result.person or "" for result in each) == sorted(path.name for path in people_folder.iterdir())
    assert (everybody.person, everybody.fields["people"]) == (None, len(each))
    mean = sum(result.fields["protection"] for result in each) / len(each)
    assert everybody.fields["protection"] == pytest.approx(mean)
    (copies / "stranger").mkdir()
    (copies / "stranger" / "9.jpg").write_bytes(b"no photo")
    with pytest.raises(InputError, match="stranger"):
        facetools.evaluate(people_folder, [copies])
    with pytest.raises(UsageError, match=r"classifier n: there is none; take one of nn, linear, e2e, top2, threshold"):
        facetools.evaluate(people_folder, copies, classifier="n")
