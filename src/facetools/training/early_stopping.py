"""Early stopping on held-out people: which epoch is kept, and when training ends."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from _toolio.errors import ToolError, param
from facetools.embeddings.distances import distances
from facetools.extractors.extractor import Extractor
from facetools.extractors.files import Prepared
from facetools.training.paired_faces import PairedFaces
from facetools.training.robust import RobustTrainer, embed_samples, tunable

BLENDS = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Interpolation weights, from the untouched network (0) to the tuned one (1), where the tuned one costs too much."""


class HeldOutEvaluation:
    """Measure networks on held-out people: protection by cloaks, and accuracy on clean photos.

    Parameters
    ----------
    extractor
        The untouched network.
    faces
        Clean and cloaked faces of people that are not trained on.
    """

    def __init__(self, extractor: Extractor, faces: PairedFaces) -> None:
        self._extractor, self.faces = extractor, faces
        self.before = self._measure(extractor.network)

    @property
    def untouched(self) -> Prepared:
        """A copy of the untouched network, preprocessed like those that are tuned."""
        return tunable(self._extractor)

    def measure(self, network: nn.Module) -> dict[str, Any]:
        """Measure a network.

        Returns
        -------
        dict
            ``protection``: mean over cloaks of the share of clean photos whose nearest neighbour is somebody else when
            all other photos of the person are cloaked; ``protections`` of each cloak, ``floors`` with the same photos
            clean. ``clean_accuracy``: rank-1 accuracy with nobody cloaked, leaving one photo out; ``clean_loss``:
            percentage points of it that the network has lost against the untouched one.
        """
        figures = self._measure(network)
        lost = 100 * (self.before["clean_accuracy"] - figures["clean_accuracy"])
        return {**figures, "clean_loss": lost}

    def _measure(self, network: nn.Module) -> dict[str, Any]:
        faces = self.faces
        rows = embed_samples(network, faces.samples, self._extractor.size, self._extractor.device).cpu().numpy()
        apart = distances(rows[faces.cloak < 0], rows, self._extractor.distance)  # clean photos to all
        place_of = np.flatnonzero(faces.cloak < 0)
        people = faces.people
        same = people[place_of][:, None] == people
        others = np.where(~same & (faces.cloak < 0), apart, np.inf).min(1)
        # No photo is compared with itself, nor with its own cloaked copies.
        apart[~same | (faces.original == place_of[:, None])] = np.inf
        clean = faces.cloak < 0
        figures: dict[str, Any] = {"protections": {}, "floors": {}}
        for number, name in enumerate(faces.cloaks):
            cloaked = faces.cloak == number
            copied = np.isin(np.arange(len(people)), faces.original[cloaked])
            figures["protections"][name] = _missed(apart[:, cloaked], others)
            figures["floors"][name] = _missed(apart[:, clean & copied], others)
        known = [value for value in figures["protections"].values() if value is not None]
        missed = _missed(apart[:, clean], others)
        if not known or missed is None:
            raise ToolError(
                "nobody held out has a cloaked photo and another clean one; give more photos, or more to "
                f"{param('held_out')}",
                kind="few-photos",
            )
        return {"protection": float(np.mean(known)), **figures, "clean_accuracy": 1 - missed}


def _missed(own: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> float | None:
    """Return the share of photos nearer to another person than to their own; None if no photo has one of its own."""
    if own.shape[1] == 0:
        return None
    nearest = own.min(1)
    tested = np.isfinite(nearest)
    return float((others[tested] < nearest[tested]).mean()) if tested.any() else None


class EarlyStopping:
    """Train with early stopping: keep the most robust epoch that costs little accuracy on clean photos.

    Parameters
    ----------
    trainer, evaluation
        What is trained, and what measures it.
    max_clean_loss
        Percentage points of clean accuracy that a kept epoch may lose.
    patience
        Epochs without a better one, after the first that may be kept, before training ends.
    """

    def __init__(
        self, trainer: RobustTrainer, evaluation: HeldOutEvaluation, *, max_clean_loss: float, patience: int
    ) -> None:
        self._trainer, self._evaluation = trainer, evaluation
        self._limit, self._patience = max_clean_loss, patience
        if trainer.figures and trainer.figures["clean_loss"] > max_clean_loss + 1e-9:
            trainer.figures = {}  # kept by an earlier run that allowed more

    def start(self) -> list[dict[str, Any]]:
        """Return the records of what was measured so far; at first, of the untouched network alone."""
        if not self._trainer.history:
            fields = {**self._evaluation.before, "clean_loss": 0.0, "epoch": 0, "loss": None}
            self._trainer.history.append(fields)
        return list(self._trainer.history)

    def epochs(self) -> Iterator[dict[str, Any]]:
        """Train the remaining epochs, or until there was no better one for too long; yield each one's record."""
        for losses in self._trainer.epochs(stop=lambda: self.is_over):
            yield self.evaluate(losses)

    def evaluate(self, losses: tuple[float, ...]) -> dict[str, Any]:
        """Measure the epoch that has just ended, and keep it if it is the best so far; return its record's fields."""
        trainer, faces = self._trainer, self._evaluation.faces
        figures = self._evaluation.measure(trainer.averaged)
        # A hair of room: a loss of exactly the limit is allowed, and floats are what they are.
        allowed = figures["clean_loss"] <= self._limit + 1e-9
        kept = trainer.figures
        better = bool(kept) and (figures["protection"], figures["clean_loss"]) < (
            kept["protection"],
            kept["clean_loss"],
        )
        best = allowed and (not kept or better)
        fields = {
            **figures,
            "epoch": trainer.epoch,
            "loss": sum(losses),
            "identity_loss": losses[0],
            "consistency_loss": losses[1],
            "best": best,
            "held_out_faces": len(faces.samples),
        }
        trainer.history.append(fields)
        if best:
            trainer.keep(fields)
        return fields

    def finish(self) -> dict[str, Any] | None:
        """If no epoch could be kept, interpolate between the untouched network's weights and those of the last.

        Weights between those before and after tuning are often as accurate as the former and nearly as robust as the
        latter (Wortsman et al. 2022, arXiv 2109.01903).

        Returns
        -------
        dict or None
            Fields of a record, with the interpolation weight as ``blend``; None if an epoch was kept.

        Raises
        ------
        ToolError
            Nothing but the untouched network is within the limit.
        """
        trainer = self._trainer
        if trainer.figures:
            return None
        untouched, tuned = self._evaluation.untouched, trainer.averaged
        for blend in BLENDS:
            between = interpolate_weights(untouched, tuned, blend)
            figures = self._evaluation.measure(between)
            if figures["clean_loss"] <= self._limit + 1e-9:
                fields = {**figures, "epoch": trainer.epoch, "loss": None, "best": True, "blend": blend}
                trainer.keep(fields, between)
                return fields
        raise ToolError(
            f"every epoch costs more than {self._limit:g} points of accuracy on clean photos; try a lower "
            f"{param('learning_rate')}, more {param('consistency')}, or a higher {param('max_clean_loss')}",
            kind="clean-loss",
        )

    @property
    def is_over(self) -> bool:
        """Whether ``patience`` epochs have gone by since the best one."""
        figures = self._trainer.figures
        return bool(figures) and self._trainer.epoch - figures["epoch"] >= self._patience


@torch.no_grad()
def interpolate_weights(first: nn.Module, second: Prepared, share: float) -> Prepared:
    """Interpolate linearly between the weights of two networks of one shape, from ``first`` (0) to ``second`` (1)."""
    between = copy.deepcopy(second)
    start = first.state_dict()
    for name, value in between.state_dict().items():
        if value.is_floating_point():
            value.lerp_(start[name].to(value.device), 1 - share)
    return between.eval()
