"""What a step of mask-tune costs beside one of finetune: python benchmarks/mask_tune.py BASE TRAIN.

BASE is a model's folder, TRAIN its texts (JSONL); both real, or the figure is worth nothing. One thread. Prints one
JSON object a method: seconds of processor time a step, the fastest of ROUNDS of STEPS that all methods take in turn,
and its ratio to a step of tuning all of the model (1.15 is the goal); and the largest memory that a process which does
nothing else has had (Linux), with its ratio (1.1).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from berttools.encoding import encode
from berttools.models import open_base
from berttools.recipes import FIRST, RATES, Method, Recipe
from berttools.selecting import groups_of
from berttools.supermask import Draws, mask_model
from berttools.tasks import Columns, learn_labels, numbers_of, read_examples
from berttools.training import Data, Knobs, Pace, Tuner

ROUNDS, STEPS, BATCH = 4, 5, 16
NAMES = ("finetune", *Method)


def tuner_of(name: str, base: Path, train: str) -> Tuner:
    """Make what tunes a model in full, or by masks of all groups and a head."""
    examples = read_examples(train, Columns({}))[: ROUNDS * STEPS * BATCH]
    labels = learn_labels(examples)
    classifier = open_base(base, labels)
    truth = np.array(numbers_of(examples, labels, "TRAIN has"))
    data = Data(encode(classifier.tokenizer, examples, most=classifier.longest), truth)
    knobs, cpu = Knobs(steps=ROUNDS * STEPS, every=STEPS, batch=BATCH), torch.device("cpu")
    parameters = dict(classifier.model.named_parameters())
    if name == "finetune":
        return Tuner(classifier, list(parameters), data, knobs, device=cpu)
    method, draws = Method(name), Draws(0, knobs.steps)
    recipe = Recipe(method, initial_sparsity=0.1, initial_score=FIRST[method])
    matrices = [each for each, values in parameters.items() if groups_of(each, tuple(values.shape))]
    scores = mask_model(classifier.model, matrices, recipe, draws)
    paces = dict.fromkeys(scores.values(), Pace(RATES[method], 0.0, 1e-12))
    tuned = [*scores.values(), *classifier.head]

    def before(step: int) -> None:
        draws.step = step

    return Tuner(classifier, tuned, data, knobs, device=cpu, paces=paces, before=before)


def alone(name: str, base: str, train: str) -> float:
    """Tune a round in a process of its own; give the largest memory that it had, in MB."""
    words = [sys.executable, __file__, base, train, name]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Tune a few steps by each method in turn, so that noise falls on all of them alike."""
    base, train, *only = sys.argv[1:]
    torch.set_num_threads(1)
    if only:
        next(tuner_of(only[0], Path(base), train).rounds())
        # Not getrusage: what it says begins with the parent's.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        print(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")))
        return
    rounds = {name: tuner_of(name, Path(base), train).rounds() for name in NAMES}
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(ROUNDS):
        for name, each in rounds.items():
            start = time.process_time()
            next(each)
            times[name].append((time.process_time() - start) / STEPS)
    memory = {name: alone(name, base, train) for name in NAMES}
    for name in NAMES:
        record = {"method": str(name), "step_s": round(min(times[name]), 3)}
        record["ratio"] = round(min(times[name]) / min(times["finetune"]), 3)
        record |= {"peak_mb": round(memory[name]), "memory_ratio": round(memory[name] / memory["finetune"], 3)}
        print(json.dumps({**record, "limits": [1.15, 1.1], "rounds": ROUNDS, "steps": STEPS, "batch": BATCH}))


if __name__ == "__main__":
    main()
