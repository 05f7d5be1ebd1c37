"""Damaged files of torch, zips and those from before torch 1.6, and dlib's networks."""

from __future__ import annotations

import pickle
import random
import sys
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from _toolio.errors import ToolError
from _toolio.tensors.torch_files import load_torch
from _toolio.tensors.torch_zip import open_torch_zip
from berttools.checkpoints.files import open_checkpoint
from facetools.extractors.architectures.dlib_resnet import packaged_path, read_dat
from facetools.extractors.convert.read import read_weights
from fuzzing import fuzz, mutated

NAME = "torch"

STATE = OrderedDict(
    {
        "layer.0.weight": torch.arange(12.0).reshape(3, 4),
        "layer.0.bias": torch.ones(3, dtype=torch.bfloat16),
        "turned": torch.ones(3, 4).T,
        "position_ids": torch.arange(5).expand(1, -1),
        "sparse": torch.eye(3).to_sparse(),
        "half": torch.nn.Parameter(torch.ones(2, 2).half()),
    }
)
NAMES = (
    b"builtins\nbytearray\n", b"torch\nTensor\n", b"os\nsystem\n", b"torch\nFloatStorage\n", b"collections\nCounter\n",
    b"torch\nSize\n", b"_codecs\nencode\n", b"torch._utils\n_rebuild_meta_tensor_no_storage\n", b"builtins\nset\n",
    b"torch._utils\n_rebuild_sparse_tensor\n", b"torch._utils\n_rebuild_qtensor\n", b"builtins\neval\n",
)  # fmt: skip


def _called(data: bytes, rng: random.Random) -> bytes:
    """Put the call of a name, with a number or a text, where what is pickled begins."""
    number = rng.choice((0, -1, 7, 1 << 33, 1 << 62)).to_bytes(8, "little", signed=True)
    argument = rng.choice((b"\x8a\x08" + number, b"X\x05\x00\x00\x00touch", b"]", b"N"))
    call = b"c" + rng.choice(NAMES) + argument + b"\x85R" + rng.choice((b"0", b"", b"2"))
    return data[:2] + call + data[2:]


def _torch(folder: Path, rng: random.Random) -> str:
    path = folder / "x.bin"
    old = rng.random() < 0.4
    torch.save(rng.choice((STATE, {"state_dict": STATE})), path, _use_new_zipfile_serialization=not old)
    data = path.read_bytes()
    if old and rng.random() < 0.3:
        place = max(data.find(b"\x80\x02ccollections"), data.find(b"\x80\x02}q\x00X\n\x00\x00\x00state"))
        path.write_bytes(data[:place] + _called(data[place:], rng))
    elif old or rng.random() < 0.3:
        path.write_bytes(mutated(data, rng))
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        wanted = rng.choice(sorted(members))
        with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED,) * 3 + (zipfile.ZIP_DEFLATED,))) as archive:
            for name, member in members.items():
                changed = mutated if not name.endswith("data.pkl") or rng.random() < 0.7 else _called
                archive.writestr(name, changed(member, rng) if name == wanted else member)
    ends = set()
    for read in (open_torch_zip, load_torch, open_checkpoint, read_weights):
        try:
            found = read(path)
            ends.add("read")
        except ToolError as error:
            assert "\n" not in error.message, error.message
            ends.add("refused")
        if read is open_checkpoint and "read" in ends:
            _read_all(found)
    return "torch " + "+".join(sorted(ends))


def _read_all(found: object) -> None:
    for name in getattr(found, "tensors", {}):
        try:
            for _ in found.chunks(name, 100):  # type: ignore[attr-defined]
                pass
        except ToolError:
            continue


def _dlib(folder: Path, rng: random.Random) -> str:
    path = folder / "x.dat"
    start = DLIB[: rng.choice((2_000, 50_000))]
    path.write_bytes(mutated(start, rng) + (DLIB[len(start) :] if rng.random() < 0.5 else b""))
    try:
        read_dat(path)
    except ToolError:
        return "dlib refused"
    return "dlib read"


def _pickled(folder: Path, rng: random.Random) -> str:
    path = folder / "x.pt"
    path.write_bytes(mutated(pickle.dumps({"a": [1.5, "text", (2, 3)]}, rng.choice((0, 2, 4, 5))), rng))
    try:
        load_torch(path)
    except ToolError:
        return "pickle refused"
    return "pickle read"


def try_one(rng: random.Random) -> str:
    """Damage one file, and read it by everything that takes it."""
    kind = rng.choices((_torch, _pickled, _dlib), (20, 4, 1))[0]
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        return kind(Path(folder), rng)


def prepare(folder: Path) -> None:
    """Read the network of dlib that is damaged."""
    global DLIB
    DLIB = packaged_path().read_bytes()


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one, prepare))
