"""Tune masks of a classifier, from texts and a base to a mask file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from _toolio.compute.distributed import Processes
from _toolio.errors import ToolError, UsageError, param
from berttools.mask_tuning.config import MaskTuneConfig, Pooler
from berttools.mask_tuning.recipe import Method, reaches_zero
from berttools.tuning.config import ParamGroup
from berttools.tuning.run import FinetuneRun, Progress, Warn, rank_of

if TYPE_CHECKING:
    import torch

    from berttools.mask_tuning.draws import Draws
    from berttools.texts.batches import Dataset
    from berttools.tuning.trainer import Trainer


def mask_tune(
    config: MaskTuneConfig,
    *,
    device: torch.device | None = None,
    processes: Processes = Processes(),  # noqa: B008 - it is frozen
    progress: Progress = iter,
    warn: Warn = warnings.warn,
) -> Iterator[dict[str, Any]]:
    """Tune masks over the frozen weights of a base, and write them and the head as a mask file.

    Parameters
    ----------
    config
        What to mask, on which texts, how, and where to write.
    device, processes, progress, warn
        As of ``berttools.tuning.finetune``.

    Yields
    ------
    dict
        As ``berttools.tuning.finetune``; evaluations have ``inference`` too, and the last record ``sparsity`` and sizes
        of the file.

    Raises
    ------
    UsageError, ToolError
        As ``berttools.tuning.finetune``; if there is nothing to mask, or the teacher has other labels.
    """
    return MaskTuneRun(config, device, processes, progress=progress, warn=warn).records()


class MaskTuneRun(FinetuneRun):
    """One mask tuning, from the files to the mask that is written.

    Parameters
    ----------
    config, device, processes, progress, warn
        As of ``run``.
    """

    _config: MaskTuneConfig
    _draws: Draws

    def _make_trainer(self, tuned: Sequence[str]) -> Trainer:
        from berttools.mask_tuning.convert import mask_model
        from berttools.mask_tuning.draws import Draws
        from berttools.tuning.trainer import Trainer

        config, recipe = self._config, self._config.recipe()
        self._refuse_parts()
        matrices, self._dense = self._sort_tensors(tuned)
        beside = self._tuned_beside(matrices)
        if config.distill and self._done is None:
            self.train = replace(self.train, teacher_logits=self._teacher_logits())
        self._draws = Draws(config.seed, self.training.steps)
        self._scores = mask_model(self.classifier.model, matrices, recipe, self._draws)
        groups = dict.fromkeys(self._scores.values(), ParamGroup(config.score_rate, 0.0, 1e-12))
        learned = [*self._scores.values(), *self._dense, *beside]
        trainer = Trainer(
            self.classifier, learned, self.train, self.training, device=self._device,
            processes=self._processes, groups=groups, before=lambda step: setattr(self._draws, "step", step),
            rate="score_learning_rate",
        )  # fmt: skip
        if not reaches_zero(recipe, trainer.rate_factors, config.score_rate):
            reach = f"{config.score_rate * sum(trainer.rate_factors):.2g}"
            self._warn_once(
                f"scores begin {recipe.initial_score:g} away from 0 and move by their learning rates, which add up to"
                f" {reach}: few cross 0; try more steps or a higher {param('score_learning_rate')}"
            )
        return trainer

    def _refuse_parts(self) -> None:
        """Raise if parts of matrices are selected: sparsity, patterns and a mask's file are of whole ones."""
        for name, ((axis, start, stop), *_) in self._spans.items():
            what = f"{'columns' if axis else 'rows'} {start} to {stop - 1} of {name}"
            raise UsageError(
                f"{param('only')} -: stdin names {what}, and masks are of whole matrices; give the name instead of the"
                " record to mask all of it, or the record to finetune"
            )

    def _sort_tensors(self, tuned: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the names of the matrices to mask, and of the tensors to tune as they are."""
        from berttools.mask_tuning.convert import can_mask
        from berttools.tuning.parameters import groups_of

        model, head, config = self.classifier.model, self.classifier.head, self._config
        shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
        frozen = config.selection().freeze
        poolers = [name for name in shapes if "pooler" in name and name not in head]
        poolers = [name for name in poolers if not any(re.search(each, name) for each in frozen)]
        wanted = [name for name in tuned if name not in head and "pooler" not in name]
        matrices = [
            name
            for name in wanted
            if can_mask(model, name) and (groups_of(name, shapes[name]) or not config.everything)
        ]
        dense = [name for name in tuned if name in head]
        if config.pooler is Pooler.mask:
            matrices += [name for name in poolers if can_mask(model, name)]
        elif config.pooler is Pooler.dense:
            dense += poolers
        if not matrices:
            what = "of linear layers in the groups that are known" if config.everything else "that the options choose"
            raise ToolError(
                f"{config.base}: there is nothing to mask: no tensor {what} is a linear layer's matrix; choose"
                f" others with {param('only')}",
                kind="no-matrix",
            )
        if config.only and (left := len(set(wanted) - set(matrices))):
            self._warn_once(
                f"{left} of {len(wanted)} tensors that were chosen are no matrices of linear layers: they stay"
            )
        return matrices, dense

    def _tuned_beside(self, matrices: Sequence[str]) -> list[str]:
        """Return the names of what is neither masked nor of the head, and is tuned as it is."""
        config, known = self._config, {*matrices, *self._dense}
        frozen = config.selection().freeze
        names = [name for name, _ in self.classifier.model.named_parameters() if name not in known]
        found = []
        for pattern in config.beside or ():
            matched = [name for name in names if re.search(pattern, name)]
            if not matched:
                what = f"matches no tensor of {config.base} that is not masked or of the head"
                raise ToolError(f"{param('beside')} {pattern}: {what}", kind="no-tensor")
            found += matched
        return [name for name in names if name in found and not any(re.search(each, name) for each in frozen)]

    def _teacher_logits(self) -> Any:
        from berttools.mask_tuning.teacher import teacher_logits

        assert self._config.distill is not None
        return teacher_logits(
            self._config.distill, self._examples, self.classifier, device=self._device, half=self.training.half
        )

    def _provenance(self, tuned: list[str]) -> dict[str, Any]:
        from berttools.mask_tuning.draws import draws_of
        from berttools.mask_tuning.teacher import teacher_digest

        config = self._config
        recipe = {**asdict(config.recipe()), "score_learning_rate": config.score_rate, "pooler": config.pooler}
        recipe |= {"refit_head": config.refit_head, "code": config.code}
        if config.beside:
            recipe["beside"] = config.beside
        if config.method is Method.bernoulli:
            recipe["draws"] = draws_of(self._device, config.pattern)
        recipe = {key: str(value) if isinstance(value, StrEnum) else value for key, value in recipe.items()}
        teacher = teacher_digest(config.distill) if config.distill else None
        return {**super()._provenance(tuned), "recipe": recipe, "teacher_sha256": teacher}

    def _rank(self, record: dict[str, Any]) -> tuple[float, ...]:
        """Rank a mask that topk has not yet brought to its target below all that it has."""
        return (float(self._at_target(record["step"])), *super()._rank(record))

    def _at_target(self, step: int) -> bool:
        recipe = self._config.recipe()
        return recipe.sparsity_at(step / self.training.steps) == recipe.sparsity_at(1.0)

    @property
    def _stopped(self) -> bool:
        return self._at_target(self.trainer.step) and super()._stopped

    def _evaluate(self, dev: Dataset) -> dict[str, Any]:
        """Evaluate the mask that would be stored: scores above zero, or one draw if that is better."""
        found = {"inference": "threshold", **self._evaluate_mask(None, dev)}
        if self._config.method is not Method.bernoulli:
            return found
        drawn = {"inference": "draw", **self._evaluate_mask(self.trainer.step, dev)}
        scores = [each[self.metric] for each in (found, drawn)]
        best = drawn if scores[1] is not None and (scores[0] is None or scores[1] > scores[0]) else found
        return {**best, "score_at_threshold": scores[0], "score_of_draw": scores[1]}

    def _evaluate_mask(self, stored: int | None, dev: Dataset) -> dict[str, Any]:
        """Return the metrics of the draw of a step, or with None of scores above zero."""
        self._draws.step, self._draws.stored = self.trainer.step, stored
        return self.trainer.inference.measure(dev)

    def _write(self, figures: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
        from berttools.classifier.head import set_thresholds
        from berttools.classifier.model import config_text, state_arrays
        from berttools.mask_tuning.convert import stored_transposed, unmask_model
        from berttools.masks.writer import write_mask
        from berttools.tuning.delta import changed_of

        model, config = self.classifier.model, self._config
        self._draws.step = figures["step"]
        self._draws.stored = figures["step"] if figures.get("inference") == "draw" else None
        model.eval()
        transposed = stored_transposed(model, self._scores)
        keeps = unmask_model(model, self._scores)
        if config.refit_head and self._dense:
            figures = self._refit_head(figures)
        set_thresholds(model.config, figures.get("label_thresholds"))
        tensors, text = state_arrays(model), config_text(model)
        dense, same = changed_of({name: each for name, each in tensors.items() if name not in keeps}, self._base)
        made = {**about, "figures": figures, "seed": config.seed, "tuned": sorted(dense)}
        if transposed:
            made["transposed"] = transposed
        sizes = write_mask(config.out, keeps, dense, text, self._base, made, code=str(config.code), others=same)
        return {**figures, **sizes}

    @property
    def _rate_and_more(self) -> tuple[str, str]:
        more = "" if self._config.everything else ", or more matrices"
        return f"another {param('score_learning_rate')} than {self._config.score_rate:g}", more

    def _as_written(self, figures: dict[str, Any]) -> dict[str, Any]:
        from berttools.masks.file import open_mask

        return {**figures, "path": self._config.out, **open_mask(self._config.out).figures()}

    def _refit_head(self, figures: dict[str, Any]) -> dict[str, Any]:
        """Tune the head on the final mask; restore it if that is no better. Return the figures of what is kept."""
        from berttools.tuning.trainer import Trainer

        model = self.classifier.model
        before = {name: each.detach().clone() for name, each in model.named_parameters() if name in self._dense}
        steps = max(1, self.training.steps // 10)
        training = replace(self.training, steps=steps, every=steps)
        trainer = Trainer(self.classifier, self._dense, self.train, training, device=self._device)
        for _ in trainer.rounds():
            pass
        if self.dev is None:
            return {**figures, "refitted": True}
        found = trainer.inference.measure(self.dev)
        if rank_of({"score": found[self.metric]}) <= rank_of(figures):
            for name, values in before.items():
                model.get_parameter(name).data.copy_(values)
            return {**figures, "refitted": False}
        figures = {key: value for key, value in figures.items() if key != "one_label"}
        return {**figures, **self._figures(found), "refitted": True}
