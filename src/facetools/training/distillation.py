"""Training an extractor on photos of people, with another extractor as its teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from _toolio.compute.checkpoints import load_training, save_training
from _toolio.compute.threads import ordered
from _toolio.errors import ToolError
from facetools.extractors.extractor import Extractor
from facetools.extractors.files import Prepared
from facetools.metrics import area_under_roc
from facetools.training.samples import Sample, cut_chip, cut_chips

CHECKPOINT = "facetools.extractor-checkpoint/1"


class Trainer:
    """Trains a student to give the teacher's embeddings, and to tell the people apart.

    Each step draws faces, changes them, and shows teacher and student the same changed face (Beyer et al. 2021,
    arXiv 2106.05237, "function matching"). Minimises::

        mean_i [1 - cos(P s_i, t_i - m)] + w CE(scale cos(s_i, c_j), y_i)

    s student, t teacher embedding of length 1; m the mean of t over faces, which is most of it for some teachers (two
    people's embeddings by dlib have a cosine of 0.8 or so) and tells nobody from anybody; P the identity if both have
    one length, else learned; c_j a learned centre a person.

    Parameters
    ----------
    student
        To be trained, with its preparation.
    teacher
        Frozen.
    samples
        What to train on.
    epochs, batch, learning_rate
        One epoch shows each face once; ``learning_rate`` is the peak of AdamW's one-cycle schedule.
    identity_weight
        w.
    seed
        Decides initial weights, order and changes.
    device
        Where to compute.
    """

    def __init__(
        self,
        student: Prepared,
        teacher: Extractor,
        samples: Sequence[Sample],
        *,
        epochs: int,
        batch: int,
        learning_rate: float,
        identity_weight: float,
        seed: int,
        device: torch.device,
    ) -> None:
        self._teacher, self._samples = teacher, samples
        self.student = student.to(device).to(memory_format=torch.channels_last)
        self._epochs, self._batch, self._seed, self._device = epochs, min(batch, len(samples)), seed, device
        self._weight = identity_weight
        people = sorted({sample.person for sample in samples})
        self._labels = {person: number for number, person in enumerate(people)}
        student.requires_grad_(True)
        dimensions = self._measure()
        self._head = nn.Linear(dimensions, len(people), bias=False).to(device)
        self._bridge = nn.Linear(dimensions, teacher.dimensions, bias=False).to(device)
        if dimensions == teacher.dimensions:
            nn.init.eye_(self._bridge.weight)
            self._bridge.requires_grad_(False)
        trained = [p for part in (student, self._head, self._bridge) for p in part.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=1e-2)
        self._steps = len(samples) // self._batch
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, learning_rate, total_steps=max(6, self._steps * epochs + 1), pct_start=0.1
        )
        decay = torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)  # type: ignore[no-untyped-call]
        self._average = torch.optim.swa_utils.AveragedModel(student, multi_avg_fn=decay, use_buffers=True)
        self.centre = centre_of(teacher, samples)
        self.epoch = 0
        self.figures: dict[str, Any] = {}
        """What was measured after the last epoch; kept in checkpoints."""

    def _measure(self) -> int:
        self.student.eval()
        with torch.inference_mode():
            chip = torch.zeros(1, 3, *self.student.settings.input_size, device=self._device)
            return int(self.student(chip).shape[1])

    def rounds(self) -> Iterator[float]:
        """Train the epochs that are left; give each one's mean loss."""
        while self.epoch < self._epochs:
            self.student.train()
            # The next step's faces are cut, and shown to the teacher, while the student learns from this step's.
            steps = ordered(self._prepare, self._draw_steps(), workers=1)
            losses = [self._step(*shown) for shown in steps]
            if not np.isfinite(losses).all():
                raise ToolError("the loss is no number any more; try a lower --learning-rate", kind="diverged")
            self.epoch += 1
            yield float(np.mean(losses))

    def _draw_steps(self) -> Iterator[list[tuple[Sample, int]]]:
        """Draw the faces of each step of this epoch, with a seed each."""
        rng = np.random.default_rng([self._seed, self.epoch])
        order = rng.permutation(len(self._samples))
        for step in range(self._steps):
            chosen = order[step * self._batch : (step + 1) * self._batch]
            seeds = rng.integers(2**62, size=len(chosen))
            yield [(self._samples[i], int(seed)) for i, seed in zip(chosen, seeds, strict=True)]

    def _prepare(self, drawn: Sequence[tuple[Sample, int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Cut a step's faces: the student's chips, what it should give for them, and whose they are."""
        sizes = (self.student.settings.input_size, self._teacher.size)
        chips = [cut_chips(sample, sizes, np.random.default_rng(seed)) for sample, seed in drawn]
        own, others = (torch.cat(each).to(self._device) for each in zip(*chips, strict=True))
        with torch.no_grad():
            wanted = F.normalize(F.normalize(self._teacher.network(others)) - self.centre)
        return own, wanted, torch.tensor([self._labels[sample.person] for sample, _ in drawn], device=self._device)

    def _step(self, chips: Tensor, wanted: Tensor, labels: Tensor) -> float:
        given = F.normalize(self.student(chips))
        apart = 1 - (F.normalize(self._bridge(given)) * wanted).sum(1).mean()
        scores = 24.0 * given @ F.normalize(self._head.weight).T
        loss = apart + self._weight * F.cross_entropy(scores, labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self._optimizer.step()
        self._schedule.step()
        self._average.update_parameters(self.student)
        return float(loss.detach())

    @property
    def averaged(self) -> Prepared:
        """The student with the weights' moving average, in eval mode."""
        averaged = self._average.module
        assert isinstance(averaged, Prepared)
        return averaged.eval()

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write all that the next epoch depends on."""
        now = {"epoch": self.epoch, "figures": dict(self.figures), "step": self._schedule.last_epoch}
        save_training(path, self._parts(), self._optimizer, {"schema": CHECKPOINT, **now, **about})

    def _parts(self) -> dict[str, nn.Module]:
        return {"student": self.student, "average": self._average, "head": self._head, "bridge": self._bridge}

    def load(self, path: Path, about: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        UsageError
            It was made with other arguments or inputs.
        """
        about = {"schema": CHECKPOINT, **about}
        found = load_training(path, self._parts(), self._optimizer, self._schedule, about)
        self.epoch, self.figures = found["epoch"], found["figures"]


@torch.inference_mode()
def centre_of(teacher: Extractor, samples: Sequence[Sample], *, most: int = 512) -> Tensor:
    """Give the mean of the teacher's embeddings of length 1, float32 [1, D], over the first ``most`` faces."""
    chips = (cut_chip(sample, 1, teacher.size).to(teacher.device) for sample in samples[:most])
    return torch.cat([F.normalize(teacher.network(chip)) for chip in chips]).mean(0, keepdim=True)


class HeldOut:
    """Faces of people that are not trained on, as the teacher embeds them.

    Parameters
    ----------
    teacher
        Embeds them once.
    samples
        The faces.
    centre
        float32 [1, D]: what the student was taught to leave out, from ``centre_of``.
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
        """Give figures of a student.

        Returns
        -------
        dict
            ``agreement``: mean cosine of student's and teacher's embeddings, the latter less the centre, null where
            their lengths differ; ``auc`` and ``teacher_auc``: chance that two faces of one person are closer than
            two of different people.
        """
        given = self._embed(student, 0, student.settings.input_size)
        alike = given.shape == self._wanted.shape
        return {
            "agreement": float((given * self._wanted).sum(1).mean()) if alike else None,
            "auc": self._auc(given),
            "teacher_auc": self._teacher_auc,
            "held_out_faces": len(self._samples),
        }
