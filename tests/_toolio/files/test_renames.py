"""Renames that replace nothing, with the system's call and without."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from _toolio.files import renames


@pytest.fixture(params=["by the system", "by a link", "by a look"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the ways to rename a file onto a free name."""

    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if request.param != "by the system":
        monkeypatch.setattr(renames, "_renameat2", lambda: None)
    if request.param == "by a look":
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    return str(request.param)


def test_a_free_name_is_taken(tmp_path: Path, way: str) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "folder").mkdir()
    renames.rename_new(tmp_path / "a", tmp_path / "b")
    renames.rename_new(tmp_path / "folder", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "other"]
    assert (tmp_path / "b").read_text() == "a"


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_file_replaces_nothing(tmp_path: Path, way: str, kind: str) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("mine")
    if kind == "file":
        new.write_text("somebody's")
    elif kind == "link":
        new.symlink_to("nowhere")
    else:
        new.mkdir()
    before = new.lstat()
    with pytest.raises(FileExistsError):
        renames.rename_new(old, new)
    assert new.lstat() == before
    assert old.read_text() == "mine"


def test_a_folder_replaces_nothing_but_an_empty_one(tmp_path: Path, way: str) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    (old / "mine").touch()
    (new / "somebody's").touch()
    with pytest.raises(FileExistsError):
        renames.rename_new(old, new)
    (new / "somebody's").unlink()
    renames.rename_new(old, new)
    assert [path.name for path in new.iterdir()] == ["mine"]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        renames.rename_new(new, tmp_path / "file")


def test_a_folder_that_is_gone_is_no_free_name(tmp_path: Path, way: str) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(FileNotFoundError):
        renames.rename_new(tmp_path / "a", tmp_path / "gone" / "a")


def test_names_are_exchanged_or_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").mkdir()
    done = renames.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / ("b" if done else "a")).read_text() == "a"
    if done:
        with pytest.raises(FileNotFoundError):
            renames.exchange(tmp_path / "a", tmp_path / "none")
    monkeypatch.setattr(renames, "_renameat2", lambda: lambda *_: errno.EINVAL)  # NFS
    assert not renames.exchange(tmp_path / "a", tmp_path / "b")
