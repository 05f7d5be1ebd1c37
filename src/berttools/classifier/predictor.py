"""What a tuned model says of texts, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from _toolio.errors import InputError
from berttools.classifier.inference import Judge
from berttools.classifier.model import Classifier
from berttools.texts.batches import encode
from berttools.texts.examples import Columns, Example, Row, to_example

_DECIMALS = 6
"""Of chances and scores: further digits depend on which texts are computed together."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of a text.

    Attributes
    ----------
    score
        The chance of the label, 0 to 1; of a regression the value.
    label
        The likeliest class; of a regression the value with all its digits, so that metrics of it are exact.
    scores
        The chance of every class; empty for a regression.
    cut
        Tokens at the text's end that the model has no room for.
    """

    score: float
    label: str | int | float
    scores: dict[str, float]
    cut: int


class Predictor:
    """Labels texts.

    Parameters
    ----------
    classifier
        A tuned model.
    device, half
        Where to compute, and whether in bfloat16.
    batch
        Texts at a time.
    longest
        Tokens that are looked at; None for all that the model can take.
    """

    def __init__(
        self, classifier: Classifier, device: torch.device, *, half: bool, batch: int, longest: int | None = None
    ) -> None:
        self._labels, self._tokenizer = classifier.labels, classifier.tokenizer
        self._judge, self._batch = Judge(classifier, device, half=half), batch
        self._longest = min(longest or classifier.longest, classifier.longest)

    def look(self, rows: Sequence[Row], columns: Columns) -> list[Prediction | InputError]:
        """Label rows, in their order; what cannot be used becomes an error."""
        found: dict[int, Prediction | InputError] = {}
        examples: dict[int, Example] = {}
        for place, row in enumerate(rows):
            try:
                examples[place] = to_example(row, columns, labelled=False)
            except InputError as error:
                found[place] = error
        if examples:
            texts = encode(self._tokenizer, list(examples.values()), most=self._longest)
            logits = self._judge.logits(texts, batch=self._batch).astype(np.float64)
            for (place, example), text, row_logits in zip(examples.items(), texts, logits, strict=True):
                found[place] = self._prediction(example, row_logits, text.cut)
        return [found[place] for place in range(len(rows))]

    def _prediction(self, example: Example, logits: np.ndarray, cut: int) -> Prediction | InputError:
        if not np.isfinite(logits).all():
            return InputError(f"{example.where}: the model gives no number for this text", kind="not-finite")
        if self._labels.regression:
            value = float(logits[0])
            return Prediction(round(value, _DECIMALS), value, {}, cut)
        chances = np.exp(logits - logits.max())
        chances /= chances.sum()
        best = int(logits.argmax())
        scores = {name: round(float(c), _DECIMALS) for name, c in zip(self._labels.names, chances, strict=True)}
        return Prediction(scores[self._labels.names[best]], self._labels.shown(best), scores, cut)
