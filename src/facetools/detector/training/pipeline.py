"""Train a detector from faces to its file: hold out people or whole sources, train, calibrate, save."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from _toolio.compute.distributed import Processes
from _toolio.files.checkpoint_names import fold_checkpoints
from facetools.detector.calibration import calibrate, calibrate_sources, figures_by_source
from facetools.detector.files import save_detector
from facetools.detector.scoring import UnseenScores
from facetools.detector.training.cross_validation import Fold, cross_validate, deal_sources
from facetools.detector.training.examples import Example, split_people
from facetools.detector.training.fold_files import detector_without
from facetools.detector.training.trainer import DetectorTrainer
from facetools.training.loop import TrainingConfig

Epochs = Callable[[Iterator[Any], str, int], Iterable[Any]]
"""Shows how far epochs are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """How a detector is trained and calibrated.

    Attributes
    ----------
    training
        Epochs, batch, learning rate, seed.
    attacks
        Names of the attacks.
    numbers
        Number of the attack of each cloak.
    held_out
        Share of people who are kept for calibration; without meaning with ``folds``.
    folds
        0, or into how many parts sources are dealt, each scored by a network that is trained on the others; the
        calibration is fitted to these scores, and the detector itself is trained on all faces.
    keep_folds
        Save the detectors of the folds too, calibrated on the sources of the others.
    false_alarms
        Default false positive rate.
    half
        Compute the network in bfloat16.
    """

    training: TrainingConfig
    attacks: tuple[str, ...]
    numbers: Sequence[int]
    held_out: float = 0.2
    folds: int = 0
    keep_folds: bool = False
    false_alarms: float = 0.005
    half: bool = False


def files_of_folds(examples: Sequence[Example], folds: int, out: Path) -> list[Path]:
    """Return the files that `train_detector` writes beside ``out`` with ``keep_folds``.

    Raises
    ------
    ToolError
        There are fewer sources than folds, or a name is too long.
    """
    return [detector_without(out, left_out) for left_out in deal_sources(examples, folds)]


def train_detector(
    examples: Sequence[Example],
    config: DetectorConfig,
    out: Path,
    *,
    device: torch.device,
    checkpoint: Path,
    about: Mapping[str, Any],
    progress: Epochs,
    processes: Processes = Processes(),  # noqa: B008 - it is frozen
) -> Iterator[dict[str, Any]]:
    """Train a detector and write its file; resume from the checkpoint if it is there.

    Of several processes, each of which has all examples, rank 0 alone measures, writes and yields.

    Parameters
    ----------
    examples
        Clean and cloaked faces.
    config
        See `DetectorConfig`.
    out
        The file. With ``keep_folds`` those of the folds are called ``NAME.without-SOURCE+SOURCE.safetensors``.
    device
        Where to compute.
    checkpoint
        Written after each epoch, and removed at the end. With ``folds`` one of each part is kept beside it until then.
    about
        Kept in the file, and what a checkpoint is compared by.
    progress
        Shows the epochs.
    processes
        The processes that train together.

    Yields
    ------
    dict
        Figures of each epoch; with ``folds`` those of each fold and of each source, and then those of each epoch.

    Raises
    ------
    ToolError
        A part of the data has no clean or no cloaked faces, there are fewer sources than folds, or the name of a file
        would be too long.
    UsageError
        A checkpoint was made with other arguments or inputs.
    """
    known, unseen = examples, list[Example]()
    folds, scores, by_source = list[Fold](), dict[str, UnseenScores](), list[dict[str, Any]]()
    if config.folds:
        if config.keep_folds:  # a name that is too long is refused before anything is trained
            files_of_folds(examples, config.folds, out)
        for fold in cross_validate(
            examples, config.numbers, config.training, folds=config.folds, device=device, half=config.half,
            checkpoint=checkpoint, about=about, progress=progress, processes=processes,
        ):  # fmt: skip
            folds.append(fold)
            scores |= fold.scores
            yield {"auc": None, "fold": fold.number, "left_out": list(fold.left_out), "loss": fold.loss}
        if processes.leads:
            by_source += figures_by_source(scores, false_alarms=config.false_alarms)
        yield from by_source
    else:
        known, unseen = split_people(examples, seed=config.training.seed, share=config.held_out)
    trainer = DetectorTrainer(
        known, config.numbers, config.training, device=device, half=config.half, processes=processes
    )
    if processes.agree(checkpoint.exists() if processes.leads else None):
        trainer.load(checkpoint, about)
    saved = trainer.epoch
    if not processes.leads:
        for _ in trainer.epochs():
            pass
        processes.agree(None)  # a process that ends is the end of all: the file is written first
        return
    for figures in progress(trainer.train(unseen, config.attacks), "training", config.training.epochs):
        if trainer.epoch > saved:  # else it is of an interrupted run
            trainer.save(checkpoint, about)
        yield figures
    if config.folds:
        calibration = calibrate_sources(scores, false_alarms=config.false_alarms)
        measured: dict[str, Any] = {"sources": by_source}
    else:
        calibration, shares = calibrate(
            trainer.averaged, unseen, false_alarms=config.false_alarms, attacks=config.numbers
        )
        measured = {**trainer.history[-1], **shares}
    for fold in folds if config.keep_folds else ():
        _save_fold(fold, scores, config, out, about)
    save_detector(out, trainer.averaged, config.attacks, calibration, {**about, "figures": measured})
    for path in (checkpoint, *(fold_checkpoints(checkpoint) if config.folds else ())):
        path.unlink(missing_ok=True)
    processes.agree(None)


def _save_fold(
    fold: Fold, scores: Mapping[str, UnseenScores], config: DetectorConfig, out: Path, about: Mapping[str, Any]
) -> None:
    """Save the detector of a fold; its calibration has seen nothing of its sources either."""
    others = {name: each for name, each in scores.items() if name not in fold.left_out}
    calibration = calibrate_sources(others, false_alarms=config.false_alarms)
    save_detector(
        detector_without(out, fold.left_out),
        fold.network,
        config.attacks,
        calibration,
        {**about, "left_out": list(fold.left_out)},
    )
