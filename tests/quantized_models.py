"""Small quantized checkpoints, and their weights as they are read here."""

from __future__ import annotations

import json

import numpy as np
import torch
from safetensors.torch import save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.quantized import with_scales

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
"""The 16 values of a 4-bit normal float. arXiv 2305.14314, appendix E."""


def save(folder, tensors, quantization=None, metadata=None):
    """Write a model's folder, with what its config.json says of quantization."""
    folder.mkdir(parents=True, exist_ok=True)
    held = {name: _tensor(each) for name, each in tensors.items()}
    save_file(held, folder / "model.safetensors", metadata)
    if quantization is not None:
        (folder / "config.json").write_text(json.dumps({"quantization_config": quantization}))
    return folder


def _tensor(each):
    return (each if isinstance(each, torch.Tensor) else torch.from_numpy(np.array(each))).detach().contiguous().clone()


def opened(path):
    """Open a checkpoint with its weights as they are read here."""
    return with_scales(open_checkpoint(path))


def weight(path, name="layer.0.fc1.weight"):
    """Read a weight in pieces that end inside rows and blocks."""
    model = opened(path)
    flat, stored = model.flat(name), model.tensors[name]
    pieces = []
    for start in range(0, stored.size, 37):
        pieces.append(np.array(flat.values(start, min(start + 37, stored.size))))
        flat.release(start, min(start + 37, stored.size))
    found = np.concatenate(pieces)
    assert np.array_equal(found, flat.values(0, stored.size))
    return found.reshape(stored.shape)


def normal(rows, columns, seed=0):
    """Draw a matrix."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
