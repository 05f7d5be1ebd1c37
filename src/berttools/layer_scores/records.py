"""Score matrices, from a base and texts to records."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from _toolio.errors import ToolError, spelled
from _toolio.progress import Progress, no_progress
from _toolio.streams.records import Record
from berttools.checkpoints.files import Checkpoint, open_checkpoint
from berttools.checkpoints.matrix_parts import MatrixPart
from berttools.layer_scores.config import Criterion, ScoreConfig
from berttools.layer_scores.matrices import cut, ranked_matrices

if TYPE_CHECKING:
    import torch

    from berttools.classifier.inference import Inference
    from berttools.texts.batches import Dataset

FIT_BATCH, FIT_RATE = 16, 1e-3
"""Texts a step and peak learning rate of a head that is fitted first."""

Values = Sequence[float | None]


def score_layers(
    config: ScoreConfig,
    *,
    device: torch.device | None = None,
    progress: Progress = no_progress,
    warn: Callable[[str], object] = warnings.warn,
) -> Iterator[Record]:
    """Score every matrix of a base that has a group, before any tuning.

    Gradients are of the loss of a head, and a base has none for a new task: it is drawn with ``seed``, as ``finetune``
    draws it, unless the base's own is kept. What it says of the texts is near chance, and gradients below it are a
    random mixture of the classes' directions; ``fit_head`` tunes it first, the encoder frozen.

    Parameters
    ----------
    config
        The criterion, the base, and the texts.
    device
        Where to compute; None for a GPU if there is one. ``lift`` computes on the CPU.
    progress, warn
        Show how many passes are done; called with warnings of one line.

    Yields
    ------
    dict
        A record a matrix, in the order of the files: ``score`` (0 to 1, larger ranks higher), ``name``, ``layer``,
        ``group``, ``shape``, ``by``, ``value``, and what ``berttools score-layers`` describes.

    Raises
    ------
    UsageError, ToolError
        As of ``ScoreConfig.check``; if texts or base cannot be used; if a gradient is NaN or infinite.
    """
    config.check()
    base = open_checkpoint(config.base)
    parts = ranked_matrices(base)
    values: Values
    about: Record = {}
    if config.by is Criterion.lift:
        values = _of_weights(base, parts)
    else:
        values, about = _OnTexts(config, base, parts, device, warn).values(progress)
    for part, value, score in zip(parts, values, _scores(config.by, values), strict=True):
        record: Record = {"score": score, "name": part.name}
        record |= {"stack": part.stack} if part.stack else {}
        record |= {"layer": part.layer, "group": part.group, "shape": part.shape(base.tensors[str(part.name)].shape)}
        record |= {"by": config.by.value, "value": value}
        record |= {"part": dict(zip(("axis", "start", "stop"), part.part, strict=True))} if part.part else {}
        record |= {"reason": "is no parameter of the model as transformers opens it"} if value is None else {}
        yield record | about


def _scores(by: Criterion, values: Values) -> Values:
    """Return values as numbers of 0 to 1 in the same order, which fixed-point notation can rank.

    Of Fisher information and gradients a value's share of the sum of all, which may be as small as 1e-12; of a cosine
    (1 + c) / 2; of LIFT, a share, the value itself.
    """
    if by is Criterion.cosine:
        return [None if value is None else (1 + value) / 2 for value in values]
    total = sum(value for value in values if value is not None) if by.of_gradients else 1.0
    return [None if value is None else value / (total or 1.0) for value in values]


def _of_weights(base: Checkpoint, parts: Sequence[MatrixPart]) -> Values:
    """Return LIFT's shares, of the weights as the files hold them."""
    from berttools.checkpoints.quantized import with_scales
    from berttools.layer_scores.principal_weights import principal_shares

    readable = with_scales(base)

    def matrices() -> Iterator[Any]:
        for part in parts:
            shape = base.tensors[str(part.name)].shape
            flat = readable.flat(str(part.name))
            matrix = np.array(flat.values(0, shape[0] * shape[1]), np.float32).reshape(shape)
            flat.release(0, matrix.size)
            if not np.isfinite(matrix).all():
                raise ToolError(f"{base.path}: {part.name} has NaN or infinite values", kind="not-finite")
            yield cut(matrix, part)

    return principal_shares(matrices())


class _OnTexts:
    """What a criterion needs of texts: the classifier, tokenised texts, and the parameters that matrices are of."""

    def __init__(
        self,
        config: ScoreConfig,
        base: Checkpoint,
        parts: Sequence[MatrixPart],
        device: torch.device | None,
        warn: Callable[[str], object],
    ) -> None:
        from _toolio.compute.device import pick_device
        from berttools.checkpoints.names import base_names
        from berttools.tuning.datasets import open_classifier, read_texts, tokenised

        self._config, self._parts = config, parts
        self._device = pick_device("auto") if device is None else device
        every, _ = read_texts(str(config.train), None, config.columns, task=config.task)
        self.classifier, source = open_classifier(config, every, warn=lambda text: warn(spelled(text)))
        # Which texts: the first of a permutation that the seed decides, in the order of the file.
        drawn = sorted(np.random.default_rng(config.seed).permutation(len(every))[: config.texts])
        examples = [every[number] for number in drawn]
        self.data: Dataset = tokenised(examples, self.classifier, longest=config.max_length, source=source)
        self.classifier.limits.check_alike(self.data.texts, examples)
        named = dict(self.classifier.model.named_parameters())
        stored = base_names(base, {name: tuple(each.shape) for name, each in named.items()})
        self._own = {other: name for name, other in stored.items()}

    def values(self, progress: Progress) -> tuple[Values, Record]:
        """Return a value a matrix, None where the opened model lacks it; and what all records say of the texts."""
        from berttools.classifier.inference import Inference

        config = self._config
        if config.fit_head:
            self._fit_head(progress)
        inference = Inference(self.classifier, self._device)
        about: Record = {"texts": len(self.data.texts), "truncated": self.data.cut, "seed": config.seed}
        about |= {"fit_head": config.fit_head} if config.by.of_gradients else {}
        if config.by is Criterion.cosine:
            return self._similarities(inference), about
        return self._from_gradients(inference, progress), about

    def _fit_head(self, progress: Progress) -> None:
        """Tune the head alone, as ``finetune`` would with everything else frozen."""
        from berttools.tuning.config import TrainingConfig
        from berttools.tuning.trainer import Trainer

        steps, seed = self._config.fit_head, self._config.seed
        training = TrainingConfig(steps=steps, every=steps, batch=FIT_BATCH, learning_rate=FIT_RATE, seed=seed)
        trainer = Trainer(self.classifier, self.classifier.head, self.data, training, device=self._device)
        for _ in trainer.rounds(lambda each: progress(each, "fitting the head", len(each))):
            pass

    def _from_gradients(self, inference: Inference, progress: Progress) -> Values:
        from berttools.layer_scores.gradients import (
            fisher_diagonals,
            fisher_norm,
            gradient_times_weight,
            mean_gradients,
        )

        every = dict(inference.model.named_parameters())
        wanted = {name: every[name] for part in self._parts if (name := self._own.get(str(part.name)))}
        for name, parameter in every.items():
            parameter.requires_grad_(name in wanted)

        def show(passes: Sequence[Sequence[int]]) -> Any:
            return progress(passes, "gradients", len(passes))

        if self._config.by is Criterion.fisher:
            found = fisher_diagonals(inference, self.data, wanted, show=show)
            return self._by_part(lambda name, part: fisher_norm(cut(found[name], part)))
        means = mean_gradients(inference, self.data, wanted, self._config.batch, show=show)
        return self._by_part(lambda name, part: gradient_times_weight(cut(means[name], part), cut(wanted[name], part)))

    def _similarities(self, inference: Inference) -> Values:
        from berttools.layer_scores.similarity import layer_similarities

        layers = 1 + max((part.layer for part in self._parts if part.layer is not None), default=0)
        found = layer_similarities(inference, self.classifier, self.data.texts, layers, self._config.batch)
        return [None if part.layer is None else found[part.layer] for part in self._parts]

    def _by_part(self, value: Callable[[str, MatrixPart], float]) -> Values:
        return [value(self._own[str(part.name)], part) if str(part.name) in self._own else None for part in self._parts]
