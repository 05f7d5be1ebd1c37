"""Folders of embeddings in parts: what is read of them, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from _toolio.errors import ToolError, UsageError
from _toolio.files.hashing import sha256_of_files
from embedding_files import write
from facetools.embeddings.files import holds_embeddings, identity_of, read_each, read_embeddings
from facetools.embeddings.matching import read_embedded
from facetools.embeddings.parts.manifest import (
    NAME,
    Manifest,
    Part,
    clear_parts,
    is_folder_of_parts,
    name_of,
    read_manifest,
    refuse_folder,
    write_manifest,
)
from facetools.embeddings.records import read_faces
from facetools.evaluation.config import holds_photos
from facetools.evaluation.gallery_sources import read_gallery

ROWS = np.arange(21, dtype=np.float32).reshape(7, 3)
NAMES = [f"{'abcdefg'[number]}/1.jpg" for number in range(7)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven rows in three parts, and the same in one file."""
    made = tmp_path / "rows"
    made.mkdir()
    parts = []
    for number, (start, stop) in enumerate(((0, 3), (3, 6), (6, 7))):
        write(tmp_path, "x", names=NAMES[start:stop], rows=ROWS[start:stop])
        (tmp_path / "x.safetensors").rename(made / name_of(number))
        parts.append(Part(name_of(number), stop - start, sha256_of_files(made / name_of(number))))
    write(tmp_path, "one", names=NAMES, rows=ROWS)
    extractor = read_embeddings(tmp_path / "one.safetensors").extractor
    write_manifest(made, Manifest(parts, 3, extractor), {"version": "0"})
    return made


def test_a_folder_is_read_as_one_file(folder: Path) -> None:
    parts, one = read_embeddings(folder), read_embeddings(folder.parent / "one.safetensors")
    assert (parts.values == one.values).all()
    assert (parts.rows, parts.extractor) == (one.rows, one.extractor)
    assert [len(part.rows) for part in read_each(folder)] == [3, 3, 1]
    assert holds_embeddings(str(folder))
    assert identity_of(str(folder)) == (folder / NAME).read_bytes()
    names = [str(folder), f"{folder.parent}/one.safetensors"]
    first, second = ([(face.item, face.face, face.embedding.tolist()) for face in read_faces(n)[0]] for n in names)
    assert first == second
    assert (read_embedded(names)[0].values == ROWS).all()
    assert read_gallery(names[0]).items == read_gallery(names[1]).items
    assert [holds_photos(name) for name in (*names, str(folder.parent))] == [False, False, True]


def test_what_the_manifest_does_not_name_is_refused(folder: Path) -> None:
    second, text = folder / name_of(1), (folder / NAME).read_text()
    shutil.copy(folder / name_of(2), second)
    with pytest.raises(ToolError, match=r"part-00001\.safetensors: is another file than manifest\.json names"):
        read_embeddings(folder)
    second.unlink()
    with pytest.raises(ToolError, match=r"part-00001\.safetensors: a part that cannot be read"):
        read_embeddings(folder)
    for change in (
        {"rows": 8},
        {"schema": "other"},
        {"parts": 3},
        {"dimensions": "x"},
        {"dimensions": float("inf")},
        {"dimensions": 1 << 31},
        {"dimensions": 0},
        {"extractor": None},
    ):
        (folder / NAME).write_text(json.dumps({**json.loads(text), **change}))
        with pytest.raises(ToolError, match=r"manifest\.json: no whole manifest of embeddings"):
            read_manifest(folder)
    changed = json.loads(text)
    changed["parts"][0]["file"] = "../x.safetensors"
    for damaged in (json.dumps(changed), text[:50], "[" * 100_000, "3"):
        (folder / NAME).write_text(damaged)
        with pytest.raises(ToolError, match="no whole manifest"):
            read_manifest(folder)


def test_parts_of_other_rows_or_another_extractor_are_refused(folder: Path) -> None:
    listed = read_manifest(folder)
    for wrong in (Manifest(listed.parts, 4, listed.extractor), Manifest(listed.parts, 3, {"name": "other"})):
        write_manifest(folder, wrong, {})
        with pytest.raises(ToolError, match=r"part-00000\.safetensors: has other rows, or another extractor"):
            read_embeddings(folder)


def test_records_of_a_part_that_has_changed_are_refused(folder: Path, tmp_path: Path) -> None:
    rows = [{"row": 0, "file": str(folder / name_of(number)), "face": 0} for number in (0, 1)]
    known = [each.rows[0] for each in read_each(folder)]
    records = tmp_path / "rows.jsonl"
    records.write_text("".join(json.dumps(row | dict(about)) + "\n" for row, about in zip(rows, known, strict=False)))
    assert [face.item.relative for face in read_faces(str(records))[0]] == ["a/1.jpg", "d/1.jpg"]
    second = folder / name_of(1)
    second.write_bytes(second.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ToolError, match=r"part-00001\.safetensors: is another file than manifest\.json names"):
        read_faces(str(records))
    second.rename(folder / name_of(7))
    records.write_text(records.read_text().replace(name_of(1), name_of(7)))
    with pytest.raises(ToolError, match=r"part-00007\.safetensors: manifest\.json names no such part"):
        read_faces(str(records))


def test_a_manifest_that_says_too_much_takes_no_memory(folder: Path) -> None:
    found = json.loads((folder / NAME).read_text())
    found["parts"][0]["rows"] += 10**11
    found["rows"] += 10**11
    (folder / NAME).write_text(json.dumps(found))
    with pytest.raises(ToolError, match=r"part-00000\.safetensors: has other rows, or another extractor"):
        read_embeddings(folder)
    found["parts"][0]["rows"], found["parts"][1]["rows"], found["rows"] = -3, 6 + 10**11, 10**11
    (folder / NAME).write_text(json.dumps(found))
    with pytest.raises(ToolError, match="no whole manifest"):
        read_embeddings(folder)


def test_a_folder_whose_run_has_not_ended(folder: Path) -> None:
    (folder / NAME).unlink()
    assert is_folder_of_parts(folder)
    with pytest.raises(ToolError, match=r"parts of embeddings without manifest\.json: the run .* has not ended"):
        read_faces(str(folder))


def test_no_part_at_all(tmp_path: Path) -> None:
    extractor = {"name": "net", "sha256": "d" * 64, "distance": "cosine"}
    write_manifest(tmp_path, Manifest((), 3, extractor), {})
    assert read_embeddings(tmp_path).values.shape == (0, 3)
    (tmp_path / NAME).write_text('{"schema": "of a web page"}')
    assert not is_folder_of_parts(tmp_path)
    assert not is_folder_of_parts("a\0b")


def test_what_is_replaced(folder: Path) -> None:
    refuse_folder(folder.parent / "new", force=False)
    with pytest.raises(UsageError, match="holds parts; use force"):
        refuse_folder(folder, force=False)
    refuse_folder(folder, force=True)
    for name in ("part-time.safetensors", "part-1.safetensors", "notes.txt"):
        (folder / name).touch()
        with pytest.raises(UsageError, match=rf"holds {name}, which is no part"):
            refuse_folder(folder, force=True)
        (folder / name).unlink()
    (folder / "notes.txt").touch()
    clear_parts(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    for path, words in (
        (folder / "notes.txt", "is no folder; name one"),
        (folder / "a" / "b", "is no folder; make it"),
    ):
        with pytest.raises(UsageError, match=words):
            refuse_folder(path, force=True)
