"""Predict labels and class probabilities of texts with a fine-tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from _toolio.compute.memory import Batch
from _toolio.errors import InputError
from berttools.classifier.inference import Inference
from berttools.classifier.model import Classifier
from berttools.texts.batches import Encoded, encode
from berttools.texts.examples import Example, to_example
from berttools.texts.rows import Columns, Row
from berttools.texts.thresholds import DECIMALS, probabilities


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's prediction for a text.

    Attributes
    ----------
    score
        The probability of the label, 0 to 1; of a regression the value, of multi-label data the largest probability.
    label
        The most probable class; of a regression the value with all its digits, so that metrics of it are exact. Of
        multi-label data the classes whose probability reaches their threshold, in the model's order.
    scores
        The probability of every class; empty for a regression.
    cut
        Tokens truncated at the text's end.
    """

    score: float
    label: str | int | float | list[str | int]
    scores: dict[str, float]
    cut: int


class Predictor:
    """Predicts labels of texts with one model.

    Parameters
    ----------
    classifier
        A fine-tuned model.
    device, half
        Where to compute, and whether in bfloat16.
    batch
        Texts a forward pass; fewer where memory runs out.
    longest
        Tokens a text, longer ones are truncated; None for as many as the model can take.
    """

    def __init__(
        self,
        classifier: Classifier,
        device: torch.device,
        *,
        half: bool,
        batch: int | Batch,
        longest: int | None = None,
    ) -> None:
        self._labels, self._tokenizer, self._limits = classifier.labels, classifier.tokenizer, classifier.limits
        self._inference, self._batch = Inference(classifier, device, half=half), Batch.of(batch)
        self._longest = min(longest or classifier.longest, classifier.longest)

    def predict(self, rows: Sequence[Row], columns: Columns) -> list[Prediction | InputError]:
        """Return a prediction for each row, in their order, or the error of one that cannot be used."""
        found: dict[int, Prediction | InputError] = {}
        examples: dict[int, Example] = {}
        for place, row in enumerate(rows):
            try:
                examples[place] = to_example(row, columns, labelled=False)
            except InputError as error:
                found[place] = error
        texts: dict[int, Encoded] = {}
        for place, text in zip(examples, self._encode(list(examples.values())), strict=True):
            try:
                self._limits.check(text, examples[place].where, self._tokenizer)
                texts[place] = text
            except InputError as error:
                found[place] = error
        if texts:
            logits = self._inference.logits(list(texts.values()), batch=self._batch).astype(np.float64)
            for (place, text), row_logits in zip(texts.items(), logits, strict=True):
                found[place] = self._prediction(examples[place], row_logits, text.cut)
        return [found[place] for place in range(len(rows))]

    def _encode(self, examples: Sequence[Example]) -> list[Encoded]:
        return encode(self._tokenizer, examples, most=self._longest)

    def _prediction(self, example: Example, logits: np.ndarray, cut: int) -> Prediction | InputError:
        if not np.isfinite(logits).all():
            return InputError(f"{example.where}: the model gives no number for this text", kind="not-finite")
        if self._labels.regression:
            value = float(logits[0])
            return Prediction(round(value, DECIMALS), value, {}, cut)
        if self._labels.multiple:
            chances = probabilities(logits)
            held = np.flatnonzero(self._inference.predictions(logits[None])[0])
            by_name = dict(zip(self._labels.names, chances.tolist(), strict=True))
            return Prediction(float(chances.max()), [self._labels.shown(int(n)) for n in held], by_name, cut)
        chances = np.exp(logits - logits.max())
        chances /= chances.sum()
        best = int(logits.argmax())
        scores = {name: round(float(p), DECIMALS) for name, p in zip(self._labels.names, chances, strict=True)}
        return Prediction(scores[self._labels.names[best]], self._labels.shown(best), scores, cut)
