"""The detector's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _toolio.errors import ToolError
from _toolio.tensors.reader import open_safetensors, read_metadata
from _toolio.tensors.writer import write_safetensors
from detector_faces import CPU, network
from facetools.detector.decision import Calibration, Thresholds
from facetools.detector.files import SCHEMA, open_detector, read_calibration, save_detector

ATTACKS = ("fawkes", "lowkey")
ROWS = [[0.005, 0.75, 0.5], [0.05, 0.5, 0.25]]
CALIBRATION = Calibration(
    1.5, 0.25, tuple(Thresholds(*row) for row in ROWS), least_power=0.375, attack_share=0.875, power=(0.75, -1.25)
)


def save(path: Path, **made: Any) -> None:
    save_detector(path, network(), ATTACKS, CALIBRATION, made)


def test_what_is_saved_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save(path, note="x")
    first = path.read_bytes()
    save(path, note="x")
    assert path.read_bytes() == first
    assert {entry.dtype for entry in open_safetensors(path).entries.values()} == {"F16"}
    assert read_metadata(path) == {
        "schema": SCHEMA, "note": "x", "temperature": 1.5, "offset": 0.25, "thresholds": ROWS, "attacks": list(ATTACKS),
        "false_alarms": 0.005, "attack_share": 0.875, "least_power": 0.375, "power_temperature": 0.75,
        "power_offset": -1.25,
    }  # fmt: skip
    opened = open_detector(path, CPU)
    assert (opened.threshold, opened.calibration, opened.attacks) == (0.75, CALIBRATION, ATTACKS)
    assert read_calibration(path) == CALIBRATION
    assert opened.name.startswith("mine-")
    assert len(opened.name) == len("mine-") + 12
    # The same as the original with its weights rounded to float16, and near the original.
    original = network()
    rounded = network()
    rounded.load_state_dict({name: value.half().to(value.dtype) for name, value in original.state_dict().items()})
    faces = torch.rand(3, 3, 50, 60)
    with torch.inference_mode():
        torch.testing.assert_close(opened.network(faces), rounded.eval()(faces), rtol=0, atol=1e-4)
        torch.testing.assert_close(opened.network(faces), original(faces), rtol=0.02, atol=0.02)


def test_a_detector_may_name_no_attack_and_have_the_usual_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    usual = Calibration(1.5, 0.25, CALIBRATION.thresholds)
    save_detector(path, network(3), (*ATTACKS, "opom"), usual, {})
    opened = open_detector(path, CPU)
    assert (opened.calibration, opened.attacks) == (usual, (*ATTACKS, "opom"))
    made = read_metadata(path)
    numbers = ("least_power", "attack_share", "power_temperature", "power_offset")
    assert [made[key] for key in numbers] == [0.5, None, 1, 0]


def test_a_network_of_another_number_of_attacks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_detector(path, network(3), ATTACKS, CALIBRATION, {})
    with pytest.raises(ToolError, match="of another version"):
        open_detector(path, CPU)


def resaved(path: Path, changed: dict[str, Any], **tensors: Any) -> Path:
    """A detector's file of which some metadata and tensors are others, None for none."""
    save(path)
    file = open_safetensors(path)
    kept = {name: np.array(file.tensor(name)) for name in file.entries} | tensors
    made = read_metadata(path) | changed
    write_safetensors(
        path,
        {name: value for name, value in kept.items() if value is not None},
        {key: value for key, value in made.items() if value is not None},
    )
    return path


@pytest.mark.parametrize(
    ("made", "tensors", "words"),
    [
        ({"schema": None}, {}, "not a detector; make one with facetools train-detector"),
        ({"schema": "facetools.embed/1"}, {}, "not a detector; make one"),
        ({"schema": "facetools.detector/1"}, {}, "of an earlier version; make one with facetools train-detector"),
        ({"schema": "facetools.detector/3"}, {}, "of an earlier version"),
        ({"thresholds": None}, {}, "of another version"),
        ({"thresholds": 0.5}, {}, "of another version"),
        ({"thresholds": [[0.005, 0.5]]}, {}, "of another version"),
        ({"false_alarms": None}, {}, "of another version"),
        ({"attack_share": [1]}, {}, "of another version"),
        ({"temperature": "warm"}, {}, "of another version"),
        ({"offset": [1]}, {}, "of another version"),
        ({"offset": 10**400}, {}, "of another version"),
        ({"temperature": 0}, {}, "train it again"),
        ({"temperature": -1.5}, {}, "train it again"),
        ({"thresholds": [[0.005, "nan", 0.5]]}, {}, "holds NaN or infinity; train it again"),
        ({"attack_share": "nan"}, {}, "holds NaN or infinity; train it again"),
        ({"offset": "inf"}, {}, "holds NaN or infinity"),
        ({"attacks": None}, {}, "of another version"),
        ({"attacks": 2}, {}, "of another version"),
        ({"attacks": "ab"}, {}, "of another version"),
        ({"attacks": ["a", "a"]}, {}, "of another version"),
        ({"thresholds": [[0.005, 1.5, 0.5]]}, {}, "that cannot be; train it again"),
        ({"thresholds": [[0.005, 0.5, -1]]}, {}, "that cannot be; train it again"),
        ({"thresholds": [[0.005, 0.5, 0.6]]}, {}, "that cannot be; train it again"),
        ({"thresholds": [[0.01, 0.5, 0.5], [0.005, 0.6, 0.5]]}, {}, "that cannot be; train it again"),
        ({"thresholds": []}, {}, "that cannot be; train it again"),
        ({"false_alarms": 0.001}, {}, "that cannot be; train it again"),
        ({"attack_share": 2}, {}, "that cannot be; train it again"),
        ({"least_power": -1}, {}, "that cannot be; train it again"),
        ({"least_power": 1.5}, {}, "that cannot be; train it again"),
        ({"least_power": None}, {}, "of another version"),
        ({"power_temperature": None}, {}, "of another version"),
        ({"power_offset": None}, {}, "of another version"),
        ({"power_temperature": "warm"}, {}, "of another version"),
        ({"power_temperature": 0}, {}, "that cannot be; train it again"),
        ({"power_temperature": -0.5}, {}, "that cannot be; train it again"),
        ({"power_temperature": "inf"}, {}, "holds NaN or infinity; train it again"),
        ({"power_offset": "nan"}, {}, "holds NaN or infinity; train it again"),
        ({}, {"power.bias": None}, "power.bias missing"),
        ({}, {"power.weight": np.zeros((2, 256), np.float16)}, "of another version"),
        ({}, {"power.bias": np.full(1, np.nan, np.float16)}, "holds NaN or infinity"),
        ({}, {"full.0.1.running_var": np.full(16, -1, np.float16)}, "that cannot be; train it again"),
        ({"attacks": ["lowkey"]}, {}, "of another version"),
        ({"attacks": ["a", "b", "c"]}, {}, "of another version"),
        (
            {"attacks": []},
            {"head.bias": np.zeros(1, np.float16), "head.weight": np.zeros((1, 192), np.float16)},
            "names of attacks",
        ),
        ({}, {"head.bias": None}, "head.bias missing"),
        ({}, {"full.0.1.running_var": None}, "full.0.1.running_var missing"),
        ({}, {"head.weight": np.zeros((3, 3), np.float16)}, "of another version"),
        ({}, {"head.bias": np.full(3, np.nan, np.float16)}, "holds NaN or infinity"),
        ({}, {"head.bias": np.full(3, np.inf, np.float16)}, "holds NaN or infinity"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, made: dict[str, Any], tensors: dict[str, Any], words: str) -> None:
    path = resaved(tmp_path / "d.safetensors", made, **tensors)
    with pytest.raises(ToolError, match=words) as caught:
        open_detector(path, CPU)
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message
    assert (caught.value.kind, caught.value.exit_code) == ("not-a-detector", 1)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Dear diary")
    for name in ("text", "gone"):
        with pytest.raises(ToolError, match=str(tmp_path / name)) as caught:
            open_detector(tmp_path / name, CPU)
        assert caught.value.exit_code == 1
