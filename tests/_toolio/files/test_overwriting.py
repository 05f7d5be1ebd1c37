"""What an output may replace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from _toolio.errors import UsageError, param
from _toolio.files.claims import claimed_part
from _toolio.files.overwriting import (
    checkpoint_of,
    refuse_checkpoint,
    refuse_existing,
    refuse_file,
    refuse_inside,
    refuse_nested,
)
from filled_folders import fill


def test_refuse_existing(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new", force=False)
    fill(tmp_path, "old")
    with pytest.raises(UsageError, match="is no safetensors file, and force replaces no other"):
        refuse_existing(tmp_path / "old", force=True)
    for name, data in (("empty", b""), ("made", (2).to_bytes(8, "little") + b"{}")):
        (tmp_path / name).write_bytes(data)
        refuse_existing(tmp_path / name, force=True)
    for path, force, words in (
        (tmp_path / "old", False, "exists; use force"),
        (tmp_path, True, "is a folder"),
        (tmp_path / "no" / "x", True, "is no folder"),
    ):
        with pytest.raises(UsageError, match=words):
            refuse_existing(path, force=force)


def test_force_replaces_a_file_of_the_kind_that_is_written_and_no_other(tmp_path: Path) -> None:
    for name, data, fits in (("a", b"%PDF-1.4 and so on", True), ("b", b"", True), ("c", b"\x89PNG", False)):
        (tmp_path / name).write_bytes(data)
        if fits:
            refuse_existing(tmp_path / name, force=True, kind="PDF file", starts=(b"%PDF",))
        else:
            with pytest.raises(UsageError, match="is no PDF file, and force replaces no other"):
                refuse_existing(tmp_path / name, force=True, kind="PDF file", starts=(b"%PDF",))


def test_refuse_nested(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.jpg").write_bytes(b"x")
    for out in ("in", "in/new", "in/deep/../new", "in/deep/new"):
        with pytest.raises(UsageError, match="lies in inputs"):
            refuse_nested(tmp_path / out, ["-", str(tmp_path / "in")])
    refuse_nested(tmp_path / "in2", [str(tmp_path / "in")])
    refuse_nested(tmp_path / "in", [str(tmp_path / "in" / "a.jpg")])
    refuse_nested(tmp_path, None)


def test_refuse_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    refuse_file(tmp_path)
    refuse_file(tmp_path / "new")
    path = tmp_path / "a"
    path.touch()
    with pytest.raises(UsageError, match=r"^out .*a: is no folder; name one that is new or empty"):
        refuse_file(path)
    with pytest.raises(UsageError, match=r"^into "):
        refuse_file(path, param("into"))
    with pytest.raises(UsageError, match=r"^out .*a/b/c: .*a is no folder; name one elsewhere"):
        refuse_file(path / "b" / "c")
    with pytest.raises(UsageError, match=r"^out .*: file name too long; name another folder$"):
        refuse_file(tmp_path / ("x" * 300))
    with pytest.raises(UsageError, match="is no folder"), claimed_part(path, "x", None):
        pass


def test_refuse_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name, words in (
        (Path(os.devnull), "is no regular file"),
        (tmp_path / "pipe", "is no regular file"),
        (tmp_path / "link", "is no regular file"),
        (tmp_path / ("x" * 300), "file name too long"),
    ):
        for force in (False, True):
            with pytest.raises(UsageError, match=words):
                refuse_existing(name, force=force)
    # Root may write to every folder: the system's refusal is put in its place.
    (tmp_path / "locked").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "locked" / "x")
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and Path(path).name == "locked"))
    for path in (tmp_path / "locked" / "x", tmp_path / "elsewhere"):
        with pytest.raises(UsageError, match="locked may not be written to"):
            refuse_existing(path, force=True)


def test_refuse_an_output_inside_what_is_read(tmp_path: Path) -> None:
    base = fill(tmp_path / "base", "model.safetensors", "deep/x")
    fill(tmp_path / "blobs", "weights", "other")
    (base / "linked").symlink_to(tmp_path / "blobs" / "weights")
    (tmp_path / "link").symlink_to(base)
    (tmp_path / "file").symlink_to(base / "model.safetensors")
    (tmp_path / "dangling").symlink_to(base / "new")
    (tmp_path / "hard").hardlink_to(base / "model.safetensors")
    for out in (
        base / "model.safetensors",
        base / "deep" / "x",
        base / "new",
        tmp_path / "link" / "new",
        tmp_path / "file",
        tmp_path / "dangling",
        tmp_path / "hard",
        tmp_path / "blobs" / "weights",
    ):
        for folder in (base, tmp_path / "link"):
            with pytest.raises(UsageError, match=r"lies in BASE .*; name a file elsewhere"):
                refuse_inside(out, folder, "BASE")
    for out in (base / "model.safetensors", tmp_path / "file", tmp_path / "hard"):
        with pytest.raises(UsageError, match="is what is read as BASE"):
            refuse_inside(out, base / "model.safetensors", "BASE")
    for out in (tmp_path / "new", tmp_path / "blobs" / "other", tmp_path / "base.safetensors", Path("x" * 300)):
        refuse_inside(out, base, "BASE")
    refuse_inside(base / "new", base / "model.safetensors", "BASE")
    refuse_inside(tmp_path / "new", tmp_path / "nothing", "BASE")


def test_messages_name_what_the_caller_named(tmp_path: Path) -> None:
    fill(tmp_path, "in/a", "old")
    with pytest.raises(UsageError, match=r"^out .*/new: lies in a folder of photos .*/in, whose files"):
        refuse_nested(tmp_path / "in" / "new", [str(tmp_path / "in")], named="a folder of photos")
    with pytest.raises(UsageError, match=r"^grid .*/old: exists; use force to replace it$"):
        refuse_existing(tmp_path / "old", force=False, named=param("grid"))


def test_a_checkpoint_is_beside_what_is_trained(tmp_path: Path) -> None:
    out, checkpoint = tmp_path / "model.safetensors", tmp_path / "model.safetensors.checkpoint"
    assert checkpoint_of(out, resume=False, force=False) == checkpoint
    checkpoint.write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(UsageError, match=r"checkpoint: exists; use resume to go on from it, or force to start again$"):
        checkpoint_of(out, resume=False, force=False)
    for resume in (True, False):
        assert checkpoint_of(out, resume=resume, force=not resume) == checkpoint
    (part := tmp_path / "model.safetensors.checkpoint.fold-1").write_bytes(checkpoint.read_bytes())
    refuse_checkpoint(part, resume=True, force=False)
    with pytest.raises(UsageError, match=r"checkpoint.fold-1: exists; use resume"):
        refuse_checkpoint(part, resume=False, force=False)


@pytest.mark.parametrize("resume", [True, False])
def test_no_other_file_is_taken_for_a_checkpoint(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "a.checkpoint").write_text("a diary of years")
    (tmp_path / "b.checkpoint").mkdir()
    for name in ("a", "b"):
        with pytest.raises(UsageError, match="is no checkpoint, and would be replaced; move it, or name another out"):
            checkpoint_of(tmp_path / name, resume=resume, force=not resume)
