"""Inputs that would never end, or fill the memory."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from _toolio.errors import InputError, ToolError
from _toolio.streams import reading
from _toolio.streams.inputs import open_items, read_input
from _toolio.streams.reading import check_size, is_cut, lines_of, open_input, read_file
from _toolio.streams.records import read_records
from conftest import Run, command


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def endless_at(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "what"), [(os.mkfifo, "a named pipe"), (socket_at, "a socket"), (endless_at, "a device")]
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None], what: str) -> None:
    make(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=rf"a\.jpg: {what}, and no file; pipe it into stdin, or copy") as caught:
        read_input(str(tmp_path / "a.jpg"))
    assert caught.value.kind == "no-file"


def test_the_null_device_is_empty() -> None:
    assert read_file(os.devnull) == b""


def test_a_pipe_that_the_process_was_started_with_is_read() -> None:
    end, start = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(start, b"data"), os.close(start)))
    writer.start()
    assert read_file(f"/dev/fd/{end}") == b"data"
    writer.join()
    os.close(end)


def test_a_named_pipe_is_read_where_it_was_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    writer = threading.Thread(target=(tmp_path / "a").write_bytes, args=(b"data",), daemon=True)
    writer.start()
    assert read_file(tmp_path / "a") == b"data"
    writer.join()


def test_that_a_named_pipe_is_waited_for_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        threading.Thread(target=(tmp_path / "a").write_bytes, args=(b"data",), daemon=True).start()

    monkeypatch.setattr(reading, "_PATIENCE", 0.01)
    monkeypatch.setattr(reading, "_say_waiting", say)
    assert read_file(tmp_path / "a") == b"data"
    assert said == [f"{tmp_path / 'a'}: a named pipe; waiting for a program that writes into it"]


def test_no_thread_is_left_that_still_says_that_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a")
    said: list[str] = []

    def say(line: str) -> None:
        (tmp_path / "a").write_bytes(b"data")
        threading.Event().wait(0.3)
        said.append(line)

    monkeypatch.setattr(reading, "_PATIENCE", 0.01)
    monkeypatch.setattr(reading, "_say_waiting", say)
    assert read_file(tmp_path / "a") == b"data"
    assert len(said) == 1


def test_a_command_says_that_it_waits_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    os.mkfifo(path)
    words = command("berttools", "evaluate", path)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == (
            f"berttools: note: {path}: a named pipe; waiting for a program that writes into it\n"
        )
        path.write_text('{"label":"a","gold":"a"}\n')
        out, err = process.communicate()
    assert (process.returncode, err, json.loads(out.partition("\n")[0])["metric"]) == (0, "", "accuracy")


def test_a_file_of_100_gb_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    with path.open("wb") as made:
        made.truncate(100_000_000_000)
    with pytest.raises(InputError, match=r"a\.jpg: larger than 4 GiB; is it damaged\? divide it") as caught:
        read_input(str(path))
    assert caught.value.kind == "too-large"
    check_size(reading.MAX_FILE, "as large as allowed")


def test_a_pipe_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_FILE", 1 << 20)
    for size in (1 << 20, (1 << 20) + 1):
        end, start = os.pipe()
        threading.Thread(target=lambda start=start, size=size: (os.write(start, bytes(size)), os.close(start))).start()
        if size == 1 << 20:
            assert read_file(f"/dev/fd/{end}") == bytes(size)
        else:
            with pytest.raises(InputError, match="larger than"):
                read_file(f"/dev/fd/{end}")
        os.close(end)


def test_a_folder_and_a_missing_file_are_errors_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_input(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_input(tmp_path / "gone")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_LINE", 10)
    monkeypatch.setattr(reading, "MAX_SKIPPED", 100)
    monkeypatch.setattr(reading, "_BLOCK", 10)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("end", [b"\n", b""])
def test_of_a_line_that_is_too_long_the_beginning_is_kept(end: bytes) -> None:
    lines = [b"0123456789\n", b"\n", b"0123456789a\n", b"x" * 110 + b"\n", b"y" * 90 + end]
    found = list(lines_of(io.BytesIO(b"".join(lines)), "stdin"))
    assert found == [line if len(line) <= 11 else line[:11] for line in lines]
    assert [is_cut(line) for line in found] == [False, False, True, True, True]


@pytest.mark.usefixtures("short")
def test_a_line_without_end_is_no_text() -> None:
    with pytest.raises(ToolError, match="stdin: no text: a line of it has no end") as caught:
        list(lines_of(io.BytesIO(b"a\n" + bytes(1000)), "stdin"))
    assert (caught.value.kind, caught.value.exit_code) == ("too-large", 1)


@pytest.mark.usefixtures("short")
def test_a_record_that_is_too_long_names_its_line() -> None:
    stream = io.BytesIO(b'{"a":1}\n{"a":"a long one"}\n')
    with pytest.raises(InputError, match=r"^x\.jsonl, line 2: longer than ") as caught:
        list(read_records(stream, name="x.jsonl"))
    assert caught.value.kind == "too-large"


@pytest.mark.usefixtures("short")
def test_stdin_goes_on_behind_a_line_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'a.jpg\n{"path":"a long one"}\nb.jpg\n')))
    first, long, last = open_items(["-"])
    assert (first.path, last.path) == ("a.jpg", "b.jpg")
    with pytest.raises(InputError, match="stdin, line 2: longer than"):
        long.read()


def test_paths_without_nul_are_no_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.jpg\n" * 20_000)))
    with pytest.raises(ToolError, match="end each in NUL"):
        list(open_items(["-"], null=True))


def test_detect_refuses_what_never_ends_and_goes_on(tmp_path: Path, run: Callable[..., Run]) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "huge.jpg").open("wb") as made:
        made.truncate(100_000_000_000)
    (tmp_path / "text.jpg").write_bytes(b"text")
    names = [tmp_path / "pipe.jpg", "/dev/zero", tmp_path / "huge.jpg", tmp_path / "text.jpg"]
    done = run("facetools", "detect", "--crops", *names)
    kinds = [record["error"]["kind"] for record in done.records]
    assert (done.code, kinds, done.err) == (3, ["no-file", "no-file", "too-large", "not-a-photo"], "")
