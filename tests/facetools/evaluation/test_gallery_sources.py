"""Galleries from files, records and photos, and what must not become a wrong number."""

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
        ({"sha256": "f" * 64}, "of other sha256; the file was made again since"),
        ({"face": 1}, "of other face"),
        ({"row": 4}, r"record 2: row 4, but .*e\.safetensors has rows 0 to 3"),
        ({"row": "1"}, "record 2: row '1' is text"),
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
