"""Options of a command as what its shards have in common."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from enum import Enum
from pathlib import Path

import pytest

from _toolio.cli.sharding import options_of, run_shards
from _toolio.errors import UsageError
from _toolio.files.hashing import sha256_of
from _toolio.streams.current import Whole, noted
from _toolio.streams.inputs import Item
from _toolio.streams.records import Form, Output


class Kind(Enum):
    some = "some"


def test_what_decides_what_a_shard_says(tmp_path: Path) -> None:
    file, out = tmp_path / "x.safetensors", tmp_path / "chips"
    file.write_bytes(b"weights")
    given = {
        "inputs": ["photos"], "paths": None, "null": True, "all_files": False, "shard": "1/2", "into": tmp_path,
        "resume": True, "force": True, "device": "cuda", "batch": 4,
        "threshold": None, "faces": Kind.some, "min_face": 20.0, "crops": False,
        "extractor": [str(file), "dlib-resnet"], "detector": file, "out": out, "clean": str(file),
    }  # fmt: skip
    shown = f"x.safetensors sha256:{sha256_of(b'weights')}"
    assert options_of(given) == {
        "faces": "some", "min_face": 20.0, "crops": False,
        "extractor": [shown, "dlib-resnet"], "detector": shown, "out": str(out), "clean": str(file),
    }  # fmt: skip


def command(*, shard: str | None, **given: object) -> int:
    number, total = map(int, (shard or "").split("/"))
    noted([Item(f"{number}.jpg", f"{number}.jpg")], of=lambda: Whole(total, "all"))
    return {2: 4, 3: 3}.get(number, 0)


@pytest.mark.parametrize(("shard", "status"), [("1/3", 0), ("2/3", 4), ("1-2/3", 4), ("1-3/3", 3), ("next/3", 3)])
def test_the_exit_status_is_that_of_one_run(tmp_path: Path, shard: str, status: int) -> None:
    command.__module__ = "facetools.commands.detect"
    given = {"shard": shard, "into": tmp_path}
    assert run_shards(command, given, Output(), print) == status
    # What is complete is asked for again: the same status; what is next: nothing is.
    assert run_shards(command, given, Output(), print) == (0 if shard == "next/3" else status)


@pytest.mark.parametrize("shard", ["1-3/3", "next/3"])
def test_an_interrupt_says_how_far_it_came(tmp_path: Path, shard: str) -> None:
    said: list[str] = []
    stops = True

    def interrupted(*, shard: str | None) -> int:
        if shard == "2/3" and stops:
            raise KeyboardInterrupt
        return command(shard=shard)

    interrupted.__module__ = "facetools.commands.detect"
    given = {"shard": shard, "into": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        run_shards(interrupted, given, Output(), said.append)
    assert said == ["stopped after 1 shard; the same command goes on"]
    stops = False
    run_shards(interrupted, given, Output(), said.append)
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == [f"000{n}-of-0003.jsonl" for n in (1, 2, 3)]


@pytest.mark.parametrize("shard", ["1/3", "1-3/3", "next/3"])
def test_an_interrupt_before_the_first_shard_says_nothing(tmp_path: Path, shard: str) -> None:
    def interrupted(*, shard: str | None) -> int:
        raise KeyboardInterrupt

    interrupted.__module__ = "facetools.commands.detect"
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_shards(interrupted, {"shard": shard, "into": tmp_path}, Output(), said.append)
    assert said == []


@pytest.mark.parametrize("shard", ["1/4", "2-3/4", "next/4"])
def test_a_folder_of_another_number_of_shards_is_refused(tmp_path: Path, shard: str) -> None:
    command.__module__ = "facetools.commands.detect"
    run_shards(command, {"shard": "1/3", "into": tmp_path}, Output(), print)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"holds shards of 3, and not of 4; go on with shard \.\.\./3, or name"):
        run_shards(command, {"shard": shard, "into": tmp_path}, Output(), print)
    assert sorted(tmp_path.iterdir()) == before


def test_several_shards_of_stdin_are_refused(tmp_path: Path) -> None:
    for inputs, shard in (([], "1-2/3"), (["photos", "-"], "1-2/3"), ([], "next/1")):
        given = {"shard": shard, "into": tmp_path, "inputs": inputs, "paths": None}
        with pytest.raises(UsageError, match="stdin can be read once"):
            run_shards(command, given, Output(), print)


@pytest.mark.parametrize("form", [Form.table, Form.csv])
def test_a_folder_keeps_lines(tmp_path: Path, form: Form) -> None:
    with pytest.raises(UsageError, match=f"keeps JSON lines; leave out {form.value}"):
        run_shards(command, {"shard": "1/3", "into": tmp_path}, Output(form), print)


WORKER = """
import os, signal, sys
from pathlib import Path
from _toolio.cli.sharding import run_shards
from _toolio.streams.inputs import open_items
from _toolio.streams.records import Form, RecordWriter, written_as
from _toolio.streams.shards import parse_shard

def sizes(*, inputs, paths, shard):
    with RecordWriter("t.sizes/1", "bytes", ()) as writer:
        for item in open_items(inputs, shard=parse_shard(shard)):
            writer.emit({"bytes": len(item.read()), "path": item.path})
            if shard == sys.argv[3]:
                os.kill(os.getpid(), signal.SIGSTOP)

given = {"inputs": [sys.argv[1]], "paths": None, "shard": "next/37", "into": Path(sys.argv[2])}
with written_as(Form.jsonl, ()) as output:
    sys.exit(run_shards(sizes, given, output, print))
"""
ENDED = 900
"""Seconds after which a test that hangs is given up."""


def test_the_shard_of_a_killed_worker_is_made_by_another(tmp_path: Path) -> None:
    """Four workers take 37 shards; one is killed inside its fifth, and those that wait for it make that too."""
    inputs, into = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    for number in range(100):
        (inputs / f"{number:03}").write_bytes(bytes(number))

    def start(stops_at: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, inputs, into, stops_at], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def wait_until(count: int) -> None:
        end = time.monotonic() + ENDED
        while len(list(into.glob("*.done"))) < count:
            assert time.monotonic() < end
            time.sleep(0.01)

    workers = [start("5/37")]
    try:
        wait_until(4)
        workers += [start("") for _ in range(3)]
        wait_until(36)
        assert not (into / "0005-of-0037.done").exists()
        workers[0].kill()
        told = [worker.communicate(timeout=ENDED)[0].decode() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [worker.returncode for worker in workers] == [-signal.SIGKILL, 0, 0, 0], told
    # A worker that was slow to start may have found all of it made.
    says = ("waits for shards that other runs are making: ", "nothing is left to make of 37 shards: ")
    assert all(text == "" or text.startswith(says) for text in told), told
    assert sorted(path.suffix for path in into.iterdir()) == [".done"] * 37 + [".jsonl"] * 37
    lines = b"".join(path.read_bytes() for path in sorted(into.glob("*.jsonl"))).splitlines()
    assert [json.loads(line)["bytes"] for line in lines] == list(range(100))
