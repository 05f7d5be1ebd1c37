"""Damaged files of detectors and extractors, folders of CLIP, and what opens, runs and imports them."""

from __future__ import annotations

import json
import random
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
import transformers

from facetools.detector.decision import Calibration, Thresholds
from facetools.detector.files import open_detector, read_calibration, save_detector
from facetools.detector.network import ResidualNet
from facetools.extractors.architectures.iresnet import IResNet
from facetools.extractors.convert.convert import import_extractor
from facetools.extractors.files import open_file, save_extractor
from facetools.extractors.settings import Settings
from fuzzing import damaged_tensors, fuzz, how_it_ended, mutated, mutated_json

NAME = "networks"
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "projection_dim": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 32, "patch_size": 8, "hidden_act": "gelu",
}  # fmt: skip
CPU = torch.device("cpu")


def _detector(folder: Path, rng: random.Random) -> None:
    path = folder / "d.safetensors"
    path.write_bytes(damaged_tensors(DETECTOR.read_bytes(), rng))
    read_calibration(path)
    opened = open_detector(path, CPU)
    assert all(isinstance(name, str) for name in opened.attacks)


def _extractor(folder: Path, rng: random.Random) -> None:
    path = folder / "e.safetensors"
    path.write_bytes(damaged_tensors(EXTRACTOR.read_bytes(), rng))
    if rng.random() < 0.5:
        import_extractor(path, folder / "out.safetensors")
        path = folder / "out.safetensors"
    opened = open_file(path, CPU)
    assert opened.network(torch.full((1, 3, *opened.size), 0.5)).shape == (1, opened.dimensions)


def _clip(folder: Path, rng: random.Random) -> None:
    for path in CLIP.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config, weights = folder / "config.json", folder / "model.safetensors"
    if rng.random() < 0.7:
        text = json.dumps(mutated_json(json.loads(config.read_bytes()), rng)).encode()
        config.write_bytes(mutated(text, rng) if rng.random() < 0.2 else text)
    if rng.random() < 0.5:
        weights.write_bytes(mutated(weights.read_bytes(), rng))
    if rng.random() < 0.4:
        weights.rename(folder / "a.safetensors")
        index = {"metadata": {"total_size": 9}, "weight_map": {"x": "a.safetensors", "y": "a.safetensors"}}
        text = json.dumps(mutated_json(index, rng)).encode()
        (folder / "model.safetensors.index.json").write_bytes(mutated(text, rng) if rng.random() < 0.3 else text)
    import_extractor(folder, folder / "out.safetensors")


def try_one(rng: random.Random) -> str:
    """Damage one file, and open it by everything that takes it."""
    kind = rng.choices((_detector, _extractor, _clip), (4, 3, 3))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it would be written to stderr
        return how_it_ended(kind, rng)


def prepare(folder: Path) -> None:
    """Make the files that are damaged."""
    global DETECTOR, EXTRACTOR, CLIP  # each is read whole below, so that what is refused is the damage
    DETECTOR, EXTRACTOR, CLIP = folder / "d.safetensors", folder / "e.safetensors", folder / "clip"
    rows = tuple(Thresholds(rate, 1 - rate, 0.4) for rate in (0.005, 0.01, 0.05))
    calibration = Calibration(1.5, -0.5, rows, 0.005, 0.1, 0.9, (1.0, 0.0))
    save_detector(DETECTOR, ResidualNet(2), ("fawkes", "lowkey"), calibration, {"seed": 0})
    transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VISION)).save_pretrained(CLIP)
    network = IResNet((1, 1, 1, 1), (4, 4, 6, 8, 8), places=4, dimensions=6)
    about = {"dimensions": 6, "people": ["a"]}
    save_extractor(EXTRACTOR, "iresnet", network.state_dict(), Settings((32, 32), "arcface-112"), about)
    open_detector(DETECTOR, CPU)
    open_file(EXTRACTOR, CPU)
    import_extractor(CLIP, folder / "whole.safetensors")


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one, prepare))
