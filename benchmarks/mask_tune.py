"""What a step of mask-tune costs beside one of finetune: python benchmarks/mask_tune.py BASE TRAIN [DEVICE].

BASE is a model's folder, TRAIN its texts (JSONL); both real, or the figure is worth nothing. DEVICE is cpu (one thread,
the default) or cuda (bfloat16). Prints one JSON object a method: seconds a step, of processor time on a CPU, the
median of ROUNDS of STEPS that all methods take in turn, and the medians of the rounds' ratios to a step of tuning all
of the model (1.15 is the goal), and to one of the least that does so in PyTorch (see finetune.py; 1.1); and the largest
memory that a process which does nothing else has had (Linux; on a GPU what tensors took), with its ratio (1.1).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from finetune import BARE, bare_rounds

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

ROUNDS, STEPS, BATCH = 7, 5, 16
NAMES = (BARE, "finetune", *Method)


def rounds_of(name: str, base: Path, train: str, device: torch.device) -> Iterator[object]:
    """Tune a model in full, or by masks of all groups and a head, a round at a time."""
    examples = read_examples(train, Columns({}))[: ROUNDS * STEPS * BATCH]
    labels = learn_labels(examples)
    classifier = open_base(base, labels)
    targets = np.array(numbers_of(examples, labels, "TRAIN has"))
    data = Dataset(encode(classifier.tokenizer, examples, most=classifier.longest), targets)
    config = TrainingConfig(steps=ROUNDS * STEPS, every=STEPS, batch=BATCH, half=device.type == "cuda")
    parameters = dict(classifier.model.named_parameters())
    if name == BARE:
        return bare_rounds(classifier, data, config, device)
    if name == "finetune":
        return Trainer(classifier, list(parameters), data, config, device=device).rounds()
    method, draws = Method(name), Draws(0, config.steps)
    recipe = Recipe(method, initial_sparsity=0.1, initial_score=FIRST[method])
    matrices = [each for each, values in parameters.items() if groups_of(each, tuple(values.shape))]
    scores = mask_model(classifier.model, matrices, recipe, draws)
    groups = dict.fromkeys(scores.values(), ParamGroup(RATES[method], 0.0, 1e-12))
    tuned = [*scores.values(), *classifier.head]

    def before(step: int) -> None:
        draws.step = step

    return Trainer(classifier, tuned, data, config, device=device, groups=groups, before=before).rounds()


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
            next(rounds_of(only[0], Path(base), train, device))
            print(largest_memory(device))
            return
        rounds = {name: rounds_of(name, Path(base), train, device) for name in NAMES}
        times: dict[str, list[float]] = {name: [] for name in NAMES}
        for _ in range(ROUNDS):
            for name, each in rounds.items():
                start = clock(device)
                next(each)
                times[name].append((clock(device) - start) / STEPS)
        memory = {name: alone(name, base, train, where) for name in NAMES}
        for name in NAMES:
            record = {"method": str(name), "device": where, "step_s": round(statistics.median(times[name]), 4)}
            for key, peer in (("ratio", "finetune"), ("over_bare", BARE)):
                ratios = (a / b for a, b in zip(times[name], times[peer], strict=True))
                record[key] = round(statistics.median(ratios), 3)
            record |= {"peak_mb": round(memory[name]), "memory_ratio": round(memory[name] / memory["finetune"], 3)}
            print(json.dumps({**record, "limits": [1.15, 1.1], "rounds": ROUNDS, "steps": STEPS, "batch": BATCH}))


if __name__ == "__main__":
    main()
