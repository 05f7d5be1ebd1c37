"""Damaged quantized weights of every layout that is read: read as weights, or refused by name."""

from __future__ import annotations

import json
import math
import random
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from _toolio.errors import ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.quantized import with_scales
from fuzzing import fuzz, mutated, mutated_json

NAME = "quantized"
P = "layer.0.fc1."
Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]
"""Dtype, shape and bytes by name."""

BYTES = {"U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E8M0": 1, "F16": 2, "BF16": 2, "F32": 4, "I32": 4, "I64": 8}
GROUP = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "symmetric": True, "group_size": 32,
         "strategy": "group"}}  # fmt: skip
STATE = {"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [8, 64], "nested_blocksize": 4,
         "nested_dtype": "float32", "nested_offset": 0.7}  # fmt: skip
INT8 = {"_type": "Int8Tensor", "_data": {"block_size": [1, 64]}}

# Names below the module, with dtype and shape; what config.json says; what stands beside a weight as JSON.
Parts = Mapping[str, tuple[str, tuple[int, ...]]]
LAYOUTS: Mapping[str, tuple[Parts, Any, Any]] = {
    "bitsandbytes": (
        {"weight": ("U8", (256, 1)), "weight.quant_map": ("F32", (16,)), "weight.absmax": ("U8", (8,)),
         "weight.nested_absmax": ("F32", (2,)), "weight.nested_quant_map": ("F32", (256,))},
        {"quant_method": "bitsandbytes", "load_in_4bit": True}, STATE,
    ),
    "torchao": (
        {"_weight_qdata": ("I8", (8, 64)), "_weight_scale": ("F32", (8, 1))}, {"quant_method": "torchao"}, INT8,
    ),
    "gptq": (
        {"qweight": ("I32", (8, 32)), "qzeros": ("I32", (2, 4)), "scales": ("F16", (2, 32)), "g_idx": ("I32", (64,))},
        {"quant_method": "gptq", "bits": 4, "group_size": 32, "checkpoint_format": "gptq_v2"}, None,
    ),
    "awq": (
        {"qweight": ("I32", (64, 4)), "qzeros": ("I32", (2, 4)), "scales": ("F16", (2, 32))},
        {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}, None,
    ),
    "packed": (
        {"weight_packed": ("I32", (8, 8)), "weight_scale": ("F32", (8, 2)), "weight_shape": ("I64", (2,))},
        {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": GROUP}}, None,
    ),
    "fp8": (
        {"weight": ("F8_E4M3", (32, 48)), "weight_scale_inv": ("F32", (2, 2))},
        {"quant_method": "fp8", "weight_block_size": [16, 24]}, None,
    ),
    "nvfp4": (
        {"weight_packed": ("U8", (8, 32)), "weight_scale": ("F8_E4M3", (8, 4)), "weight_global_scale": ("F32", (1,))},
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, None,
    ),
    "experts": (
        {"gate_blocks": ("U8", (2, 4, 2, 16)), "gate_scales": ("U8", (2, 4, 2))}, {"quant_method": "mxfp4"}, None,
    ),
}  # fmt: skip


def _whole(parts: Parts) -> Tensors:
    """Return tensors of a layout, of values that it can have."""
    rng, found = np.random.default_rng(0), Tensors()
    for leaf, (dtype, shape) in parts.items():
        size = math.prod(shape) * BYTES[dtype]
        data = rng.integers(0, 100, size, np.uint8).tobytes()
        if dtype in ("F32", "F16"):
            data = rng.random(math.prod(shape)).astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
        elif leaf == "g_idx":
            data = (np.arange(64, dtype="<i4") // 32).tobytes()
        elif leaf == "weight_shape":
            data = np.array([8, 64], "<i8").tobytes()
        found[P + leaf] = dtype, shape, data
    return found


def _damage(tensors: Tensors, rng: random.Random) -> None:
    """Change one tensor: its name, dtype, shape or values; or leave it out."""
    name = rng.choice(sorted(tensors))
    dtype, shape, data = tensors.pop(name)
    kind = rng.randrange(6)
    if kind == 0:
        return
    if kind == 1:
        name = rng.choice((f"{name}x", name.replace("fc1", "fc2"), f"{P}weight", f"{P}weight_scale", "", f"{name}.0"))
    elif kind == 2:
        dtype = rng.choice(sorted(BYTES))
        shape = (len(data) // BYTES[dtype],) if rng.random() < 0.5 else (*shape[:-1], -1)
        rows = math.prod(shape[:-1]) or 1
        shape = tuple(len(data) // BYTES[dtype] // rows if side == -1 else side for side in shape)
    elif kind == 3:
        shape = rng.choice((shape[::-1], (1, *shape), (*shape, 1), (math.prod(shape),), (2, math.prod(shape) // 2)))
    elif kind == 4:
        data = rng.choice((bytes([rng.randrange(256)]) * len(data), rng.randbytes(len(data))))
    else:
        shape = rng.choice(((0,), (), (1,), (3, 5), (0, 64), tuple(side * 2 for side in shape)))
        size = math.prod(shape) * BYTES[dtype]
        data = (data * (size // max(1, len(data)) + 1))[:size]
    tensors[name] = dtype, shape, data[: math.prod(shape) * BYTES[dtype]]


def _write(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at := at + len(data)]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values()))


def _read(folder: Path) -> None:
    model = with_scales(open_checkpoint(folder))
    for name, stored in model.tensors.items():
        flat, read = model.flat(name), 0
        for start in range(0, stored.size, 37):
            stop = min(start + 37, stored.size)
            read += len(flat.values(start, stop))
            flat.release(start, stop)
        assert read == stored.size, name


def try_one(rng: random.Random) -> str:
    """Damage a checkpoint in one of the layouts, and read its weights."""
    layout = rng.choice(sorted(LAYOUTS))
    parts, config, said = LAYOUTS[layout]
    tensors, metadata = _whole(parts), {"format": "pt"}
    if rng.random() < 0.6:
        _damage(tensors, rng)
    if said is not None:
        text = json.dumps(mutated_json(said, rng) if rng.random() < 0.5 else said).encode()
        text = mutated(text, rng) if rng.random() < 0.1 else text
        if layout == "torchao":
            metadata[f"{P}weight"] = text.decode(errors="replace")
        else:
            tensors[f"{P}weight.quant_state.bitsandbytes__nf4"] = "U8", (len(text),), text
    config = {"quantization_config": mutated_json(config, rng) if rng.random() < 0.4 else config}
    # What reads weights finds what is not finite in its sums.
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder, np.errstate(all="ignore"):
        path = Path(folder)
        _write(path / "model.safetensors", tensors, metadata)
        (path / "config.json").write_text(json.dumps(config))
        try:
            _read(path)
        except ToolError as error:
            assert "\n" not in error.message.replace(folder, ""), error.message
            return f"{layout} refused"
    return f"{layout} read"


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one))
