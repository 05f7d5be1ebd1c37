"""A base of two matrices, and masks of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from _toolio.tensors.writer import stream_safetensors
from berttools.checkpoints.files import open_checkpoint
from berttools.masks.base import names_in_base
from berttools.masks.writer import write_mask

QUERY, OUTPUT = (f"bert.encoder.layer.1.{name}.weight" for name in ("attention.self.query", "output.dense"))


HEAD = {"classifier.weight": np.float32([[1, 2, 3]]), "classifier.bias": np.float32([-0.0])}


MADE = {"metric": "accuracy", "labels": ["no", "yes"], "seed": 3, "arguments": {"epochs": 1}, "layers": {2: 0, 10: 1}}


def write_base(folder: Path, dtype: str = "float32", *, prefix: str = "", seed: int = 0) -> Path:
    """Two matrices, a bias and an embedding."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    shapes = {QUERY: (24, 24), OUTPUT: (24, 40), QUERY.replace("weight", "bias"): (24,), "bert.embeddings.w": (9, 24)}
    tensors = {name.replace("bert.", prefix): rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    if dtype == "bfloat16":
        plan = {name: ("BF16", array.shape) for name, array in tensors.items()}
        halves = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in tensors.items()}
        stream_safetensors(folder / "model.safetensors", plan, lambda name: [halves[name]], format="pt")
    else:
        save_file({name: array.astype(dtype) for name, array in tensors.items()}, folder / "model.safetensors")
    return folder


def keeps_of(base: Path, *, sparsity: float = 0.3, seed: int = 1) -> dict[str, NDArray[np.bool_]]:
    """By magnitude, and some flips."""
    rng, opened, found = np.random.default_rng(seed), open_checkpoint(base), {}
    for name, stored in names_in_base(opened, {QUERY: (24, 24), OUTPUT: (24, 40)}, base).items():
        values = np.abs(opened.flat(stored).values(0, opened.tensors[stored].size).astype(np.float32))
        keep = values >= np.quantile(values, sparsity)
        found[name] = (keep ^ (rng.random(keep.size) < 0.05)).reshape(opened.tensors[stored].shape)
    return found


def written(tmp_path: Path, *, code: str = "auto", dtype: str = "float32") -> tuple[Path, Path]:
    base, out = write_base(tmp_path / "base", dtype), tmp_path / "task.safetensors"
    write_mask(out, keeps_of(base), HEAD, '{"a":1}', open_checkpoint(base), MADE, code=code)
    return base, out
