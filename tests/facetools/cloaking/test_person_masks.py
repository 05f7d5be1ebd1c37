"""One mask a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _toolio.errors import InputError, ToolError
from _toolio.streams.inputs import Item
from _toolio.tensors.writer import write_safetensors
from cloaking_faces import change_of, recipe_of
from facetools.cloaking.engine import Job, add_changes, cloak_faces, make_mask
from facetools.cloaking.person_masks import PHOTOS, SIDE_PX, Masks, gather, mask_matrix, save_masks
from facetools.extractors.extractor import Extractor
from facetools.faces.face import Face
from facetools.faces.finder import Finder
from facetools.faces.templates import TEMPLATES
from facetools.intake import Intake
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Photo


def test_a_mask_of_a_person_moves_a_photo_that_it_was_not_made_from(
    real_people: dict[str, list[bytes]], finder: Finder, extractor: Extractor, tmp_path: Any
) -> None:
    intakes = []
    person, photos = next(iter(real_people.items()))
    for number, data in enumerate(photos):
        photo = decode_photo(data, person)
        faces = tuple(finder.find([photo.pixels])[0][:1])
        intakes.append(Intake(Item(f"{person}/{number}.jpg", f"{person}/{number}.jpg"), data, photo, faces, (0,)))
    recipe = recipe_of(extractor, "opom", steps=6)
    made = make_mask(gather(intakes[:-1])[person], person, recipe)
    assert made is not None
    mask, steps = made
    assert steps == recipe.knobs["steps"]
    save_masks(tmp_path / "m.safetensors", {person: mask}, {})
    masks = Masks(tmp_path / "m.safetensors")
    assert torch.equal(masks.of(f"{person}/new.jpg", "x"), mask)
    job = Job(intakes[-1].photo.pixels, intakes[-1].faces[0], 0, person, mask)
    result = add_changes(job.pixels, cloak_faces([job], recipe))
    change = change_of(job.pixels, result, job.face, extractor)
    assert change is not None
    assert change.moved > 0.02
    assert change.linf <= 255 * recipe.knobs["epsilon"] + 1


@pytest.fixture
def two_masks(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    masks = {name: torch.from_numpy(rng.uniform(-0.03, 0.03, (3, 9, 9)).astype(np.float32)) for name in ("ann", "bob")}
    save_masks(tmp_path / "two.safetensors", masks, {"seed": 3})
    return tmp_path / "two.safetensors"


def test_masks_are_found_by_person(two_masks: Path, tmp_path: Path) -> None:
    masks = Masks(two_masks)
    assert masks.about["seed"] == 3
    ann, bob = masks.of("ann/1.jpg", "in/ann/1.jpg"), masks.of("bob/face/1.jpg", "in/bob/face/1.jpg")
    assert not torch.equal(ann, bob)
    with pytest.raises(InputError, match="has no mask for eve") as caught:
        masks.of("eve/1.jpg", "in/eve/1.jpg")
    assert caught.value.kind == "no-mask"
    # The only one there is serves everybody.
    save_masks(tmp_path / "one.safetensors", {"ann": ann}, {})
    assert torch.equal(Masks(tmp_path / "one.safetensors").of("eve/1.jpg", "in/eve/1.jpg"), ann)


@pytest.mark.parametrize(
    ("tensors", "schema", "words"),
    [
        ({"a": np.zeros((3, 4, 4), np.float32)}, "other/1", "not a file of masks, which `facetools perturb` makes"),
        ({"a": np.zeros((3, 4, 5), np.float32)}, "facetools.mask/1", "holds no masks of shape"),
        ({"a": np.full((3, 4, 4), np.nan, np.float32)}, "facetools.mask/1", "not finite"),
    ],
)
def test_what_is_no_file_of_masks(tensors: dict[str, Any], schema: str, words: str, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x.safetensors", tensors, {"schema": schema})
    with pytest.raises(ToolError, match=words) as caught:
        Masks(tmp_path / "x.safetensors")
    assert caught.value.kind == "mask"


def test_of_a_large_photo_what_lies_around_the_face_is_kept() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    face = Face((100, 120, 130, 160), 1.0, np.array([[110.0, 130], [120, 130], [115, 140], [110, 150], [120, 150]]))
    intake = Intake(Item("in/ann/1.jpg", "ann/1.jpg"), b"", Photo(pixels, "PNG"), (face,), (0,))
    nobody = Intake(Item("in/bob/1.jpg", "bob/1.jpg"), b"", Photo(pixels, "PNG"), (), ())
    people = gather([nobody, *[intake] * (PHOTOS + 3)])
    assert list(people) == ["ann"]
    assert len(people["ann"].faces) == PHOTOS
    kept, moved = people["ann"].pixels[0], people["ann"].faces[0]
    # Twice the box's longer side, 40, on each side of it.
    assert kept.shape == (200, 190, 3)
    assert np.array_equal(kept, pixels[40:240, 20:210])
    assert moved.box == (80, 80, 110, 120)
    assert moved.landmarks.tolist() == (face.landmarks - (20, 40)).tolist()


def test_a_mask_covers_what_its_template_says() -> None:
    # Landmarks that are the template's own: the chip lies on the photo as it is.
    face = Face((0, 0, 112, 112), 1.0, np.array(TEMPLATES["arcface-112"][1]))
    matrix = mask_matrix(face, (112, 112))
    corner, end = (matrix @ [x, y, 1] for x, y in ((-0.5, -0.5), (SIDE_PX - 0.5, SIDE_PX - 0.5)))
    # 128x128 pixels around 112x112, edges half a pixel out.
    assert corner == pytest.approx((-8.5, -8.5), abs=1e-6)
    assert end == pytest.approx((119.5, 119.5), abs=1e-6)
