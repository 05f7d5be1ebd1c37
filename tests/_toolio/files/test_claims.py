"""Claims on outputs, between real processes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from _toolio.errors import ToolError
from _toolio.files import claims, holders, temporaries
from _toolio.files.atomic import atomic_folder, atomic_path, atomic_write_bytes
from _toolio.files.claims import claimed, claimed_part

WAIT = "\nprint('ready', flush=True)\nsys.stdin.read()\n"
HEAD = """
import os, sys
from pathlib import Path
from _toolio.files import claims, holders, temporaries
from _toolio.files.claims import claimed, claimed_part
holders.set_command(["tool", "command", "--out", "x"])
"""

Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes that hold claims; each has said that it is ready."""
    started = []

    def begin(text: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", HEAD + text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def busy(out: Path) -> str:
    with pytest.raises(ToolError) as caught, claimed(out, replace=True):
        pass
    assert caught.value.kind == "busy"
    assert "\n" not in caught.value.message
    return caught.value.message


def holding(out: Path, *, before: str = "") -> str:
    return f"with claimed(Path({str(out)!r}), replace=False):\n    {before or 'pass'}" + WAIT.replace("\n", "\n    ")


def test_nothing_is_left_after_success_and_after_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out"
    for failure in (ValueError, KeyboardInterrupt, SystemExit):
        with suppress(failure), claimed(out, replace=False):
            assert names_in(tmp_path) == ["a", "a/b", "a/b/.out.lock"]
            raise failure
        assert names_in(tmp_path) == []
    with claimed(out, replace=False), claimed(out, replace=False):
        atomic_write_bytes(out, b"x")
    assert names_in(tmp_path) == ["a", "a/b", "a/b/out"]


def test_the_second_run_is_told_who_has_it(tmp_path: Path, start: Start) -> None:
    process = start(holding(tmp_path / "out"))
    (tmp_path / "link").symlink_to("out")
    for name in ("out", "link"):
        said = busy(tmp_path / name)
        assert said.startswith(
            f"out {tmp_path / name}: is being written by process {process.pid} on {os.uname().nodename}"
        )
        assert "(tool command --out x); wait for it, or name another" in said
    with claimed(tmp_path / "another", replace=False):
        pass
    process.communicate()
    assert names_in(tmp_path) == ["link"]


def test_a_dead_runs_claim_is_taken_over_and_its_remains_are_removed(tmp_path: Path, start: Start) -> None:
    out = tmp_path / "out"
    left = "temporaries.create_beside({0}); (temporaries.make_beside({0}) / 'half').touch()".format(
        f"Path({str(out)!r})"
    )
    process = start(holding(out, before=left))
    (tmp_path / ".another.12345678.0.tmp").touch()
    process.kill()
    process.communicate()
    assert len(names_in(tmp_path)) == 5
    with claimed(out, replace=False):
        assert names_in(tmp_path) == [".another.12345678.0.tmp", ".out.lock"]
    assert names_in(tmp_path) == [".another.12345678.0.tmp"]


@pytest.mark.parametrize("name", ["out", "o" * 60])
def test_half_written_checkpoints_of_a_dead_run_are_removed(tmp_path: Path, start: Start, name: str) -> None:
    """They are named after the output that the user named, a link too; what is whole stays."""
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / name
    out.symlink_to(tmp_path / "elsewhere" / "real")
    checkpoint = f"Path({str(out) + '.checkpoint'!r})"
    left = f"temporaries.create_beside({checkpoint}); {checkpoint}.touch();"
    left += f"temporaries.create_beside({checkpoint}.with_name({checkpoint}.name + '.fold-12'))"
    process = start(holding(out, before=left))
    process.kill()
    process.communicate()
    assert len(names_in(tmp_path)) == 6
    with claimed(out, replace=False):
        pass
    assert names_in(tmp_path) == sorted(["elsewhere", name, f"{name}.checkpoint"])


def test_what_a_dead_run_had_moved_aside_is_put_back(tmp_path: Path, start: Start) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    aside = f"Path({str(out)!r}).rename(temporaries.name_beside(Path({str(out)!r}), temporaries.ASIDE))"
    process = start(holding(out, before=aside))
    process.kill()
    process.communicate()
    assert not out.exists()
    with claimed(out, replace=True):
        assert names_in(out) == ["old"]
    assert names_in(tmp_path) == ["out", "out/old"]


@pytest.mark.parametrize(("name", "like"), [("model", "model.safetensors"), ("n" * 50 + "1", "n" * 50 + "2")])
def test_the_end_of_a_claim_leaves_what_is_being_written_to_a_similar_name(
    tmp_path: Path, name: str, like: str
) -> None:
    with claimed(tmp_path / like, replace=False), atomic_path(tmp_path / like) as temp:
        temp.write_text("x")
        with claimed(tmp_path / name, replace=False):
            pass
        assert temp.exists()
    assert names_in(tmp_path) == [like]


def test_what_a_dead_run_had_moved_aside_is_put_back_as_itself(tmp_path: Path, start: Start) -> None:
    for name in ("model", "model.safetensors"):
        (tmp_path / name).mkdir()
    like = f"Path({str(tmp_path / 'model.safetensors')!r})"
    aside = f"{like}.rename(temporaries.name_beside({like}, temporaries.ASIDE))"
    also = f"also = claimed({like}, replace=True); also.__enter__()\n"
    process = start(also + holding(tmp_path / "model", before=aside))
    process.kill()
    process.communicate()
    for name in ("model", "model.safetensors"):
        with claimed(tmp_path / name, replace=True):
            pass
    assert names_in(tmp_path) == ["model", "model.safetensors"]


def test_a_copy_of_a_dead_process_does_not_keep_its_claim(tmp_path: Path, start: Start) -> None:
    fork = "\n    if os.fork() == 0:\n        import time; time.sleep(60); os._exit(0)\n"
    process = start(holding(tmp_path / "out", before=fork))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    try:
        with claimed(tmp_path / "out", replace=False):
            pass
    finally:
        for child in children:
            os.kill(int(child), signal.SIGKILL)


def test_another_machines_claim_is_not_taken_over(tmp_path: Path) -> None:
    lock = tmp_path / ".out.lock"
    lock.write_text(
        json.dumps({"runs": ["12345678"], "pid": 1, "host": "elsewhere", "boot": "another", "since": "today"})
    )
    said = busy(tmp_path / "out")
    assert "process 1 on elsewhere since today (an unknown command)" in said
    assert f"or remove {lock} if it has ended" in said
    lock.unlink()
    with claimed(tmp_path / "out", replace=False):
        pass


def test_another_users_claim_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".out.lock").write_text(json.dumps({"runs": ["12345678"], "pid": 17, "command": "tool x"}))
    begin = os.open

    def not_to_write(path: str | Path, flags: int, mode: int = 0o777, **options: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return begin(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", not_to_write)  # the superuser may write anywhere
    assert "process 17 on another machine since some time (tool x)" in busy(tmp_path / "out")
    (tmp_path / ".out.lock").unlink()
    with pytest.raises(ToolError, match="Permission denied; name another"), claimed(tmp_path / "out", replace=True):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_claim_that_was_cut_short_holds_nobody_up(tmp_path: Path, content: str) -> None:
    (tmp_path / ".out.lock").write_text(content)
    with claimed(tmp_path / "out", replace=False):
        pass
    assert names_in(tmp_path) == []


def test_without_locks_the_process_number_decides(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_lock", lambda stream: None)
    process = start(holding(tmp_path / "out"))
    assert "if it has ended" in busy(tmp_path / "out")
    process.kill()
    process.communicate()
    with claimed(tmp_path / "out", replace=False):
        pass
    assert names_in(tmp_path) == []


def test_on_windows_claims_are_held_and_nobody_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = _dead_claim("12345678")
    for name in ("O_NOFOLLOW", "uname", "pread", "pwrite", "kill"):
        monkeypatch.delattr(os, name)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(holders, "_CAN_ASK", False)
    unlink, close, opened = Path.unlink, os.close, set[int]()

    def not_while_open(path: Path, missing_ok: bool = False) -> None:
        if any(os.path.samestat(os.fstat(stream), path.lstat()) for stream in opened):
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, missing_ok=missing_ok)

    def closed(stream: int) -> None:
        opened.discard(stream)
        close(stream)

    begin = claims.open_no_link
    monkeypatch.setattr(claims, "open_no_link", lambda *a: opened.add(got := begin(*a)) or got)
    monkeypatch.setattr(os, "close", closed)
    monkeypatch.setattr(Path, "unlink", not_while_open)
    with claimed(tmp_path / "out", replace=False):
        assert names_in(tmp_path) == [".out.lock"]
    assert names_in(tmp_path) == []
    (tmp_path / ".out.lock").write_text(dead)  # whether it lives cannot be told
    assert f"or remove {tmp_path / '.out.lock'} if it has ended" in busy(tmp_path / "out")


def test_a_claim_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".out.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ToolError, match=r"remove .*\.out\.lock"), claimed(tmp_path / "folder" / "out", replace=True):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_the_longest_legal_names_are_told_apart(tmp_path: Path, start: Start) -> None:
    start(holding(tmp_path / ("n" * 254 + "1")))
    busy(tmp_path / ("n" * 254 + "1"))
    with claimed(tmp_path / ("n" * 254 + "2"), replace=False):
        pass


def test_where_no_claim_can_be_the_error_names_the_output(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unwritable = pytest.raises(ToolError, match=r"out .*file/out: cannot be written: ")
    with unwritable as caught, claimed(tmp_path / "file" / "out", replace=False):
        pass
    assert caught.value.kind == "unwritable"


def part(folder: Path, which: object) -> str:
    return f"with claimed_part(Path({str(folder)!r}), 'tool-command', {which!r}):\n    pass" + WAIT.replace(
        "\n", "\n    "
    )


def test_parts_of_a_folder_are_claimed_one_by_one(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "out"
    start(part(folder, ["photos", [1, 2]]))
    start(part(folder, None))
    refused = pytest.raises(ToolError, match="is being written by process")
    with refused, claimed_part(folder, "tool-command", ["photos", [1, 2]]):
        pass
    for other in (["photos", [2, 2]], ["others", [1, 2]], None, None):
        with claimed_part(folder, "tool-command", other):
            pass
    assert len(names_in(folder)) == 2  # the claims of those that go on


def test_all_that_dead_runs_left_in_a_folder_is_removed(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    left = f"pass\n    temporaries.create_beside(Path({str(folder / 'sub' / 'a.jpg')!r}))"
    started = [start(part(folder, number).replace("pass", left)) for number in range(4)]
    for process in started[:3]:
        process.kill()
        process.communicate()
    assert len(names_in(folder)) == 9
    with claimed_part(folder, "tool-command", 0):
        assert len(names_in(folder)) == 4  # sub, the claim, and claim and file of the one that goes on
    assert len(names_in(folder)) == 3


def test_parts_that_died_together_can_start_again_together(tmp_path: Path, start: Start) -> None:
    for number in range(6):
        start(part(tmp_path / "out", number)).kill()
    text = "with claimed_part(Path({0!r}), 'tool-command', {1}):\n    pass"
    again = [
        subprocess.Popen([sys.executable, "-c", HEAD + text.format(str(tmp_path / "out"), number)])
        for number in range(6)
    ]
    assert [process.wait() for process in again] == [0] * 6
    assert names_in(tmp_path / "out") == []


def test_a_part_can_start_again_while_another_looks_for_what_it_left(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "out"
    left = f"pass\n    temporaries.create_beside(Path({str(folder / 'a.jpg')!r}))"
    for dead in [start(part(folder, number).replace("pass", left)) for number in range(2)]:
        dead.kill()
        dead.communicate()
    looking = "claims._tidy_below = lambda *_: (print('ready', flush=True), sys.stdin.read())\n"
    first = start(looking + part(folder, 0))
    with claimed_part(folder, "tool-command", 1):
        pass
    assert len([name for name in names_in(folder) if name.endswith(".tmp")]) == 2
    first.kill()  # what it was looking for is found by the next
    first.communicate()
    with claimed_part(folder, "tool-command", 0):
        assert len(names_in(folder)) == 1
    assert names_in(folder) == []


def test_a_claim_that_is_locked_in_the_name_of_a_dead_run_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, looks = tmp_path / ".out.lock", []
    lock.write_text(_dead_claim("12345678"))
    other = os.open(lock, os.O_RDWR)
    assert claims._lock(other)

    def sleep(_: float) -> None:
        looks.append(1)
        if len(looks) == 100:
            os.close(other)

    monkeypatch.setattr(claims.time, "sleep", sleep)
    with claimed(tmp_path / "out", replace=False):
        assert len(looks) == 100


def test_a_claim_that_its_holder_removes_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = claims._lock

    def late(stream: int) -> bool | None:
        monkeypatch.setattr(claims, "_lock", lock)
        (tmp_path / ".out.lock").unlink()
        return lock(stream)

    monkeypatch.setattr(claims, "_lock", late)
    with claimed(tmp_path / "out", replace=False):
        assert names_in(tmp_path) == [".out.lock"]


def test_one_walk_finds_what_all_dead_runs_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (tmp_path / f".tool-command.{number:012x}.lock").write_text(_dead_claim(f"{number:08x}"))
        (tmp_path / f".a.jpg.{number:08x}.0.tmp").touch()
    walk, walks = os.walk, []

    def counted(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        walks.append(top)
        return walk(top)

    monkeypatch.setattr(os, "walk", counted)
    with claimed_part(tmp_path, "tool-command", 1):
        (lock,) = tmp_path.iterdir()
        assert json.loads(lock.read_text())["runs"] == [temporaries.RUN]
    assert walks == [tmp_path]


def _dead_claim(run: str) -> str:
    """Return what a process of this machine has written that is no more."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return json.dumps({**holders.about([run]), "pid": ended.pid})


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    with suppress(ValueError), claimed_part(tmp_path / "a" / "out", "tool-command", 1):
        raise ValueError
    assert names_in(tmp_path) == []


def test_a_claim_that_a_full_disk_has_no_room_for_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    refused = pytest.raises(
        ToolError, match=r"out .*/a/out: cannot be written: No space left on device; free some space"
    )
    with refused, claimed(tmp_path / "a" / "out", replace=False):
        pass
    assert names_in(tmp_path) == []


def test_a_signal_while_the_old_folder_is_being_removed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    out = tmp_path / "out"
    terminated = pytest.raises(SystemExit)
    with terminated, claimed(out, replace=True), monkeypatch.context() as patched, atomic_folder(out) as temp:
        (temp / "new").touch()
        patched.setattr(shutil, "rmtree", _terminated)
    assert names_in(tmp_path) == ["out", "out/new"]


def test_a_signal_right_after_a_temporary_file_was_made_leaves_nothing(tmp_path: Path) -> None:
    for claim in (claimed(tmp_path / "a", replace=True), claimed_part(tmp_path / "out", "tool-command", 1)):
        with pytest.raises(SystemExit), claim:
            temporaries.create_beside(tmp_path / ("a" if (tmp_path / ".a.lock").exists() else "out/a"))
            raise SystemExit(143)
    assert names_in(tmp_path) == []


def _terminated(*_: object, **__: object) -> None:
    raise SystemExit(143)
