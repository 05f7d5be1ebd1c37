"""Fine-tune an extractor to recognise cloaked faces: the adaptive trainer of arXiv 2106.14851, section 4."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from _toolio.compute.distributed import Processes
from _toolio.compute.threads import ordered
from _toolio.errors import UsageError, param
from facetools.extractors.extractor import Extractor
from facetools.extractors.files import Prepared
from facetools.photos.photo import add_change
from facetools.training.heads import Head, make_head
from facetools.training.loop import TrainingConfig, TrainingLoop, refuse_idle
from facetools.training.paired_faces import PairedFaces
from facetools.training.samples import Sample, cut_chip, cut_chips

CHECKPOINT = "facetools.train-robust-checkpoint/1"

STRENGTHS = (0.5, 1.25)
"""A cloak is shown between half and five quarters as strong as it is: future cloaks differ from those trained on."""

BATCH = 16
"""Faces a batch for inference."""


def tunable(extractor: Extractor, freeze: Sequence[str] = ()) -> Prepared:
    """Copy an extractor's network for fine-tuning, with the tensors whose names match a pattern of ``freeze`` frozen.

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
    for pattern in freeze:
        matching = [p for name, p in prepared.network.named_parameters() if re.search(pattern, name)]
        if not matching:
            first = next(iter(dict(prepared.network.named_parameters())))
            raise UsageError(f"{param('freeze')} {pattern}: matches no tensor of {extractor.name}; {first} is one")
        for parameter in matching:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in prepared.parameters()):
        raise UsageError(f"{param('freeze')}: nothing of {extractor.name} is left to tune; freeze less")
    return prepared.to(memory_format=torch.channels_last)


@torch.inference_mode()
def embed_samples(network: nn.Module, samples: Sequence[Sample], size: tuple[int, int], device: torch.device) -> Tensor:
    """Embed faces without augmentation, float32 [n, D]; they are cut while the network works on those before."""
    starts = range(0, len(samples), BATCH)
    cut = ordered(lambda start: [cut_chip(s, 0, size) for s in samples[start : start + BATCH]], starts, workers=1)
    return torch.cat([network(torch.cat(chips).to(device)).float() for chips in cut])


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustConfig(TrainingConfig):
    """How to fine-tune; ``batch`` counts faces of all processes.

    Attributes
    ----------
    head
        One of `facetools.training.heads.NAMES`.
    identity, consistency
        Weights of the two parts of the loss.
    adversarial
        Steps of projected gradient ascent that cloak every second clean face, see `confuse`; 0: none.
    """

    head: str = "softmax"
    identity: float = 1.0
    consistency: float = 8.0
    adversarial: int = 0


class Objective(nn.Module):
    """The network, the classification head, and the loss that both are fine-tuned with.

    With e the embedding of a face, clean or cloaked, y its person and t what the untouched network gives for the clean
    original::

        mean_i [w_id head(e_i, y_i) + w_c |e_i - t_i|^2 / S]

    S is the mean squared distance of two different faces' t, so that weights mean the same for every network. The first
    part is the paper's identification loss on the union; the second pulls a cloaked photo to where its clean original
    was, and keeps clean ones where they were.
    """

    def __init__(self, student: Prepared, head: Head, config: RobustConfig, spread: float, half: bool) -> None:
        super().__init__()
        self.student, self.head = student, head
        self._config, self._spread, self._half = config, spread, half

    def forward(self, chips: Tensor, labels: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums of both parts over the faces, each with its weight."""
        with torch.autocast(chips.device.type, dtype=torch.bfloat16, enabled=self._half):
            given = self.student(chips)
        given = given.float()
        identity = self.head(given, labels).sum() if self._config.identity else given.sum() * 0
        apart = (given - wanted).square().sum() / self._spread
        return self._config.identity * identity, self._config.consistency * apart


class RobustTrainer:
    """Fine-tune an extractor on clean and cloaked faces of some people.

    Parameters
    ----------
    extractor
        The extractor to start from; stays as it is.
    student
        Its copy that is tuned, from `tunable`.
    faces
        Training faces.
    config
        An epoch shows each cloaked face once and as many clean ones.
    device
        Where to compute.
    processes
        The processes that train together.
    half
        Compute the network in bfloat16.
    """

    def __init__(
        self,
        extractor: Extractor,
        student: Prepared,
        faces: PairedFaces,
        config: RobustConfig,
        *,
        device: torch.device,
        processes: Processes | None = None,
        half: bool = False,
    ) -> None:
        self._faces, self._config, self._device, self._processes = faces, config, device, processes or Processes()
        self._untouched = extractor.network
        self._size = extractor.size
        self.student = student.to(device)
        self._clean, self._cloaked = np.flatnonzero(faces.cloak < 0), np.flatnonzero(faces.cloak >= 0)
        names, labels = np.unique(faces.people, return_inverse=True)
        self._labels = torch.from_numpy(labels)
        before = embed_samples(extractor.network, [faces.samples[n] for n in self._clean], self._size, device)
        places = np.full(len(faces.samples), -1)
        places[self._clean] = np.arange(len(self._clean))
        self._wanted = before[torch.from_numpy(places[faces.original]).to(device)]
        head = make_head(config.head, before, self._labels[self._clean].to(device), len(names)).to(device)
        head.requires_grad_(bool(config.identity))
        self._objective = Objective(self.student, head, config, _spread(before), half)
        self._wrapped = self._processes.wrap(self._objective)
        self._batch = min(config.batch, 2 * len(self._cloaked))
        refuse_idle(self._batch, self._processes)
        self._loop = TrainingLoop(
            config,
            [p for p in self._objective.parameters() if p.requires_grad],
            steps=2 * len(self._cloaked) // self._batch,
            weight_decay=1e-4,
            network=self.student,
            average=_average,
            processes=self._processes,
        )
        self._best = copy.deepcopy(self.student)
        self.figures: dict[str, Any] = {}
        """What was measured of the best epoch; kept in checkpoints."""
        self.history: list[dict[str, Any]] = []
        """What was measured so far; kept too, so that a resumed run reports all that an uninterrupted one does."""

    @property
    def epoch(self) -> int:
        """Epochs trained so far."""
        return self._loop.epoch

    def epochs(self, stop: Callable[[], bool] = lambda: False) -> Iterator[tuple[float, ...]]:
        """Train the remaining epochs; yield the mean of both parts of each one's loss.

        Parameters
        ----------
        stop
            Early stopping: what the leading process returns decides for all of them.
        """
        yield from self._loop.run(
            # The next step's faces are cut while the network learns from this step's.
            lambda: ordered(self._prepare, self._draw_steps(), workers=1),
            lambda batch: self._step(*batch),
            stop=stop,
        )

    def _draw_steps(self) -> Iterator[list[tuple[int, int]]]:
        """Draw the faces of each step of this epoch, with a seed each: all cloaked ones, and as many clean ones."""
        rng = np.random.default_rng([self._config.seed, self.epoch])
        turns = -(-len(self._cloaked) // len(self._clean))
        clean = np.concatenate([rng.permutation(self._clean) for _ in range(turns)])[: len(self._cloaked)]
        order = rng.permutation(np.concatenate([self._cloaked, clean]))
        for step in range(self._loop.steps):
            chosen = order[step * self._batch : (step + 1) * self._batch]
            seeds = rng.integers(2**62, size=len(chosen))
            yield [(int(place), int(seed)) for place, seed in zip(chosen, seeds, strict=True)]

    def _prepare(self, drawn: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor, int]:
        own = self._processes.share(drawn)
        chips = [self._cut(place, np.random.default_rng(seed)) for place, seed in own]
        places = torch.tensor([place for place, _ in own])
        wanted = self._wanted[places.to(self._device)]
        shown = torch.cat(chips).to(self._device)
        # Which clean faces are attacked is drawn by each face's seed: it does not depend on who shares the step.
        attacked = [n for n, (place, seed) in enumerate(own) if self._faces.cloak[place] < 0 and seed % 2]
        if self._config.adversarial and attacked:
            seeds = [own[n][1] for n in attacked]
            shown[attacked] = confuse(
                self._untouched, shown[attacked], wanted[attacked], self._config.adversarial, seeds
            )
        return shown, self._labels[places].to(self._device), wanted, len(drawn)

    def _cut(self, place: int, rng: np.random.Generator) -> Tensor:
        faces = self._faces
        return cut_chips(vary(faces.samples[place], faces.samples[faces.original[place]], rng), [self._size], rng)[0]

    def _step(self, chips: Tensor, labels: Tensor, wanted: Tensor, total: int) -> tuple[float, float]:
        identity, apart = self._wrapped(chips, labels, wanted)
        # Processes' gradients are averaged: what each adds is a sum over its faces, and the step's mean is wanted.
        self._loop.step((identity + apart) * (self._processes.world / total))
        return float(identity.detach()) / total, float(apart.detach()) / total

    @property
    def averaged(self) -> Prepared:
        """The network with the weights' moving average, in eval mode."""
        return self._loop.averaged

    @property
    def best(self) -> Prepared:
        """The network that ``keep`` copied last."""
        return self._best.eval()

    def keep(self, figures: Mapping[str, Any], network: Prepared | None = None) -> None:
        """Copy a network, or the averaged one, as the best so far."""
        self._best.load_state_dict((network or self.averaged).state_dict())
        self.figures = dict(figures)

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write all that the next epoch depends on."""
        measured = {"figures": self.figures, "history": self.history}
        self._loop.save(path, self._parts(), {"schema": CHECKPOINT, **measured, **about})

    def load(self, path: Path, about: Mapping[str, Any]) -> None:
        """Resume from a checkpoint; UsageError if it was made with other arguments or inputs."""
        found = self._loop.load(path, self._parts(), {"schema": CHECKPOINT, **about})
        self.figures, self.history = found["figures"], found["history"]

    def _parts(self) -> dict[str, nn.Module]:
        return {"objective": self._objective, "best": self._best}


def vary(sample: Sample, original: Sample, rng: np.random.Generator) -> Sample:
    """Scale a cloak's strength at random where its photo lies on the clean one pixel by pixel; clean ones stay."""
    if sample is original or not sample.lies_on(original):
        return sample
    clean = original.pixels.astype(np.float32)
    change = float(rng.uniform(*STRENGTHS)) * (sample.pixels - clean)
    return replace(sample, pixels=add_change(original.pixels, change))


def confuse(network: nn.Module, chips: Tensor, wanted: Tensor, steps: int, seeds: Sequence[int]) -> Tensor:
    """Perturb chips in a few steps of projected gradient ascent (PGD, Madry et al. 2018, arXiv 1706.06083).

    Faster than any cloaking tool, weaker, and different each time: a few thousand cloaks of a tool show few of a
    network's blind spots. Maximises ``|f(x + G d) - t|^2`` over ``|d| <= reach``; the reach (4 to 16 of 255) and
    whether G blurs, as smooth cloaks do, are drawn for each face.

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
    """Return the mean squared distance of two different faces: twice the variance."""
    return max(float(2 * (embeddings - embeddings.mean(0)).square().sum(1).mean()), 1e-12)


@torch.no_grad()
def _average(averaged: Any, current: Any, steps: Any) -> None:
    """Move averages towards the weights, fast at first, so that a short training ends far from the initial weights."""
    decay = min(0.99, (1 + float(steps)) / (10 + float(steps)))
    for kept, new in zip(averaged, current, strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)
