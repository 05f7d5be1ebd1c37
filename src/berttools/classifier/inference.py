"""Predict logits of tokenised texts, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from _toolio.compute.memory import Batch
from _toolio.errors import ToolError
from berttools.classifier.losses import task_loss
from berttools.classifier.model import Classifier
from berttools.texts.batches import Dataset, Encoded, collate
from berttools.texts.chance import chance_levels
from berttools.texts.metrics import measure
from berttools.texts.thresholds import DEFAULT, choose_thresholds, probabilities


class Inference:
    """Predicts logits with a model, and measures them against targets.

    Parameters
    ----------
    classifier
        The model and its labels; the model is moved to ``device``.
    device, half
        Where to compute, and whether in bfloat16 (autocast).

    Raises
    ------
    ToolError
        If the model has more outputs than its labels are for: a regression of several values.
    """

    def __init__(self, classifier: Classifier, device: torch.device, *, half: bool = False) -> None:
        self.model: nn.Module = classifier.model.to(device)
        self.labels = classifier.labels
        self.classes, outputs = len(self.labels.names), classifier.model.config.num_labels
        if outputs != (self.classes or 1):
            raise ToolError(
                f"{classifier.model.config._name_or_path}: gives {outputs} numbers a text (num_labels), of which"
                f" {self.classes or 1} would be used; no such model is known here",
                kind="bad-labels",
            )
        # The configuration's padding token, not the tokenizer's: positions, and where a text ends, are counted by it.
        self._pad, self._device, self._half = int(classifier.model.config.pad_token_id), device, half
        self._ends, self._left = classifier.limits.ends, classifier.limits.left
        self._left_out = () if classifier.limits.takes_types else ("token_type_ids",)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context that computes in bfloat16 if ``half`` was set."""
        return torch.autocast(self._device.type, torch.bfloat16) if self._half else nullcontext()

    def forward(self, model: nn.Module, texts: Sequence[Encoded], *, length: int | None = None) -> Tensor:
        """Return logits, [texts, outputs]; texts are padded to ``length`` tokens, by default those of the longest."""
        logits: Tensor = self.outputs(model, texts, length=length).logits
        return logits

    def outputs(self, model: nn.Module, texts: Sequence[Encoded], *, length: int | None = None, **options: bool) -> Any:
        """Return all that a model gives for texts, as ``forward``; ``options`` are such as ``output_hidden_states``."""
        inputs = collate(texts, self._pad, self._device, length=length, left=self._left)
        with self.autocast():
            return model(**{name: each for name, each in inputs.items() if name not in self._left_out}, **options)

    @torch.inference_mode()
    def logits(self, texts: Sequence[Encoded], *, batch: int | Batch = 32) -> npt.NDArray[np.float32]:
        """Return logits of texts in their order, float32 [n, outputs]; the model is in eval mode meanwhile.

        Where memory runs out, ``batch`` texts a forward pass become fewer.
        """
        size = Batch.of(batch)
        was_training = self.model.training
        self.model.eval()
        order = sorted(range(len(texts)), key=lambda i: (self._ends(texts[i]), -len(texts[i])))
        found: list[Tensor] = []
        for _, alike in groupby(order, key=lambda i: self._ends(texts[i])):
            found += size.map(
                lambda some: self.forward(self.model, [texts[i] for i in some]).float().cpu(), list(alike)
            )
        self.model.train(was_training)
        sorted_logits = torch.cat(found).numpy()
        logits = np.empty_like(sorted_logits)
        logits[order] = sorted_logits
        return logits

    def predictions(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the class indices, or values, that logits predict, [n]; of multi-label data 0 or 1, [n, classes]."""
        if self.labels.multiple:
            return self._above(probabilities(logits), self.labels.thresholds)
        return (logits.argmax(1) if self.classes else logits[:, 0]).astype(np.float64)

    @staticmethod
    def _above(chances: npt.NDArray[np.float64], thresholds: Sequence[float]) -> npt.NDArray[np.float64]:
        return (chances >= (thresholds or DEFAULT)).astype(np.float64)

    def measure(self, data: Dataset) -> dict[str, Any]:
        """Return every metric of the task by name, and ``loss``, the mean over examples.

        Also returned are ``chance``, the chance level of every metric, and where every text gets one label, or one list
        of labels, that label as ``one_label``.

        Of multi-label data thresholds are chosen on ``data`` first; also returned are ``label_thresholds``, by class,
        and ``at_half``, every metric with a threshold of 0.5.
        """
        logits = self.logits(data.texts)
        loss = float(task_loss(torch.from_numpy(logits), torch.from_numpy(data.targets), self.classes))
        found: dict[str, Any] = {"loss": loss / len(data.texts), "chance": chance_levels(data.targets, self.classes)}
        if not self.labels.multiple:
            return {**self._measured(data, self.predictions(logits)), **found}
        chances = probabilities(logits)
        thresholds = choose_thresholds(chances, data.targets)
        found["at_half"] = measure(data.targets, self._above(chances, ()), self.classes)
        found["label_thresholds"] = dict(zip(self.labels.names, thresholds, strict=True))
        return {**self._measured(data, self._above(chances, thresholds)), **found}

    def _measured(self, data: Dataset, predicted: npt.NDArray[np.float64]) -> dict[str, Any]:
        """Return every metric, and ``one_label`` where there is one."""
        found: dict[str, Any] = measure(data.targets, predicted, self.classes)
        if not self.classes or (predicted != predicted[0]).any():
            return found
        if self.labels.multiple:
            return {**found, "one_label": [self.labels.shown(int(n)) for n in np.flatnonzero(predicted[0])]}
        return {**found, "one_label": self.labels.shown(int(predicted[0]))}
