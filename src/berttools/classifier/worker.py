"""Predict labels of windows of rows, as the work of one process among others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from _toolio.compute.device import enough_memory, pick_device
from _toolio.compute.memory import Batch
from _toolio.errors import InputError, param
from _toolio.streams.records import has_failed
from berttools.checkpoints.model_folder import silent_transformers
from berttools.classifier.masked import predictor_of
from berttools.classifier.predictor import Prediction
from berttools.texts.rows import Columns, Row

Window = Sequence[Row]
Predicted = tuple[Window, list[Prediction | InputError]]
"""A window of rows, and what is predicted for those of them that have no error of an earlier command."""


class PredictionWorker:
    """Predict labels of rows, a window at a time: its texts are batched by length.

    Parameters
    ----------
    folder, masks
        As `predictor_of` takes them.
    columns
        The roles of the rows' fields.
    half
        Whether to compute in bfloat16.
    batch
        Texts a forward pass; fewer where memory runs out.
    longest
        Tokens a text, longer ones are truncated; None for as many as the model can take.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    threads, per_call = 0, 1

    def __init__(
        self,
        folder: Path,
        masks: Mapping[str, Path],
        columns: Columns,
        half: bool,
        batch: int,
        longest: int | None,
        device: str,
    ) -> None:
        self.device, self.at_once, self._columns = pick_device(device), Batch(batch), columns
        self._predictor = predictor_of(folder, masks, self.device, half=half, batch=self.at_once, longest=longest)

    def __call__(self, windows: Sequence[Window]) -> Iterator[Predicted]:
        """Yield each window with its predictions."""
        less = f"a smaller {param('batch')}, or a smaller {param('max_length')}"
        for window in windows:
            with silent_transformers(), enough_memory(self.device, less):
                found = self._predictor.predict([row for row in window if not has_failed(row.fields)], self._columns)
            yield window, found
