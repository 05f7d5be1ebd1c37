"""From an attack on face regions to a cloaked photo, on real photos."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from _toolio.files.hashing import sha256_of
from _toolio.streams.inputs import Item
from cloaking_faces import change_of, moved_face, recipe_of
from conftest import faceless, saved
from facetools.cloaking.cloaker import Cloaker
from facetools.cloaking.goals.goal import Goal
from facetools.extractors.extractor import Extractor
from facetools.faces.face import Face
from facetools.intake import Intake
from facetools.outputs import Output
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Photo
from facetools.photos.saving import Saving


def through(
    photo: Photo, faces: tuple[Face, ...], extractor: Extractor, name: str = "a/b.pgm", **options: Any
) -> Output:
    cloaker = Cloaker(recipe_of(extractor, steps=2), Saving(**options))
    intake = Intake(Item(f"in/{name}", name), b"file", photo, faces, tuple(range(len(faces))))
    (output,) = cloaker.cloak([intake])
    return output


def test_a_grey_photo_stays_grey(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    photo = decode_photo(saved(portrait.convert("L"), "PPM"), "b.pgm")
    output = through(photo, (face,), extractor)
    assert output.data is not None
    assert output.data.startswith(b"P5")
    (record,) = output.described
    assert record["moved"] > 0
    assert (output.relative, record["relative"], record["source"]) == ("a/b.pgm", "a/b.pgm", "in/a/b.pgm")
    assert record["source_sha256"] == sha256_of(b"file")
    # What is told was measured on what is saved.
    saved_pixels = decode_photo(output.data, "b.pgm").pixels
    change = change_of(photo.pixels, saved_pixels, face, extractor)
    assert change is not None
    assert record["moved"] == pytest.approx(change.moved)


def test_a_photo_without_faces_is_not_written(extractor: Extractor) -> None:
    photo = decode_photo(saved(faceless(), "GIF"), "x.gif")
    output = through(photo, (), extractor, "x.gif")
    assert output.data is None
    (record,) = output.described
    assert record["reason"] == "no face found; nothing written"
    assert record["notes"] == ["palette read as RGB", "GIF is written as PNG"]


def test_a_format_that_cannot_hold_the_photo_is_an_error_record(face: Face, extractor: Extractor) -> None:
    photo = decode_photo(saved(Image.new("L", (66_000, 160)), "PNG"), "wide.png")
    output = through(photo, (moved_face(face, 1, 5000, 0),), extractor, "wide.png", file_format="JPEG")
    assert output.data is None
    (record,) = output.described
    assert record["error"]["kind"] == "unwritable"
    assert record["error"]["message"].startswith("in/wide.png: the photo cannot be written as JPEG")


def test_the_saved_face_is_embedded_once(portrait: Image.Image, face: Face, extractor: Extractor) -> None:
    photo = decode_photo(saved(portrait, "PNG"), "b.png")
    recipe = replace(recipe_of(extractor, steps=1), goal=Goal(moved=1.9))
    intake = Intake(Item("in/b.png", "b.png"), b"file", photo, (face,), (0,))
    measured = 0

    def count(*_: object) -> None:
        nonlocal measured
        measured += torch.is_inference_mode_enabled()  # and not by the attack, which needs gradients

    hook = extractor.network.register_forward_hook(count)
    (output,) = Cloaker(recipe, Saving()).cloak([intake])
    hook.remove()
    (record,) = output.described
    assert record["reached"] is False
    assert record["moved"] > 0
    assert not {"clean", "cloaked"} & record.keys()
    assert measured == 3, "the clean face where the attack begins, and both for all that the record says"
