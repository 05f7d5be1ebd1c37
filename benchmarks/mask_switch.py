"""How long it takes to make another task's model ready: python benchmarks/mask_switch.py [TASKS].

Makes a BERT-base of random weights in a scratch folder (TMPDIR), masks over its 72 matrices that drop the smallest 20%
of the weights and 1% at random places, and removes them. Opens base and masks once, switches from task to task, and
prints one JSON object: the smallest and the median switch in milliseconds, and the smallest of processor time, which
other processes do not add to; what a copy of as many bytes from memory to memory takes; the memory of a task's bits;
and what opening one folder instead takes.

A switch in less than 100 ms of processor time is asked for; past that it exits 1.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel, PreTrainedTokenizerFast

from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.groups import layer_and_group
from berttools.classifier.masked import MaskedModels
from berttools.classifier.model import config_text, open_model
from berttools.masks.apply import apply_mask
from berttools.masks.writer import write_mask

MOST_MS, ROUNDS = 100.0, 5


def write_all(folder: Path, count: int) -> tuple[Path, dict[str, Path]]:
    """Write a base and masks over it."""
    base = folder / "base"
    BertModel(BertConfig()).save_pretrained(base)
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base)
    head = {name: each.numpy() for name, each in model.state_dict().items() if name.startswith("classifier")}
    opened, paths = open_checkpoint(base), {}
    for task in range(count):
        rng, keeps = np.random.default_rng(task), {}
        for name, parameter in model.named_parameters():
            if layer_and_group(name, tuple(parameter.shape)).group:
                size = np.abs(parameter.detach().numpy())
                keeps[name] = (size >= np.quantile(size, 0.2)) & (rng.random(size.shape, np.float32) >= 0.01)
        paths[f"task{task}"] = folder / f"task{task}.mask.safetensors"
        write_mask(paths[f"task{task}"], keeps, head, config_text(model), opened, {})
    return base, paths


def milliseconds(start: float) -> float:
    """Give the time since then."""
    return (time.perf_counter() - start) * 1000


def main(words: list[str]) -> int:
    """Measure; 1 if the limit is passed."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        base, paths = write_all(Path(name), int(words[0]) if words else 3)
        start = time.perf_counter()
        opened = MaskedModels(base, paths)
        opening = milliseconds(start)
        for task in opened.tasks:
            opened.switch(task)
        times, busy, copies = [], [], []
        source, target = np.ones(84_934_656, np.float32), np.zeros(84_934_656, np.float32)
        for _ in range(ROUNDS):
            for task in opened.tasks:
                start, before = time.perf_counter(), time.process_time()
                opened.switch(task)
                busy.append((time.process_time() - before) * 1000)
                times.append(milliseconds(start))
            start = time.perf_counter()
            np.copyto(target, source)
            copies.append(milliseconds(start))
        apply_mask(base, paths["task0"], Path(name) / "alone")
        start = time.perf_counter()
        open_model(Path(name) / "alone")
        alone = milliseconds(start)
    record = {"tasks": len(paths), "switch_ms": round(min(times), 1), "median_ms": round(median(times), 1)}
    record |= {"cpu_ms": round(min(busy), 1)}
    record |= {"copy_ms": round(min(copies), 1), "open_all_ms": round(opening), "open_a_folder_ms": round(alone)}
    record |= {"bits_mb_a_task": round(84_934_656 / 8e6, 1), "base_mb": 438, "cores": os.cpu_count()}
    print(json.dumps(record))
    return int(min(busy) > MOST_MS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
