"""Reading photos of people, with their cloaked copies, from Python."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from _toolio.errors import ToolError
from facetools.extractors.architectures import mobilefacenet
from facetools.intake import Refusal
from facetools.training.excluded_people import read_excluded
from facetools.training.face_reader import FaceReader, Unused

CPU = torch.device("cpu")


def reader_of(**options: Any) -> FaceReader:
    return FaceReader(mobilefacenet.SETTINGS, device=CPU, **options)


@pytest.fixture
def few(people_folder: Path) -> Path:
    """Three people with two photos each."""
    for person in sorted(people_folder.iterdir())[3:]:
        shutil.rmtree(person)
    return people_folder


def test_photos_of_excluded_people_are_not_listed(people_folder: Path, tmp_path: Path) -> None:
    me, other, *_ = sorted(people_folder.iterdir())
    reader = reader_of(excluded=read_excluded([f"{me}/", other.name]))
    kept = reader.list_photos(str(people_folder))
    assert {item.relative.split("/")[0] for item in kept}.isdisjoint({me.name, other.name})
    assert len(kept) == 20
    assert reader.excluded_photos == {me.name: 2, other.name: 2}
    reader.check_excluded()
    only = tmp_path / "only"
    shutil.copytree(me, only / me.name)
    with pytest.raises(ToolError, match="all its photos are of people that are held out"):
        reader.list_photos(str(only))


def test_a_name_that_nobody_has_is_an_error(people_folder: Path) -> None:
    reader = reader_of(excluded=read_excluded(["Nobody"]))
    reader.list_photos(str(people_folder))
    with pytest.raises(ToolError, match="hold_out Nobody: no photo is of this person"):
        reader.check_excluded()


def test_cloaked_copies_are_paired_and_what_is_not_used_is_reported(few: Path, tmp_path: Path) -> None:
    cloaked = tmp_path / "cloaked"
    shutil.copytree(few, cloaked)
    first, second, third = sorted(person.name for person in few.iterdir())
    shutil.copy(cloaked / first / "0.jpg", cloaked / first / "stray.jpg")
    Image.new("RGB", (90, 90)).save(few / second / "0.jpg")
    (cloaked / third / "1.jpg").write_text("no photo")
    # A copy of another size: its face is searched for again.
    with Image.open(few / third / "0.jpg") as photo:
        photo.resize((photo.width * 5 // 4, photo.height * 5 // 4)).save(cloaked / third / "0.jpg")
    reported: list[Any] = []
    shown: list[str] = []

    def progress(items: Any, what: str, total: int | None = None, /) -> Any:
        shown.append(what)
        return items

    reader = reader_of(report=reported.append, progress=progress)
    photos = reader.list_photos(str(few))
    faces = reader.read_pairs(photos, reader.list_copies([str(cloaked)]))
    # Clean ones: two of the first, one of the second, two of the third.
    assert [(sample.person, int(cloak)) for sample, cloak in zip(faces.samples, faces.cloak, strict=True)] == [
        (first, -1), (first, -1), (second, -1), (third, -1), (third, -1),
        (first, 0), (first, 0), (second, 0), (third, 0),
    ]  # fmt: skip
    assert faces.original.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert faces.cloaks == (str(cloaked),)
    assert shown == ["reading clean faces", f"reading {cloaked}", f"finding faces in {cloaked}"]
    assert reported[0] == Unused(str(few / second / "0.jpg"), "no face of 20 pixels or more found")
    errors = [(each.item.relative, each.error.kind) for each in reported[1:] if isinstance(each, Refusal)]
    assert errors[0] == (f"{first}/stray.jpg", "no-match")
    assert {relative for relative, _ in errors[1:]} == {f"{third}/1.jpg"}
    # The first's is cut where the clean one was, but for the rounding of records; the resized one is not.
    assert np.allclose(faces.samples[5].matrices[0], faces.samples[0].matrices[0], atol=1e-2)
    assert not np.allclose(faces.samples[8].matrices[0], faces.samples[3].matrices[0], atol=1)


def test_photos_without_faces_are_no_training(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((60, 60, 3), np.uint8)).save(tmp_path / "a" / "1.png")
    reader = reader_of()
    assert list(reader.read(reader.list_photos(str(tmp_path)))) == []
    with pytest.raises(ToolError, match="no face in any clean photo"):
        reader.read_pairs(reader.list_photos(str(tmp_path)), {})


def test_aligned_crops_are_all_face(few: Path) -> None:
    reader = reader_of(faces="crop")
    cuts = list(reader.read(reader.list_photos(str(few)), total=6))
    assert len(cuts) == 6
    assert all(cut.face.box == (0, 0, cut.shape[1], cut.shape[0]) for cut in cuts)
