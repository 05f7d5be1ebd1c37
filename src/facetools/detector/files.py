"""Read and write detector files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import InputError, ToolError
from _toolio.files.hashing import sha256_of
from _toolio.tensors.reader import open_safetensors, read_metadata
from _toolio.tensors.writer import write_safetensors
from facetools.detector.decision import Calibration, Thresholds

if TYPE_CHECKING:
    import torch

    from facetools.detector.detector import Detector
    from facetools.detector.network import ResidualNet

SCHEMA = "facetools.detector/4"

SHIPPED = Path(__file__).parent.parent / "weights" / "detector.safetensors"
"""The detector that is installed with the package; its card lies beside it."""


def read_calibration(path: Path) -> Calibration:
    """Read what a detector decides by, without its network: neither torch nor numpy is imported.

    Raises
    ------
    ToolError
        There is no such file, or it is no detector.
    """
    return _calibration_of(_metadata_of(path), path)


def open_detector(path: Path, device: torch.device) -> Detector:
    """Open a detector's file for prediction.

    Raises
    ------
    ToolError
        There is no such file, or it is no detector.
    """
    import numpy as np
    import torch

    from facetools.detector.detector import Detector
    from facetools.detector.network import ResidualNet

    made = _metadata_of(path)
    calibration = _calibration_of(made, path)
    file = open_safetensors(path)
    try:
        attacks = tuple(dict.fromkeys(name for name in made["attacks"] if isinstance(name, str) and name))
        if not attacks or list(attacks) != made["attacks"]:
            raise KeyError("names of attacks")
        network = ResidualNet(len(attacks))
        state = {name: torch.from_numpy(np.array(file.tensor(name), np.float32)) for name in file.entries}
        network.load_state_dict(state, strict=False)
        wanted = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
        missing = [name for name in wanted if name not in state]
    except (RuntimeError, KeyError, TypeError, ValueError, OverflowError, InputError):
        missing = ["names of attacks or tensors of the right shape"]
    if missing:
        raise _other_version(path, missing[0])
    _refuse_unless_finite(path, [float(value.sum()) for value in state.values()])
    if any(bool((value < 0).any()) for name, value in state.items() if name.endswith("running_var")):
        raise ToolError(f"{path}: holds a variance that cannot be; train it again", kind="not-a-detector")
    network.fuse().to(device).to(memory_format=torch.channels_last)
    name = f"{path.stem}-{sha256_of(path.read_bytes())[:12]}"
    return Detector(name, network, attacks, calibration)


def _metadata_of(path: Path) -> dict[str, Any]:
    made = read_metadata(path)
    if made.get("schema") != SCHEMA:
        old = "of an earlier version" if str(made.get("schema")).startswith("facetools.detector/") else "not a detector"
        raise ToolError(f"{path}: {old}; make one with facetools train-detector", kind="not-a-detector")
    return made


def _calibration_of(made: Mapping[str, Any], path: Path) -> Calibration:
    try:
        share = made["attack_share"]
        calibration = Calibration(
            float(made["temperature"]),
            float(made["offset"]),
            tuple(Thresholds(*map(float, row)) for row in made["thresholds"]),
            float(made["false_alarms"]),
            float(made["least_power"]),
            None if share is None else float(share),
            (float(made["power_temperature"]), float(made["power_offset"])),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _other_version(path, "numbers of its calibration") from None
    rows, shares = calibration.thresholds, [calibration.least_power, calibration.attack_share or 0.0]
    scales = [calibration.temperature, calibration.offset, *calibration.power]
    numbers = [*scales, *shares, *(number for row in rows for number in row)]
    _refuse_unless_finite(path, numbers)
    rates = [row.false_alarms for row in rows]
    if (
        min(calibration.temperature, calibration.power[0]) <= 0
        or calibration.false_alarms not in rates
        or rates != sorted(set(rates))
        or not all(0 <= x <= 1 for x in shares)
        or not all(0 <= row.false_alarms <= 1 and 0 <= row.clean_below <= row.cloaked_from <= 1 for row in rows)
    ):
        what = "a temperature, thresholds or shares that cannot be"
        raise ToolError(f"{path}: holds {what}; train it again", kind="not-a-detector")
    return calibration


def _other_version(path: Path, missing: str) -> ToolError:
    return ToolError(f"{path}: {missing} missing; the file is of another version", kind="not-a-detector")


def _refuse_unless_finite(path: Path, numbers: list[float]) -> None:
    if not all(map(math.isfinite, numbers)):
        raise ToolError(f"{path}: holds NaN or infinity; train it again", kind="not-a-detector")


def save_detector(
    path: Path,
    network: ResidualNet,
    attacks: tuple[str, ...],
    calibration: Calibration,
    made: Mapping[str, Any],
) -> None:
    """Write a detector, not fused, as float16 safetensors.

    Parameters
    ----------
    path
        The file.
    network
        Trained.
    attacks
        Their names.
    calibration
        What it decides by.
    made
        How it was made.
    """
    import numpy as np

    tensors = {
        name: value.detach().cpu().numpy().astype(np.float16)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    numbers = ("temperature", "offset", "false_alarms", "least_power", "attack_share")
    kept = {key: getattr(calibration, key) for key in numbers}
    kept |= dict(zip(("power_temperature", "power_offset"), calibration.power, strict=True))
    rows = [list(row) for row in calibration.thresholds]
    write_safetensors(path, tensors, {"schema": SCHEMA, **made, **kept, "thresholds": rows, "attacks": list(attacks)})
