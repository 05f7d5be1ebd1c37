import errno
import os
import signal
import stat
import subprocess
import sys

import pytest

from _toolio.errors import ToolError
from _toolio.files import atomic, renames, temporaries
from _toolio.files.atomic import atomic_folder, atomic_path, atomic_write_bytes
from _toolio.files.claims import claimed


def test_the_file_appears_only_when_the_block_ends(tmp_path):
    final = tmp_path / "a.bin"
    with atomic_path(final) as temp:
        assert temp.parent == final.parent
        temp.write_bytes(b"whole")
        assert not final.exists()
    assert final.read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    final = tmp_path / "a.bin"
    final.write_bytes(b"old")
    with pytest.raises(failure), atomic_path(final) as temp:
        temp.write_bytes(b"half")
        raise failure
    assert final.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_what_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        atomic_write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with atomic_path(tmp_path / "a") as one, atomic_path(tmp_path / "a") as two:
        one.write_text("1")
        two.write_text("2")
    assert (tmp_path / "a").read_text() == "1"


def test_a_left_over_temporary_file_is_in_nobodys_way(tmp_path, monkeypatch):
    with atomic_path(tmp_path / "a") as temp:
        number = int(temp.name.split(".")[-2])
    (tmp_path / f".a.{temporaries.RUN}.{number + 1}.tmp").write_text("stale")
    atomic_write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_the_longest_legal_name_works(tmp_path):
    atomic_write_bytes(tmp_path / ("n" * 255), b"x")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    atomic_write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def _fails(final) -> ToolError:
    with pytest.raises(ToolError) as caught:
        atomic_write_bytes(final, b"x")
    assert caught.value.kind == "unwritable"
    assert str(final) in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


def test_a_folder_a_device_and_a_missing_folder_are_refused(tmp_path):
    assert "folder" in _fails(tmp_path).message
    assert "does not exist" in _fails(tmp_path / "no" / "a").message
    os.mkfifo(tmp_path / "pipe")
    assert "regular" in _fails(tmp_path / "pipe").message
    assert "regular" in _fails("/dev/null").message
    (tmp_path / "file").write_text("")
    _fails(tmp_path / "file" / "a")


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # the superuser may write anywhere
    assert "Permission denied" in _fails(tmp_path / "a").message


def test_a_full_disk(tmp_path):
    final = tmp_path / "a"
    with pytest.raises(ToolError, match="No space left") as caught, atomic_path(final):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.kind == "unwritable"
    assert list(tmp_path.iterdir()) == []


def test_another_files_error_is_not_blamed_on_this_one(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "input").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_only_when_the_block_ends_and_replaces_what_was_there(tmp_path):
    final = tmp_path / "deep" / "report"
    for text in ("one", "two"):
        with atomic_folder(final) as temp:
            (temp / f"{text}.txt").write_text(text)
            assert not (final / f"{text}.txt").exists()
        assert [path.name for path in final.iterdir()] == [f"{text}.txt"]
        assert [path.name for path in final.parent.iterdir()] == ["report"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path, failure):
    final = tmp_path / "report"
    final.mkdir()
    (final / "old.txt").write_text("old")
    with pytest.raises(failure), atomic_folder(final) as temp:
        (temp / "half.txt").write_text("half")
        raise failure
    assert [path.name for path in tmp_path.rglob("*")] == ["report", "old.txt"]


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_folder(tmp_path / "link") as temp:
        (temp / "a").write_text("a")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").exists()


def test_a_folder_that_cannot_be_moved_into_place_leaves_the_old_one(tmp_path, monkeypatch):
    monkeypatch.setattr(renames, "_renameat2", lambda: None)
    final = tmp_path / "report"
    final.mkdir()
    (final / "old.txt").write_text("old")
    rename = type(final).rename

    def refuse(self, target):
        if self.name.endswith(".tmp") and target.name == "report" and (self / "new.txt").exists():
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(type(final), "rename", refuse)
    with pytest.raises(ToolError, match="report: cannot be written: Permission denied"), atomic_folder(final) as temp:
        (temp / "new.txt").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["report", "old.txt"]


def test_a_folder_where_none_can_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ToolError, match="cannot be written"), atomic_folder(tmp_path / "file" / "report"):
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from _toolio.files import atomic, renames
from _toolio.files.claims import claimed

folder, old = Path(sys.argv[1]), sys.argv[2]
if old == "aside":
    renames._renameat2 = lambda: None
with claimed(folder, replace=True), atomic.atomic_folder(folder) as temp:
    (temp / "new").touch()
    rename, seen = Path.rename, []

    def one_rename(self, target):
        if seen:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(self)
        return rename(self, target)

    Path.rename = one_rename
    atomic.temporaries.remove = lambda path: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("way", ["exchanged", "aside"])
def test_one_folder_survives_a_kill_in_the_middle(tmp_path, way):
    final = tmp_path / "report"
    final.mkdir()
    (final / "old").touch()
    done = subprocess.run([sys.executable, "-c", KILLED, final, way], check=False)
    assert done.returncode == -signal.SIGKILL
    if way == "exchanged":
        assert [path.name for path in final.iterdir()] == ["new"]
    with claimed(final, replace=True):
        assert [path.name for path in final.iterdir()] == ["new" if way == "exchanged" else "old"]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_what_came_during_a_claim_is_left_and_the_result_is_kept(tmp_path):
    for number, named in enumerate(("a.kept.bin", "a.kept-2.bin")):
        with pytest.raises(ToolError, match=named) as caught, claimed(tmp_path / "a.bin", replace=False):
            (tmp_path / "a.bin").write_bytes(b"somebody's")
            atomic_write_bytes(tmp_path / "a.bin", b"%d" % number)
        assert caught.value.kind == "exists"
        assert (tmp_path / named).read_bytes() == b"%d" % number
    assert (tmp_path / "a.bin").read_bytes() == b"somebody's"
    assert len(list(tmp_path.iterdir())) == 3


def test_what_came_at_the_very_moment_of_the_exchange_is_put_back(tmp_path, monkeypatch):
    """After the last look, and before the exchange."""
    final, exchange = tmp_path / "a.bin", atomic.exchange
    final.write_bytes(b"old")

    def late(temp, target):
        monkeypatch.setattr(atomic, "exchange", exchange)
        target.write_bytes(b"somebody's")
        return exchange(temp, target)

    monkeypatch.setattr(atomic, "exchange", late)
    with pytest.raises(ToolError, match=r"a\.kept\.bin"), claimed(final, replace=True):
        atomic_write_bytes(final, b"new")
    assert final.read_bytes() == b"somebody's"
    assert (tmp_path / "a.kept.bin").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("forced", [True, False])
def test_a_folder_that_was_filled_during_a_claim_is_left(tmp_path, monkeypatch, system, forced):
    if not system:
        monkeypatch.setattr(renames, "_renameat2", lambda: None)
    final = tmp_path / "out"
    if forced:
        final.mkdir()
        (final / "old").touch()
    with pytest.raises(ToolError, match=r"out\.kept"), claimed(final, replace=forced), atomic_folder(final) as temp:
        (temp / "mine").touch()
        final.mkdir(exist_ok=True)
        (final / "theirs").touch()
    old = {"out/old"} if forced else set()
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert found == {"out", "out/theirs", "out.kept", "out.kept/mine"} | old


@pytest.mark.parametrize("system", [True, False])
def test_what_was_there_when_a_claim_began_is_replaced_and_again(tmp_path, monkeypatch, system):
    if not system:
        monkeypatch.setattr(renames, "_renameat2", lambda: None)
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    with claimed(tmp_path / "a", replace=True), claimed(tmp_path / "b", replace=True):
        for data in (b"new", b"newer"):
            atomic_write_bytes(tmp_path / "a", data)
            with atomic_folder(tmp_path / "b") as temp:
                (temp / data.decode()).touch()
    assert (tmp_path / "a").read_bytes() == b"newer"
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["newer"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_without_a_claim_nothing_is_replaced_if_so_wished(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(ToolError, match="a: exists") as caught:
        atomic_write_bytes(tmp_path / "a", b"new", replace=False)
    assert caught.value.kind == "exists"
    assert (tmp_path / "a").read_bytes() == b"old"
    atomic_write_bytes(tmp_path / "b", b"new", replace=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_file_in_a_folder_is_named_as_it_would_be_called(tmp_path):
    final = tmp_path / "model"
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ToolError) as caught, atomic_folder(final) as temp, atomic_path(temp / "weights"):
        raise full
    assert caught.value.message == f"{final / 'weights'}: cannot be written: No space left on device; free some space"
    with pytest.raises(ToolError) as caught, atomic_folder(final) as temp:
        (temp / "gone" / "a").write_text("a")
    assert caught.value.message == f"{final / 'gone' / 'a'}: cannot be written: No such file or directory"
    assert list(tmp_path.iterdir()) == []
