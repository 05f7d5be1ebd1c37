"""What commands do with outputs that somebody else writes, that are removed, or that lead elsewhere: real processes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from _toolio.files.claims import claimed, claimed_part
from conftest import Run
from facetools.commands._photos import part_of
from tiny_models import make_base, make_mask, texts, write_lines

Start = Callable[..., subprocess.Popen[bytes]]
ONLY = b"encoder.layer.0.attention.self.query.weight\n"


@pytest.fixture
def start(warm_command: Callable[..., list[str]]) -> Iterator[Start]:
    """Start a tool that waits for its stdin."""
    started = []

    def begin(tool: str, *arguments: str | os.PathLike[str]) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(warm_command(tool, *arguments), stdin=pipe, stdout=pipe, stderr=pipe)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, a mask and texts."""
    folder = tmp_path_factory.mktemp("tiny")
    make_base(folder / "base")
    make_mask(folder / "base", folder / "a.mask.safetensors")
    write_lines(folder / "texts.jsonl", [{"text": each["text"], "label": each["label"]} for each in texts(20)])
    return folder


def until_claimed(lock: Path) -> None:
    end = time.monotonic() + 60
    while not (lock.exists() and lock.read_bytes()) and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.5)  # the run looks at what is there right after it has written the claim


def tuning(tiny: Path, out: Path) -> list[str | Path]:
    return ["finetune", "--base", tiny / "base", "--train", tiny / "texts.jsonl", "--epochs", "1", "--only", "-",
            "--out", out]  # fmt: skip


def hidden_in(folder: Path) -> list[str]:
    """Return what is left of claims and of what was half-written."""
    return [path.name for path in folder.rglob(".*") if path.name.endswith((".lock", ".tmp", ".old"))]


def test_a_model_does_not_replace_what_somebody_put_there_meanwhile(start: Start, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    process = start("berttools", *tuning(tiny, out))
    assert process.stdin
    process.stdin.write(ONLY * 10_000)  # more than a pipe holds: the checks are done, and the names are being read
    process.stdin.flush()
    out.mkdir()
    (out / "mine.txt").write_text("work of others")
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.decode().splitlines()[-1] == (
        f"berttools: error: {out}: somebody else has written it since this run began, and it is left as it is; the"
        f" result of this run is {out}.kept"
    )
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert (tmp_path / "tuned.kept" / "model.safetensors").is_file()
    assert hidden_in(tmp_path) == []


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_file_does_not_replace_one_that_was_made_meanwhile(
    start: Start, plain_photos: Path, tmp_path: Path, force: list[str]
) -> None:
    out = tmp_path / "e.safetensors"
    process = start("facetools", "embed", "--in", "-", "--out", out, *force)
    until_claimed(tmp_path / ".e.safetensors.lock")
    out.write_text("work of others")
    _, said = process.communicate(os.fsencode(plain_photos / "0.png"))
    assert process.returncode == 1
    assert f"the result of this run is {tmp_path / 'e.kept.safetensors'}" in said.decode()
    assert out.read_text() == "work of others"
    assert (tmp_path / "e.kept.safetensors").read_bytes()[8:9] == b"{"
    assert hidden_in(tmp_path) == []


def test_force_still_replaces_what_is_there(run: Callable[..., Run], plain_photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.safetensors"
    for force, code in (([], 0), ([], 2), (["--force"], 0)):
        before = out.stat().st_ino if out.exists() else 0
        assert run("facetools", "embed", "--in", plain_photos, "--out", out, *force).code == code
        assert (out.stat().st_ino == before) == (code == 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.safetensors", "plain"]


def test_of_two_runs_into_one_output_the_second_says_who_has_it(
    start: Start, run: Callable[..., Run], tiny: Path, tmp_path: Path
) -> None:
    first = start("berttools", *tuning(tiny, tmp_path / "tuned"))
    until_claimed(tmp_path / ".tuned.lock")
    second = run("berttools", *tuning(tiny, tmp_path / "tuned"), stdin=ONLY)
    assert second.code == 1
    pid = json.loads((tmp_path / ".tuned.lock").read_text())["pid"]
    assert second.err.startswith(f"berttools: error: --out {tmp_path / 'tuned'}: is being written by process {pid} on ")
    assert "(berttools finetune --base " in second.err
    assert second.err.count("\n") == 1
    first.communicate(ONLY)
    assert first.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tuned"]


@pytest.mark.parametrize("name", ["apply-mask", "mask-control", "align", "perturb", "embed", "compare", "maskdiff"])
def test_each_command_that_writes_claims_its_output(
    run: Callable[..., Run], plain_photos: Path, tiny: Path, tmp_path: Path, name: str
) -> None:
    out, photos = tmp_path / ("out.png" if name in ("compare", "maskdiff") else "out"), [str(plain_photos)]
    mask = [tiny / "base", tiny / "a.mask.safetensors"]
    tool, arguments = {
        "apply-mask": ("berttools", [*mask, "--out"]),
        "mask-control": ("berttools", [*mask, "--out"]),
        "maskdiff": ("berttools", [mask[1], "--heatmap"]),
        "align": ("facetools", [*photos, "--out"]),
        "perturb": ("facetools", ["--attack", "none", *photos, "--out"]),
        "embed": ("facetools", [*photos, "--out"]),
        "compare": ("facetools", [*photos, *photos, "--grid"]),
    }[name]
    if name in ("align", "perturb"):
        which = part_of(photos, (1, 1), *(["", "keep"] if name == "perturb" else []))
        claim = claimed_part(out, f"facetools-{name}", json.loads(json.dumps(which)))
    else:
        claim = claimed(out if name != "embed" else tmp_path / "out", replace=False)
    with claim:
        done = run(tool, name, *map(str, arguments), out)
    assert done.code == 1
    assert f"is being written by process {os.getpid()} on " in done.err
    assert done.err.count("\n") == 1
    assert not out.is_file()


def test_shards_and_single_photos_share_a_folder(start: Start, plain_photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    parts: list[list[Any]] = [[plain_photos, "--shard", f"{part}/2"] for part in (1, 2)]
    parts += [[plain_photos / f"{part}.png", "--suffix", "-single"] for part in (0, 1)]
    runs = [start("facetools", "perturb", "--attack", "none", "--copy-faceless", *part, "--out", out) for part in parts]
    said = [process.communicate(b"") for process in runs]
    assert [(process.returncode, err) for process, (_, err) in zip(runs, said, strict=True)] == [(0, b"")] * 4
    found = sorted(path.name for path in out.iterdir())
    assert found == [".facetools-perturb.jsonl", "0-single.png", "0.png", "1-single.png", "1.png"]


@pytest.mark.parametrize("name", ["perturb", "embed"])
def test_what_a_killed_run_left_is_removed_by_the_next(
    start: Start, run: Callable[..., Run], plain_photos: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / ("out" if name == "perturb" else "e.safetensors")
    words = [name, *(["--attack", "none"] if name == "perturb" else []), "--in", "-", "--out", out]
    process = start("facetools", *words)
    assert process.stdin and process.stdout
    process.stdin.write(os.fsencode(plain_photos / "0.png") + b"\n")
    process.stdin.flush()
    if name == "perturb":
        assert process.stdout.readline()
    else:
        until_claimed(tmp_path / ".e.safetensors.lock")
    process.send_signal(signal.SIGTERM)  # what stands in for it in the warm server passes on no SIGKILL
    process.wait(60)
    assert hidden_in(tmp_path) == []
    left = out / ".facetools-perturb.0123456789ab.lock" if name == "perturb" else tmp_path / ".e.safetensors.lock"
    about = {"runs": ["12345678"], "pid": 1 << 30, "host": os.uname().nodename, "boot": ""}
    left.write_text(json.dumps(about))
    half_written = ".0.png.12345678.0.tmp" if name == "perturb" else ".e.safetensors.12345678.0.tmp"
    (left.parent / half_written).touch()
    again = run(
        "facetools", *words, *(["--resume"] if name == "perturb" else []), stdin=os.fsencode(plain_photos / "0.png")
    )
    assert (again.code, again.err) == (0, "")
    assert hidden_in(tmp_path) == []


@pytest.mark.parametrize("gone", ["folder", "file"])
def test_what_vanishes_during_perturb_is_an_error(start: Start, plain_photos: Path, tmp_path: Path, gone: str) -> None:
    process = start(
        "facetools", "perturb", "--attack", "none", "--copy-faceless", "--in", "-", "--out", tmp_path / "out"
    )
    assert process.stdin and process.stdout
    process.stdin.write(os.fsencode(plain_photos / "0.png") + b"\n")
    process.stdin.flush()
    written = Path(json.loads(process.stdout.readline())["path"])
    shutil.rmtree(tmp_path / "out") if gone == "folder" else written.unlink()
    _, said = process.communicate(os.fsencode(plain_photos / "1.png"))
    assert process.returncode == 1
    assert f"facetools: error: {tmp_path / 'out' if gone == 'folder' else written}: was removed" in said.decode()


def test_no_name_is_written_through_a_link(
    run: Callable[..., Run], plain_photos: Path, tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "tuned.checkpoint").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "e.1-of-2.safetensors").symlink_to(tmp_path / "elsewhere")
    for tool, *words in (
        ["berttools", *tuning(tiny, tmp_path / "tuned")],
        ["facetools", "embed", plain_photos, "--shard", "1/2", "--out", tmp_path / "e.safetensors"],
    ):
        done = run(tool, *words, stdin=ONLY)
        assert done.code == 2
        assert "is a link, and is not written through; remove it" in done.err
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_said_of_the_file_that_was_named(run: Callable[..., Run], tiny: Path, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    mask = [tiny / "base", tiny / "a.mask.safetensors"]
    for words, named in (
        (["apply-mask", *mask, "--out", tmp_path / "model"], tmp_path / "model" / "model.safetensors"),
        (["mask-control", *mask, "--out", tmp_path / "b.safetensors"], tmp_path / "b.safetensors"),
    ):
        done = run("berttools", *words, cold=True, preexec_fn=small_files)
        assert (done.code, done.err) == (1, f"berttools: error: {named}: cannot be written: File too large\n")
    assert list(tmp_path.iterdir()) == []
