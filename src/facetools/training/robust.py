"""Tuning an extractor until it sees through cloaks: the adaptive trainer of arXiv 2106.14851, section 4."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from _toolio.compute.checkpoints import load_training, save_training
from _toolio.compute.distributed import Processes
from _toolio.compute.threads import ordered
from _toolio.errors import ToolError, UsageError
from facetools.extractors.extractor import Extractor
from facetools.extractors.files import Prepared
from facetools.photos.photo import add_change
from facetools.training.heads import Head, make_head
from facetools.training.paired_faces import Faces
from facetools.training.samples import Sample, cut_chip, cut_chips

CHECKPOINT = "facetools.train-robust-checkpoint/1"

STRENGTHS = (0.5, 1.25)
"""A cloak is shown between half and five quarters as strong as it is: those of people to come are other ones."""

BATCH = 16
"""Faces embedded at once where nothing is trained."""


def tunable(extractor: Extractor, frozen: Sequence[str] = ()) -> Prepared:
    """Copy an extractor's network so that it can be tuned, all but the tensors whose names match a pattern.

    It stays in eval mode: batch normalisation keeps the statistics of the millions of faces that it has seen, which a
    few thousand others would spoil.

    Raises
    ------
    UsageError
        A pattern matches nothing, or nothing is left to tune.
    """
    network = copy.deepcopy(extractor.network)
    prepared = network if isinstance(network, Prepared) else Prepared(network, extractor.settings)
    prepared.eval().requires_grad_(True)
    for pattern in frozen:
        matching = [p for name, p in prepared.network.named_parameters() if re.search(pattern, name)]
        if not matching:
            first = next(iter(dict(prepared.network.named_parameters())))
            raise UsageError(f"--freeze {pattern}: matches no tensor of {extractor.name}; {first} is one")
        for parameter in matching:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in prepared.parameters()):
        raise UsageError(f"--freeze: nothing of {extractor.name} is left to tune; freeze less")
    return prepared.to(memory_format=torch.channels_last)


@torch.inference_mode()
def embed_samples(network: nn.Module, samples: Sequence[Sample], size: tuple[int, int], device: torch.device) -> Tensor:
    """Embed faces as they are, float32 [n, D]; they are cut while the network works on those before."""
    starts = range(0, len(samples), BATCH)
    cut = ordered(lambda start: [cut_chip(s, 0, size) for s in samples[start : start + BATCH]], starts, workers=1)
    return torch.cat([network(torch.cat(chips).to(device)).float() for chips in cut])


@dataclass(frozen=True, slots=True)
class Knobs:
    """How to tune.

    Attributes
    ----------
    epochs, batch, learning_rate
        An epoch shows each cloaked face once and as many clean ones; the rate is the peak of AdamW's one-cycle
        schedule, and ``batch`` counts faces of all processes.
    head
        One of ``facetools.training.heads.NAMES``.
    identity, consistency
        Weights of the two parts of the loss.
    seed
        Decides order and changes.
    adversarial
        Steps in which every second clean face is cloaked anew each time, see ``confuse``; 0: none is.
    """

    epochs: int
    batch: int
    learning_rate: float
    head: str
    identity: float
    consistency: float
    seed: int
    adversarial: int = 0


class Objective(nn.Module):
    """The network and the head, and what both are tuned for.

    With e the embedding of a face, clean or cloaked, y its person and t what the untouched network gives for the clean
    original::

        mean_i [w_id head(e_i, y_i) + w_c |e_i - t_i|^2 / S]

    S is the mean squared distance of two different faces' t, so that weights mean the same for every network. The first
    part is the paper's identification loss on the union; the second pulls a cloaked photo to where its clean original
    was, and keeps clean ones where they were.
    """

    def __init__(self, student: Prepared, head: Head, knobs: Knobs, spread: float, half: bool) -> None:
        super().__init__()
        self.student, self.head = student, head
        self._knobs, self._spread, self._half = knobs, spread, half

    def forward(self, chips: Tensor, labels: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Give the sums of both parts over the faces, each with its weight."""
        with torch.autocast(chips.device.type, dtype=torch.bfloat16, enabled=self._half):
            given = self.student(chips)
        given = given.float()
        identity = self.head(given, labels).sum() if self._knobs.identity else given.sum() * 0
        apart = (given - wanted).square().sum() / self._spread
        return self._knobs.identity * identity, self._knobs.consistency * apart


class RobustTrainer:
    """Tunes an extractor on clean and cloaked faces of some people.

    Parameters
    ----------
    extractor
        Where it starts from; stays as it is.
    student
        Its copy that is tuned, from ``tunable``.
    faces
        What to train on.
    knobs
        How.
    device
        Where to compute.
    processes
        The others that train with this one.
    half
        Compute the network in bfloat16.
    """

    def __init__(
        self,
        extractor: Extractor,
        student: Prepared,
        faces: Faces,
        knobs: Knobs,
        *,
        device: torch.device,
        processes: Processes | None = None,
        half: bool = False,
    ) -> None:
        self._faces, self._knobs, self._device, self._processes = faces, knobs, device, processes or Processes()
        self._untouched = extractor.network
        self._size = extractor.size
        self.student = student.to(device)
        clean = np.flatnonzero(faces.cloak < 0)
        names, labels = np.unique(faces.people, return_inverse=True)
        self._labels = torch.from_numpy(labels)
        samples = [faces.samples[place] for place in clean]
        before = embed_samples(extractor.network, samples, self._size, device)
        places = np.full(len(faces.samples), -1)
        places[clean] = np.arange(len(clean))
        self._wanted = before[torch.from_numpy(places[faces.original]).to(device)]
        head = make_head(knobs.head, before, self._labels[clean].to(device), len(names)).to(device)
        head.requires_grad_(bool(knobs.identity))
        self._objective = Objective(self.student, head, knobs, _spread(before), half)
        self._wrapped = self._processes.wrap(self._objective)
        trained = [p for p in self._objective.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(trained, lr=knobs.learning_rate, weight_decay=1e-4)
        self._clean, self._cloaked = clean, np.flatnonzero(faces.cloak >= 0)
        self._batch = min(knobs.batch, 2 * len(self._cloaked))
        if self._batch < self._processes.world:
            raise ToolError(f"{self._batch} faces a step for {self._processes.world} processes; give a larger --batch")
        self._steps = 2 * len(self._cloaked) // self._batch
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, knobs.learning_rate, total_steps=max(6, self._steps * knobs.epochs + 1), pct_start=0.1
        )
        self._average = torch.optim.swa_utils.AveragedModel(self.student, multi_avg_fn=_average, use_buffers=True)
        self._best = copy.deepcopy(self.student)
        self.epoch = 0
        self.figures: dict[str, Any] = {}
        """What was measured of the best epoch; kept in checkpoints."""
        self.history: list[dict[str, Any]] = []
        """What was measured so far; kept too, so that a resumed run says all that an uninterrupted one says."""

    def rounds(self) -> Iterator[tuple[float, float]]:
        """Train the epochs that are left; give the mean of both parts of each one's loss."""
        while self.epoch < self._knobs.epochs:
            # The next step's faces are cut while the network learns from this step's.
            steps = ordered(self._prepare, self._draw_steps(), workers=1)
            losses = np.array([self._step(*shown) for shown in steps]).mean(0)
            identity, apart = (self._processes.total(float(loss)) for loss in losses)
            if not np.isfinite(identity + apart):
                raise ToolError("the loss is no number any more; try a lower --lr", kind="diverged")
            self.epoch += 1
            yield identity, apart

    def _draw_steps(self) -> Iterator[list[tuple[int, int]]]:
        """Draw the faces of each step of this epoch, with a seed each: all cloaked ones, and as many clean ones."""
        rng = np.random.default_rng([self._knobs.seed, self.epoch])
        turns = -(-len(self._cloaked) // len(self._clean))
        clean = np.concatenate([rng.permutation(self._clean) for _ in range(turns)])[: len(self._cloaked)]
        order = rng.permutation(np.concatenate([self._cloaked, clean]))
        for step in range(self._steps):
            chosen = order[step * self._batch : (step + 1) * self._batch]
            seeds = rng.integers(2**62, size=len(chosen))
            yield [(int(place), int(seed)) for place, seed in zip(chosen, seeds, strict=True)]

    def _prepare(self, drawn: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor, int]:
        own = self._processes.share(drawn)
        chips = [self._cut(place, np.random.default_rng(seed)) for place, seed in own]
        places = torch.tensor([place for place, _ in own])
        wanted = self._wanted[places.to(self._device)]
        shown = torch.cat(chips).to(self._device)
        # Which ones are cloaked anew is drawn by each face's seed: it does not depend on who shares the step.
        anew = [n for n, (place, seed) in enumerate(own) if self._faces.cloak[place] < 0 and seed % 2]
        if self._knobs.adversarial and anew:
            seeds = [own[n][1] for n in anew]
            shown[anew] = confuse(self._untouched, shown[anew], wanted[anew], self._knobs.adversarial, seeds)
        return shown, self._labels[places].to(self._device), wanted, len(drawn)

    def _cut(self, place: int, rng: np.random.Generator) -> Tensor:
        faces = self._faces
        return cut_chips(vary(faces.samples[place], faces.samples[faces.original[place]], rng), [self._size], rng)[0]

    def _step(self, chips: Tensor, labels: Tensor, wanted: Tensor, total: int) -> tuple[float, float]:
        identity, apart = self._wrapped(chips, labels, wanted)
        self._optimizer.zero_grad(set_to_none=True)
        # Processes' gradients are averaged: what each adds is a sum over its faces, and the step's mean is wanted.
        ((identity + apart) * (self._processes.world / total)).backward()
        torch.nn.utils.clip_grad_norm_(self._objective.parameters(), 5.0)
        self._optimizer.step()
        self._schedule.step()
        self._average.update_parameters(self.student)
        return float(identity.detach()) / total, float(apart.detach()) / total

    @property
    def epochs(self) -> int:
        """How many there will be."""
        return self._knobs.epochs

    @property
    def averaged(self) -> Prepared:
        """The network with the weights' moving average."""
        averaged = self._average.module
        assert isinstance(averaged, Prepared)
        return averaged.eval()

    @property
    def best(self) -> Prepared:
        """The network as ``keep`` saw it last."""
        return self._best.eval()

    def keep(self, figures: Mapping[str, Any], network: Prepared | None = None) -> None:
        """Take a network, or the averaged one, for the best so far."""
        self._best.load_state_dict((network or self.averaged).state_dict())
        self.figures = dict(figures)

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write all that the next epoch depends on."""
        now = {"epoch": self.epoch, "figures": self.figures, "history": self.history}
        now["step"] = self._schedule.last_epoch
        save_training(path, self._parts(), self._optimizer, {"schema": CHECKPOINT, **now, **about})

    def load(self, path: Path, about: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; UsageError if it was made with other arguments or inputs."""
        about = {"schema": CHECKPOINT, **about}
        found = load_training(path, self._parts(), self._optimizer, self._schedule, about)
        self.epoch, self.figures, self.history = found["epoch"], found["figures"], found["history"]

    def _parts(self) -> dict[str, nn.Module]:
        return {"objective": self._objective, "average": self._average, "best": self._best}


def vary(sample: Sample, original: Sample, rng: np.random.Generator) -> Sample:
    """Draw a cloak weaker or stronger, where its photo lies on the clean one pixel by pixel; a clean one stays."""
    if sample is original or not sample.lies_on(original):
        return sample
    clean = original.pixels.astype(np.float32)
    change = float(rng.uniform(*STRENGTHS)) * (sample.pixels - clean)
    return replace(sample, pixels=add_change(original.pixels, change))


def confuse(network: nn.Module, chips: Tensor, wanted: Tensor, steps: int, seeds: Sequence[int]) -> Tensor:
    """Cloak chips in a few steps of projected gradient ascent (Madry et al. 2018, arXiv 1706.06083).

    Quicker than any tool, weaker, and different each time: of a network's blind spots a few thousand cloaks of a tool
    show few. Maximises ``|f(x + G d) - t|^2`` over ``|d| <= reach``; the reach (4 to 16 of 255) and whether G blurs,
    as smooth cloaks do, are drawn for each face.

    Parameters
    ----------
    network
        f, frozen.
    chips, wanted
        float32 [B, 3, h, w] in [0, 1], and t, [B, D].
    steps
        1 or more.
    seeds
        One a face.

    Returns
    -------
    float32 [B, 3, h, w]
        In [0, 1], rounded to whole steps of 1 / 255 as saved photos are.
    """
    draws = [np.random.default_rng([seed, 1]) for seed in seeds]
    reach = torch.tensor([rng.uniform(4, 16) / 255 for rng in draws], device=chips.device).float()[:, None, None, None]
    blurs = torch.tensor([rng.random() < 0.5 for rng in draws], device=chips.device)[:, None, None, None]
    start = np.stack([rng.uniform(-1, 1, tuple(chips.shape[1:])).astype(np.float32) for rng in draws])
    change = torch.from_numpy(start).to(chips.device) * reach

    def applied() -> Tensor:
        smooth = F.avg_pool2d(change, 3, 1, 1, count_include_pad=False)
        return (chips + torch.where(blurs, smooth, change)).clamp(0, 1)

    for _ in range(steps):
        change.requires_grad_(True)
        apart = (network(applied()) - wanted).square().sum()
        (slope,) = torch.autograd.grad(apart, change)
        change = (change.detach() + 1.5 / steps * reach * slope.sign()).clamp(-reach, reach)
    with torch.no_grad():
        return (applied() * 255).round() / 255


def _spread(embeddings: Tensor) -> float:
    """Give the mean squared distance of two different faces: twice the variance."""
    return max(float(2 * (embeddings - embeddings.mean(0)).square().sum(1).mean()), 1e-12)


@torch.no_grad()
def _average(averaged: Any, current: Any, steps: Any) -> None:
    """Move averages towards the weights, quickly at first: a short training is no longer the original at its end."""
    decay = min(0.99, (1 + float(steps)) / (10 + float(steps)))
    for kept, new in zip(averaged, current, strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)
