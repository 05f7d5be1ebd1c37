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
from berttools.texts.batches import Data, encode
from berttools.texts.examples import Columns, read_examples
from berttools.texts.labels import learn_labels, numbers_of
from berttools.tuning.parameters import Choice
from berttools.tuning.trainer import Knobs, Tuner

ROUNDS, STEPS, BATCH = 4, 5, 32


def main() -> None:
    """Tune a few steps of each choice in turn, so that noise falls on all of them alike."""
    base, train = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    examples = read_examples(train, Columns({}))[: ROUNDS * STEPS * BATCH]
    labels = learn_labels(examples)
    count = json.loads((base / "config.json").read_text())["num_hidden_layers"]
    choices = {
        "everything": Choice(),
        "upper half": Choice(layers=frozenset(range(count // 2, count))),
        "lower half": Choice(layers=frozenset(range(count // 2))),
        "queries and values": Choice(groups=("Q", "V")),
        "the head": Choice(patterns=("^classifier",)),
    }
    tuners, rounds, times = {}, {}, {name: [] for name in choices}
    for name, choice in choices.items():
        model = open_base(base, labels)
        data = Data(
            encode(model.tokenizer, examples, most=model.longest), np.array(numbers_of(examples, labels, "TRAIN has"))
        )
        shapes = {key: tuple(value.shape) for key, value in model.model.named_parameters()}
        chosen = choice.resolve(shapes, base={}, head=model.head)
        knobs = Knobs(steps=ROUNDS * STEPS, every=STEPS, batch=BATCH)
        tuners[name] = Tuner(model, chosen, data, knobs, device=torch.device("cpu"))
        rounds[name] = tuners[name].rounds()
    for _ in range(ROUNDS):
        for name, each in rounds.items():
            start = time.process_time()
            next(each)
            times[name].append((time.process_time() - start) / STEPS)
    for name, tuner in tuners.items():
        record = {"tuned": name, "step_s": round(min(times[name]), 3)}
        record["ratio"] = round(min(times[name]) / min(times["everything"]), 3)
        record["share"] = round(tuner.tuned / tuner.parameters, 4)
        record["optimiser_mb"] = round(2 * 4 * tuner.tuned / 1e6, 1)
        print(json.dumps({**record, "rounds": ROUNDS, "steps": STEPS, "batch": BATCH}))


if __name__ == "__main__":
    main()
