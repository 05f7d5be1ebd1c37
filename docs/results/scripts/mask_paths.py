"""Measure whether several masks of one task are one solution: paths between them, and their vote and union.

Usage: python docs/results/scripts/mask_paths.py BASE DEV MASK MASK [MASK ...] [--whole FOLDER FOLDER]

MASK is of ``berttools mask-tune``, all of BASE and one task; DEV is labelled texts. Along the straight line between two
masks, m = (1 - t) a + t b, a weight that one of them zeroes is kept in part, and the head is in between as well; the
barrier is how far the worst point is below the straight line between the scores of both ends. ``--whole`` draws it
between two models that were tuned in full, for comparison. Prints the tables of docs/results/masks.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor

from _toolio.compute.precision import doubt_of
from berttools.checkpoints.files import open_checkpoint
from berttools.classifier.inference import Inference
from berttools.classifier.model import Classifier, open_model
from berttools.masks.apply import apply_mask
from berttools.masks.base import check_base
from berttools.masks.file import open_mask
from berttools.texts.batches import Dataset
from berttools.tuning.datasets import read_texts, tokenised
from critical_layers import spread, table

STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
State = dict[str, Tensor]


def states_of(base: Path, masks: Sequence[Path]) -> tuple[Classifier, list[State]]:
    """Return a classifier, and what each mask makes of its parameters."""
    states, classifier = [], None
    for mask in masks:
        with tempfile.TemporaryDirectory() as folder:
            apply_mask(base, mask, Path(folder) / "model")
            classifier = open_model(Path(folder) / "model")
        states.append({name: each.detach().clone() for name, each in classifier.model.named_parameters()})
    assert classifier is not None
    return classifier, states


def scores_of(classifier: Classifier, state: State, data: Dataset) -> np.ndarray:
    """Return the logits of a state, [texts, classes]."""
    with torch.no_grad():
        for name, each in classifier.model.named_parameters():
            each.copy_(state[name])
    cpu = torch.device("cpu")
    return Inference(classifier, cpu, half=not doubt_of(cpu, half=True)).logits(data.texts)


def accuracy(logits: np.ndarray, data: Dataset) -> float:
    """Return the share of texts whose largest logit is the gold label's."""
    return float((logits.argmax(1) == data.targets).mean())


def path_of(classifier: Classifier, ends: Sequence[State], data: Dataset) -> list[float]:
    """Return the accuracies along the line between two states."""
    first, last = ends
    points = ({name: first[name].lerp(last[name], t) for name in first} for t in STEPS)
    return [accuracy(scores_of(classifier, point, data), data) for point in points]


def barrier(path: Sequence[float]) -> float:
    """Return how far the worst point is below the straight line between the ends, 0 at least."""
    first, last = path[0], path[-1]
    return max((1 - t) * first + t * last - point for t, point in zip(STEPS, path, strict=True))


def path_row(name: str, paths: Sequence[Sequence[float]]) -> list[str]:
    """Return a row of the table of paths."""
    barriers = [barrier(path) for path in paths]
    return [name, str(len(paths)), *(spread(points) for points in zip(*paths, strict=True)), spread(barriers)]


def keeps_of(base: Path, mask: Path) -> State:
    """Return a mask's matrices by the model's names, bool, True where a weight stays."""
    checkpoint, opened = open_checkpoint(base), open_mask(mask)
    names = check_base(opened.fingerprint, checkpoint)
    return {name: torch.from_numpy(opened.keep(name, checkpoint.flat(stored))) for name, stored in names.items()}


def together(base: Path, masks: Sequence[Path], states: Sequence[State]) -> Iterator[tuple[str, State]]:
    """Yield one mask made of several, with the mean of their heads: by majority, and by union of the zeros."""
    keeps = [keeps_of(base, mask) for mask in masks]
    average = {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    whole = {name: torch.stack([state[name] for state in states]).abs().amax(0) for name in keeps[0]}
    signs = {name: torch.stack([state[name] for state in states]).sum(0).sign() for name in keeps[0]}
    for title, least in (("zero where most do", len(masks) // 2 + 1), ("zero where any does", len(masks))):
        votes = {name: torch.stack([keep[name] for keep in keeps]).sum(0) for name in keeps[0]}
        yield title, average | {name: whole[name] * signs[name] * (votes[name] >= least) for name in votes}


def main(base: Path, dev: str, masks: Sequence[Path], whole: Sequence[Path]) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    classifier, states = states_of(base, masks)
    data = tokenised(read_texts(dev, dev, None)[1], classifier, longest=None, source="the masks know")
    rows = [path_row("two masks", [path_of(classifier, pair, data) for pair in combinations(states, 2)])]
    if whole:
        ends = [dict(open_model(folder).model.named_parameters()) for folder in whole]
        pairs = list(combinations(ends, 2))
        rows.append(path_row("two models tuned in full", [path_of(classifier, pair, data) for pair in pairs]))
    table(["between", "pairs", *(f"{100 * t:.0f}%" for t in STEPS), "barrier"], rows)
    logits = [scores_of(classifier, state, data) for state in states]
    alone = [accuracy(each, data) for each in logits]
    chances = [torch.from_numpy(each).softmax(1).numpy() for each in logits]
    found = [("each by itself", mean(alone)), ("mean of their probabilities", accuracy(np.mean(chances, 0), data))]
    found.append(("mean of their weights", accuracy(scores_of(classifier, average_of(states), data), data)))
    found += [
        (f"one mask, {title}, mean head", accuracy(scores_of(classifier, state, data), data))
        for title, state in together(base, masks, states)
    ]
    print()
    table([f"{len(masks)} masks", "accuracy"], [[name, f"{100 * score:.1f}"] for name, score in found])


def average_of(states: Sequence[State]) -> State:
    """Return the mean of several states."""
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("base", type=Path)
    parser.add_argument("dev")
    parser.add_argument("masks", type=Path, nargs="+")
    parser.add_argument("--whole", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    main(given.base, given.dev, given.masks, given.whole)
