"""Comparing photos with cloaked copies that any tool made."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from _toolio.streams.inputs import Item
from conftest import Run, faceless, saved
from facetools.cloaking import change
from facetools.cloaking.compare import CleanSide, Comparer, largest_change_outside
from facetools.cloaking.regions import locate_region
from facetools.embeddings.chips import chip_of
from facetools.extractors.extractor import Extractor
from facetools.extractors.factory import open_extractor
from facetools.faces.face import Face
from facetools.faces.finder import Finder
from facetools.intake import Intake
from facetools.perceptual.ssim import Substitute
from facetools.photos.codec import decode_photo
from facetools.pictures.columns import Columns, CopyCell
from facetools.pictures.grid import Grid
from facetools.transforms.preprocess import parse_preprocess

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return open_extractor("dlib-resnet", CPU)


@pytest.fixture(scope="module")
def portrait(face_photo: bytes) -> Any:
    return decode_photo(face_photo, "me.jpg").pixels


@pytest.fixture(scope="module")
def face(portrait: Any) -> Face:
    return Finder(CPU).find([portrait])[0][0]


def intake_of(pixels: Any, *faces: Face) -> Intake:
    data = saved(Image.fromarray(pixels), "PNG")
    return Intake(Item("clean/a.png", "a.png"), data, decode_photo(data, "a.png"), faces, tuple(range(len(faces))))


def compared(
    tmp_path: Path,
    intake: Intake,
    cloaked: Any,
    extractor: Extractor,
    *preprocesses: str,
    grid: Grid | CopyCell | None = None,
) -> list[dict[str, Any]]:
    path = tmp_path / "cloaked.png"
    Image.fromarray(cloaked).save(path)
    chosen = [parse_preprocess(name) for name in preprocesses or ("none",)]
    return Comparer([extractor], Substitute(), chosen).compare(intake, Item(str(path), "a.png"), grid)


def noisy(pixels: Any, face: Face) -> Any:
    """Change the middle of a face, by 30 at most."""
    x0, y0, x1, y1 = (round(value) for value in face.box)
    out = pixels.astype(int)
    part = out[y0 + 10 : y1 - 10, x0 + 10 : x1 - 10]
    part += np.random.default_rng(0).integers(-30, 31, part.shape)
    return out.clip(0, 255).astype(np.uint8)


def test_the_same_photo_has_not_moved(tmp_path: Path, portrait: Any, face: Face, extractor: Extractor) -> None:
    (fields,) = compared(tmp_path, intake_of(portrait, face), portrait, extractor)
    assert fields["moved"] == pytest.approx(0, abs=1e-9)
    assert (fields["ssim"], fields["psnr"], fields["linf"]) == (pytest.approx(1), float("inf"), 0)
    assert (fields["outside_linf"], fields["scaled"], fields["perceptual_distance"]) == (0, False, pytest.approx(0))
    assert fields["clean_size"] == fields["cloaked_size"] == [portrait.shape[1], portrait.shape[0]]


def test_a_change_is_measured_where_it_is(tmp_path: Path, portrait: Any, face: Face, extractor: Extractor) -> None:
    changed = noisy(portrait, face)
    changed[0, 0] ^= 255
    region = locate_region(portrait, face, [extractor])
    assert region is not None
    assert region.top > 0, "the corner lies outside"
    (fields,) = compared(tmp_path, intake_of(portrait, face), changed, extractor)
    f, g = (extractor.network(chip_of(pixels, face, extractor))[0].double() for pixels in (portrait, changed))
    assert fields["moved"] == pytest.approx(1 - float(torch.cosine_similarity(f, g, dim=0)), abs=1e-6)
    assert fields["moved"] == fields["distances"]["dlib-resnet"] > 0.005
    assert 25 <= fields["linf"] <= 30
    assert fields["outside_linf"] == int(np.abs(changed[0, 0].astype(int) - portrait[0, 0]).max()) > 30
    assert 0.2 < fields["ssim"] < 0.99
    assert 20 < fields["psnr"] < 40


def test_each_preprocess_is_done_to_both_photos(
    tmp_path: Path, portrait: Any, face: Face, extractor: Extractor
) -> None:
    same = compared(tmp_path, intake_of(portrait, face), portrait, extractor, "jpeg:30", "resize:0.5", "none")
    assert [fields["preprocess"] for fields in same] == ["jpeg:30", "resize:0.5", "none"]
    assert [fields["moved"] for fields in same] == pytest.approx([0, 0, 0], abs=1e-9)
    none, half = compared(tmp_path, intake_of(portrait, face), noisy(portrait, face), extractor, "none", "resize:0.5")
    # Landmarks follow the photo to its half size: noise averages out, and the face stays who it is.
    assert 0 < half["moved"] < none["moved"]
    assert half["landmarks"] == none["landmarks"], "records speak of the photo's own pixels"
    assert half["psnr"] > none["psnr"]


def test_several_faces_and_none(tmp_path: Path, portrait: Any, face: Face, extractor: Extractor) -> None:
    outside = Face(face.box, 1.0, face.landmarks + 10_000)
    fields = compared(tmp_path, intake_of(portrait, face, outside), portrait, extractor)
    assert [each["face"] for each in fields] == [0, 1]
    assert "moved" not in fields[1]
    assert fields[1]["reason"] == "too little of the face is in the photo"
    (none,) = compared(tmp_path, intake_of(portrait), noisy(portrait, face), extractor)
    assert (none["face"], none["reason"]) == (None, "no face found")
    assert 25 <= none["outside_linf"] <= 30


def test_a_copy_of_another_size_is_scaled(tmp_path: Path, portrait: Any, face: Face, extractor: Extractor) -> None:
    half = np.asarray(Image.fromarray(portrait).resize((125, 125), Image.Resampling.BICUBIC))
    (fields,) = compared(tmp_path, intake_of(portrait, face), half, extractor)
    assert (fields["scaled"], fields["cloaked_size"]) == (True, [125, 125])
    assert "outside_linf" not in fields
    assert 0 < fields["moved"] < 0.1
    (cropped,) = compared(tmp_path, intake_of(portrait, face), portrait[:200], extractor)
    assert "differ in shape" in cropped["reason"]
    assert "moved" not in cropped


def test_a_copy_that_lost_its_orientation_is_not_measured(
    tmp_path: Path, portrait: Any, face: Face, extractor: Extractor
) -> None:
    for turned in (portrait[::-1, ::-1], portrait[:, ::-1]):
        (fields,) = compared(tmp_path, intake_of(portrait, face), np.ascontiguousarray(turned), extractor)
        assert "moved" not in fields
        assert "turned or mirrored, as where an EXIF orientation was lost" in fields["reason"]


def test_a_crop_is_all_face(tmp_path: Path, portrait: Any, extractor: Extractor) -> None:
    whole = Face((0.0, 0.0, 250.0, 250.0), 1.0, np.empty((0, 2)))
    (fields,) = compared(tmp_path, intake_of(portrait, whole), 255 - portrait, extractor, "resize:0.5")
    assert fields["moved"] > 0.01
    assert fields["landmarks"] is None
    assert "outside_linf" not in fields


def test_rows_are_drawn_while_there_is_room(tmp_path: Path, portrait: Any, face: Face, extractor: Extractor) -> None:
    grid = Grid(rows=1, amplify=7)
    first, second = (compared(tmp_path, intake_of(portrait, face), portrait, extractor, grid=grid)[0] for _ in range(2))
    assert (first["grid_row"], first["amplify"]) == (0, 7)
    assert "grid_row" not in second


def test_the_largest_change_outside_of_overlapping_regions(portrait: Any, face: Face, extractor: Extractor) -> None:
    tall = np.zeros((1000, 60, 3), np.uint8)
    changed = tall.copy()
    changed[250:270, 10:20], changed[700, 5, 1] = 200, 3
    region = locate_region(portrait, face, [extractor])
    assert region is not None
    box = type(region)(240, 8, 40, 20, 1.0, (), (True,) * 4)
    other = type(region)(256, 0, 40, 60, 1.0, (), (True,) * 4)
    assert largest_change_outside(tall, changed, []) == 200
    assert largest_change_outside(tall, changed, [box]) == 3
    assert largest_change_outside(tall, changed, [box, other]) == 3
    assert largest_change_outside(tall, changed, [other]) == 200


# ---------------------------------------------------------------- as a process


@pytest.fixture
def compare(run: Callable[..., Run]) -> Callable[..., Run]:
    def call(*arguments: str | os.PathLike[str]) -> Run:
        return run("facetools", "compare", *arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})

    return call


def test_a_control_copy_has_not_moved(
    run: Callable[..., Run], compare: Callable[..., Run], plain_photos: Path, tmp_path: Path
) -> None:
    control = run("facetools", "perturb", "--attack", "none", "--in", plain_photos, "--out", tmp_path / "control")
    assert control.code == 0
    done = compare(plain_photos, tmp_path / "control", "--grid", tmp_path / "grid.png")
    assert (done.code, done.err) == (0, "")
    face, faceless_one = done.records
    assert next(iter(face)) == "moved"
    assert (face["moved"], face["ssim"], face["linf"], face["outside_linf"], face["psnr"]) == (0, 1, 0, 0, None)
    assert (face["source"], face["path"]) == (str(plain_photos / "0.png"), str(tmp_path / "control" / "0.png"))
    assert (faceless_one["path"], faceless_one["reason"]) == (None, "no cloaked photo of this name")
    assert Image.open(tmp_path / "grid.png").width > 300
    again = compare(plain_photos, tmp_path / "control", "--grid", tmp_path / "grid.png")
    assert (again.code, again.out) == (2, b"")
    assert again.err == f"facetools: error: --grid {tmp_path / 'grid.png'}: exists; use --force to replace it\n"


def test_tars_suffixes_shards_and_a_damaged_copy(
    compare: Callable[..., Run], face_photo: bytes, tmp_path: Path
) -> None:
    cloaked = tmp_path / "cloaked"
    (cloaked / "p").mkdir(parents=True)
    image = Image.open(io.BytesIO(face_photo))
    image.save(cloaked / "p" / "1_x.png")
    (cloaked / "p" / "11_x.jpg").write_bytes(face_photo[:2000])
    faceless().save(cloaked / "lonely.png")
    with tarfile.open(tmp_path / "clean.tar", "w") as archive:
        for name in ("p/1.jpg", "p/11.jpg", "p/2.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(face_photo)
            archive.addfile(member, io.BytesIO(face_photo))
    done = compare(tmp_path / "clean.tar", cloaked, "--suffix", "_x")
    assert (done.code, done.err) == (3, "")
    same, damaged, alone, lonely = done.records
    assert (same["path"], same["source"]) == (str(cloaked / "p" / "1_x.png"), str(tmp_path / "clean.tar" / "p/1.jpg"))
    assert same["moved"] == 0
    assert (damaged["error"]["kind"], damaged["path"]) == ("truncated", str(cloaked / "p" / "11_x.jpg"))
    assert (alone["path"], alone["relative"]) == (None, "p/2.jpg")
    assert (lonely["source"], lonely["relative"]) == (None, "lonely.png")
    parts = [compare(tmp_path / "clean.tar", cloaked, "--suffix", "_x", "--shard", f"{n}/2") for n in (1, 2)]
    assert b"".join(part.out for part in parts) == done.out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-"], "cannot be -"),
        (["{clean}", "--preprocess", "sharpen:1"], "--preprocess sharpen:1: not known"),
        (["{clean}", "--grid", "{clean}/g.png"], "lies in"),
        (["{clean}", "--amplify", "nan"], "nan"),
        (["{clean}", "--extractor", "nobody"], "nobody"),
    ],
)
def test_what_cannot_be_asked_for(
    compare: Callable[..., Run], plain_photos: Path, arguments: list[str], why: str
) -> None:
    done = compare(plain_photos, *(word.format(clean=plain_photos) for word in arguments))
    assert (done.code, done.out) == (2, b"")
    assert why in done.err
    assert done.err.count("\n") == 1


def test_a_copy_that_cannot_be_drawn_says_so_in_its_place(
    tmp_path: Path, portrait: Any, face: Face, extractor: Extractor
) -> None:
    sheet = Columns({"a": "a", "b": "b", "c": "c"}, rows=1)
    intake, row = intake_of(portrait, face), sheet.photo()
    (drawn,) = compared(tmp_path, intake, noisy(portrait, face), extractor, grid=row.column("a"))
    (cropped,) = compared(tmp_path, intake, portrait[:200], extractor, grid=row.column("b"))
    half = np.asarray(Image.fromarray(portrait).resize((125, 125), Image.Resampling.BICUBIC))
    (scaled,) = compared(tmp_path, intake, half, extractor, grid=row.column("c"))
    assert (drawn["grid_row"], scaled["grid_row"]) == (0, 0)
    assert "amplify" not in drawn
    assert "grid_row" not in cropped
    assert row.cells["a"].text == f"moved {drawn['moved']:.3f}  SSIM {drawn['ssim']:.3f}"
    assert (row.cells["b"].picture, row.cells["b"].text) == (None, cropped["reason"])
    assert row.cells["c"].text == f"moved {scaled['moved']:.3f}  scaled  SSIM {scaled['ssim']:.3f}"
    assert row.clean.text == "a.png"


def test_a_photo_is_embedded_once_for_all_its_copies(
    tmp_path: Path, portrait: Any, face: Face, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[bytes] = []

    def count(pixels: Any, *rest: Any) -> Any:
        embedded.append(pixels.tobytes())
        return embed_face(pixels, *rest)

    embed_face = change.embed_face
    monkeypatch.setattr(change, "embed_face", count)
    Image.fromarray(noisy(portrait, face)).save(tmp_path / "a.png")
    copy = Item(str(tmp_path / "a.png"), "a.png")
    steps = [parse_preprocess(name) for name in ("none", "resize:0.5")]
    comparer, intake, known = Comparer([extractor], Substitute(), steps), intake_of(portrait, face), CleanSide()
    first = comparer.compare(intake, copy, known=known)
    assert len(embedded) == 4
    assert comparer.compare(intake, copy, known=known) == first
    assert len(embedded) == 6, "of the second copy only the copy is embedded"
    assert embedded.count(portrait.tobytes()) == 1
