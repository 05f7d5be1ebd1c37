"""From inputs to photos with faces."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from _toolio.errors import InputError
from _toolio.paths import Item
from conftest import faceless, saved
from facetools.intake import Finished, Intake, Refusal, describe_face, face_of, take_in

CPU = torch.device("cpu")
POINTS = [[10.0, 10], [30, 10], [20, 20], [12, 30], [28, 30]]


def test_a_record_with_landmarks_is_that_face() -> None:
    record = {"landmarks": POINTS, "box": [1, 2, 3, 4], "confidence": 0.5}
    face = face_of(record, "x")
    assert face is not None
    assert (face.box, face.confidence, face.landmarks.tolist()) == ((1, 2, 3, 4), 0.5, POINTS)
    bare = face_of({"landmarks": POINTS, "box": None, "confidence": "high"}, "x")
    assert bare is not None
    assert (bare.box, bare.confidence) == ((10, 10, 30, 30), 1.0)
    assert face_of({"path": "x"}, "x") is None
    assert face_of({"landmarks": None}, "x") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"landmarks": []},
        {"landmarks": 3},
        {"landmarks": "text"},
        {"landmarks": {"a": 1}},
        {"landmarks": POINTS[:4]},
        {"landmarks": [*POINTS[:4], [1]]},
        {"landmarks": [*POINTS[:4], [1, math.nan]]},
        {"landmarks": [*POINTS[:4], [1, None]]},
        {"landmarks": [*POINTS[:4], [1, 10**400]]},
        {"landmarks": [*POINTS[:4], [1, 1e300]]},
        {"box": [1, 2, 3]},
        {"box": [1, 2, 3, math.inf]},
        {"box": [math.nan, 2, 3, 4]},
        {"box": [-1e308, 0, 1e308, 1]},
        {"box": "text"},
        {"confidence": 10**400},
    ],
)
def test_a_face_that_cannot_be(changed: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^x\.jpg: the record's landmarks or box") as caught:
        face_of({"landmarks": POINTS, "box": [1, 2, 3, 4], **changed}, "x.jpg")
    assert caught.value.kind == "bad-record"


def test_every_kind_of_input(tmp_path: Any, face_photo: bytes) -> None:
    files = {"face.jpg": face_photo, "plain.png": saved(faceless(), "PNG"), "text.jpg": b"Dear diary", "empty.jpg": b""}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def item(name: str, **record: Any) -> Item:
        return Item(str(tmp_path / name), name, record)

    items = [
        item("face.jpg"),
        item("plain.png"),
        item("text.jpg"),
        item("empty.jpg"),
        item("gone.jpg"),
        item("plain.png", path="plain.png", landmarks=POINTS, face=4),
        item("plain.png", path="plain.png", landmarks=[1]),
        item("plain.png", path=None, reason="no face found"),
        item("plain.png", path="plain.png", error={"kind": "k"}),
        Item("stdin, line 9", "unnamed", error=InputError("stdin, line 9: broken")),
        item("done.png"),
    ]
    (tmp_path / "done.png").write_bytes(b"not looked at")
    found = list(take_in(items, CPU, finished=lambda item, data: [{"a": 1}] if data == b"not looked at" else None))
    assert [type(each) for each in found] == [Intake, Intake] + [Refusal] * 3 + [Intake] + [Refusal] * 4 + [Finished]
    assert [each.item for each in found] == items
    intakes = [each for each in found if isinstance(each, Intake)]
    assert [each.numbers for each in intakes] == [(0,), (), (4,)]
    assert intakes[2].faces[0].landmarks.tolist() == POINTS
    assert len(intakes[0].digest) == 64
    errors = [each.error and each.error.kind for each in found if isinstance(each, Refusal)]
    assert errors == ["not-a-photo", "empty-file", "missing", "bad-record", None, None, "failed"]


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (3, 20_000), (12, 12)])
def test_photos_too_thin_for_a_face(tmp_path: Any, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(saved(faceless(size), "PNG"))
    (intake,) = take_in([Item(str(tmp_path / "a.png"), "a.png")], CPU)
    assert isinstance(intake, Intake)
    assert intake.faces == ()


def test_the_largest_face_only(tmp_path: Any, real_people: dict[str, list[bytes]]) -> None:
    import io

    from PIL import Image

    first, second = (Image.open(io.BytesIO(photos[0])) for photos in list(real_people.values())[:2])
    both = Image.new("RGB", (700, 400))
    both.paste(first, (0, 50))
    both.paste(second.resize((400, 400)), (300, 0))
    both.save(tmp_path / "both.png")
    item = Item(str(tmp_path / "both.png"), "both.png")
    (every,), (largest,) = take_in([item], CPU), take_in([item], CPU, faces="largest")
    assert isinstance(every, Intake)
    assert isinstance(largest, Intake)
    assert (len(every.faces), every.numbers, largest.numbers) == (2, (0, 1), (0,))
    assert largest.faces[0].box == max(every.faces, key=lambda face: face.area).box
    assert largest.faces[0].box[0] > 300
    said = describe_face(largest.faces[0], 0)
    again = face_of(said, "x")
    assert again is not None
    assert abs(again.landmarks - largest.faces[0].landmarks).max() <= 5.1e-4
