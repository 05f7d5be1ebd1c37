"""Recognisers trained end to end: the whole extractor with a softmax head, on the photos of one split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facetools.evaluation.classifiers.embedding_classifiers import Scores, Task, by_person, replace_person

if TYPE_CHECKING:
    from torch import Tensor, nn

    from facetools.extractors.extractor import Extractor
    from facetools.training.loop import TrainingConfig

BATCH = 32
"""Faces a step."""

Chips = npt.NDArray[Any]


class EndToEnd:
    """Fine-tune the extractor and a softmax head (arXiv 2106.14851, section 3, "end-to-end"), from scratch each time.

    The task's rows are chips, uint8 [n, height, width, 3], and not embeddings. Each training starts from the untouched
    extractor, with a head initialised as the nearest-mean classifier.

    Parameters
    ----------
    task
        One split.
    extractor
        The extractor to start from.
    config
        How to train.
    """

    answers = 1

    def __init__(self, task: Task, extractor: Extractor, config: TrainingConfig) -> None:
        self._task, self._extractor, self._config = task, extractor, config
        self._train, self._labels = by_person(task)

    def clean(self) -> Scores:
        """Train on everybody's clean photos; return the scores."""
        return self._fit(self._train, self._labels)

    def replaced(self, person: int, rows: Sequence[Chips]) -> Scores:
        """Train again from the untouched extractor, with other photos of one person; return the scores."""
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

        from facetools.training.loop import TrainingLoop

        config, parameters = self._config, [*network.parameters(), *head.parameters()]
        steps = -(-len(chips) // config.batch)
        loop: TrainingLoop[nn.Module] = TrainingLoop(config, parameters, steps=steps, weight_decay=1e-4)
        rng = np.random.default_rng(config.seed)

        def batches() -> Iterator[tuple[Chips, Chips]]:
            for chosen in np.array_split(rng.permutation(len(chips)), loop.steps):
                mirrored = rng.random(len(chosen)) < 0.5
                yield chosen, np.where(mirrored[:, None, None, None], chips[chosen, :, ::-1], chips[chosen])

        def step(batch: tuple[Chips, Chips]) -> float:
            chosen, shown = batch
            loss = head(network(self._tensor(shown)), targets[torch.from_numpy(chosen)]).mean()
            loop.step(loss)
            return float(loss.detach())

        for _ in loop.run(batches, step):
            pass

    def _tensor(self, chips: Chips) -> Tensor:
        import torch

        return torch.from_numpy(np.ascontiguousarray(chips)).to(self._extractor.device).permute(0, 3, 1, 2) / 255

    def _embed(self, network: nn.Module, chips: Chips) -> Tensor:
        import torch

        starts = range(0, len(chips), BATCH)
        with torch.no_grad():
            return torch.cat([network(self._tensor(chips[start : start + BATCH])).float() for start in starts])
