"""Damaged safetensors files, masks, deltas and indexes of shards, and what reads and applies them."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from _toolio.tensors.reader import open_safetensors, read_metadata
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.digests import base_digest
from berttools.checkpoints.files import Checkpoint, open_checkpoint
from berttools.checkpoints.groups import By
from berttools.layerdiff import LayerdiffConfig, compare
from berttools.masks.apply import apply_mask
from berttools.masks.comparison import compare_masks
from berttools.masks.controls import write_control
from berttools.masks.metadata import canonical_json, sha256_of
from berttools.tuning.delta import apply_delta, write_delta
from fuzzing import fuzz, how_it_ended, mutated, mutated_json
from mask_forging import forged
from small_masks import HEAD, MADE, written

NAME = "headers"


def _read_all(checkpoint: Checkpoint) -> None:
    for name in checkpoint.tensors:
        for _ in checkpoint.chunks(name, 100):
            pass


def _header(folder: Path, rng: random.Random) -> None:
    data = (BASE / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length]
    if rng.random() < 0.5:
        text = json.dumps(mutated_json(json.loads(header), rng)).encode()
        data = len(text).to_bytes(8, "little") + text + data[8 + length :]
    elif rng.random() < 0.5:
        text = mutated(header, rng)
        data = len(text).to_bytes(8, "little") + text + data[8 + length :]
    else:
        data = mutated(data, rng)
    path = folder / "model.safetensors"
    path.write_bytes(data)
    with open_safetensors(path) as file:
        for name, entry in file.entries.items():
            if entry.dtype in ("F32", "F64", "F16"):
                assert file.tensor(name).shape == entry.shape
    read_metadata(path)
    list(compare(BASE, folder, config=LayerdiffConfig(by=By.tensor, processes=1)))


def _index(folder: Path, rng: random.Random) -> None:
    shutil.copyfile(BASE / "model.safetensors", folder / "a.safetensors")
    shutil.copyfile(BASE / "model.safetensors", folder / "b.safetensors")
    names = list(open_safetensors(folder / "a.safetensors").entries)
    shards = {name: rng.choice(("a.safetensors", "b.safetensors")) for name in names}
    index: Any = {"metadata": {"total_size": 9}, "weight_map": shards}
    text = json.dumps(mutated_json(index, rng)).encode()
    path = folder / "model.safetensors.index.json"
    path.write_bytes(mutated(text, rng) if rng.random() < 0.3 else text)
    _read_all(open_checkpoint(folder))


def _mask(folder: Path, rng: random.Random) -> None:
    path = folder / "m.safetensors"
    if rng.random() < 0.2:
        path.write_bytes(mutated(MASK.read_bytes(), rng))
    else:

        def change(about: dict[str, Any]) -> None:
            changed = mutated_json(dict(about), rng)
            about.clear()
            about.update(changed if isinstance(changed, dict) else {"schema": changed})

        def tensors(stored: dict[str, Any]) -> None:
            name = rng.choice(sorted(stored))
            array = stored[name]
            data = mutated(array.tobytes(), rng)
            stored[name] = np.frombuffer(data[: len(data) // array.itemsize * array.itemsize], array.dtype).copy()

        some = rng.random() < 0.5
        with contextlib.suppress(ValueError):  # NaN, which no such file holds
            forged(MASK, path, None if some else change, tensors if some else None)
    apply_mask(BASE, path, folder / "out")
    for each in compare_masks([path, MASK], BASE, divided=True):
        list(each.records(By.group))
    write_control(BASE, path, folder / "c.safetensors", rng.choice(("random", "magnitude")), 0)


def _delta(folder: Path, rng: random.Random) -> None:
    about: Any = mutated_json(read_metadata(DELTA), rng)
    if isinstance(about, dict) and rng.random() < 0.8:  # somebody made the digest again
        with contextlib.suppress(ValueError):
            said = {key: value for key, value in about.items() if key != "sha256"}
            about["sha256"] = sha256_of(canonical_json(said))
    path = folder / "d.safetensors"
    with contextlib.suppress(ValueError):
        write_safetensors(path, {"classifier.bias": np.zeros(2, np.float32)}, about if isinstance(about, dict) else {})
    if not path.exists():
        return
    if rng.random() < 0.3:
        path.write_bytes(mutated(path.read_bytes(), rng))
    apply_delta(BASE, path, folder / "out")


def try_one(rng: random.Random) -> str:
    """Damage one file, and read or apply it by everything that takes it."""
    return how_it_ended(rng.choice((_header, _header, _index, _mask, _delta)), rng)


def prepare(folder: Path) -> None:
    """Make the base, the mask and the delta that are damaged."""
    global BASE, MASK, DELTA
    BASE, MASK = written(folder)
    DELTA = folder / "delta"
    (BASE / "config.json").write_text('{"model_type":"bert"}')
    (BASE / "vocab.txt").write_text("[PAD]\n")
    checkpoint = open_checkpoint(BASE)
    write_delta(DELTA, HEAD, '{"a":1}', checkpoint, {**MADE, "base_sha256": base_digest(checkpoint)})
    forged(MASK, MASK, lambda about: about.update(config='{"model_type":"bert","num_labels":1}'))


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one, prepare))
