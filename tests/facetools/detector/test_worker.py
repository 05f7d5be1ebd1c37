"""The worker of ``facetools detect``: opened from what can be sent to another process."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

from _toolio.streams.inputs import Item
from conftest import faceless, saved
from facetools.detector.files import SHIPPED
from facetools.detector.worker import DetectionWorker
from facetools.faces.search import FaceSearch
from facetools.intake import Request
from facetools.workers.photos import Processed


def test_a_worker_of_another_process_finds_the_same(tmp_path: Path, face_photo: bytes) -> None:
    files = {"face.jpg": face_photo, "plain.png": saved(faceless(), "PNG")}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    requests = [Request((Item(str(tmp_path / name), name),)) for name in files]
    opening = partial(DetectionWorker, SHIPPED, FaceSearch(), 8)
    here = list(opening("cpu")(requests))
    there = list(pickle.loads(pickle.dumps(opening))("cpu")(pickle.loads(pickle.dumps(requests))))
    assert len(here) == 2
    for one, other in zip(here, there, strict=True):
        assert isinstance(one, Processed)
        assert isinstance(other, Processed)
        again = pickle.loads(pickle.dumps(other))
        assert [(prediction, number) for prediction, _, number in one.made.faces] == [
            (prediction, number) for prediction, _, number in again.made.faces
        ]
        assert (one.made.no_face, one.made.notes) == (again.made.no_face, again.made.notes)
    assert isinstance(here[0], Processed)
    assert here[0].made.faces
    assert here[0].made.no_face is None
    assert isinstance(here[1], Processed)
    assert here[1].made.no_face == "no face of 20 pixels or more found"


def test_a_whole_photo_is_one_face(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved(faceless((120, 90)), "PNG"))
    worker = DetectionWorker(SHIPPED, FaceSearch("whole-photo"), 1, "cpu")
    (found,) = worker([Request((Item(str(tmp_path / "a.png"), "a.png"),))])
    assert isinstance(found, Processed)
    ((prediction, face, number),) = found.made.faces
    assert prediction is not None
    assert (number, len(face.landmarks)) == (0, 0)
