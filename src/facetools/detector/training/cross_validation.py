"""Score the faces of every source by a network that was trained on other sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from _toolio.compute.checkpoints import read_checkpoint
from _toolio.compute.distributed import Processes
from _toolio.errors import ToolError, param
from _toolio.files.checkpoint_names import fold_checkpoint, fold_checkpoints
from _toolio.tensors.reader import read_metadata
from facetools.detector.network import ResidualNet
from facetools.detector.scoring import UnseenScores, score_sources
from facetools.detector.training.examples import Example
from facetools.detector.training.trainer import CHECKPOINT, DetectorTrainer
from facetools.training.loop import TrainingConfig


@dataclass(frozen=True, slots=True)
class Fold:
    """A network, and its scores of the sources that it has not seen.

    Attributes
    ----------
    number
        From 1.
    left_out
        The sources.
    loss
        Mean training loss of the last epoch.
    network
        The averaged one.
    scores
        By source.
    """

    number: int
    left_out: tuple[str, ...]
    loss: float
    network: ResidualNet
    scores: Mapping[str, UnseenScores]


def deal_sources(examples: Sequence[Example], folds: int) -> list[list[str]]:
    """Deal sources into folds, the largest first, each to the fold that has least by then.

    A source weighs as the root of its number of faces, as it does in training: small sources are spread over the folds.

    Raises
    ------
    ToolError
        There are fewer sources than folds.
    """
    counts = Counter(example.group for example in examples)
    if len(counts) < folds:
        have = ", ".join(sorted(counts)) if len(counts) > 1 else "one"
        raise ToolError(
            f"{param('folds')} {folds}: there are photos of fewer sources ({have}); a source is the first folder of a "
            "photo's path below its input"
        )
    dealt: list[list[str]] = [[] for _ in range(folds)]
    for name, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
        min(dealt, key=lambda part: sum(counts[other] ** 0.5 for other in part)).append(name)
    return [sorted(part) for part in dealt]


def cross_validate(
    examples: Sequence[Example],
    attacks: Sequence[int],
    config: TrainingConfig,
    *,
    folds: int,
    device: torch.device,
    half: bool = False,
    checkpoint: Path,
    about: Mapping[str, Any],
    progress: Callable[[Iterator[float], str, int], Iterable[float]],
    processes: Processes = Processes(),  # noqa: B008 - it is frozen
) -> Iterator[Fold]:
    """Score every source by a network that is trained on the others.

    Parameters
    ----------
    examples
        Clean and cloaked faces.
    attacks
        Number of the attack of each cloak.
    config
        Of each training.
    folds
        How many trainings: sources are dealt into as many parts.
    device, half
        Where to compute, and whether in bfloat16.
    checkpoint
        Written after each epoch, and kept under a name with ``.fold-1`` and so on for each part that is done.
    about
        What checkpoints are compared by.
    progress
        Shows the epochs of each training.
    processes
        The processes that train together.

    Yields
    ------
    Fold
        One after the other, in the leading process.

    Raises
    ------
    ToolError
        There are fewer sources than folds, or without those of a part there are no clean or no cloaked faces.
    UsageError
        A checkpoint was made with other arguments or inputs.
    """
    dealt = deal_sources(examples, folds)
    for path in (checkpoint, *fold_checkpoints(checkpoint)) if processes.leads else ():
        if path.exists():  # refused before hours of training, and before it is replaced
            read_checkpoint(path, {"schema": CHECKPOINT, **about})
    for number, left_out in enumerate(dealt, 1):
        known = [example for example in examples if example.group not in left_out]
        if len({example.cloaked for example in known}) < 2:
            raise ToolError(f"without the photos of {', '.join(left_out)} there are no clean or no cloaked faces")
        trainer = DetectorTrainer(known, attacks, config, device=device, half=half, processes=processes)
        done, whose = fold_checkpoint(checkpoint, number), {**about, "fold": number}
        if found := processes.agree(_of_fold(number, done, checkpoint) if processes.leads else None):
            trainer.load(Path(found), whose)
        for loss in progress(trainer.epochs(), f"training without {', '.join(left_out)}", config.epochs):
            trainer.history.append({"loss": loss, "epoch": trainer.epoch})
            if processes.leads:
                trainer.save(checkpoint, whose)
        if not processes.leads:
            continue
        if checkpoint.exists() and not done.exists():
            checkpoint.replace(done)
        unseen = [example for example in examples if example.group in left_out]
        network = trainer.averaged
        yield Fold(
            number, tuple(left_out), trainer.history[-1]["loss"], network, score_sources(network, unseen, attacks)
        )


def _of_fold(number: int, *checkpoints: Path) -> str | None:
    """Return the first of some checkpoints that is of a fold; None if there is none."""
    return next((str(p) for p in checkpoints if p.exists() and read_metadata(p).get("fold") == number), None)
