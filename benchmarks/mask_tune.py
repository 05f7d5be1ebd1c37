"""What a step of mask-tune costs beside one of finetune: python benchmarks/mask_tune.py BASE TRAIN [DEVICE].

BASE is a model's folder, TRAIN its texts (JSONL); both real, or the figure is worth nothing. DEVICE is cpu (one thread,
the default) or cuda (bfloat16). Prints one JSON object a method: seconds a step, of processor time on a CPU, the
fastest of ROUNDS of STEPS that all methods take in turn, and its ratio to a step of tuning all of the model (1.15 is
the goal); and the largest memory that a process which does nothing else has had (Linux; on a GPU what tensors took),
with its ratio (1.1).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from _toolio.compute.device import reproducible
from berttools.classifier.model import open_base
from berttools.mask_tuning.convert import mask_model
from berttools.mask_tuning.draws import Draws
from berttools.mask_tuning.recipe import FIRST, RATES, Method, Recipe
from berttools.texts.batches import Dataset, encode
from berttools.texts.examples import read_examples
from berttools.texts.labels import learn_labels, numbers_of
from berttools.texts.rows import Columns
from berttools.tuning.config import ParamGroup, TrainingConfig
from berttools.tuning.parameters import groups_of
from berttools.tuning.trainer import Trainer

ROUNDS, STEPS, BATCH = 4, 5, 16
NAMES = ("finetune", *Method)


def trainer_of(name: str, base: Path, train: str, device: torch.device) -> Trainer:
    """Make what tunes a model in full, or by masks of all groups and a head."""
    examples = read_examples(train, Columns({}))[: ROUNDS * STEPS * BATCH]
    labels = learn_labels(examples)
    classifier = open_base(base, labels)
    targets = np.array(numbers_of(examples, labels, "TRAIN has"))
    data = Dataset(encode(classifier.tokenizer, examples, most=classifier.longest), targets)
    config = TrainingConfig(steps=ROUNDS * STEPS, every=STEPS, batch=BATCH, half=device.type == "cuda")
    parameters = dict(classifier.model.named_parameters())
    if name == "finetune":
        return Trainer(classifier, list(parameters), data, config, device=device)
    method, draws = Method(name), Draws(0, config.steps)
    recipe = Recipe(method, initial_sparsity=0.1, initial_score=FIRST[method])
    matrices = [each for each, values in parameters.items() if groups_of(each, tuple(values.shape))]
    scores = mask_model(classifier.model, matrices, recipe, draws)
    groups = dict.fromkeys(scores.values(), ParamGroup(RATES[method], 0.0, 1e-12))
    tuned = [*scores.values(), *classifier.head]

    def before(step: int) -> None:
        draws.step = step

    return Trainer(classifier, tuned, data, config, device=device, groups=groups, before=before)


def alone(name: str, *words: str) -> float:
    """Tune a round in a process of its own; give the largest memory that it had, in MB."""
    line = [sys.executable, __file__, *words, name]
    return float(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def largest_memory(device: torch.device) -> float:
    """Give the most that this process has had, in MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # Not getrusage: what it says begins with the parent's.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def clock(device: torch.device) -> float:
    """Give the time, when all that was asked of a GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def main() -> None:
    """Tune a few steps by each method in turn, so that noise falls on all of them alike."""
    base, train, where, *only = [*sys.argv[1:], "cpu"] if len(sys.argv) == 3 else sys.argv[1:]
    device = torch.device(where)
    torch.set_num_threads(1)
    with reproducible(device):
        if only:
            next(trainer_of(only[0], Path(base), train, device).rounds())
            print(largest_memory(device))
            return
        rounds = {name: trainer_of(name, Path(base), train, device).rounds() for name in NAMES}
        times: dict[str, list[float]] = {name: [] for name in NAMES}
        for _ in range(ROUNDS):
            for name, each in rounds.items():
                start = clock(device)
                next(each)
                times[name].append((clock(device) - start) / STEPS)
        memory = {name: alone(name, base, train, where) for name in NAMES}
        for name in NAMES:
            record = {"method": str(name), "device": where, "step_s": round(min(times[name]), 4)}
            record["ratio"] = round(min(times[name]) / min(times["finetune"]), 3)
            record |= {"peak_mb": round(memory[name]), "memory_ratio": round(memory[name] / memory["finetune"], 3)}
            print(json.dumps({**record, "limits": [1.15, 1.1], "rounds": ROUNDS, "steps": STEPS, "batch": BATCH}))


if __name__ == "__main__":
    main()
