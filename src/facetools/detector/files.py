"""Read and write detector files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _toolio.errors import InputError, ToolError
from _toolio.files.hashing import sha256_of
from _toolio.tensors.reader import open_safetensors, read_metadata
from _toolio.tensors.writer import write_safetensors
from facetools.detector.detector import Calibration, Detector
from facetools.detector.network import ResidualNet

SCHEMA = "facetools.detector/3"

SHIPPED = Path(__file__).parent.parent / "weights" / "detector.safetensors"
"""The detector that is installed with the package; its card lies beside it."""


def open_detector(path: Path, device: torch.device) -> Detector:
    """Open a detector's file for prediction.

    Raises
    ------
    ToolError
        There is no such file, or it is no detector.
    """
    made = read_metadata(path)
    if made.get("schema") != SCHEMA:
        old = "of an earlier version" if str(made.get("schema")).startswith("facetools.detector/") else "not a detector"
        raise ToolError(f"{path}: {old}; make one with facetools train-detector", kind="not-a-detector")
    file = open_safetensors(path)
    try:
        calibration = Calibration(*(float(made[key]) for key in ("temperature", "offset", "threshold")))
        attacks = tuple(dict.fromkeys(name for name in made["attacks"] if isinstance(name, str) and name))
        if not attacks or list(attacks) != made["attacks"]:
            raise KeyError("names of attacks")
        network = ResidualNet(len(attacks))
        state = {name: torch.from_numpy(np.array(file.tensor(name), np.float32)) for name in file.entries}
        network.load_state_dict(state, strict=False)
        wanted = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
        missing = [name for name in wanted if name not in state]
    except (RuntimeError, KeyError, TypeError, ValueError, OverflowError, InputError):
        missing = ["names of attacks, numbers or tensors of the right shape"]
    if missing:
        raise ToolError(f"{path}: {missing[0]} missing; the file is of another version", kind="not-a-detector")
    numbers = [calibration.threshold, calibration.temperature, calibration.offset]
    if not all(map(math.isfinite, numbers + [float(v.sum()) for v in state.values()])):
        raise ToolError(f"{path}: holds NaN or infinity; train it again", kind="not-a-detector")
    variances = [value for name, value in state.items() if name.endswith("running_var")]
    if (
        calibration.temperature <= 0
        or not 0 <= calibration.threshold <= 1
        or any(bool((v < 0).any()) for v in variances)
    ):
        what = "a temperature, a threshold or a variance that cannot be"
        raise ToolError(f"{path}: holds {what}; train it again", kind="not-a-detector")
    network.fuse().to(device).to(memory_format=torch.channels_last)
    name = f"{path.stem}-{sha256_of(path.read_bytes())[:12]}"
    return Detector(name, network, attacks, calibration)


def save_detector(
    path: Path, network: ResidualNet, attacks: tuple[str, ...], calibration: Calibration, made: Mapping[str, Any]
) -> None:
    """Write a detector, not fused, as float16 safetensors; ``made`` says how it was made."""
    tensors = {
        name: value.detach().cpu().numpy().astype(np.float16)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    numbers = {key: getattr(calibration, key) for key in ("temperature", "offset", "threshold")}
    write_safetensors(path, tensors, {"schema": SCHEMA, **made, **numbers, "attacks": list(attacks)})
