"""Embeddings of known people from files, records and photos, and what must not become a wrong number."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from _toolio.errors import ToolError
from _toolio.streams.inputs import Item
from _toolio.tensors.writer import write_safetensors
from conftest import faceless
from embedding_files import NAMES, write
from facetools.evaluation.config import holds_photos
from facetools.evaluation.gallery import Gallery, name_people, read_labels, refuse_zeros, without_others
from facetools.evaluation.gallery_sources import PhotoEmbedder, read_gallery
from facetools.extractors.architectures import mobilefacenet
from facetools.extractors.extractor import Extractor
from facetools.extractors.files import Prepared
from facetools.faces.face import Face
from facetools.intake import Intake
from facetools.photos.photo import Photo
from facetools.transforms.preprocess import parse_preprocess


def edit(file: Path, number: int, /, **changes: Any) -> None:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[number] |= changes
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_records_and_their_file_give_the_same_gallery(tmp_path: Path) -> None:
    records = write(tmp_path)
    by_records, by_file = read_gallery(str(records)), read_gallery(str(tmp_path / "e.safetensors"))
    for gallery in (by_records, by_file):
        assert (gallery.extractor, gallery.digest, gallery.distance) == ("net", "d" * 64, "cosine")
        assert [(item.path, item.relative) for item in gallery.items] == [(f"in/{name}", name) for name in NAMES]
        assert gallery.embeddings.tolist() == np.arange(12.0).reshape(4, 3).tolist()


def test_records_in_any_order_and_through_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = write(tmp_path).read_bytes().splitlines(keepends=True)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"".join(reversed(lines)))))
    gallery = read_gallery("-")
    assert [item.relative for item in gallery.items] == list(reversed(NAMES))
    assert gallery.embeddings[0].tolist() == [9, 10, 11]


def test_records_beside_their_file_are_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    for number in range(len(NAMES)):
        edit(path, number, file="build/e.safetensors")
    monkeypatch.chdir("/")
    assert len(read_gallery(str(path)).items) == 4
    (tmp_path / "e.safetensors").unlink()
    with pytest.raises(ToolError, match=r"e\.jsonl, record 1: build/e\.safetensors: no such file"):
        read_gallery(str(path))


def test_records_of_several_parts_are_one_gallery(tmp_path: Path) -> None:
    parts = [write(tmp_path, "one", names=NAMES[:2]), write(tmp_path, "two", names=NAMES[2:])]
    (tmp_path / "all.jsonl").write_text("".join(part.read_text() for part in parts))
    gallery = read_gallery(str(tmp_path / "all.jsonl"))
    assert [item.relative for item in gallery.items] == list(NAMES)
    assert gallery.embeddings.tolist() == [*np.arange(6.0).reshape(2, 3).tolist()] * 2


def test_of_several_faces_the_largest_counts_and_faceless_photos_do_not(tmp_path: Path) -> None:
    path = write(tmp_path, names=("a/1.jpg", "a/1.jpg", "b/1.jpg"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    file = tmp_path / "e.safetensors"
    known = [
        {"path": f"in/{n}", "relative": n, "sha256": "0", "face": f} for n, f in (("a/1", 1), ("a/1", 0), ("b", 0))
    ]
    about = {"schema": "facetools.embed/1", "rows": known}
    about["extractor"] = {"name": "net", "sha256": "d", "distance": "cosine"}
    write_safetensors(file, {"embeddings": np.arange(9, dtype=np.float32).reshape(3, 3)}, about)
    lines = [{"row": n, "file": str(file), **each} for n, each in enumerate(known)]
    lines += [{"row": None, "path": "in/c", "reason": "no face found"}, {"row": None, "error": {"kind": "x"}}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    gallery = read_gallery(str(path))
    assert [item.relative for item in gallery.items] == ["a/1", "b"]
    assert gallery.embeddings[0].tolist() == [3, 4, 5]


def test_photos_without_a_face_are_remembered(tmp_path: Path) -> None:
    path = write(tmp_path)
    unseen = {"row": None, "path": "in/c/1.jpg", "relative": "c/1.jpg", "face": None, "reason": "no face found"}
    with path.open("a") as stream:
        stream.write(json.dumps(unseen) + "\n")
    gallery = read_gallery(str(path))
    assert gallery.faceless == (Item("in/c/1.jpg", "c/1.jpg"),)
    assert len(gallery.sha256s) == len(gallery.items) == 4


def test_one_face_twice_is_one_face_or_an_error(tmp_path: Path) -> None:
    one = write(tmp_path, "one", names=NAMES[:2])
    both = tmp_path / "both.jsonl"
    both.write_text(one.read_text() * 2)
    assert len(read_gallery(str(both)).items) == 2
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    rows[1, 0] += 1
    other = write(tmp_path, "two", names=NAMES[:2], rows=rows)
    both.write_text(one.read_text() + other.read_text())
    with pytest.raises(ToolError, match=r"in/a/2\.jpg, face 0, is in it twice, with different sha256"):
        read_gallery(str(both))


def test_two_photos_at_one_place(tmp_path: Path) -> None:
    parts = [write(tmp_path, top, top=top) for top in ("old", "new")]
    (tmp_path / "all.jsonl").write_text("".join(part.read_text() for part in parts))
    with pytest.raises(ToolError, match=r"old/a/1\.jpg and new/a/1\.jpg both lie at a/1\.jpg below their folders"):
        read_gallery(str(tmp_path / "all.jsonl"))


def test_zeros_have_no_cosine(tmp_path: Path) -> None:
    rows = np.ones((4, 3), np.float32)
    rows[1] = 0
    gallery = read_gallery(str(write(tmp_path, rows=rows)))
    refuse_zeros(gallery, "euclidean", "x")
    with pytest.raises(ToolError, match=r"x: the embedding of in/a/2\.jpg is all zeros, which has no cosine"):
        refuse_zeros(gallery, "cosine", "x")


@pytest.mark.parametrize(
    ("changes", "rows", "message"),
    [
        ({"extractor": None}, None, "its metadata does not name the extractor"),
        ({"extractor": {"name": "n", "sha256": "d", "distance": "manhattan"}}, None, "has distance 'manhattan'"),
        ({"extractor": {"name": "n", "sha256": "d", "distance": "cosine", "people": "x"}}, None, "no list of names"),
        ({"rows": None}, None, "does not list a path, relative and face for each row"),
        ({"rows": [{"path": 5, "relative": "a", "face": 0}]}, None, "does not list a path, relative and face"),
        ({"rows": [{"path": "a", "face": 0}]}, None, "does not list a path, relative and face"),
        ({}, np.ones(3), r"its embeddings are of shape \(3,\), and not one row a face"),
    ],
)
def test_files_that_embed_did_not_write(tmp_path: Path, changes: dict[str, Any], rows: Any, message: str) -> None:
    about: dict[str, Any] = {
        "schema": "facetools.embed/1",
        "extractor": {"name": "n", "sha256": "d", "distance": "cosine"},
        "rows": [{"path": "a", "relative": "a", "face": 0}],
        **changes,
    }
    values = np.ones((1, 3), np.float32) if rows is None else rows.astype(np.float32)
    about = {key: value for key, value in about.items() if value is not None}
    write_safetensors(tmp_path / "x.safetensors", {"embeddings": values}, about)
    with pytest.raises(ToolError, match=message) as caught:
        read_gallery(str(tmp_path / "x.safetensors"))
    assert caught.value.exit_code == 1


def test_embeddings_of_two_widths(tmp_path: Path) -> None:
    parts = [write(tmp_path, "one", names=NAMES[:2]), write(tmp_path, "two", names=NAMES[2:], rows=np.ones((2, 4)))]
    (tmp_path / "all.jsonl").write_text("".join(part.read_text() for part in parts))
    with pytest.raises(ToolError, match="embeddings of 3 and of 4 numbers"):
        read_gallery(str(tmp_path / "all.jsonl"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relative": "b/9.jpg"}, r"record 2: row 1 of .*e\.safetensors is a/2\.jpg, face 0, of other relative"),
        ({"sha256": "f" * 64}, "of other sha256; the file was made anew since"),
        ({"face": 1}, "of other face"),
        ({"row": 4}, r"record 2: row 4, but .*e\.safetensors has rows 0 to 3"),
        ({"row": "1"}, "record 2: row '1', but"),
        ({"row": True}, "record 2: row True, but"),
        ({"file": None}, "record 2: it names no file of embeddings"),
        ({"file": "x" * 5000}, "no such file"),
        ({"path": 5}, "record 2: it has no path"),
    ],
)
def test_rows_that_do_not_match_their_records(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path)
    edit(path, 1, **changes)
    with pytest.raises(ToolError, match=message):
        read_gallery(str(path))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    rows = np.ones((4, 3), np.float32)
    rows[2, 1] = value
    with pytest.raises(ToolError, match=r"the embedding of in/b/1\.jpg is not finite"):
        read_gallery(str(write(tmp_path, rows=rows)))


def test_what_is_no_gallery(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="evaluate one extractor at a time"):
        one, two = write(tmp_path, "one"), write(tmp_path, "two", sha256="e" * 64)
        (tmp_path / "both.jsonl").write_text(one.read_text() + two.read_text())
        read_gallery(str(tmp_path / "both.jsonl"))
    with pytest.raises(ToolError, match="4 embeddings, but its metadata names 3 faces"):
        write(tmp_path, names=NAMES[:3], rows=np.ones((4, 3), np.float32))
        read_gallery(str(tmp_path / "e.safetensors"))
    write_safetensors(tmp_path / "x.safetensors", {"embeddings": np.ones((1, 2), np.float32)}, {"schema": "other/1"})
    with pytest.raises(ToolError, match="not a file of embeddings"):
        read_gallery(str(tmp_path / "x.safetensors"))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ToolError, match="no face in it"):
        read_gallery(str(tmp_path / "empty.jsonl"))
    (tmp_path / "text.jsonl").write_text("hello\n")
    with pytest.raises(ToolError, match=r"text\.jsonl, line 1: not a JSON record") as caught:
        read_gallery(str(tmp_path / "text.jsonl"))
    assert caught.value.exit_code == 1
    with pytest.raises(ToolError, match="no such file or folder"):
        read_gallery(str(tmp_path / "nothing"))


def gallery_of(*names: str) -> Gallery:
    items = tuple(Item(name, name) for name in names)
    return Gallery("net", "d", "cosine", items, np.zeros((len(names), 2), np.float32))


def test_people_are_their_folders_or_their_labels() -> None:
    gallery = gallery_of("Ann/1.jpg", "Bob/face/1.jpg", "Bob/face/2.jpg")
    assert name_people(gallery) == ["Ann", "Bob", "Bob"]
    labels = {"Ann/1.jpg": "x", "Bob/face/1.jpg": "x", "Bob/face/2.jpg": "y"}
    assert name_people(gallery, labels) == ["x", "x", "y"]
    with pytest.raises(ToolError, match=r"labels names no person for Bob/face/2\.jpg"):
        name_people(gallery, {"Ann/1.jpg": "x", "Bob/face/1.jpg": "x"})


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


def test_photos_are_told_from_embeddings(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    (tmp_path / "a.jsonl").touch()
    assert [holds_photos(str(tmp_path / name)) for name in ("", "a.tar", "a.jsonl")] == [True, True, False]
    assert not holds_photos("-")


def test_a_face_is_looked_for_where_it_is_after_a_step() -> None:
    """Half the size, the same chip: the face was found before."""
    torch.manual_seed(0)
    network = Prepared(mobilefacenet.MobileFaceNet(16), mobilefacenet.SETTINGS).eval().requires_grad_(False)
    extractor = Extractor("small", "mobilefacenet", network, mobilefacenet.SETTINGS, 16, "0" * 64)
    photo = Photo(np.asarray(faceless((400, 300))), "PNG")
    eyes = np.array([[170.0, 120], [230, 120], [200, 150], [175, 185], [225, 185]])
    intake = Intake(Item("a", "a"), b"a", photo, (Face((150.0, 80.0, 250.0, 210.0), 1.0, eyes),), (0,))
    embedder = PhotoEmbedder([extractor], [parse_preprocess(step) for step in ("none", "resize:0.5")], chips=True)
    embedder.add(intake)
    plain, small = (gallery.chips for gallery in embedder.galleries("x").values())
    assert plain is not None
    assert small is not None
    assert np.abs(plain.astype(int) - small.astype(int)).mean() < 2
    assert plain.std() > 10
