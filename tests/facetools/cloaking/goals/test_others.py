"""Other people to hide among, from files of embeddings and from photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from _toolio.errors import InputError, ToolError, UsageError
from facetools.cloaking.goals.others import Others, open_others
from facetools.embeddings.files import write_embeddings
from facetools.extractors.extractor import Extractor


def embeddings(path: Path, extractor: Extractor, values: np.ndarray, *people: str) -> str:
    rows = [{"path": f"p/{name}/1.jpg", "relative": f"{name}/1.jpg", "face": 0} for name in people]
    about = {"name": extractor.name, "sha256": extractor.sha256, "distance": extractor.distance}
    write_embeddings(path, values.astype(np.float32), {"extractor": about, "rows": rows})
    return str(path)


def test_the_person_and_the_photo_itself_do_not_count() -> None:
    rows = torch.eye(3)
    others = Others([rows], [["me", "ann", "copy"]], [[None, None, "same"]], "digest")
    assert others.besides("me/1.jpg", "me", "same")[0].tolist() == [[0, 1, 0]]
    assert len(others.besides("me/1.jpg", "me", "other")[0]) == 2
    alone = Others([rows[:1]], [["me"]], [[None]], "digest")
    with pytest.raises(InputError, match="nobody besides me"):
        alone.besides("me/1.jpg", "me", "")


def test_photos_and_their_embeddings_are_the_same_people(
    tmp_path: Path, extractor: Extractor, people_folder: Path
) -> None:
    folder = sorted(path for path in people_folder.iterdir() if path.is_dir())[0]
    one = tmp_path / "one" / folder.name
    one.mkdir(parents=True)
    photo = sorted(folder.iterdir())[0]
    (one / photo.name).write_bytes(photo.read_bytes())
    from_photos = open_others([str(tmp_path / "one")], [extractor])
    (row,) = from_photos.besides("x.jpg", "x", "")
    assert row.shape == (1, extractor.dimensions)
    file = embeddings(tmp_path / "e.safetensors", extractor, row.numpy(), folder.name)
    (same,) = open_others([file], [extractor]).besides("x.jpg", "x", "")
    assert torch.allclose(same, row, atol=1e-6)
    with pytest.raises(InputError, match="nobody besides"):
        from_photos.besides("x.jpg", folder.name, "")
    assert len(open_others([file, str(tmp_path / "one")], [extractor]).besides("x.jpg", "x", "")[0]) == 2
    assert open_others([str(tmp_path / "one")], [extractor]).digest == from_photos.digest


def test_what_is_of_no_use_is_refused(tmp_path: Path, extractor: Extractor) -> None:
    broken = embeddings(tmp_path / "nan.safetensors", extractor, np.full((1, 128), np.nan), "ann")
    with pytest.raises(ToolError, match="not finite"):
        open_others([broken], [extractor])
    (tmp_path / "empty").mkdir()
    with pytest.raises((UsageError, ToolError)):
        open_others([str(tmp_path / "empty")], [extractor])


def test_photos_that_are_left_out_are_told(tmp_path: Path, extractor: Extractor, people_folder: Path) -> None:
    folder, told = tmp_path / "others", list[str]()
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    Image.new("RGB", (64, 64)).save(folder / "grey.png")
    (folder / "notes.txt").write_text("no photo")
    with pytest.raises(UsageError, match=rf"^others: no face in {folder}; name photos of other people$"):
        open_others([str(folder)], [extractor], warn=told.append)
    named, broken = told
    assert named == "others: 1 file is left out, not named as photos; all_files tries them"
    assert broken.startswith(f"others: {folder}/broken.jpg: ")
    assert broken.endswith("; left out")
    face = next(path for path in sorted(people_folder.rglob("*.*")) if path.is_file())
    (folder / "face").write_bytes(face.read_bytes())
    found = open_others([str(folder)], [extractor], all_files=True, warn=told.append)
    assert len(found.besides("x/x.jpg", "x", "")[0]) == 1
    assert [line.split(": ")[1] for line in told[2:]] == [f"{folder}/broken.jpg", f"{folder}/notes.txt"]
