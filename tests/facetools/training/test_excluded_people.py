"""People that nothing may be learned from."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from _toolio.errors import ToolError, UsageError
from facetools.people import folded
from facetools.training.excluded_people import ExcludedPeople, read_excluded


def test_people_are_named_by_words_folders_and_files(people_folder: Path, tmp_path: Path) -> None:
    me, other, *_ = sorted(people_folder.iterdir())
    (tmp_path / "names.jsonl").write_text('\ufeff{"person": "Somebody Else"}\n{"person": null}\n\nA Third\n', "utf-8")
    excluded = read_excluded([f"{me}/", str(tmp_path / "names.jsonl"), other.name])
    assert excluded.names == {folded(me.name), "somebody else", "a third", folded(other.name)}
    assert excluded.words == (other.name,)
    everybody = read_excluded([str(people_folder)])
    assert everybody.names == {folded(person.name) for person in people_folder.iterdir()}
    assert read_excluded([]) == ExcludedPeople()


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl").write_text('{"person": "Some')
    with pytest.raises(ToolError, match="line 1: not a JSON record") as caught:
        read_excluded([str(tmp_path / "cut.jsonl")])
    assert caught.value.exit_code == 1
    (tmp_path / "latin").write_bytes(b"Ren\xe9\n")
    with pytest.raises(ToolError, match=r"hold_out .*latin: cannot be read as text"):
        read_excluded([str(tmp_path / "latin")])
    for typo in ("me/typo", "typo.txt"):
        with pytest.raises(UsageError, match=f"hold_out {typo}: no such file or folder"):
            read_excluded([typo])


def test_people_of_a_damaged_archive_are_not_held_out_in_part(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for person in ("a", "b", "c"):
            info = tarfile.TarInfo(f"{person}/1.jpg")
            info.size = 1000
            archive.addfile(info, io.BytesIO(bytes(1000)))
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:2000])
    with pytest.raises(ToolError, match="not a whole tar archive"):
        read_excluded([str(tmp_path / "a.tar")])
