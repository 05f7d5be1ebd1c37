"""Folders of shards, made and gathered by processes."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import pytest

from conftest import ROOT, Run, faceless
from facetools.cli import COMMANDS
from facetools.commands.gather import SHARDED
from fuzzing import load_script

Start = Callable[..., list[str]]
ENDED = 300
"""Seconds after which a test is given up: none takes as long on any machine."""


@pytest.fixture
def photos(tmp_path: Path, real_people: dict[str, list[bytes]]) -> Path:
    """Nine files, one of them no photo."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (_, found) in zip(range(7), real_people.items(), strict=False):
        (folder / f"{number}.jpg").write_bytes(found[0])
    faceless().save(folder / "faceless.png")
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


def shards(*arguments: str | Path, into: Path, shard: str) -> list[str | Path]:
    return [*arguments, "--shard", shard, "--into", into]


def lines_without(key: str, data: bytes) -> list[dict[str, object]]:
    return [{name: value for name, value in json.loads(line).items() if name != key} for line in data.splitlines()]


def test_every_command_with_shards_is_gathered() -> None:
    functions = {
        name: getattr(import_module(f"facetools.commands.{n}"), n) for name in COMMANDS if (n := name.replace("-", "_"))
    }
    assert {name for name, function in functions.items() if "shard" in inspect.signature(function).parameters} == {
        *SHARDED
    }


@pytest.mark.parametrize("total", [1, 4, 13])
def test_shards_of_detect_are_the_records_of_one_run(
    run_inside: Callable[..., Run], photos: Path, tmp_path: Path, total: int
) -> None:
    whole = run_inside("facetools", "detect", "--in", photos)
    arguments = shards("detect", "--in", photos, into=tmp_path / "d", shard=f"next/{total}")
    made = run_inside("facetools", *arguments)
    assert (made.code, made.out, made.err) == (3, b"", "")
    gathered = run_inside("facetools", "gather", tmp_path / "d")
    assert (gathered.code, gathered.err) == (3, "")
    assert gathered.out == whole.out
    as_csv = run_inside("facetools", "gather", tmp_path / "d", "--csv")
    assert as_csv.out == run_inside("facetools", "detect", "--in", photos, "--csv").out
    again = run_inside("facetools", *arguments)
    assert (again.code, again.out) == (0, b"")
    left = "1 shard" if total == 1 else f"{total} shards"
    assert again.err == f"facetools: note: nothing is left to make of {left}: {tmp_path / 'd'}\n"


def packed(folder: Path, *names: str) -> list[str]:
    """Make empty archives beside each other; return the arguments that name them."""
    for name in names:
        with tarfile.open(folder / name, "w") as archive:
            archive.addfile(tarfile.TarInfo(f"{name}.jpg"))
    return [each for name in names for each in ("--in", str(folder / name))]


def test_shards_of_as_many_other_files_are_refused(run_inside: Callable[..., Run], tmp_path: Path) -> None:
    """d.jpg becomes a.jpg between two shards: c.jpg would be there twice, and a.jpg not at all."""
    for name in "bcde":
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    run_inside("facetools", *shards("detect", "--in", tmp_path, into=tmp_path / "d", shard="1/2"))
    (tmp_path / "e.jpg").rename(tmp_path / "a.jpg")
    run_inside("facetools", *shards("detect", "--in", tmp_path, into=tmp_path / "d", shard="2/2"))
    gathered = run_inside("facetools", "gather", tmp_path / "d")
    assert (gathered.code, gathered.out) == (1, b"")
    assert "0001-of-0002.done and 0002-of-0002.done were made as parts of two lists of inputs" in gathered.err


def test_shards_of_other_archives_are_refused(run_inside: Callable[..., Run], tmp_path: Path) -> None:
    """Of a, b and c the first of two shards has a; of four it has a and b, so that the second has no b."""
    three, four = packed(tmp_path, "a.tar", "b.tar", "c.tar"), packed(tmp_path, *(f"{name}.tar" for name in "abcd"))
    run_inside("facetools", *shards("detect", *three, into=tmp_path / "d", shard="1/2"))
    run_inside("facetools", *shards("detect", *four, into=tmp_path / "d", shard="2/2"))
    gathered = run_inside("facetools", "gather", tmp_path / "d")
    assert (gathered.code, gathered.out) == (1, b"")
    assert "were made as parts of two lists of inputs" in gathered.err


def test_shards_of_embed_become_one_file(run_inside: Callable[..., Run], photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    whole = run_inside("facetools", "embed", "--in", photos, "--out", out)
    rows = out.read_bytes()
    run_inside("facetools", *shards("embed", "--in", photos, into=tmp_path / "d", shard="1-5/5"))
    parts = run_inside("facetools", "gather", tmp_path / "d")
    named = {record["file"] for record in parts.records if record["row"] is not None}
    # The last shard has no face.
    assert named == {str(tmp_path / "d" / f"000{number}-of-0005.safetensors") for number in range(1, 5)}
    refused = run_inside("facetools", "gather", tmp_path / "d", "--out", out)
    assert (refused.code, refused.out) == (2, b"")
    joined = run_inside("facetools", "gather", tmp_path / "d", "--out", out, "--force")
    assert joined.out == whole.out
    assert out.read_bytes() == rows
    shard = tmp_path / "d" / "0001-of-0005.safetensors"
    kept = shard.read_bytes()
    refused = run_inside("facetools", "gather", tmp_path / "d", "--out", shard, "--force")
    assert (refused.code, refused.out) == (2, b"")
    assert "lies in the folder of shards" in refused.err
    assert shard.read_bytes() == kept


@pytest.mark.parametrize("row", ["-1", "2", "1.0", "true", '"0"', "9" * 4300])
def test_a_row_that_no_shard_has_is_refused(run_inside: Callable[..., Run], tmp_path: Path, row: str) -> None:
    script = load_script(ROOT / "tests" / "fuzz" / "inputs_shards.py", tmp_path)
    folder, out = tmp_path / "shards", tmp_path / "x.safetensors"
    records = folder / "0002-of-0002.jsonl"
    records.write_bytes(records.read_bytes().replace(b'{"row": 1', b'{"row": ' + row.encode()))
    marker = records.with_suffix(".done")
    found = json.loads(marker.read_bytes())
    marker.write_text(json.dumps({**found, "outputs": found["outputs"] | script._outputs([records])}))
    refused = run_inside("facetools", "gather", folder, "--out", out)
    assert (refused.code, refused.out, out.exists()) == (1, b"", False)
    assert refused.err == (
        f"facetools: error: {records}: a record names a row that 0002-of-0002.safetensors does not have\n"
    )


@pytest.mark.parametrize(("name", "rank"), [("align", "confidence"), ("perturb", "moved")])
def test_shards_of_what_fills_a_folder(
    run_inside: Callable[..., Run], photos: Path, tmp_path: Path, name: str, rank: str
) -> None:
    given = ["--attack", "none"] if name == "perturb" else []
    whole = run_inside("facetools", name, *given, "--in", photos, "--out", tmp_path / "out")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.*g")}
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    arguments = [name, *given, "--in", photos, "--out", tmp_path / "out"]
    run_inside("facetools", *shards(*arguments, into=tmp_path / "d", shard="next/3"))
    # A worker that was killed has left photos, and no marker: they are kept.
    (tmp_path / "d" / "0002-of-0003.done").unlink()
    again = run_inside("facetools", *shards(*arguments, into=tmp_path / "d", shard="2/3"))
    assert again.err == ""
    gathered = run_inside("facetools", "gather", tmp_path / "d")
    assert lines_without("seconds", gathered.out) == lines_without("seconds", whole.out)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.*g")} == kept


def test_shards_of_compare(run_inside: Callable[..., Run], photos: Path, tmp_path: Path) -> None:
    whole = run_inside("facetools", "compare", photos, photos)
    run_inside("facetools", *shards("compare", photos, photos, into=tmp_path / "d", shard="next/3"))
    assert run_inside("facetools", "gather", tmp_path / "d").out == whole.out


def test_paths_on_stdin_are_dealt_out(run_inside: Callable[..., Run], photos: Path, tmp_path: Path) -> None:
    paths = sorted(map(str, photos.iterdir()))
    whole = run_inside("facetools", "detect", stdin="\n".join(paths).encode())
    for shard in ("1/2", "2/2", "2/2"):
        arguments = shards("detect", into=tmp_path / "d", shard=shard)
        done = run_inside("facetools", *arguments, stdin="\n".join(paths).encode())
        assert done.code in (0, 3)
    assert done.err.startswith("facetools: note: shard 2/2 is complete")
    assert run_inside("facetools", "gather", tmp_path / "d").out == whole.out


def test_a_shard_that_is_made_otherwise_is_refused(
    run_inside: Callable[..., Run], photos: Path, tmp_path: Path
) -> None:
    into = tmp_path / "d"
    run_inside("facetools", *shards("detect", "--in", photos, into=into, shard="2/3"))
    for shard in ("2/3", "next/3"):
        done = run_inside("facetools", *shards("detect", "--in", photos, "--rotations", into=into, shard=shard))
        assert done.code == 2
        assert f"--into: {into}/0002-of-0003.done was made with rotations false, not true; name another" in done.err
    (photos / "more.jpg").write_bytes((photos / "0.jpg").read_bytes())
    for shard in ("2/3", "next/3"):
        done = run_inside("facetools", *shards("detect", "--in", photos, into=into, shard=shard))
        assert done.code == 2
        assert "was made of 9 inputs in all, not 10; name another folder" in done.err


def test_what_is_missing_is_named_as_it_is_made(run_inside: Callable[..., Run], photos: Path, tmp_path: Path) -> None:
    into = tmp_path / "d"
    run_inside("facetools", *shards("detect", "--in", photos, into=into, shard="3-4/7"))
    done = run_inside("facetools", "gather", into)
    assert (done.code, done.out) == (1, b"")
    assert done.err == (
        f"facetools: error: {into}: 5 of 7 shards are missing: run again --shard 1-2/7, --shard 5-7/7, or"
        " --shard next/7 for all\n"
    )
    # No run adds to shards of another number, but their files may be put together.
    other = run_inside("facetools", *shards("detect", "--in", photos, into=into, shard="61/100"))
    assert (other.code, f"--into {into}: holds shards of 7, and not of 100" in other.err) == (2, True)
    run_inside("facetools", *shards("detect", "--in", photos, into=tmp_path / "e", shard="61/100"))
    for file in (tmp_path / "e").iterdir():
        file.rename(into / file.name)
    assert "holds shards of 7 and of 100" in run_inside("facetools", "gather", into).err


@pytest.mark.parametrize("shard", ["1-2/3", "next/3"])
def test_several_shards_need_a_folder(run_inside: Callable[..., Run], photos: Path, shard: str) -> None:
    done = run_inside("facetools", "detect", "--in", photos, "--shard", shard)
    assert (done.code, done.out) == (2, b"")
    assert done.err == f"facetools: error: --shard {shard}: several shards need --into, a folder that keeps each\n"


@pytest.mark.parametrize("command", ["os system", "facetools nothing", "berttools layerdiff", "facetools ../x"])
def test_a_marker_names_no_code(run_inside: Callable[..., Run], photos: Path, tmp_path: Path, command: str) -> None:
    into = tmp_path / "d"
    run_inside("facetools", *shards("detect", "--in", photos, into=into, shard="1/1"))
    marker = into / "0001-of-0001.done"
    found = json.loads(marker.read_text())
    found["made"]["command"] = command
    marker.write_text(json.dumps(found))
    done = run_inside("facetools", "gather", into)
    assert (done.code, done.out) == (1, b"")
    assert f"holds shards of `{command}`" in done.err


def wait_for(condition: Callable[[], bool], workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for something that workers bring about; the limit is against a test that hangs."""
    end = time.monotonic() + ENDED
    while not condition():
        assert time.monotonic() < end
        assert any(worker.poll() is None for worker in workers) or condition()
        time.sleep(0.005)


def done_in(folder: Path) -> int:
    return len(list(folder.glob("*.done")))


def held_in(folder: Path) -> set[str]:
    """Return the shards that somebody holds, or held."""
    return {path.name.removeprefix(".").removesuffix(".jsonl.lock") for path in folder.glob(".*.jsonl.lock")}


@pytest.mark.slow
def test_the_shard_of_a_killed_worker_is_made_by_another(warm_command: Start, tmp_path: Path) -> None:
    """Four workers take 37 shards; one is killed by SIGKILL while it makes one, and the others wait for that."""
    photos, into = tmp_path / "photos", tmp_path / "d"
    photos.mkdir()
    for number in range(80):
        faceless(seed=number).save(photos / f"{number}.png")
    words = [*map(str, shards("detect", "--in", photos, into=into, shard="next/37"))]

    def start() -> subprocess.Popen[bytes]:
        # Not by the server of warm processes, which would outlive a worker that is killed.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-m", "facetools", *words], stderr=subprocess.PIPE, env=environment)

    workers = [start()]
    try:
        while True:  # stop it while it holds a shard that is not complete
            wait_for(lambda: done_in(into) >= 1, workers)
            workers[0].send_signal(signal.SIGSTOP)
            held = {name for name in held_in(into) if not (into / f"{name}.done").exists()}
            if held:
                break
            workers[0].send_signal(signal.SIGCONT)
        before = done_in(into)
        assert before < 37
        workers += [start() for _ in range(3)]
        # They make all others and wait for this one, since its holder lives.
        wait_for(lambda: done_in(into) == 36, workers)
        assert all(worker.poll() is None for worker in workers)
        workers[0].kill()
        for worker in workers[1:]:
            assert worker.wait(ENDED) == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            assert worker.stderr is not None
            worker.stderr.close()
    assert done_in(into) == 37
    assert held_in(into) == set()
    assert [path.name for path in into.iterdir() if path.name.startswith(".")] == []
    gathered = subprocess.run(warm_command("facetools", "gather", into), capture_output=True, check=True)
    whole = subprocess.run(warm_command("facetools", "detect", "--in", photos), capture_output=True, check=True)
    assert gathered.stdout == whole.stdout


def test_two_workers_on_one_shard(warm_command: Start, photos: Path, tmp_path: Path) -> None:
    words = [*map(str, shards("detect", "--in", photos, into=tmp_path / "d", shard="1/1"))]
    first = subprocess.Popen([sys.executable, "-m", "facetools", *words])
    try:
        wait_for(lambda: bool(held_in(tmp_path / "d")), [first])
        first.send_signal(signal.SIGSTOP)
        second = subprocess.run(warm_command("facetools", *words), capture_output=True, check=False)
        first.send_signal(signal.SIGCONT)
        assert first.wait(ENDED) == 3
    finally:
        first.kill()
        first.wait()
    # The first may have been stopped an instant before it had the claim or had said who it is, or after it was done.
    if second.returncode != 3:
        assert second.returncode == 1
        assert b"0001-of-0001.jsonl: is being written by" in second.stderr
