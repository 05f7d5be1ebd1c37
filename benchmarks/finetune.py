"""What a step of tuning costs by what is tuned: python benchmarks/finetune.py BASE TRAIN.

BASE is a model's folder, TRAIN its texts (JSONL); both real, or the figure is worth nothing. One thread. Prints one
JSON object a choice: seconds of processor time a step, the fastest of ROUNDS of STEPS that all choices take in turn,
the ratio to tuning everything, the share of values that is tuned, and the optimiser's memory. Layers are halved:
the upper half, which a backward pass can end at, and the lower half, through which it cannot.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from berttools.classifier.model import open_base
from berttools.texts.batches import Dataset, encode
from berttools.texts.examples import read_examples
from berttools.texts.labels import learn_labels, numbers_of
from berttools.texts.rows import Columns
from berttools.tuning.config import TrainingConfig
from berttools.tuning.parameters import ParameterSelection
from berttools.tuning.trainer import Trainer

ROUNDS, STEPS, BATCH = 4, 5, 32


def main() -> None:
    """Tune a few steps of each choice in turn, so that noise falls on all of them alike."""
    base, train = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    examples = read_examples(train, Columns({}))[: ROUNDS * STEPS * BATCH]
    labels = learn_labels(examples)
    count = json.loads((base / "config.json").read_text())["num_hidden_layers"]
    choices = {
        "everything": ParameterSelection(),
        "upper half": ParameterSelection(layers=frozenset(range(count // 2, count))),
        "lower half": ParameterSelection(layers=frozenset(range(count // 2))),
        "queries and values": ParameterSelection(groups=("Q", "V")),
        "the head": ParameterSelection(patterns=("^classifier",)),
    }
    trainers, rounds, times = {}, {}, {name: [] for name in choices}
    for name, choice in choices.items():
        model = open_base(base, labels)
        data = Dataset(
            encode(model.tokenizer, examples, most=model.longest), np.array(numbers_of(examples, labels, "TRAIN has"))
        )
        shapes = {key: tuple(value.shape) for key, value in model.model.named_parameters()}
        chosen = choice.resolve(shapes, base={}, head=model.head)
        config = TrainingConfig(steps=ROUNDS * STEPS, every=STEPS, batch=BATCH)
        trainers[name] = Trainer(model, chosen, data, config, device=torch.device("cpu"))
        rounds[name] = trainers[name].rounds()
    for _ in range(ROUNDS):
        for name, each in rounds.items():
            start = time.process_time()
            next(each)
            times[name].append((time.process_time() - start) / STEPS)
    for name, trainer in trainers.items():
        record = {"tuned": name, "step_s": round(min(times[name]), 3)}
        record["ratio"] = round(min(times[name]) / min(times["everything"]), 3)
        record["share"] = round(trainer.tuned / trainer.parameters, 4)
        record["optimiser_mb"] = round(2 * 4 * trainer.tuned / 1e6, 1)
        print(json.dumps({**record, "rounds": ROUNDS, "steps": STEPS, "batch": BATCH}))


if __name__ == "__main__":
    main()
