"""``facetools compare`` of one folder and of several."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Run

Runner = Callable[..., Run]


@pytest.fixture
def folders(face_photo: bytes, tmp_path: Path) -> Path:
    """clean/ with two photos of a face, and in mild/ and strong/ what is left of them; strong/ lacks the second."""
    photo = np.asarray(Image.open(io.BytesIO(face_photo)).convert("RGB"))
    for folder, change in (("clean", 0), ("mild", 8), ("strong", 60)):
        (tmp_path / folder).mkdir()
        noise = np.random.default_rng(0).integers(-change, change + 1, photo.shape)
        for name in ("0.png", "1.png"):
            Image.fromarray((photo + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / folder / name)
    (tmp_path / "strong" / "1.png").unlink()
    return tmp_path


def test_strengths_side_by_side(run_inside: Runner, folders: Path) -> None:
    clean, mild, strong, grid = (str(folders / name) for name in ("clean", "mild", "strong", "grid.png"))
    done = run_inside("facetools", "compare", clean, f"weak={mild}", strong, "--grid", grid)
    assert (done.code, done.err) == (0, "")
    names = [(each["cloak"], each["relative"], each.get("grid_row"), each.get("reason")) for each in done.records]
    assert names == [
        ("weak", "0.png", 0, None),
        (strong, "0.png", 0, None),
        ("weak", "1.png", 1, None),
        (strong, "1.png", None, "no cloaked photo of this name"),
    ]
    assert done.records[0]["moved"] < done.records[1]["moved"]
    assert not any("amplify" in each for each in done.records)
    assert list(done.records[0])[:3] == ["moved", "schema", "cloak"]
    # What each folder has by itself, in the same order and but for its name.
    for name, folder in (("weak", mild), (strong, strong)):
        alone = run_inside("facetools", "compare", clean, folder).records
        ours = [{key: each[key] for key in each if key not in ("cloak", "grid_row")} for each in done.records]
        assert [each for each, of in zip(ours, done.records, strict=True) if of["cloak"] == name] == alone
    parts = [run_inside("facetools", "compare", clean, f"weak={mild}", strong, "--shard", f"{n}/2") for n in (1, 2)]
    whole = run_inside("facetools", "compare", clean, f"weak={mild}", strong)
    assert b"".join(part.out for part in parts) == whole.out
    assert Image.open(grid).width > 3 * 160


def test_one_folder_has_no_name_unless_it_was_given_one(run_inside: Runner, folders: Path) -> None:
    clean, mild = str(folders / "clean"), str(folders / "mild")
    plain = run_inside("facetools", "compare", clean, mild, "--csv")
    named = run_inside("facetools", "compare", clean, f"weak={mild}", "--csv")
    heads = [next(csv.reader(io.StringIO(done.out.decode()))) for done in (plain, named)]
    assert heads[1] == [heads[0][0], "cloak", *heads[0][1:]]
    assert not any("cloak" in each for each in run_inside("facetools", "compare", clean, mild).records)


def test_a_table_is_by_folder(run_inside: Runner, folders: Path) -> None:
    clean, mild, strong = (str(folders / name) for name in ("clean", "mild", "strong"))
    done = run_inside("facetools", "compare", clean, f"weak={mild}", f"hard={strong}", "--table")
    rows = [line.split() for line in done.out.decode().splitlines()[1:]]
    assert [next(word for word in row if word in ("weak", "hard")) for row in rows] == ["weak", "weak", "hard", "hard"]


@pytest.mark.parametrize(
    ("cloaked", "why"),
    [
        (("x={0}/mild", "x={0}/strong"), "CLOAKED x: given twice; give NAME=PATH with another name"),
        (("{0}/mild", "{0}/mild"), "/mild: given twice"),
        (("clean={0}/mild", "{0}/strong"), "CLOAKED clean: is what the clean photos are called"),
        (("{0}/mild", "-"), "cannot be -"),
        (("{0}/mild", "x="), "give NAME=PATH"),
    ],
)
def test_folders_that_cannot_be_told_apart(
    run_inside: Runner, folders: Path, cloaked: tuple[str, ...], why: str
) -> None:
    done = run_inside("facetools", "compare", str(folders / "clean"), *(word.format(folders) for word in cloaked))
    assert (done.code, done.out) == (2, b"")
    assert why in done.err
    assert done.err.count("\n") == 1


def test_a_picture_beside_the_photos_of_any_folder_is_refused(run_inside: Runner, folders: Path) -> None:
    clean, mild, strong = (str(folders / name) for name in ("clean", "mild", "strong"))
    done = run_inside("facetools", "compare", clean, mild, strong, "--grid", f"{strong}/g.png")
    assert done.code == 2
    assert f"lies in {strong}" in done.err
