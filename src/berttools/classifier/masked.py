"""Serve many masks over one base in memory, switching from task to task without loading a model.

A task has its own head and mask, one bit a weight. The masked matrices are shared: a switch overwrites them with the
base's, from its memory-mapped files, times the mask. On a GPU a copy of the base's is kept there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from _toolio.compute.memory import Batch
from _toolio.errors import InputError, ToolError, of_the_whole_run
from _toolio.tensors.reader import FlatTensor
from berttools.checkpoints.files import Checkpoint, open_checkpoint
from berttools.checkpoints.names import base_names
from berttools.classifier.head import labels_of
from berttools.classifier.model import Classifier, open_base, open_model
from berttools.classifier.predictor import Prediction, Predictor
from berttools.kernels.available import kernels_for
from berttools.masks.base import check_base
from berttools.masks.coding import unpack
from berttools.masks.file import Mask, open_mask
from berttools.masks.task_config import label_fields, model_config, unfit_tensor
from berttools.texts.labels import Labels
from berttools.texts.rows import Columns, Row

_CHUNK = 1 << 18  # entries; whole bytes of bits


@dataclass(slots=True)
class _MaskedTask:
    """One mask: its model, whose encoder is shared, and its packed bits by parameter name."""

    classifier: Classifier
    bits: dict[str, NDArray[np.uint8]]


class MaskedModels:
    """Masked models of one base, one of which at a time is ready to use.

    Parameters
    ----------
    base
        The base's folder.
    masks
        Task to mask file. Every mask must be of that base.

    Raises
    ------
    ToolError
        If a file is no mask, or one of another base or architecture.
    """

    def __init__(self, base: Path, masks: Mapping[str, Path]) -> None:
        self._base = open_checkpoint(base)
        self._tasks: dict[str, _MaskedTask] = {}
        self._current: str | None = None
        self._other_than_base: set[str] = set()
        self._held: dict[str, torch.Tensor] = {}
        opened = {task: open_mask(path) for task, path in masks.items()}
        labels = {task: _labels(mask, self._base) for task, mask in opened.items()}
        first = open_base(base, next(iter(labels.values()))[0])
        self._shared = dict(first.model.named_parameters())
        shapes = {name: tuple(parameter.shape) for name, parameter in self._shared.items()}
        self._stored = base_names(self._base, shapes)
        digests: dict[str, str] = {}
        for task, mask in opened.items():
            with of_the_whole_run():
                check_base(mask.fingerprint, self._base, digests)
                self._tasks[task] = _MaskedTask(self._classifier(first, mask, *labels[task]), self._bits(mask))

    @property
    def tasks(self) -> list[str]:
        """Every task, in the order of ``masks``."""
        return list(self._tasks)

    def _classifier(self, first: Classifier, mask: Mask, labels: Labels, fields: Mapping[str, Any]) -> Classifier:
        """Return a model that shares with the first one all parameters that its mask file does not hold dense."""
        if lacking := sorted(mask.shapes.keys() - (self._shared.keys() & self._stored.keys())):
            raise ToolError(f"{mask.path}: a model of {self._base.path} has no {lacking[0]}", kind="other-base")
        own = dict(mask.dense)
        for name in sorted(first.new - own.keys()):  # drawn at random there: a head that the task took from the base
            if name not in self._stored:
                raise ToolError(f"{mask.path}: neither it nor {self._base.path} has {name}", kind="bad-mask")
            own[name] = self._values(name)
        self._check_shapes(first, mask, fields, own)
        shared = {id(each): each for name, each in self._shared.items() if name not in own}
        model = copy.deepcopy(first.model, shared)
        for name, array in own.items():
            module, _, leaf = name.rpartition(".")
            tensor = torch.from_numpy(array.astype(np.float32))
            setattr(model.get_submodule(module), leaf, nn.Parameter(tensor, requires_grad=False))
        _with_labels(model.config, fields)
        model.num_labels = model.config.num_labels
        return Classifier(model.eval(), first.tokenizer, labels, frozenset(), first.limits)

    def _check_shapes(
        self, first: Classifier, mask: Mask, fields: Mapping[str, Any], own: Mapping[str, NDArray[Any]]
    ) -> None:
        """Raise if a mask file's dense tensors are not those of a model with its labels."""
        config = _with_labels(copy.deepcopy(first.model.config), fields)
        with torch.device("meta"):
            wanted = {name: tuple(each.shape) for name, each in type(first.model)(config).named_parameters()}
        for name in sorted({*own, *wanted}):
            found = own[name].shape if name in own else tuple(self._shared[name].shape)
            if found != wanted.get(name):
                raise unfit_tensor(mask.path, self._base.path, len(fields["id2label"]), name, found)

    def _values(self, name: str) -> NDArray[Any]:
        stored = self._stored[name]
        return self._base.flat(stored).values(0, self._base.tensors[stored].size).reshape(self._shared[name].shape)

    def _bits(self, mask: Mask) -> dict[str, NDArray[np.uint8]]:
        return {name: mask.bits(name, self._base.flat(self._stored[name])) for name in mask.names}

    def classifier(self, task: str) -> Classifier:
        """Return a task's model; its shared weights are the task's only after ``switch(task)``."""
        return self._tasks[task].classifier

    def switch(self, task: str) -> Classifier:
        """Write a task's masked weights into the shared model, and return the task's model."""
        after = self._tasks[task].bits
        if task != self._current:
            self._current = None  # an interrupted switch is made again
            self._other_than_base |= after.keys()
            for name in sorted(self._other_than_base):
                self._write(name, after.get(name))
            self._other_than_base, self._current = set(after), task
        return self.classifier(task)

    @torch.no_grad()
    def _write(self, name: str, bits: NDArray[np.uint8] | None) -> None:
        """Write a matrix of the base, times its mask if it has one, into the shared model."""
        tensor = self._shared[name].data
        if bits is not None and (kernels := kernels_for(tensor)) is not None:
            kernels.masked_copy(self._there(name, tensor.device), torch.from_numpy(bits).to(tensor.device), tensor)
        elif tensor.device.type != "cpu":
            there = self._there(name, tensor.device)
            if bits is not None:
                stays = torch.from_numpy(unpack(bits, 0, tensor.numel())).to(tensor.device).view_as(tensor)
                there = torch.where(stays, there, 0.0)
            tensor.copy_(there)
        else:
            self._write_here(self._base.flat(self._stored[name]), bits, tensor.view(-1).numpy().view(np.uint32))

    def _there(self, name: str, device: torch.device) -> torch.Tensor:
        """Return a matrix of the base on an accelerator, where it is kept."""
        if name not in self._held:
            self._held[name] = torch.from_numpy(self._values(name).astype(np.float32)).to(device)
        return self._held[name]

    @staticmethod
    def _write_here(flat: FlatTensor, bits: NDArray[np.uint8] | None, target: NDArray[np.uint32]) -> None:
        for start in range(0, target.size, _CHUNK):
            stop = min(start + _CHUNK, target.size)
            values = flat.values(start, stop).astype(np.float32, copy=False).view(np.uint32)
            if bits is None:
                target[start:stop] = values
            else:
                np.multiply(values, unpack(bits, start, stop), out=target[start:stop])


def _with_labels(config: Any, fields: Mapping[str, Any]) -> Any:
    for key, value in fields.items():
        setattr(config, key, value)
    return config


def _labels(mask: Mask, base: Checkpoint) -> tuple[Labels, dict[str, Any]]:
    """Return a task's labels, as in the folder that apply-mask writes, and the fields of its configuration."""
    config = model_config(base.config, mask.task_config, mask=mask.path, folder=base.path)
    fields = label_fields(config)
    count = len(fields["id2label"])
    return labels_of(SimpleNamespace(**fields, num_labels=count, _name_or_path=mask.path)), fields


class TaskPredictor:
    """Predicts labels of rows, each with the model of its task.

    Parameters
    ----------
    models
        The masked models.
    device, half, batch, longest
        As of `Predictor`.
    """

    def __init__(
        self, models: MaskedModels, device: torch.device, *, half: bool, batch: int | Batch, longest: int | None = None
    ) -> None:
        self._models = models
        self._predictors = {
            task: Predictor(models.classifier(task), device, half=half, batch=batch, longest=longest)
            for task in models.tasks
        }

    def predict(self, rows: Sequence[Row], columns: Columns) -> list[Prediction | InputError]:
        """Return a prediction or an error for each row, in their order, switching once a task."""
        found: dict[int, Prediction | InputError] = {}
        places: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            try:
                places.setdefault(self._task(row), []).append(place)
            except InputError as error:
                found[place] = error
        for task, some in places.items():
            self._models.switch(task)
            predictions = self._predictors[task].predict([rows[place] for place in some], columns)
            found.update(zip(some, predictions, strict=True))
        return [found[place] for place in range(len(rows))]

    def _task(self, row: Row) -> str:
        """Return the task of a row; a row without one is of the only mask's."""
        if row.error is not None:
            raise row.error
        task, known = row.fields.get("task"), self._models.tasks
        if task is None or task == "":
            if len(known) > 1:
                raise InputError(f"{row.where}: has no task; give it one of {', '.join(known)}", kind="unknown-task")
            return known[0]
        if isinstance(task, str) and task in self._predictors:
            return task
        raise InputError(f"{row.where}: task {task!r:.80} is none of {', '.join(known)}", kind="unknown-task")


def predictor_of(
    folder: Path,
    masks: Mapping[str, Path],
    device: torch.device,
    *,
    half: bool,
    batch: int | Batch,
    longest: int | None = None,
) -> Predictor | TaskPredictor:
    """Open a model, or a base and masks, to predict with.

    Parameters
    ----------
    folder
        A fine-tuned model; with ``masks`` their base.
    masks
        Task to mask file; empty for a model.
    device, half, batch, longest
        As of ``Predictor``.
    """
    if masks:
        return TaskPredictor(MaskedModels(folder, masks), device, half=half, batch=batch, longest=longest)
    return Predictor(open_model(folder), device, half=half, batch=batch, longest=longest)
