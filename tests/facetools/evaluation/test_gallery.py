"""Embeddings of known people from files, records and photos, and what must not become a wrong number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from _toolio.errors import ToolError
from _toolio.streams.inputs import Item
from embedding_files import write
from facetools.evaluation.gallery import (
    Gallery,
    name_people,
    read_labels,
    refuse_copies,
    refuse_zeros,
    without_others,
)
from facetools.evaluation.gallery_sources import read_gallery


def test_zeros_have_no_cosine(tmp_path: Path) -> None:
    rows = np.ones((4, 3), np.float32)
    rows[1] = 0
    gallery = read_gallery(str(write(tmp_path, rows=rows)))
    refuse_zeros(gallery, "euclidean", "x")
    with pytest.raises(ToolError, match=r"x: the embedding of in/a/2\.jpg is all zeros, which has no cosine"):
        refuse_zeros(gallery, "cosine", "x")


def gallery_of(*names: str) -> Gallery:
    items = tuple(Item(name, name) for name in names)
    return Gallery("net", "d", "cosine", items, np.zeros((len(names), 2), np.float32))


def test_a_photo_is_in_a_gallery_once() -> None:
    gallery = gallery_of("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    refuse_copies(replace(gallery, sha256s=("1", "2", "3", "4")), ["a", "a", "b", "b"])
    refuse_copies(gallery, ["a", "a", "b", "b"])
    with pytest.raises(ToolError, match=r"a/1\.jpg and a/2\.jpg are one photo, as are 1 more: .* trained on; keep one"):
        refuse_copies(replace(gallery, sha256s=("1", "1", "3", "3")), ["a", "a", "b", "b"])
    with pytest.raises(ToolError, match=r"a/1\.jpg and b/1\.jpg are one photo, of two people, a and b; keep one"):
        refuse_copies(replace(gallery, sha256s=("1", "1", "1", "4")), ["a", "a", "b", "b"])


def test_people_are_their_folders_or_their_labels() -> None:
    gallery = gallery_of("Ann/1.jpg", "Bob/face/1.jpg", "Bob/face/2.jpg")
    assert name_people(gallery) == ["Ann", "Bob", "Bob"]
    labels = {"Ann/1.jpg": "x", "Bob/face/1.jpg": "x", "Bob/face/2.jpg": "y"}
    assert name_people(gallery, labels) == ["x", "x", "y"]
    with pytest.raises(ToolError, match=r"labels names no person for Bob/face/2\.jpg"):
        name_people(gallery, {"Ann/1.jpg": "x", "Bob/face/1.jpg": "x"})


def test_labels_of_photos_whose_accents_are_coded_otherwise() -> None:
    gallery = gallery_of("Jose\u0301.jpg", "b.jpg")
    assert name_people(gallery, {"Jos\u00e9.jpg": "x", "b.jpg": "y"}) == ["x", "y"]
    both = {"Jos\u00e9.jpg": "y", "Jose\u0301.jpg": "x", "b.jpg": "y"}
    assert name_people(gallery, both) == ["x", "y"], "the photo's own form counts first"
    two = gallery_of("Jose\u0301.jpg", "Jos\u00e9.jpg", "b.jpg")
    with pytest.raises(ToolError, match="names no person for Jos\u00e9"):
        name_people(two, {"Jose\u0301.jpg": "x", "b.jpg": "y"})


@pytest.mark.parametrize(("one", "other"), [("Ann", "ann"), ("Jos\u00e9", "Jose\u0301"), ("\ufb01n", "Fin")])
def test_names_that_only_look_alike(one: str, other: str) -> None:
    with pytest.raises(ToolError, match="differ only in case or Unicode form"):
        name_people(gallery_of(f"{one}/1.jpg", f"{other}/2.jpg", "c/3.jpg"))


def test_one_person_is_too_few() -> None:
    with pytest.raises(ToolError, match=r"one person \(a\) is in the gallery"):
        name_people(gallery_of("a/1.jpg", "a/2.jpg"))


def test_labels_are_records(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"relative": "1.jpg", "person": "a"}\n\n{"relative": "2.jpg", "person": "b"}\n')
    assert read_labels(path) == {"1.jpg": "a", "2.jpg": "b"}
    path.write_text('{"relative": "1.jpg"}\n')
    with pytest.raises(ToolError, match="record 1: give each photo as"):
        read_labels(path)
    path.write_text("no record\n")
    with pytest.raises(ToolError, match="line 1: not a JSON record") as caught:
        read_labels(path)
    assert caught.value.exit_code == 1


def test_labels_that_contradict_each_other_or_name_nobody(tmp_path: Path) -> None:
    path, one = tmp_path / "labels.jsonl", '{"relative": "1.jpg", "person": "a"}\n'
    path.write_text(one * 2)
    assert read_labels(path) == {"1.jpg": "a"}
    path.write_text(one + one.replace('"a"', '"b"'))
    with pytest.raises(ToolError, match=r"record 2: 1\.jpg is 'b', and 'a' in an earlier record"):
        read_labels(path)
    for name in (" a", "a ", "a\\n", "a\\u001b[31m", "\\u0085a"):
        path.write_text(one.replace('"a"', f'"{name}"'))
        with pytest.raises(ToolError, match="has blanks around it or control characters in it"):
            read_labels(path)


def test_folders_of_one_name_in_several_folders_are_no_people() -> None:
    dated = gallery_of("ann/2020/1.jpg", "ann/2021/1.jpg", "bob/2020/1.jpg")
    with pytest.raises(ToolError, match=r"ann/2020 and bob/2020 would be one person, 2020; .* labels"):
        name_people(dated)
    labels = {item.relative: item.relative[:3] for item in dated.items}
    assert name_people(dated, labels) == ["ann", "ann", "bob"]
    assert name_people(gallery_of("actors/ann/face/1.jpg", "actors/ann/2.jpg", "actresses/bo/1.jpg"))[1:] == [
        "ann",
        "bo",
    ]


def test_photos_beside_their_copies_are_told_apart_by_the_suffix() -> None:
    side = gallery_of("a/1.jpg", "a/1_cloaked.jpg", "b/2.png", "b/2_cloaked.png.png")
    clean = without_others(side, [side], suffix="_cloaked", cloaked=False)
    assert [item.relative for item in clean.items] == ["a/1.jpg", "b/2.png"]
    assert len(without_others(side, [side], suffix="_cloaked", cloaked=True).embeddings) == 2
    assert without_others(side, [side], suffix="", cloaked=True) is side


def test_photos_apart_from_the_other_side_stay_whatever_they_are_called() -> None:
    one, other = gallery_of("a/1.jpg", "a/2_x.jpg"), gallery_of("b/1.jpg", "b/1_x.jpg")
    for cloaked in (True, False):
        assert len(without_others(one, [other], suffix="_x", cloaked=cloaked).items) == 2
