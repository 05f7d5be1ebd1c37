"""A folder of photos that a command writes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _toolio.errors import InputError, ToolError, UsageError
from _toolio.streams.inputs import Item
from _toolio.streams.records import RecordWriter
from facetools import outputs
from facetools.faces.face import Face
from facetools.intake import Intake
from facetools.outputs import Output, PhotoFolder, outputs_of
from facetools.photos.photo import Photo
from facetools.workers.photos import Processed

PHOTO = Photo(np.zeros((1, 1, 3), np.uint8), "PNG")


def folder(path: Path, *, resume: bool = False, force: bool = False, **arguments: Any) -> PhotoFolder:
    return PhotoFolder(path, "tool-command", {"schema": "t.c/1", **arguments}, resume=resume, force=force)


def item(path: Path | str, **record: Any) -> Item:
    return Item(str(path), Path(path).name, record)


def refused(place: PhotoFolder, source: Item, relative: str, data: bytes = b"new") -> str:
    with pytest.raises(InputError) as caught:
        place.write(source, relative, data)
    return caught.value.kind


def test_a_tree_is_mirrored(tmp_path: Path) -> None:
    with folder(tmp_path / "new" / "out") as place:
        path = place.write(item("x"), "a/b/c.jpg", b"data")
    assert path == tmp_path / "new" / "out" / "a" / "b" / "c.jpg"
    assert path.read_bytes() == b"data"
    assert sorted(p.name for p in path.parent.iterdir()) == ["c.jpg"]


def test_nothing_is_overwritten_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"old")
    with folder(tmp_path) as place:
        assert refused(place, item("x"), "a.jpg") == "exists"
    with folder(tmp_path, resume=True) as place:
        assert refused(place, item("x"), "a.jpg") == "exists"
        place.write(item("x"), "a.jpg", b"old")
    assert (tmp_path / "a.jpg").read_bytes() == b"old"
    with folder(tmp_path, force=True) as place:
        place.write(item("x"), "a.jpg", b"new")
    assert (tmp_path / "a.jpg").read_bytes() == b"new"


@pytest.mark.parametrize("link", [False, True])
def test_an_input_is_never_replaced_even_if_forced(tmp_path: Path, link: bool) -> None:
    source = tmp_path / "a.jpg"
    source.write_bytes(b"old")
    if link:
        (tmp_path / "b.jpg").symlink_to(source)
    with folder(tmp_path, force=True) as place:
        assert refused(place, item(source), "b.jpg" if link else "a.jpg") == "input-is-output"
    assert source.read_bytes() == b"old"


@pytest.mark.parametrize("options", [{}, {"force": True}, {"resume": True}])
def test_nothing_is_written_outside_the_folder_through_links(tmp_path: Path, options: dict[str, bool]) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (elsewhere / "kept.jpg").write_bytes(b"old")
    (out / "sub").symlink_to(elsewhere)
    (out / "gone").symlink_to(tmp_path / "nowhere")
    (out / "a.jpg").symlink_to(elsewhere / "new.jpg")
    (out / "b.jpg").symlink_to(elsewhere / "kept.jpg")
    with folder(out, **options) as place:
        assert refused(place, item("x"), "sub/a.jpg") == "unwritable"
        assert refused(place, item("x"), "gone/a.jpg") == "unwritable"
        assert refused(place, item("x"), "a.jpg") == "exists"
        assert refused(place, item("x"), "b.jpg") == "exists"
        place.write(item("x"), "c.jpg", b"new")
    assert [(path.name, path.read_bytes()) for path in elsewhere.iterdir()] == [("kept.jpg", b"old")]
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_is_a_link_itself_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with folder(tmp_path / "link") as place:
        place.write(item("x"), "sub/a.jpg", b"new")
    assert (tmp_path / "real" / "sub" / "a.jpg").read_bytes() == b"new"


def test_a_journal_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".tool-command.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ToolError, match="is a link"):
        folder(tmp_path / "out")
    assert not (tmp_path / "elsewhere").exists()


def test_what_another_run_writes_between_the_look_and_the_rename_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = outputs.atomic_write_bytes

    def late(path: Path, data: bytes, **options: Any) -> None:
        path.write_bytes(b"another run's")
        write(path, data, **options)

    monkeypatch.setattr(outputs, "atomic_write_bytes", late)
    with folder(tmp_path) as place:
        assert refused(place, item("x"), "a.jpg") == "exists"
    assert (tmp_path / "a.jpg").read_bytes() == b"another run's"


@pytest.mark.parametrize("made_again", [False, True])
def test_a_folder_that_vanishes_ends_the_run(tmp_path: Path, made_again: bool) -> None:
    out = tmp_path / "out"
    with pytest.raises(ToolError, match="out: was removed or replaced") as caught, folder(out) as place:
        place.write(item("x"), "a.jpg", b"one")
        shutil.rmtree(out)
        if made_again:
            out.mkdir()
        place.write(item("y"), "b.jpg", b"two")
    assert caught.value.kind == "vanished"
    assert not (out / "b.jpg").exists()


def test_where_the_system_opens_no_folder_one_that_vanishes_is_still_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_DIRECTORY")
    monkeypatch.delattr(os, "O_NOFOLLOW")
    with pytest.raises(ToolError, match="out: was removed or replaced"), folder(tmp_path / "out") as place:
        place.write(item("a.jpg"), "a.png", b"data")
        (tmp_path / "out").rename(tmp_path / "moved")
        (tmp_path / "out").mkdir()


@pytest.mark.parametrize("gone", ["out", "out/sub", "out/sub/a.jpg", "out/.tool-command.jsonl"])
def test_what_vanishes_after_it_was_written_is_an_error_at_the_end(tmp_path: Path, gone: str) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(ToolError, match="was removed") as caught, folder(tmp_path / "out") as place:
        deliver(place, tmp_path / "x", Output("sub/a.jpg", b"one", [{}]))
        path = tmp_path / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert caught.value.kind == "vanished"


@pytest.mark.parametrize("force", [False, True])
def test_two_inputs_of_a_run_never_share_a_file(tmp_path: Path, force: bool) -> None:
    with folder(tmp_path, force=force) as place:
        place.write(item("x"), "a.jpg", b"one")
        assert refused(place, item("y"), "a.jpg", b"two") == "collision"
    assert (tmp_path / "a.jpg").read_bytes() == b"one"


@pytest.mark.parametrize(
    ("relative", "kind"),
    [("x" * 300 + ".jpg", "unwritable"), ("file/a.jpg", "unwritable"), ("file/b/a.jpg", "unwritable"),
     ("folder", "exists")],
)  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"force": True}, {"resume": True}])
def test_one_name_that_cannot_be_does_not_end_the_run(
    tmp_path: Path, relative: str, kind: str, options: dict[str, bool]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with folder(tmp_path, **options) as place:
        assert refused(place, item("x"), relative) == kind
        place.write(item("x"), "good.jpg", b"data")


def test_a_folder_that_cannot_be_written_to_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with folder(tmp_path) as place:
        monkeypatch.setattr(Path, "mkdir", no_space)
        with pytest.raises(ToolError, match=r"a\.jpg: cannot be written: No space left") as caught:
            place.write(item("x"), "b/a.jpg", b"data")
    assert caught.value.exit_code == 1


def deliver(place: PhotoFolder, source: Path, *outputs: Output, **record: Any) -> list[dict[str, Any]]:
    return deliver_intake(place, Intake(item(source, **record), source.read_bytes(), PHOTO, (), ()), *outputs)


def deliver_intake(place: PhotoFolder, intake: Intake, *outputs: Output) -> list[dict[str, Any]]:
    import contextlib
    import io

    stream = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with contextlib.redirect_stdout(stream), RecordWriter("t.c/1", "moved", ()) as writer:
        place.deliver(writer, Processed(intake.item, intake.named, outputs_of(intake, outputs)))
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return [json.loads(line) for line in buffer.getvalue().splitlines()]


def output(relative: str, data: bytes | None = b"data") -> Output:
    return Output(relative, data, [{"moved": 0.5, "relative": relative}, {"relative": relative}])


def test_records_tell_of_what_is_written_and_are_given_again(tmp_path: Path) -> None:
    source = tmp_path / "in.jpg"
    source.write_bytes(b"photo")
    with folder(tmp_path / "out") as place:
        first = deliver(place, source, output("a.jpg"), output("b.jpg"), who="me")
    base = {"schema": "t.c/1", "who": "me"}
    assert first == [
        {"moved": moved, "path": str(tmp_path / "out" / name), "relative": name, **base}
        for name in ("a.jpg", "b.jpg")
        for moved in (0.5, None)
    ]
    with folder(tmp_path / "out", resume=True) as place:
        assert place.finished(item(source, who="me"), (), lambda: b"photo") == first
        assert place.finished(item(source), (), lambda: b"other") is None
        assert place.finished(Item(str(source), "b/in.jpg"), (), lambda: b"photo") is None
    (tmp_path / "out").rename(tmp_path / "moved")
    with folder(tmp_path / "moved", resume=True) as place:
        again = place.finished(item(source), (), lambda: b"photo")
    assert again is not None
    assert [record["path"] for record in again] == [
        str(tmp_path / "moved" / n) for n in ("a.jpg", "a.jpg", "b.jpg", "b.jpg")
    ]


def test_a_resumed_run_finds_the_same_collision(tmp_path: Path) -> None:
    source = tmp_path / "in.jpg"
    source.write_bytes(b"photo")

    def run(**options: bool) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        with folder(tmp_path / "out", **options) as place:
            for _ in range(2):
                done = place.finished(item(source), (), lambda: b"photo")
                records += done if done is not None else deliver(place, source, output("a.jpg"))
        return records

    before = run()
    assert [record.get("error", {}).get("kind") for record in before] == [None, None, "collision"]
    assert run(resume=True) == before


def test_what_failed_is_not_noted_as_finished(tmp_path: Path) -> None:
    source = tmp_path / "in.jpg"
    source.write_bytes(b"photo")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.jpg").write_bytes(b"somebody's")
    with folder(tmp_path / "out") as place:
        good, good_too, bad = deliver(place, source, output("a.jpg"), output("b.jpg"))
    assert bad["path"] is None
    assert bad["source"] == str(source)
    assert bad["error"]["kind"] == "exists"
    assert "error" not in good | good_too
    with folder(tmp_path / "out", resume=True) as place:
        assert place.finished(item(source), (), lambda: b"photo") is None


def test_fields_that_pass_through_are_those_of_the_resumed_run(tmp_path: Path) -> None:
    source = tmp_path / "in.jpg"
    source.write_bytes(b"photo")
    with folder(tmp_path / "out") as place:
        first = deliver(place, source, output("a.jpg"), who="before", gone=1, moved=9)
    assert [record["who"] for record in first] == ["before"] * 2
    with folder(tmp_path / "out", resume=True) as place:
        again = place.finished(item(source, who="now", new=2, moved=9), (), lambda: b"photo")
    assert again is not None
    assert [(record["moved"], record["who"], record["new"], "gone" in record) for record in again] == [
        (0.5, "now", 2, False),
        (None, "now", 2, False),
    ]


LANDMARKS = [[10.0, 10], [30, 10], [20, 20], [12, 30], [28, 30]]
NAMED = tuple({"landmarks": LANDMARKS, "face": number, "who": who} for number, who in enumerate(("Ann", "Ben")))


def two_faces(source: Path) -> Intake:
    faces = tuple(Face((0, 0, 1, 1), 1.0, np.array(LANDMARKS)) for _ in NAMED)
    return Intake(item(source, **NAMED[0]), source.read_bytes(), PHOTO, faces, (0, 1), NAMED)


@pytest.mark.parametrize("together", [True, False])
def test_each_named_face_keeps_its_own_fields(tmp_path: Path, together: bool) -> None:
    source = tmp_path / "in.jpg"
    source.write_bytes(b"photo")

    def said(name: str, *numbers: int) -> Output:
        return Output(name, b"data", [{"moved": 0.5, "relative": name, "face": number} for number in numbers])

    made = [said("a.jpg", 0, 1)] if together else [said("a0.png", 0), said("a1.png", 1)]
    with folder(tmp_path / "out") as place:
        first = deliver_intake(place, two_faces(source), *made)
        assert [(record["face"], record["who"]) for record in first] == [(0, "Ann"), (1, "Ben")]
        # Whatever is said of the photo is said of each face.
        refused = deliver_intake(place, two_faces(source), *made)
        reasons = deliver_intake(place, two_faces(source), Output("x", None, [{"face": None, "reason": "why"}]))
    assert [(record["error"]["kind"], record["who"]) for record in refused] == [
        ("collision", "Ann"), ("collision", "Ben")
    ]  # fmt: skip
    assert [(record["reason"], record["who"]) for record in reasons] == [("why", "Ann"), ("why", "Ben")]


def test_other_landmarks_are_another_input(tmp_path: Path) -> None:
    source = tmp_path / "in.jpg"
    source.write_bytes(b"photo")
    said = Output("a.jpg", b"data", [{"moved": 0.5, "relative": "a.jpg", "face": number} for number in (0, 1)])
    with folder(tmp_path / "out") as place:
        deliver_intake(place, two_faces(source), said)
    moved = {**NAMED[1], "landmarks": [[x + 1, y] for x, y in LANDMARKS]}
    for named in ((NAMED[0], moved), NAMED[:1], ()):
        with folder(tmp_path / "out", resume=True) as place:
            assert place.finished(item(source), named, lambda: b"photo") is None
    renamed = [{**record, "who": "?"} for record in NAMED]
    with folder(tmp_path / "out", resume=True) as place:
        again = place.finished(item(source), renamed, lambda: b"photo")
    assert again is not None
    assert [(record["face"], record["who"]) for record in again] == [(0, "?"), (1, "?")]


def test_what_another_version_made_is_not_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "tool_version", lambda: "1.0")
    source = tmp_path / "in.jpg"
    source.write_bytes(b"photo")
    with folder(tmp_path) as place:
        assert list(tmp_path.iterdir()) == [source], "a run that writes nothing leaves nothing"
        deliver(place, source, output("a.jpg"))
    monkeypatch.setattr(outputs, "tool_version", lambda: "1.1")
    with pytest.raises(UsageError, match=r'was made with version "1\.0", not "1\.1"'):
        folder(tmp_path, resume=True)


def test_an_input_without_output_is_finished(tmp_path: Path) -> None:
    source = tmp_path / "in.jpg"
    source.write_bytes(b"photo")
    with folder(tmp_path / "out") as place:
        (record, _) = deliver(place, source, output("a.jpg", None))
    assert record["path"] is None
    with folder(tmp_path / "out", resume=True) as place:
        again = place.finished(item(source), (), lambda: b"photo")
        assert again is not None
        assert again[0] == record
    with pytest.raises(UsageError, match="was made with steps null, not 3"):
        folder(tmp_path / "out", resume=True, steps=3)


@pytest.mark.parametrize(
    "odd", [{"relative": None}, {"relative": "x"}, {"relative": "/etc/passwd"}, {"path": 3}, {"path": []}]
)
def test_records_that_no_run_wrote_are_not_given_again(tmp_path: Path, odd: dict[str, Any]) -> None:
    source = tmp_path / "in.jpg"
    source.write_bytes(b"photo")
    with folder(tmp_path / "out") as place:
        deliver(place, source, output("a.jpg"))
    (journal,) = (tmp_path / "out").glob(".*.jsonl")
    head, line = (json.loads(each) for each in journal.read_bytes().splitlines())
    line["records"][0] |= odd
    journal.write_text(f"{json.dumps(head)}\n{json.dumps(line)}\n")
    with folder(tmp_path / "out", resume=True) as place:
        assert place.finished(item(source), (), lambda: b"photo") is None
