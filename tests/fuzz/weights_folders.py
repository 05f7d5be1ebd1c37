"""Damaged configurations of models and of LoRA adapters, and names of tensors, and what reads them."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from _toolio.tensors.reader import open_safetensors
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.groups import By
from berttools.checkpoints.lora import open_tuned
from berttools.checkpoints.names import align_names
from berttools.classifier.model import open_base
from berttools.layerdiff import LayerdiffConfig, compare
from fuzzing import fuzz, how_it_ended, mutated, mutated_json
from tiny_models import make_base, make_tuned

NAME = "folders"

ADAPTER = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query"], "bias": "none", "use_rslora": False,
    "rank_pattern": {"value": 2}, "alpha_pattern": {"value": 3.5}, "init_lora_weights": True, "use_dora": False,
    "fan_in_fan_out": False, "modules_to_save": ["pooler"], "trainable_token_indices": None, "lora_bias": False,
}  # fmt: skip
ENDS = (
    "",
    ".weight",
    ".bias",
    ".qweight",
    ".weight_scale",
    ".absmax",
    ".parametrizations.weight.original0",
    "..",
    ".0",
)


def _changed_json(value: object, rng: random.Random) -> bytes:
    text = json.dumps(mutated_json(value, rng)).encode()
    return mutated(text, rng) if rng.random() < 0.1 else text


def _adapter(folder: Path, rng: random.Random) -> None:
    config = dict(ADAPTER, init_lora_weights=rng.choice((True, "pissa", "olora")), use_dora=rng.random() < 0.2)
    (folder / "adapter_config.json").write_bytes(_changed_json(config, rng))
    tensors: dict[str, Any] = {}
    for layer in range(3):
        place = f"base_model.model.encoder.layer.{layer}.attention.self.query.lora_"
        tensors[f"{place}A.weight"] = np.ones((2, 16), np.float32)
        tensors[f"{place}B.weight"] = np.ones((16, 2), np.float32)
    if rng.random() < 0.4:
        name = rng.choice(sorted(tensors))
        tensors[rng.choice((name + "x", "", name.replace("1", "9" * 5000), "lora_A.weight"))] = tensors.pop(name)
    if rng.random() < 0.3:
        name = rng.choice(sorted(tensors))
        tensors[name] = np.resize(tensors[name], rng.choice(((0, 16), (16,), (2, 2), (16, 2, 1), (3, 16))))
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    base = open_checkpoint(BASE)
    tuned = open_tuned(folder, base)
    for name in tuned.tensors:
        for _ in tuned.chunks(name, 1000):
            pass


def _config(folder: Path, rng: random.Random) -> None:
    for path in TUNED.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "config.json").write_bytes(_changed_json(json.loads((TUNED / "config.json").read_bytes()), rng))
    open_base(folder, None)


def _names(folder: Path, rng: random.Random) -> None:
    tensors: dict[str, Any] = {}
    for name in open_safetensors(BASE / "model.safetensors").entries:
        if rng.random() < 0.1:
            name = rng.choice(("module.", "layer." + "9" * 5000 + ".", "\u00b2.", "", "a.")) + name
        if rng.random() < 0.1:
            name = name.rpartition(".")[0] + rng.choice(ENDS)
        tensors[name] = np.ones(rng.choice(((16, 16), (16,), (0, 16), (), (2, 2, 2))), rng.choice(("f4", "i8", "u1")))
    write_safetensors(folder / "model.safetensors", tensors)
    for by in (By.tensor, By.group):
        list(compare(BASE, folder, config=LayerdiffConfig(by=by, processes=1)))
    align_names({name: array.shape for name, array in tensors.items()}, {"encoder.layer.0.x.weight": (16, 16)})


def try_one(rng: random.Random) -> str:
    """Damage one folder, and read it by everything that takes it."""
    return how_it_ended(rng.choices((_adapter, _names, _config), (8, 4, 2))[0], rng)


def prepare(folder: Path) -> None:
    """Make the models whose files are damaged."""
    global BASE, TUNED
    BASE = make_base(folder / "base")
    TUNED = make_tuned(BASE, folder / "tuned")


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one, prepare))
