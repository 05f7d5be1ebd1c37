"""What a step of tuning costs by what is tuned, and beside bare PyTorch: python benchmarks/finetune.py BASE TRAIN.

BASE is a model's folder, TRAIN its texts (JSONL); both real, or the figure is worth nothing. One thread. Prints one
JSON object a choice: seconds of processor time a step, the median of ROUNDS of STEPS that all choices take in turn,
the ratio to tuning everything, that to bare PyTorch (median of the rounds' ratios; 1.1 is the goal for everything),
the share of values that is tuned, and the optimiser's memory. Bare PyTorch tunes everything on the same batches, padded
beforehand: forward, loss, backward and AdamW, and nothing else. Layers are halved: the upper half, which a backward
pass can end at, and the lower half, through which it cannot.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from berttools.classifier.model import Classifier, open_base
from berttools.texts.batches import Dataset, collate, draw_steps, encode
from berttools.texts.examples import read_examples
from berttools.texts.labels import learn_labels, numbers_of
from berttools.texts.rows import Columns
from berttools.tuning.config import TrainingConfig
from berttools.tuning.parameters import ParameterSelection
from berttools.tuning.trainer import Trainer

ROUNDS, STEPS, BATCH = 7, 5, 32
BARE = "bare PyTorch"


def bare_rounds(classifier: Classifier, data: Dataset, config: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Tune all of a model by the least that does it, a round at a time."""
    lengths = np.array([len(text) for text in data.texts])
    pad, batches = int(classifier.model.config.pad_token_id), []
    for drawn in draw_steps(lengths, config.batch, seed=config.seed, epoch=0)[: config.steps]:
        targets = torch.from_numpy(data.targets[drawn]).long().to(device)
        batches.append((collate([data.texts[i] for i in drawn], pad, device), targets))
    model = classifier.model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, fused=True)
    while True:
        for inputs, targets in batches[: config.every]:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.half):
                logits = model(**inputs).logits
            F.cross_entropy(logits.float(), targets).backward()
            optimizer.step()
        batches = batches[config.every :]
        yield


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
    trainers, rounds, times = {}, {}, {name: [] for name in (BARE, *choices)}
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
        if BARE not in rounds:
            rounds[BARE] = bare_rounds(open_base(base, labels), data, config, torch.device("cpu"))
    for _ in range(ROUNDS):
        for name, each in rounds.items():
            start = time.process_time()
            next(each)
            times[name].append((time.process_time() - start) / STEPS)
    for name, each in times.items():
        record = {"tuned": name, "step_s": round(statistics.median(each), 3)}
        for key, peer in (("ratio", "everything"), ("over_bare", BARE)):
            record[key] = round(statistics.median(a / b for a, b in zip(each, times[peer], strict=True)), 3)
        if trainer := trainers.get(name):
            record["share"] = round(trainer.tuned / trainer.parameters, 4)
            record["optimiser_mb"] = round(2 * 4 * trainer.tuned / 1e6, 1)
        print(json.dumps({**record, "rounds": ROUNDS, "steps": STEPS, "batch": BATCH}))


if __name__ == "__main__":
    main()
