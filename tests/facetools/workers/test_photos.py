"""Workers of photos: what they yield, in which order, and where memory runs out."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _toolio.engines.engine import LocalEngine
from _toolio.streams.inputs import Item
from conftest import faceless, saved
from facetools.faces.face import Face, describe_face
from facetools.faces.finder import Finder
from facetools.faces.search import FaceSearch
from facetools.intake import Finished, Intake, Refusal, requests_of, take_in
from facetools.workers.photos import PhotoWorker, Processed, process

CPU = torch.device("cpu")
POINTS = [[10.0, 10], [30, 10], [20, 20], [12, 30], [28, 30]]


class Describer(PhotoWorker[list[dict[str, Any]]]):
    """Describe faces; ``limit`` pixels are all that memory suffices for."""

    def __init__(self, device: str, limit: int = 1 << 40) -> None:
        super().__init__(torch.device(device), FaceSearch(), 1)
        self.limit = limit

    def make(self, intakes: Sequence[Intake]) -> list[list[dict[str, Any]]]:
        if sum(each.photo.pixels.size for each in intakes) > self.limit:
            raise MemoryError
        return [[describe_face(face, n) for face, n in zip(each.faces, each.numbers, strict=True)] for each in intakes]


def test_results_come_in_the_order_of_the_items(tmp_path: Path, real_people: dict[str, list[bytes]]) -> None:
    items = []
    for number, photos in enumerate(list(real_people.values())[:4]):
        (tmp_path / f"{number}.jpg").write_bytes(photos[0])
        items.append(Item(str(tmp_path / f"{number}.jpg"), f"{number}.jpg"))
    (tmp_path / "a.png").write_bytes(saved(faceless(), "PNG"))
    plain = str(tmp_path / "a.png")
    items.insert(1, Item(plain, "a.png", {"path": plain, "face": 3, "landmarks": POINTS, "box": [0, 0, 20, 20]}))
    items.insert(3, Item(str(tmp_path / "gone.jpg"), "gone.jpg"))
    taken = list(take_in(items, CPU))
    expected = [
        [describe_face(f, n) for f, n in zip(each.faces, each.numbers, strict=True)]
        if isinstance(each, Intake)
        else each.error and each.error.kind
        for each in taken
    ]
    for threads, together in ((1, 1), (3, 1), (2, 4)):
        worker = Describer("cpu")
        worker.threads, worker.per_call, worker.at_once.size = threads, together, together
        worked = list(process(items, LocalEngine("cpu"), Describer, worker, batch=1))
        assert [each.item for each in worked] == items
        assert [
            each.made if isinstance(each, Processed) else each.error and each.error.kind
            for each in worked
            if not isinstance(each, Finished)
        ] == expected


def test_what_another_process_is_sent_holds_neither_bytes_nor_pixels(photo_file: Path) -> None:
    item = Item(str(photo_file), "a.png")
    (found,) = process([item], LocalEngine("cpu"), Describer, batch=1)
    assert len(pickle.dumps(found)) < 2000 < photo_file.stat().st_size
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.fixture
def photo_file(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(saved(faceless((300, 300)), "PNG"))
    return tmp_path / "a.png"


def test_what_is_finished_passes_and_is_not_read_again(photo_file: Path) -> None:
    done = [{"score": 1}]
    items = [Item(str(photo_file), "a.png"), Item(str(photo_file), "b.png")]
    asked = process(
        items,
        LocalEngine("cpu"),
        Describer,
        batch=1,
        finished=lambda item, *_: done if item.relative == "a.png" else None,
    )
    first, second = asked
    assert isinstance(first, Finished)
    assert (first.item, first.records) == (items[0], done)
    assert isinstance(second, Processed)


def test_a_photo_that_memory_does_not_suffice_for_is_refused_and_others_are_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("a", (30, 30)), ("large", (90, 90)), ("z", (30, 30))):
        (tmp_path / f"{name}.png").write_bytes(saved(faceless(size), "PNG"))
    items = [Item(str(tmp_path / f"{name}.png"), f"{name}.png") for name in ("a", "large", "z")]
    face = Face((0.0, 0.0, 20.0, 20.0), 0.9, np.array(POINTS))

    def find(self: Finder, photos: Any, **_: Any) -> list[list[Face]]:
        if sum(photo.size for photo in photos) > 2 * 3 * 30 * 30:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return [[face] for _ in photos]

    monkeypatch.setattr(Finder, "find", find)
    worker, engine = Describer("cpu"), LocalEngine("cpu")
    worker.threads, worker.per_call, worker.at_once.size = 1, 4, 4
    worker.at_once = type(worker.at_once)(4)
    worker._reader._at_once = worker.at_once
    worked = list(process(items, engine, Describer, worker, batch=1))
    assert engine.halved_to == worker.at_once.size == 1
    for first, large, last in (worked, list(take_in(items, CPU))):
        assert [type(each) is Refusal for each in (first, large, last)] == [False, True, False]
        assert isinstance(large, Refusal)
        assert large.error is not None
        assert large.error.kind == "no-memory"
    # Found, but not enough for what is made of it.
    monkeypatch.setattr(Finder, "find", lambda self, photos, **_: [[face] for _ in photos])
    small = list(process(items, LocalEngine("cpu"), partial(Describer, limit=3 * 30 * 30), batch=1))
    errors = [each.error.kind for each in small if isinstance(each, Refusal) and each.error]
    assert (len(small), errors) == (3, ["no-memory"])


def test_memory_is_given_back_while_photos_are_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once at the end: a run may be of any length."""
    items = []
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(saved(faceless(), "PNG"))
        path = str(tmp_path / f"{number}.png")
        items.append(Item(path, f"{number}.png", {"path": path, "face": 0, "landmarks": POINTS, "box": [0, 0, 20, 20]}))
    given: list[int] = []
    monkeypatch.setattr("facetools.workers.photos._PARTS_PER_TRIM", 2)
    monkeypatch.setattr("facetools.workers.photos.give_back_unused", lambda: given.append(len(made)))
    made: list[object] = []
    for each in Describer("cpu")([*requests_of(items)]):
        made.append(each)
    assert given == [2, 4]
