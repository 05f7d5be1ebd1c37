"""What an interrupted run left, damaged: journals, claims, origins, checkpoints of trainings, caches of digests."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import nn

from _toolio.compute.checkpoints import _checksum, how_far, load_training, save_training
from _toolio.errors import ToolError
from _toolio.files.claims import claimed
from _toolio.files.hashing import sha256_of
from _toolio.files.holders import about
from _toolio.files.journal import first_arguments, journal_name
from _toolio.streams.inputs import Item
from _toolio.tensors.reader import read_metadata
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.digests import DigestCache
from berttools.checkpoints.files import open_checkpoint
from facetools.attacks.origins import merged, origin_of
from facetools.intake import input_digest
from facetools.outputs import PhotoFolder
from fuzzing import damaged_tensors, fuzz, mutated, mutated_json
from small_masks import write_base

NAME = "resumed"
COMMAND = "facetools-perturb"
ARGUMENTS = {"attack": "lowkey", "extractors": {"net": "d" * 64}, "steps": 3}


def _damaged_lines(path: Path, rng: random.Random) -> None:
    lines = path.read_bytes().splitlines()
    number = rng.randrange(len(lines))
    changed = json.dumps(mutated_json(json.loads(lines[number]), rng)).encode()
    data = b"\n".join([*lines[:number], changed, *lines[number + 1 :]]) + b"\n"
    path.write_bytes(mutated(data, rng) if rng.random() < 0.3 else data)


def _journal(folder: Path, rng: random.Random) -> None:
    photos = [Item(f"in/{name}.png", f"{name}.png") for name in "abc"]
    with PhotoFolder(folder, COMMAND, ARGUMENTS, resume=False, force=False) as out:
        for photo in photos:
            path = out.write(photo, photo.relative, photo.path.encode())
            records = [{"path": str(path), "relative": photo.relative, "extractors": ["net"], "moved": 0.5}]
            digest = input_digest(photo, [], photo.path.encode(), [])
            out._journal.add(photo.path, digest, {path: sha256_of(photo.path.encode())}, records)
    journal = folder / journal_name(COMMAND)
    _damaged_lines(journal, rng)
    first_arguments(folder, COMMAND)
    merged(origin_of(str(folder / photo.relative), sha256_of(photo.path.encode())) for photo in photos)
    with PhotoFolder(folder, COMMAND, ARGUMENTS, resume=True, force=False) as out:
        for photo in photos:
            found = out.finished(photo, [], photo.path.encode)
            if found is None:
                with suppress(ToolError):
                    out.write(photo, photo.relative, photo.path.encode())
            else:
                assert all(isinstance(record.get("path"), str | None) for record in found)


def _claim(folder: Path, rng: random.Random) -> None:
    lock = folder / ".out.lock"
    lock.write_text(json.dumps(about(["abc"])) + "\n")
    _damaged_lines(lock, rng)
    with claimed(folder / "out", replace=True):
        (folder / "out").write_bytes(b"")


def _training(folder: Path, rng: random.Random) -> None:
    made = {"schema": "x/1", "arguments": {"epochs": 9, "folds": 2}}
    path = folder / "out.checkpoint"
    network, optimizer, schedule = _learner()
    save_training(path, {"net": network}, optimizer, {**made, "epoch": 1, "step": 2, "history": "[]"})
    path.write_bytes(damaged_tensors(path.read_bytes(), rng))
    if rng.random() < 0.5:  # somebody made the checksum again
        with suppress(ToolError, SafetensorError, ValueError, KeyError):
            about, tensors = read_metadata(path), load_file(path)
            about.pop("crc32", None)
            write_safetensors(path, tensors, {**about, "crc32": _checksum(tensors, about)})
    how_far(path)
    network, optimizer, schedule = _learner(steps=0)
    load_training(path, {"net": network}, optimizer, schedule, made)


def _learner(steps: int = 2) -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 100)
    for _ in range(steps):
        network(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        schedule.step()
    return network, optimizer, schedule


def _cache(folder: Path, rng: random.Random) -> None:
    path = folder / "digests.json"
    names = list(open_checkpoint(BASE).tensors)
    state = (BASE / "model.safetensors").stat()
    identity = [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    entry = {"path": str(BASE), "identity": identity, "tensors": dict.fromkeys(names, "a" * 64)}
    files = {f"{state.st_dev}:{state.st_ino}": entry}
    path.write_text(json.dumps({"schema": "berttools.digests/1", "files": files}))
    text = json.dumps(mutated_json(json.loads(path.read_bytes()), rng)).encode()
    path.write_bytes(mutated(text, rng) if rng.random() < 0.3 else text)
    again = DigestCache(path, open_checkpoint(BASE))
    assert all(len(again.tensor_digest(name)) == 64 for name in names)
    again.write()


KINDS: tuple[Callable[[Path, random.Random], Any], ...] = (_journal, _claim, _training, _cache)


def try_one(rng: random.Random) -> str:
    """Damage one file that a run left, and go on from it."""
    kind = rng.choice(KINDS)
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        try:
            kind(Path(folder) / "in", rng) if kind is _journal else kind(Path(folder), rng)
        except ToolError as error:
            assert "\n" not in error.message.replace(folder, ""), error.message
            return f"{kind.__name__[1:]} refused"
        finally:
            assert {path.name for path in Path(folder).iterdir()} <= {
                "in", "out", ".out.lock", "out.checkpoint", "digests.json",
            }  # fmt: skip
    return f"{kind.__name__[1:]} read"


def prepare(folder: Path) -> None:
    """Make the model whose digests are kept."""
    global BASE
    BASE = write_base(folder / "base")


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one, prepare))
