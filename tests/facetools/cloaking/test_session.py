"""A cloaking session, from Python."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from _toolio.errors import ToolError, UsageError
from _toolio.streams.inputs import Item, open_items
from _toolio.streams.records import Record, dump_record
from conftest import Run
from facetools.cloaking import CloakingConfig, CloakingSession
from facetools.commands._train_robust import make_cloaks
from facetools.faces.search import FaceSearch
from facetools.intake import Finished, Refusal
from facetools.outputs import PhotoFolder
from facetools.workers.photos import Processed

FILE = Path("x.safetensors")


@pytest.fixture(scope="module")
def photos(face_photo: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small photo with a face, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    Image.open(io.BytesIO(face_photo)).convert("RGB").crop((50, 50, 200, 200)).save(folder / "face.png")
    (folder / "text.png").write_bytes(b"no photo")
    return folder


def items(folder: Path) -> list[Item]:
    return list(open_items([str(folder)]))


def session(**config: Any) -> CloakingSession:
    return CloakingSession(CloakingConfig(**{"attack": "lowkey", "knobs": {"steps": 1}, **config}), device="cpu")


def test_what_is_cloaked_and_what_is_not(photos: Path) -> None:
    cloaked, refused = session().cloak(items(photos))
    assert isinstance(cloaked, Processed)
    assert cloaked.made.files[0].relative == "face.png"
    (record,) = cloaked.made.files[0].described
    assert record["moved"] > 0.001
    assert (record["attack"], record["knobs"]["steps"], record["face"]) == ("lowkey", 1, 0)
    assert cloaked.made.files[0].data is not None
    saved = np.array(Image.open(io.BytesIO(cloaked.made.files[0].data)))
    clean = np.array(Image.open(photos / "face.png"))
    assert saved.shape == clean.shape
    assert 0 < np.abs(saved.astype(int) - clean).max() <= record["linf"]
    assert isinstance(refused, Refusal)
    assert refused.error is not None
    assert refused.error.kind == "not-a-photo"


def test_cloaking_leaves_the_threads_of_torch_as_they_were(photos: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        cloaks = session(attack="none", knobs={}).cloak(items(photos))
        assert torch.get_num_threads() == 3
        next(cloaks)
        assert torch.get_num_threads() == 1
        list(cloaks)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_folder_is_written_and_resumed(photos: Path, tmp_path: Path) -> None:
    first = list(session().write(items(photos), tmp_path / "out"))
    assert [len(records) for records in first] == [1, 1]
    assert first[1][0]["source"] == str(photos / "text.png")
    assert (first[1][0]["moved"], first[1][0]["error"]["kind"]) == (None, "not-a-photo")
    record = first[0][0]
    assert list(record)[:3] == ["moved", "schema", "path"]
    assert (record["schema"], record["path"]) == ("facetools.perturb/1", str(tmp_path / "out" / "face.png"))
    written = (tmp_path / "out" / "face.png").read_bytes()
    with pytest.raises(UsageError, match="was made with seed 0, not 1"):
        list(session(seed=1).write(items(photos), tmp_path / "out", resume=True))
    again = session()
    with PhotoFolder(tmp_path / "out", "facetools-perturb", again.arguments, resume=True, force=False) as folder:
        done, _ = again.cloak(items(photos), folder.finished)
    assert isinstance(done, Finished)
    assert done.records == [record]
    assert (tmp_path / "out" / "face.png").read_bytes() == written


def as_printed(records: list[list[Record]]) -> list[Record]:
    """Return the records as the command prints them: it rounds the field that ranks."""
    return [json.loads(dump_record(record)) for each in records for record in each]


def test_the_command_and_the_library_resume_each_other(run: Callable[..., Run], photos: Path, tmp_path: Path) -> None:
    words = ("perturb", "--attack", "lowkey", "--set", "steps=1", "--device", "cpu", "--in", photos, "--out")
    first = list(session().write(items(photos), tmp_path / "python"))
    resumed = run("facetools", *words, tmp_path / "python", "--resume")
    assert resumed.code == 3, resumed.err
    assert resumed.records == as_printed(first)
    printed = run("facetools", *words, tmp_path / "command")
    again = list(session().write(items(photos), tmp_path / "command", resume=True))
    assert as_printed(again) == printed.records
    journals = [(tmp_path / name / ".facetools-perturb.jsonl").read_bytes() for name in ("python", "command")]
    assert journals[0].splitlines()[0] == journals[1].splitlines()[0]


def test_a_resumed_folder_takes_the_masks_that_were_saved(photos: Path, tmp_path: Path) -> None:
    saved = tmp_path / "masks.safetensors"
    maker = session(attack="opom", save_mask=saved)
    first = list(maker.write(iter(items(photos)), tmp_path / "out"))
    made = saved.stat().st_mtime_ns
    again = session(attack="opom", save_mask=saved)
    assert list(again.write(items(photos), tmp_path / "out", resume=True)) == first
    assert saved.stat().st_mtime_ns == made


def test_cloaks_to_train_on_speak_of_failures_alone(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"extractor": "dlib-resnet", "device": "cpu", "search": FaceSearch(), "seed": 0}
    made = make_cloaks("none", items(photos), tmp_path, **options, resume=False, force=False)
    assert list(made) == [[], []]
    assert (tmp_path / ".facetools-train-robust.jsonl").is_file()
    clean, copy = (np.array(Image.open(folder / "face.png")) for folder in (photos, tmp_path))
    assert np.array_equal(clean, copy)
    (failed,), nothing = make_cloaks("none", items(photos), tmp_path, **options, resume=False, force=False)
    assert nothing == []
    assert (failed["moved"], failed["error"]["kind"]) == (None, "exists")


def test_masks_are_made_for_who_does_not_ask_for_them(photos: Path, tmp_path: Path) -> None:
    saved = tmp_path / "masks.safetensors"
    knobs = {"steps": 1, "alpha": 0.02}
    maker = session(attack="opom", knobs=knobs, save_mask=saved)
    (cloaked, _) = maker.cloak(items(photos))
    assert isinstance(cloaked, Processed)
    assert cloaked.made.files[0].described[0]["knobs"]["step_size"] == 0.02
    user = session(attack="opom", knobs={}, mask=saved)
    (again, _) = user.cloak(items(photos))
    assert isinstance(again, Processed)
    assert again.made.files[0].data == cloaked.made.files[0].data
    assert user.arguments == maker.arguments
    other = session(attack="opom", knobs={**knobs, "steps": 2}, save_mask=saved)
    with pytest.raises(UsageError, match=r"^save_mask .*: made with other knobs; use force to make it again$"):
        other.prepare_masks(items(photos), resume=True)
    with pytest.raises(UsageError, match=r"^save_mask: no face in any photo$"):
        other.prepare_masks([])


def test_what_is_measured_is_not_attacked() -> None:
    with pytest.raises(ToolError, match=r"^measure dlib-resnet: it is in the ensemble; name one that is not$"):
        session(measure=["dlib-resnet"])


def cloak_one(folder: Path, **config: Any) -> Record:
    (cloaked,) = session(**config).cloak(items(folder))
    assert isinstance(cloaked, Processed)
    (record,) = cloaked.made.files[0].described
    return dict(record)


@pytest.mark.parametrize("name", ["face.png", "face.jpg"])
def test_the_mildest_cloak_that_moves_a_saved_photo_far_enough(photos: Path, tmp_path: Path, name: str) -> None:
    Image.open(photos / "face.png").save(tmp_path / name)
    record = cloak_one(tmp_path, knobs={"steps": 12}, until_moved=0.05)
    assert record["moved"] >= 0.05
    assert record["reached"] is True
    assert 1 < record["steps"] < 12
    assert record["knobs"]["steps"] == 12
    # A step less, and it is not far enough.
    milder = cloak_one(tmp_path, knobs={"steps": record["steps"] - 1})
    assert milder["moved"] < 0.05
    assert "reached" not in milder
    as_many = cloak_one(tmp_path, knobs={"steps": record["steps"]})
    assert as_many["moved"] == record["moved"]


def test_what_is_not_reached_says_so(photos: Path, tmp_path: Path) -> None:
    Image.open(photos / "face.png").save(tmp_path / "face.png")
    record = cloak_one(tmp_path, knobs={"steps": 2}, until_moved=1.5)
    assert (record["reached"], record["steps"]) == (False, 2)


def test_hidden_behind_another_face(photos: Path, tmp_path: Path) -> None:
    """The other is what five steps make of the face itself: on the way there it becomes the nearer one."""
    for folder in ("in", "ann"):
        (tmp_path / folder).mkdir()
    Image.open(photos / "face.png").save(tmp_path / "in" / "face.png")
    (first,) = session(knobs={"steps": 5}).cloak(items(tmp_path / "in"))
    assert isinstance(first, Processed)
    assert first.made.files[0].data is not None
    (tmp_path / "ann" / "face.png").write_bytes(first.made.files[0].data)
    hiding: dict[str, Any] = {"until_hidden": True, "others": [tmp_path / "ann"]}
    record = cloak_one(tmp_path / "in", knobs={"steps": 12}, **hiding)
    assert record["reached"] is True
    assert record["hidden_margin"] > 0
    assert 1 < record["steps"] <= 5
    # Of a person's own photos none hides them.
    (refused,) = session(until_hidden=True, others=[tmp_path / "in"]).cloak(items(tmp_path / "in"))
    assert isinstance(refused, Processed)
    assert refused.made.files[0].described[0]["error"]["kind"] == "others"


def test_a_folder_that_was_made_until_another_distance_is_not_resumed(photos: Path, tmp_path: Path) -> None:
    list(session(until_moved=0.3).write(items(photos), tmp_path / "out"))
    with pytest.raises(UsageError, match=r'was made with until \{"moved": 0\.3, .*, not \{"moved": 0\.4'):
        list(session(until_moved=0.4).write(items(photos), tmp_path / "out", resume=True))
    with pytest.raises(UsageError, match="was made with until"):
        list(session().write(items(photos), tmp_path / "out", resume=True))


def test_a_mask_is_made_until_every_photo_has_moved(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.open(photos / "face.png").save(folder / "face.png")
    made = {"attack": "opom", "save_mask": tmp_path / "m.safetensors"}
    record = cloak_one(folder, knobs={"steps": 8}, until_moved=0.005, **made)
    assert record["moved"] >= 0.005
    assert record["reached"] is True
    assert 1 <= record["steps"] < 8
    later = cloak_one(folder, attack="opom", knobs={}, mask=tmp_path / "m.safetensors")
    assert later["steps"] == record["steps"]
    assert later["moved"] == record["moved"]
