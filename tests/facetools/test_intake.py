"""From inputs to photos with faces."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from _toolio.errors import InputError
from _toolio.streams.inputs import Item
from conftest import faceless, saved
from facetools.added_faces import AddedFaces
from facetools.faces.face import Face, describe_face, face_of
from facetools.faces.finder import Finder
from facetools.faces.search import FaceSearch
from facetools.intake import Finished, Intake, Reader, Refusal, input_digest, requests_of, take_in, unfinished

CPU = torch.device("cpu")
POINTS = [[10.0, 10], [30, 10], [20, 20], [12, 30], [28, 30]]


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
    done = [{"a": 1}]
    requests = unfinished(requests_of(items), lambda _, __, read, ___: done if read() == b"not looked at" else None)
    found = Reader(CPU, FaceSearch()).read(list(requests))
    assert [type(each) for each in found] == [Intake, Intake] + [Refusal] * 3 + [Intake] + [Refusal] * 4 + [Finished]
    assert [each.item for each in found] == items
    intakes = [each for each in found if isinstance(each, Intake)]
    assert [each.numbers for each in intakes] == [(0,), (), (4,)]
    assert intakes[2].faces[0].landmarks.tolist() == POINTS
    assert len(intakes[0].digest) == 64
    errors = [each.error and each.error.kind for each in found if isinstance(each, Refusal)]
    assert errors == ["not-a-photo", "empty-file", "missing", "bad-record", None, None, "failed"]


def shifted(pixels: float) -> list[list[float]]:
    return [[x + pixels, y] for x, y in POINTS]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "a.png").write_bytes(saved(faceless(), "PNG"))
    return str(tmp_path / "a.png")


def named(path: str, **record: Any) -> Item:
    return Item(path, "a.png", {"path": path, "landmarks": POINTS, **record})


def test_records_of_one_photo_give_one_intake(photo: str) -> None:
    items = [
        named(photo, face=2, who="Ann"),
        named(photo, landmarks=POINTS[:4], who="nobody"),
        named(photo, landmarks=shifted(5), who="Ben"),
        named(photo, landmarks=shifted(9), face=0, who="Cid"),
    ]
    intake, refusal = take_in(items, CPU)
    assert isinstance(intake, Intake)
    assert intake.item == items[0]
    # The one without a number gets the first that no other has.
    assert intake.numbers == (2, 1, 0)
    assert [face.landmarks.tolist() for face in intake.faces] == [POINTS, shifted(5), shifted(9)]
    assert [record["who"] for record in intake.named] == ["Ann", "Ben", "Cid"]
    assert isinstance(refusal, Refusal)
    assert (refusal.item, refusal.error and refusal.error.kind) == (items[1], "bad-record")


def test_records_that_are_no_further_face_of_the_photo_stand_alone(photo: str) -> None:
    elsewhere = Item(photo, "b.png", {"path": photo, "landmarks": shifted(9)})
    items = [
        named(photo, face=0),
        named(photo, face=0, landmarks=shifted(5)),  # a number once more
        named(photo, face=1, landmarks=shifted(5)),  # landmarks once more
        elsewhere,
        Item(photo, "a.png", {"path": photo}),
        Item(photo, "a.png"),
        named(photo),
    ]
    found = list(take_in(items, CPU))
    assert [each.item for each in found] == items
    assert all(isinstance(each, Intake) for each in found)


def test_every_face_of_a_photo_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    items = [named(str(tmp_path / "gone.png"), landmarks=shifted(n)) for n in range(3)]
    found = list(take_in(items, CPU))
    assert [each.item for each in found] == items
    assert [isinstance(each, Refusal) and each.error and each.error.kind for each in found] == ["missing"] * 3


def test_only_records_with_landmarks_wait_for_the_next_item(photo: str) -> None:
    taken: list[str] = []

    def coming(items: list[Item]) -> Iterator[Item]:
        for item in items:
            taken.append(item.relative)
            yield item

    plain = [Item(photo, "one"), Item(photo, "two", {"path": photo, "who": "me"}), Item(photo, "three")]
    intakes = take_in(coming([*plain, named(photo), Item(photo, "last")]), CPU)
    for number, item in enumerate(plain, 1):
        assert next(intakes).item == item
        assert len(taken) == number
    assert next(intakes).item.relative == "a.png"
    assert taken[-1] == "last"


def test_the_digest_of_an_input_covers_the_faces_named_and_no_other_field() -> None:
    before = {"path": "a", "landmarks": POINTS, "box": [1, 2, 3, 4], "face": 0, "confidence": 0.5, "who": "me"}
    item = Item("in/a.jpg", "a.jpg")

    def digest(*records: dict[str, Any], item: Item = item, data: bytes = b"photo") -> str:
        return input_digest(item, records, data)

    assert digest({**before, "who": "you", "score": 1}) == digest(before)
    others = [
        *(digest({**before, **changed}) for changed in (
            {"landmarks": shifted(1)}, {"box": None}, {"face": 1}, {"confidence": 0.6}
        )),
        digest(),
        digest(before, before),
        digest(before, data=b"other"),
        digest(before, item=Item("in/a.jpg", "in/a.jpg")),
    ]  # fmt: skip
    assert len({digest(before), *others}) == 1 + len(others)


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


def test_one_of_several_faces_is_chosen(real_people: dict[str, list[bytes]], tmp_path: Path) -> None:
    """A large face at the left edge, a smaller one in the middle."""
    (one, *_), (other, *_), *_ = real_people.values()
    large, small = (
        Image.open(io.BytesIO(data)).convert("RGB").resize((s, s)) for data, s in ((one, 300), (other, 200))
    )
    photo = Image.new("RGB", (800, 300), (90, 90, 90))
    photo.paste(large, (0, 0))
    photo.paste(small, (300, 50))
    (tmp_path / "two.png").write_bytes(saved(photo, "PNG"))
    items = [Item(str(tmp_path / "two.png"), "two.png")]
    chosen = {}
    for faces in ("all", "largest", "central"):
        (intake,) = take_in(items, CPU, faces=faces)
        assert isinstance(intake, Intake)
        chosen[faces] = [
            (number, round(face.box[0])) for number, face in zip(intake.numbers, intake.faces, strict=True)
        ]
    assert len(chosen["all"]) == 2
    assert chosen["largest"] == chosen["all"][:1]
    assert chosen["central"] == chosen["all"][1:]
    assert chosen["central"][0][1] > 300


@pytest.mark.parametrize(("arm", "largest", "central"), [(0.78, 1, 2), (0.89, 1, 2), (0.93, 0, 0)])
def test_a_doubtful_find_is_neither_the_largest_nor_the_central_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: float, largest: int, central: int
) -> None:
    boxes = [((0, 0, 64, 48), arm), ((0, 0, 20, 20), 0.999), ((20, 10, 36, 26), 0.998), ((26, 20, 38, 28), 0.7)]
    found = [Face(box, confidence, np.array(POINTS)) for box, confidence in boxes]
    monkeypatch.setattr(Finder, "find", lambda *_, **__: [found])
    (tmp_path / "a.png").write_bytes(saved(faceless(), "PNG"))
    item = Item(str(tmp_path / "a.png"), "a.png")
    for faces, expected in (("largest", (largest,)), ("central", (central,)), ("all", (0, 1, 2, 3))):
        (intake,) = take_in([item], CPU, faces=faces)
        assert isinstance(intake, Intake)
        assert intake.numbers == expected


def test_how_faces_are_searched_for_reaches_the_finder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Finder] = []

    def find(self: Finder, photos: Any, **_: Any) -> list[list[Face]]:
        made.append(self)
        return [[] for _ in photos]

    monkeypatch.setattr(Finder, "find", find)
    (tmp_path / "a.png").write_bytes(saved(faceless(), "PNG"))
    item = Item(str(tmp_path / "a.png"), "a.png")
    list(take_in([item], CPU))
    list(take_in([item], CPU, faces=FaceSearch(min_confidence=0.9, rotations=True)))
    assert [(finder.thresholds[2], finder.rotations) for finder in made] == [(0.7, False), (0.9, True)]


@pytest.mark.parametrize(
    ("size", "least", "reason"),
    [
        ((64, 48), None, "no face of 20 pixels or more found"),
        ((1650, 1240), None, "no face of 42 pixels or more found"),
        ((64, 48), 30.5, "no face of 31 pixels or more found"),
    ],
)
def test_the_reason_names_the_smallest_face_that_was_searched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], least: float | None, reason: str
) -> None:
    monkeypatch.setattr(Finder, "find", lambda *_, **__: [[]])
    (tmp_path / "a.png").write_bytes(saved(faceless(size), "PNG"))
    (intake,) = take_in([Item(str(tmp_path / "a.png"), "a.png")], CPU, faces=FaceSearch(min_face_px=least))
    assert isinstance(intake, Intake)
    assert intake.no_face == reason


def test_added_faces_stand_beside_those_that_are_found(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [((0.0, 0.0, 20.0, 20.0), 0.9), ((40.0, 0.0, 60.0, 20.0), 0.99)]
    monkeypatch.setattr(Finder, "find", lambda *_, **__: [[Face(box, sure, np.array(POINTS)) for box, sure in boxes]])
    seen = np.array(shifted(2))
    monkeypatch.setattr(Finder, "place_landmarks", lambda *_: seen)
    over, apart = {"path": photo, "box": [1, 0, 20, 20]}, {"path": photo, "landmarks": shifted(7), "confidence": 0.3}
    item = Item(photo, "a.png")
    asked: list[Any] = []
    for faces, numbers, others in (("all", (0, 1, 2), ()), ("largest", (0, 2), (1,))):
        both = AddedFaces([(1, over), (2, apart)])
        (request,) = unfinished(requests_of([item], added=both), lambda *given: asked.append(given))
        (intake,) = Reader(CPU, FaceSearch(faces)).read([request])
        assert isinstance(intake, Intake)
        assert intake.numbers == numbers
        assert tuple(number for number, _ in intake.others) == others
        by_number = dict(zip(intake.numbers, intake.faces, strict=True))
        assert (by_number[0].box, by_number[0].confidence) == ((1, 0, 20, 20), None)
        assert by_number[0].landmarks.tolist() == seen.tolist()
        assert (by_number[2].landmarks.tolist(), by_number[2].confidence) == (shifted(7), 0.3)
        # Who resumes must know of them: an input without them is another one.
        assert asked.pop()[3] == intake.added == (over, apart)
    assert input_digest(item, (), b"x", [over]) != input_digest(item, (), b"x") == input_digest(item, (), b"x", ())


def test_added_faces_stand_beside_those_that_records_name(photo: str) -> None:
    more = {"path": photo, "landmarks": shifted(9), "who": "Ben"}
    (intake,) = take_in([named(photo, face=0, who="Ann")], CPU, added=AddedFaces([(1, more)]))
    assert isinstance(intake, Intake)
    assert (intake.numbers, len(intake.named), intake.added) == ((0, 1), 2, ())
    assert [record["who"] for record in intake.named] == ["Ann", "Ben"]


def test_a_record_of_a_box_alone_names_a_face(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Finder, "place_landmarks", lambda *_: None)
    items = [Item(photo, "a.png", {"path": photo, "box": [n, 0, n + 20, 30]}) for n in (0, 30, 30)]
    first, again = take_in(items, CPU)
    assert isinstance(first, Intake)
    assert isinstance(again, Intake)
    assert [face.box[0] for face in first.faces] == [0, 30]
    assert all(face.confidence is None and not face.is_crop for face in first.faces)
    assert len(again.faces) == 1, "a box once more"
    crop = Item(photo, "a.png", {"path": photo, "box": [0, 0, 64, 48], "landmarks": None, "confidence": None})
    (searched,) = take_in([crop], CPU)
    assert isinstance(searched, Intake)
    assert searched.searched_px == 20, "the record of a crop names no face"


@pytest.mark.parametrize("error", [None, "", {}, False])
def test_an_empty_error_is_none(photo: str, error: Any) -> None:
    """A table of records, some of which have failed, has such a column in every row."""
    taken, refused = take_in(
        [Item(photo, "a.png", {"path": photo, "error": each}) for each in (error, {"kind": "k"})], CPU
    )
    assert isinstance(taken, Intake)
    assert isinstance(refused, Refusal)
    assert refused.error is None, "it is passed on"
