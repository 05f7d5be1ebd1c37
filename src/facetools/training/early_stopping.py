"""What tuning does to people that are not trained on, epoch by epoch: what is kept of it, and when it ends."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from _toolio.cli.progress import track
from _toolio.errors import ToolError
from _toolio.streams.records import RecordWriter
from facetools.embeddings.distances import distances
from facetools.extractors.extractor import Extractor
from facetools.extractors.files import Prepared
from facetools.training.paired_faces import Faces
from facetools.training.robust import RobustTrainer, embed_samples, tunable

if TYPE_CHECKING:
    from _toolio.compute.distributed import Processes

BLENDS = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""How far from the untouched network to the tuned one to go, where the tuned one costs too much."""


class Watch:
    """Watches what tuning does to people that are not trained on.

    Parameters
    ----------
    extractor
        The untouched network.
    faces
        Of these people, clean and cloaked.
    """

    def __init__(self, extractor: Extractor, faces: Faces) -> None:
        self._extractor, self.faces = extractor, faces
        self.before = self._measure(extractor.network)

    @property
    def untouched(self) -> Prepared:
        """A copy of the untouched network, made like those that are tuned."""
        return tunable(self._extractor)

    def measure(self, network: nn.Module) -> dict[str, Any]:
        """Give figures of a network.

        Returns
        -------
        dict
            ``protection``: mean over cloaks of the share of clean photos whose nearest neighbour is somebody else when
            all other photos of the person are cloaked; ``protections`` of each cloak, ``floors`` with the same photos
            clean. ``clean_accuracy``: share of clean photos, nobody cloaked, whose nearest other photo is of the same
            person; ``clean_loss``: percentage points of it that were lost since the untouched network.
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
                "nobody held out has a cloaked photo and another clean one; give more photos, or more to --held-out",
                kind="few-photos",
            )
        return {"protection": float(np.mean(known)), **figures, "clean_accuracy": 1 - missed}


def _missed(own: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> float | None:
    """Give the share of photos that are nearer to another person than to their own; None if none can be asked."""
    if own.shape[1] == 0:
        return None
    nearest = own.min(1)
    asked = np.isfinite(nearest)
    return float((others[asked] < nearest[asked]).mean()) if asked.any() else None


class Stopping:
    """Looks at each epoch: keeps the best that costs little on clean photos, and says when to end.

    Parameters
    ----------
    trainer, watch
        What is trained, and what looks at it.
    max_clean_loss
        Percentage points of clean accuracy.
    patience
        Epochs without a better one, after the first that may be kept, before the end.
    """

    def __init__(self, trainer: RobustTrainer, watch: Watch, max_clean_loss: float, patience: int) -> None:
        self._trainer, self._watch, self._limit, self._patience = trainer, watch, max_clean_loss, patience
        if trainer.figures and trainer.figures["clean_loss"] > max_clean_loss + 1e-9:
            trainer.figures = {}  # kept by an earlier run that allowed more

    def before(self) -> dict[str, Any]:
        """Give the fields of the record of the untouched network."""
        fields = {**self._watch.before, "clean_loss": 0.0, "epoch": 0, "loss": None}
        self._trainer.history.append(fields)
        return fields

    def look(self, losses: tuple[float, float]) -> dict[str, Any]:
        """Measure the epoch that has just ended, and keep it if it is the best so far; give its record's fields."""
        trainer, faces = self._trainer, self._watch.faces
        figures = self._watch.measure(trainer.averaged)
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
        """See to it that something is kept: if no epoch could be, go part of the way back from the last one.

        Weights between those before and after tuning are often as accurate as the former and nearly as robust as the
        latter (Wortsman et al. 2022, arXiv 2109.01903).

        Returns
        -------
        dict or None
            Fields of a record, with how far it went as ``blend``; None if there was no need.

        Raises
        ------
        ToolError
            Nothing but the untouched network is within the limit.
        """
        trainer = self._trainer
        if trainer.figures:
            return None
        untouched, tuned = self._watch.untouched, trainer.averaged
        for blend in BLENDS:
            between = mixed(untouched, tuned, blend)
            figures = self._watch.measure(between)
            if figures["clean_loss"] <= self._limit + 1e-9:
                fields = {**figures, "epoch": trainer.epoch, "loss": None, "best": True, "blend": blend}
                trainer.keep(fields, between)
                return fields
        raise ToolError(
            f"every epoch costs more than {self._limit:g} points of accuracy on clean photos; try a lower --lr, "
            "more --consistency, or a higher --max-clean-loss",
            kind="clean-loss",
        )

    @property
    def is_over(self) -> bool:
        """Whether the best epoch is too long ago."""
        figures = self._trainer.figures
        return bool(figures) and self._trainer.epoch - figures["epoch"] >= self._patience


@torch.no_grad()
def mixed(first: nn.Module, second: Prepared, share: float) -> Prepared:
    """Copy a network, with weights the ``share`` of the way from those of ``first``, made alike, to its own."""
    between = copy.deepcopy(second)
    start = first.state_dict()
    for name, value in between.state_dict().items():
        if value.is_floating_point():
            value.lerp_(start[name].to(value.device), 1 - share)
    return between.eval()


def lead(
    trainer: RobustTrainer, processes: Processes, stopping: Stopping, writer: RecordWriter, save: Callable[[], None]
) -> None:
    """Train, and after each epoch measure, print, save, and tell the other processes whether to go on."""
    if not trainer.history:
        stopping.before()
    for fields in trainer.history:
        writer.emit(fields)
    if processes.agree(stopping.is_over):
        return
    for losses in track(trainer.rounds(), "training", trainer.epochs - trainer.epoch):
        writer.emit(stopping.look(losses))
        save()
        if processes.agree(stopping.is_over):
            return


def follow(trainer: RobustTrainer, processes: Processes) -> None:
    """Train until the leading process says that it is enough."""
    if processes.agree(None):
        return
    for _ in trainer.rounds():
        if processes.agree(None):
            return
