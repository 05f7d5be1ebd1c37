"""Train an extractor to reproduce a teacher's embeddings: knowledge distillation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from _toolio.compute.batch_norm import share_statistics
from _toolio.compute.distributed import Processes
from _toolio.compute.threads import ordered
from facetools.extractors.extractor import Extractor
from facetools.extractors.files import Prepared
from facetools.metrics import area_under_roc
from facetools.training.loop import TrainingConfig, TrainingLoop, refuse_idle
from facetools.training.samples import Sample, cut_chip, cut_chips

CHECKPOINT = "facetools.extractor-checkpoint/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationConfig(TrainingConfig):
    """How to distil.

    Attributes
    ----------
    identity_weight
        w, the weight of the classification loss.
    """

    identity_weight: float = 0.1


class Objective(nn.Module):
    """The student, what is trained beside it, and the loss that all are trained with.

    Parameters
    ----------
    student
        The network.
    head
        Its rows are the learned centres c_j of people.
    bridge
        P.
    weight
        w.
    """

    def __init__(self, student: Prepared, head: nn.Linear, bridge: nn.Linear, weight: float) -> None:
        super().__init__()
        self.student, self.head, self.bridge = student, head, bridge
        self._weight = weight

    def forward(self, chips: Tensor, wanted: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the loss over faces, given t - m of each and its person."""
        given = F.normalize(self.student(chips))
        apart = 1 - (F.normalize(self.bridge(given)) * wanted).sum(1)
        scores = 24.0 * given @ F.normalize(self.head.weight).T
        return apart.sum() + self._weight * F.cross_entropy(scores, labels, reduction="sum")


class DistillationTrainer:
    """Train a student to reproduce the teacher's embeddings and to classify the people.

    Each step samples faces, augments them, and shows teacher and student the same augmented face (Beyer et al. 2021,
    arXiv 2106.05237, "function matching"). Minimises::

        mean_i [1 - cos(P s_i, t_i - m)] + w CE(scale cos(s_i, c_j), y_i)

    s student, t teacher embedding of length 1; m the mean of t over faces, which is most of it for some teachers (two
    people's embeddings by dlib have a cosine of 0.8 or so) and separates nobody from anybody; P the identity if both
    have one length, else learned; c_j a learned centre a person.

    Parameters
    ----------
    student
        To be trained, with its preprocessing.
    teacher
        Frozen.
    samples
        Training faces.
    config
        One epoch shows each face once. Its seed decides order and changes; the first weights of head and student are
        drawn from torch's generator: seed that before.
    device
        Where to compute.
    processes
        The processes that train together: each shows its share of a step's faces.
    """

    def __init__(
        self,
        student: Prepared,
        teacher: Extractor,
        samples: Sequence[Sample],
        config: DistillationConfig,
        *,
        device: torch.device,
        processes: Processes = Processes(),  # noqa: B008 - it is frozen
    ) -> None:
        self._processes = processes
        self._teacher, self._samples, self._config, self._device = teacher, samples, config, device
        self.student = student.to(device).to(memory_format=torch.channels_last)
        self._batch = min(config.batch, len(samples))
        refuse_idle(self._batch, processes)
        people = sorted({sample.person for sample in samples})
        self._labels = {person: number for number, person in enumerate(people)}
        student.requires_grad_(True)
        dimensions = self._measure_dimensions()
        self._head = nn.Linear(dimensions, len(people), bias=False).to(device)
        self._bridge = nn.Linear(dimensions, teacher.dimensions, bias=False).to(device)
        if dimensions == teacher.dimensions:
            nn.init.eye_(self._bridge.weight)
            self._bridge.requires_grad_(False)
        share_statistics(self.student, processes)
        objective = Objective(self.student, self._head, self._bridge, config.identity_weight)
        self._wrapped = processes.wrap(objective)
        self._loop = TrainingLoop(
            config,
            [p for p in objective.parameters() if p.requires_grad],
            steps=len(samples) // self._batch,
            weight_decay=1e-2,
            clipped=self.student.parameters(),
            network=student,
            processes=processes,
        )
        self.centre = centre_of(teacher, samples)
        self.history: list[dict[str, Any]] = []
        """What was measured after each epoch; kept in checkpoints."""

    def _measure_dimensions(self) -> int:
        self.student.eval()
        with torch.inference_mode():
            chip = torch.zeros(1, 3, *self.student.settings.input_size, device=self._device)
            return int(self.student(chip).shape[1])

    @property
    def epoch(self) -> int:
        """Epochs trained so far."""
        return self._loop.epoch

    def epochs(self) -> Iterator[float]:
        """Train the remaining epochs; yield each one's mean loss."""
        for (loss,) in self._loop.run(self._batches, lambda batch: self._step(*batch)):
            yield loss

    def _batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
        self.student.train()
        # The next step's faces are cut, and shown to the teacher, while the student learns from this step's.
        return ordered(self._prepare, self._draw_steps(), workers=1)

    def _draw_steps(self) -> Iterator[list[tuple[Sample, int]]]:
        """Draw the faces of each step of this epoch, with a seed each."""
        rng = np.random.default_rng([self._config.seed, self.epoch])
        order = rng.permutation(len(self._samples))
        for step in range(self._loop.steps):
            chosen = order[step * self._batch : (step + 1) * self._batch]
            seeds = rng.integers(2**62, size=len(chosen))
            yield [(self._samples[i], int(seed)) for i, seed in zip(chosen, seeds, strict=True)]

    def _prepare(self, drawn: Sequence[tuple[Sample, int]]) -> tuple[Tensor, Tensor, Tensor, int]:
        """Cut this process's share of a step's faces.

        Returns
        -------
        The student's chips [B, 3, h, w], embeddings to reproduce [B, D], labels [B], and the step's number of faces.
        """
        total, drawn = len(drawn), self._processes.share(drawn)
        sizes = (self.student.settings.input_size, self._teacher.size)
        chips = [cut_chips(sample, sizes, np.random.default_rng(seed)) for sample, seed in drawn]
        own, others = (torch.cat(each).to(self._device) for each in zip(*chips, strict=True))
        with torch.no_grad():
            wanted = F.normalize(F.normalize(self._teacher.network(others)) - self.centre)
        labels = torch.tensor([self._labels[sample.person] for sample, _ in drawn], device=self._device)
        return own, wanted, labels, total

    def _step(self, chips: Tensor, wanted: Tensor, labels: Tensor, total: int) -> float:
        loss = self._wrapped(chips, wanted, labels) / total
        self._loop.step(loss * self._processes.world)  # gradients are averaged, and the step's is their sum
        return float(loss.detach())

    @property
    def averaged(self) -> Prepared:
        """The student with the weights' moving average, in eval mode."""
        return self._loop.averaged

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write all that the next epoch depends on."""
        self._loop.save(path, self._parts(), {"schema": CHECKPOINT, "history": self.history, **about})

    def load(self, path: Path, about: Mapping[str, Any]) -> None:
        """Resume from a checkpoint.

        Raises
        ------
        UsageError
            It was made with other arguments or inputs.
        """
        self.history = self._loop.load(path, self._parts(), {"schema": CHECKPOINT, **about})["history"]

    def _parts(self) -> dict[str, nn.Module]:
        return {"student": self.student, "head": self._head, "bridge": self._bridge}


@torch.inference_mode()
def centre_of(teacher: Extractor, samples: Sequence[Sample], *, most: int = 512) -> Tensor:
    """Return the mean of the teacher's embeddings of length 1, float32 [1, D], over the first ``most`` faces."""
    chips = (cut_chip(sample, 1, teacher.size).to(teacher.device) for sample in samples[:most])
    return torch.cat([F.normalize(teacher.network(chip)) for chip in chips]).mean(0, keepdim=True)


class HeldOutFaces:
    """Evaluate a student on faces of held-out people, against the teacher.

    Parameters
    ----------
    teacher
        Embeds them once.
    samples
        The faces.
    centre
        float32 [1, D], from `centre_of`: it is subtracted from what the student learns.
    """

    def __init__(self, teacher: Extractor, samples: Sequence[Sample], centre: Tensor) -> None:
        self._teacher, self._samples = teacher, samples
        people = np.array([sample.person for sample in samples])
        self._pairs = np.triu_indices(len(samples), 1)
        self._same = people[self._pairs[0]] == people[self._pairs[1]]
        taught = self._embed(teacher.network, 1, teacher.size)
        self._teacher_auc = self._auc(taught)
        self._wanted = F.normalize(taught - centre.cpu())

    @torch.inference_mode()
    def _embed(self, network: nn.Module, which: int, size: tuple[int, int], *, batch: int = 16) -> Tensor:
        """Embed the student's (0) or the teacher's (1) chips: float64 [N, D], of length 1."""
        given = []
        for start in range(0, len(self._samples), batch):
            chips = [cut_chip(sample, which, size) for sample in self._samples[start : start + batch]]
            given.append(F.normalize(network(torch.cat(chips).to(self._teacher.device)).double()).cpu())
        return torch.cat(given)

    def _auc(self, embeddings: Tensor) -> float | None:
        return area_under_roc((embeddings @ embeddings.T).numpy()[self._pairs], self._same)

    def measure(self, student: Prepared) -> dict[str, Any]:
        """Measure a student.

        Returns
        -------
        dict
            ``agreement``: mean cosine of student's and teacher's embeddings, the latter less the centre, None where
            their lengths differ; ``auc`` and ``teacher_auc``: area under the ROC curve of face verification, the
            probability that two faces of one person are closer than two of different people.
        """
        given = self._embed(student, 0, student.settings.input_size)
        alike = given.shape == self._wanted.shape
        return {
            "agreement": float((given * self._wanted).sum(1).mean()) if alike else None,
            "auc": self._auc(given),
            "teacher_auc": self._teacher_auc,
            "held_out_faces": len(self._samples),
        }
