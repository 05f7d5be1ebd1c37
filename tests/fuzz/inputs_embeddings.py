"""Files of embeddings, folders of their parts, and records that name their rows, damaged: read, or one line."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from _toolio.errors import ToolError
from embedding_files import write
from facetools.embeddings.files import count_faces, join_embeddings, read_embeddings
from facetools.embeddings.matching import nearest_pairs, read_embedded
from facetools.embeddings.parts.manifest import NAME as MANIFEST
from facetools.embeddings.parts.manifest import Manifest, Part, name_of, write_manifest
from fuzzing import damaged_tensors, fuzz, mutated, mutated_json

NAME = "embeddings"


def prepare(folder: Path) -> None:
    """Make a file of embeddings with its records, and the same in two parts."""
    global RECORDS, FILE, PARTS
    RECORDS = write(folder, made_against={"net": "d" * 64}, people=["ann"])
    FILE, PARTS = RECORDS.with_suffix(".safetensors"), folder / "parts"
    PARTS.mkdir()
    parts = []
    for number, names in enumerate((("a/1.jpg", "a/2.jpg"), ("b/1.jpg",))):
        made = write(PARTS, f"made-{number}", names=names)
        file = made.with_suffix(".safetensors").rename(PARTS / name_of(number))
        made.unlink()
        parts.append(Part(file.name, len(names), hashlib.sha256(file.read_bytes()).hexdigest()))
    about = {"name": "net", "sha256": "d" * 64, "distance": "cosine"}
    write_manifest(PARTS, Manifest(parts, 3, about), {"version": "0"})


def _damage(path: Path, rng: random.Random) -> None:
    path.write_bytes(damaged_tensors(path.read_bytes(), rng))


def _file(folder: Path, rng: random.Random) -> str:
    path = folder / FILE.name
    shutil.copyfile(FILE, path)
    _damage(path, rng)
    if rng.random() < 0.3:
        count_faces(path)
        join_embeddings(folder / "all.safetensors", rng.choice(([path, FILE], [FILE, path])))
    return str(path)


def _parts(folder: Path, rng: random.Random) -> str:
    shutil.copytree(PARTS, folder / "parts")
    manifest, path = folder / "parts" / MANIFEST, folder / "parts" / name_of(rng.randrange(2))
    found = json.loads(manifest.read_bytes())
    if rng.random() < 0.4:
        _damage(path, rng)
        for part in found["parts"]:
            part["sha256"] = hashlib.sha256((folder / "parts" / part["file"]).read_bytes()).hexdigest()
    else:
        found = mutated_json(found, rng)
    text = json.dumps(found).encode()
    manifest.write_bytes(mutated(text, rng) if rng.random() < 0.1 else text)
    read_embeddings(folder / "parts")
    return str(folder / "parts")


def _records(folder: Path, rng: random.Random) -> str:
    shutil.copyfile(FILE, folder / FILE.name)
    lines = RECORDS.read_text(encoding="utf-8").splitlines()
    number = rng.randrange(len(lines))
    record = {**json.loads(lines[number]), "file": str(folder / FILE.name)}
    text = json.dumps(mutated_json(record, rng)).encode()
    path = folder / "e.jsonl"
    path.write_bytes(b"\n".join([*(line.encode() for line in lines[:number]), text]))
    if rng.random() < 0.3:
        _damage(folder / FILE.name, rng)
    return str(path)


def try_one(rng: random.Random) -> str:
    """Damage one input, and match its faces with those of a whole file."""
    kind = rng.choice((_file, _parts, _records))
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        try:
            inputs = read_embedded([kind(Path(folder), rng), str(FILE)])
            with np.errstate(all="raise", under="ignore"):
                nearest_pairs(*inputs, 0.5)
        except ToolError as error:
            assert "\n" not in error.message.replace(folder, ""), error.message
            return f"{kind.__name__[1:]} refused"
    return f"{kind.__name__[1:]} read"


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one, prepare))
