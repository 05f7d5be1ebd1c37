"""A recogniser trained end to end: the whole extractor and a head, on one split's photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facetools.evaluation.classifiers.embedding_classifiers import Scores, Task, by_person, replace_person

if TYPE_CHECKING:
    from torch import Tensor, nn

    from facetools.extractors.extractor import Extractor

BATCH = 32

Chips = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, and how fast.

    Attributes
    ----------
    epochs
        Passes over the training photos.
    learning_rate
        Peak of AdamW's one-cycle schedule.
    seed
        Decides the order of photos and which are mirrored.
    """

    epochs: int = 5
    learning_rate: float = 1e-4
    seed: int = 0


class EndToEnd:
    """Fine-tunes the extractor and a softmax head (arXiv 2106.14851, section 3, "end-to-end"), cold each time.

    The task's rows are chips, uint8 [n, height, width, 3], and not embeddings. Each time the training begins with the
    untouched extractor, and with a head for which the nearest mean embedding wins.

    Parameters
    ----------
    task
        One split.
    extractor
        Where to begin.
    schedule
        How to train.
    """

    answers = 1

    def __init__(self, task: Task, extractor: Extractor, schedule: Schedule) -> None:
        self._task, self._extractor, self._schedule = task, extractor, schedule
        self._train, self._labels = by_person(task)

    def clean(self) -> Scores:
        """Train on everybody's clean photos, and score."""
        return self._fit(self._train, self._labels)

    def replaced(self, person: int, rows: Sequence[Chips]) -> Scores:
        """Train anew from the untouched extractor, with other photos of one person."""
        return self._fit(*replace_person(self._train, self._labels, person, rows[0]))

    def _fit(self, train: Chips, labels: npt.NDArray[np.int64]) -> Scores:
        import torch

        from facetools.training.heads import Softmax
        from facetools.training.robust import tunable

        present, numbers = np.unique(labels, return_inverse=True)
        targets = torch.from_numpy(numbers).to(self._extractor.device)
        network = tunable(self._extractor)
        head = Softmax(self._embed(network, train), targets, len(present))
        self._tune(network, head, train, targets)
        with torch.no_grad():
            given = head.scores(self._embed(network, self._task.test)).double().cpu().numpy()
        scores = np.full((len(self._task.test), self._task.people), np.inf)
        scores[:, present] = -given
        return scores

    def _tune(self, network: nn.Module, head: nn.Module, chips: Chips, targets: Tensor) -> None:
        import torch

        schedule, parameters = self._schedule, [*network.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=1e-4)
        steps = -(-len(chips) // BATCH)
        rates = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, schedule.learning_rate, total_steps=max(6, steps * schedule.epochs + 1), pct_start=0.1
        )
        rng = np.random.default_rng(schedule.seed)
        for _ in range(schedule.epochs):
            for chosen in np.array_split(rng.permutation(len(chips)), steps):
                mirrored = rng.random(len(chosen)) < 0.5
                shown = np.where(mirrored[:, None, None, None], chips[chosen, :, ::-1], chips[chosen])
                loss = head(network(self._tensor(shown)), targets[torch.from_numpy(chosen)]).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 5.0)
                optimizer.step()
                rates.step()

    def _tensor(self, chips: Chips) -> Tensor:
        import torch

        return torch.from_numpy(np.ascontiguousarray(chips)).to(self._extractor.device).permute(0, 3, 1, 2) / 255

    def _embed(self, network: nn.Module, chips: Chips) -> Tensor:
        import torch

        starts = range(0, len(chips), BATCH)
        with torch.no_grad():
            return torch.cat([network(self._tensor(chips[start : start + BATCH])).float() for start in starts])
