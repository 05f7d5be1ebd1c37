"""Training an extractor on photos of people, with another extractor as its teacher."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from _toolio.errors import ToolError, UsageError
from _toolio.journal import sha256_of
from _toolio.parallel import ordered
from _toolio.tensors import read_metadata, write_safetensors
from _toolio.torch_files import read_tensors
from facetools.extractor_files import Prepared
from facetools.extractors import Extractor, Settings
from facetools.faces.alignment import ChipCutter, Points, chip_corners, chip_matrix
from facetools.intake import Intake
from facetools.metrics import area_under_roc
from facetools.people import is_held_out, lot_of, person_of
from facetools.photos import Pixels, as_tensor

CHECKPOINT = "facetools.extractor-checkpoint/1"

ROOM = 0.2
"""Room around the chips that is kept of a photo for jitter, in sides of the chips' common rectangle."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One face for training.

    Attributes
    ----------
    source
        The photo's path below its folder and the sha256 of its bytes.
    person
        Whose face it is.
    pixels
        uint8 [h, w, 3], the part of the photo around the face.
    matrices
        [2, 3] each: pixels of the student's and of the teacher's chip to those of ``pixels``.
    """

    source: str
    person: str
    pixels: Pixels
    matrices: tuple[Points, Points]


def make_sample(intake: Intake, settings: Settings, teacher: Extractor) -> Sample | None:
    """Cut a sample from a photo's largest face; None if there is none."""
    if not intake.faces:
        return None
    pixels, face = intake.photo.pixels, intake.faces[0]
    height, width = pixels.shape[:2]
    sizes = (settings.input_size, teacher.size)
    alignments = (settings.alignment, teacher.alignment)
    matrices = [chip_matrix(face, (height, width), a, s) for a, s in zip(alignments, sizes, strict=True)]
    corners = np.concatenate([chip_corners(m, s) for m, s in zip(matrices, sizes, strict=True)])
    low, high = corners.min(0), corners.max(0)
    room = ROOM * float((high - low).max())
    left, top = (int(np.clip(v - room, 0, side - 1)) for v, side in zip(low, (width, height), strict=True))
    right, bottom = (int(np.clip(v + room, 1, side)) for v, side in zip(high, (width, height), strict=True))
    if right - left < 16 or bottom - top < 16:
        return None
    for matrix in matrices:
        matrix[:, 2] -= (left, top)
    part = pixels[top:bottom, left:right].copy()
    relative = intake.item.relative
    source = f"{relative} {sha256_of(intake.data)}"
    return Sample(source, person_of(relative), part, (matrices[0], matrices[1]))


def split(samples: Sequence[Sample], *, seed: int, share: float) -> tuple[list[Sample], list[Sample]]:
    """Split samples by person into those to train on and those held out, two people each at least.

    Raises
    ------
    ToolError
        There are fewer than four people.
    """
    people = {sample.person for sample in samples}
    if len(people) < 4:
        raise ToolError(f"{len(people)} people have a face; two to train on and two to hold out are the least")
    by_lot = sorted(people, key=lambda person: lot_of(person, seed))
    drawn = sum(is_held_out(person, seed, share) for person in people)
    # Of few people the lot may give one part none.
    held = set(by_lot[: min(max(2, drawn), len(people) - 2)])
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    for sample in samples:
        parts[sample.person in held].append(sample)
    return parts


def _jitter(sample: Sample, rng: np.random.Generator) -> list[Points]:
    """Turn, scale and shift both chips alike, as if the finder had placed the landmarks a little otherwise."""
    angle, scale = rng.normal(0, 0.05), math.exp(rng.normal(0, 0.04))
    matrix = sample.matrices[0]
    side = float(np.hypot(*matrix[:, 0])) * 112
    shift = rng.normal(0, 0.015 * side, 2)
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = np.array([sample.pixels.shape[1], sample.pixels.shape[0]]) / 2
    moved = []
    for each in sample.matrices:
        linear = turn @ each[:, :2]
        moved.append(np.column_stack([linear, turn @ (each[:, 2] - middle) + middle + shift]))
    return moved


def _tone(photo: Tensor, rng: np.random.Generator) -> Tensor:
    """Change light, colour and sharpness of float32 [1, 3, h, w] in [0, 1]."""
    if rng.random() < 0.5:
        photo = photo.clamp(0, 1) ** float(rng.uniform(0.7, 1.5))
        photo = (photo - 0.5) * float(rng.uniform(0.7, 1.3)) + 0.5 + float(rng.uniform(-0.1, 0.1))
    if rng.random() < 0.1:
        photo = photo.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    if rng.random() < 0.2:
        size = photo.shape[-2:]
        factor = float(rng.uniform(0.35, 0.9))
        small = [max(8, round(side * factor)) for side in size]
        photo = F.interpolate(photo, small, mode="bilinear", antialias=True, align_corners=False)
        photo = F.interpolate(photo, size, mode="bilinear", align_corners=False)
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(0.002, 0.03), tuple(photo.shape)).astype(np.float32)
        photo = photo + torch.from_numpy(noise)
    return photo.clamp(0, 1)


def cut_chips(sample: Sample, sizes: Sequence[tuple[int, int]], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Cut both chips of a sample, float32 [1, 3, h, w] each, changed by the same draws."""
    matrices, photo = _jitter(sample, rng), _tone(as_tensor(sample.pixels), rng)
    if rng.random() < 0.5:
        photo = photo.flip(3)
        mirror = np.array([[-1.0], [1.0]])
        # Mirror in the photo, then in the chip, so that the chip is again a face looking the other way.
        width = photo.shape[3]
        matrices = [_mirrored(matrix * mirror, width, size[1]) for matrix, size in zip(matrices, sizes, strict=True)]
    chips = [_cut(photo, matrix, size) for matrix, size in zip(matrices, sizes, strict=True)]
    return chips[0], chips[1]


def cut_chip(sample: Sample, which: int, size: tuple[int, int]) -> Tensor:
    """Cut the student's (0) or the teacher's (1) chip of a sample as it is, float32 [1, 3, h, w]."""
    return _cut(as_tensor(sample.pixels), sample.matrices[which], size)


def _cut(photo: Tensor, matrix: Points, size: tuple[int, int]) -> Tensor:
    return ChipCutter(matrix, size, (photo.shape[2], photo.shape[3]), photo.device)(photo)


def _mirrored(matrix: Points, photo_width: int, chip_width: int) -> Points:
    """Complete a mirrored matrix: photo x becomes width - 1 - x, and so does chip x."""
    matrix = matrix.copy()
    matrix[0, 2] += photo_width - 1
    matrix[:, 2] += matrix[:, 0] * (chip_width - 1)
    matrix[:, 0] *= -1
    return matrix


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
        tensors: dict[str, npt.NDArray[Any]] = {}
        for name, part in self._parts().items():
            tensors |= {f"{name}.{key}": value.cpu().numpy() for key, value in part.state_dict().items()}
        for number, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{key}": value.cpu().numpy() for key, value in slots.items()}
        made = {
            "schema": CHECKPOINT,
            "epoch": self.epoch,
            "figures": dict(self.figures),
            "step": self._schedule.last_epoch,
            **about,
        }
        write_safetensors(path, tensors, made)

    def _parts(self) -> dict[str, nn.Module]:
        return {"student": self.student, "average": self._average, "head": self._head, "bridge": self._bridge}

    def load(self, path: Path, about: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        UsageError
            It was made with other arguments or inputs.
        """
        found = read_metadata(path)
        if found.get("schema") != CHECKPOINT:
            raise UsageError(f"{path}: not a checkpoint of this command; remove it, or leave out --resume")
        for key, value in about.items():
            if found.get(key) != value:
                raise UsageError(f"{path}: made with other {key}; remove it, or leave out --resume")
        tensors = read_tensors(path)
        for name, part in self._parts().items():
            part.load_state_dict(
                {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
            )
        state = self._optimizer.state_dict()
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, number, slot = key.split(".")
                state["state"].setdefault(int(number), {})[slot] = value
        self.epoch, self.figures = found["epoch"], found["figures"]
        for _ in range(found["step"]):
            self._schedule.step()
        # The schedule has set the learning rate and momentum; only the moments come from the file.
        state["param_groups"] = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict(state)


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
