"""A whole run of mask tuning: from texts and a base to a mask file."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import ToolError, UsageError
from berttools.mask_tuning.recipe import FIRST, RATES, Method, Pattern, Recipe
from berttools.masks import Code
from berttools.tuning.finetune import Asked, Run, rank_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from berttools.mask_tuning.masked_linear import Draws
    from berttools.texts.batches import Data
    from berttools.tuning.trainer import Pace, Tuner


class Pooler(StrEnum):
    """What becomes of the layer between the encoder and the head."""

    freeze = "freeze"
    dense = "dense"
    mask = "mask"


@dataclass(frozen=True)
class MaskAsked(Asked):
    """The options, beside those of finetune."""

    method: Method
    pattern: Pattern
    initial_sparsity: float
    target_sparsity: float | None
    initial_score: float | None
    score_learning_rate: float | None
    pooler: Pooler
    refit_head: bool
    distill: Path | None
    code: Code

    def check(self) -> Path:
        """Refuse what cannot be, before anything heavy is imported; give the checkpoint's path."""
        from berttools.checkpoints.model_folder import check_folder

        if self.target_sparsity is not None and self.method is not Method.topk:
            raise UsageError(f"--target-sparsity goes with --method topk; {self.method} finds its own sparsity")
        sparsity, fours = self.initial_sparsity or self.target_sparsity, self.pattern is Pattern.two_of_four
        if self.method is Method.topk and not (sparsity or fours):
            raise UsageError("--method topk zeroes as many weights as it is told to; give --target-sparsity")
        if fours and sparsity:
            raise UsageError("--pattern 2:4: half of each matrix is zeroed; give no sparsity")
        if self.distill:
            check_folder(self.distill)
        return super().check()

    @property
    def read(self) -> list[tuple[Path, str]]:
        """What is read, of which nothing may be replaced, and the options that name it."""
        return super().read + ([(self.distill, "--distill")] if self.distill else [])

    @property
    def everything(self) -> bool:
        """Whether no option says which matrices."""
        return not (self.only or self.group or self.layers)

    @property
    def pace(self) -> float:
        """The scores' peak rate."""
        return RATES[self.method] if self.score_learning_rate is None else self.score_learning_rate

    def recipe(self) -> Recipe:
        """Say how masks are learned."""
        first = FIRST[self.method] if self.initial_score is None else self.initial_score
        return Recipe(self.method, self.pattern, self.initial_sparsity, first, self.target_sparsity)


class MaskRun(Run):
    """One tuning by masks, from the files to the mask that is written."""

    _asked: MaskAsked
    _draws: Draws

    def _prepare(self, tuned: Sequence[str]) -> Tuner:
        from berttools.mask_tuning.masked_linear import Draws, mask_model, reaches_zero
        from berttools.tuning.trainer import Pace, Tuner

        asked, recipe = self._asked, self._asked.recipe()
        self._refuse_parts()
        matrices, dense = self._sorted_out(tuned)
        if asked.distill and self._done is None:
            self.train = replace(self.train, taught=self._taught(asked.distill))
        self._draws = Draws(asked.seed, self.knobs.steps)
        self._scores = mask_model(self.classifier.model, matrices, recipe, self._draws)
        self._dense = dense
        paces: dict[str, Pace] = dict.fromkeys(self._scores.values(), Pace(asked.pace, 0.0, 1e-12))
        tuner = Tuner(
            self.classifier, [*self._scores.values(), *dense], self.train, self.knobs, device=self._device,
            processes=self._processes, paces=paces, before=lambda step: setattr(self._draws, "step", step),
        )  # fmt: skip
        if not reaches_zero(recipe, tuner.slopes, asked.pace):
            reach = f"{asked.pace * sum(tuner.slopes):.2g}"
            self._warn(
                f"scores begin {recipe.initial_score:g} away from 0 and move by their learning rates, which add up to"
                f" {reach}: few cross 0; try more steps or a higher --score-learning-rate"
            )
        return tuner

    def _refuse_parts(self) -> None:
        """Refuse parts of matrices: sparsity, patterns and a mask's file are of whole ones."""
        for name, ((axis, start, stop), *_) in self._spans.items():
            what = f"{'columns' if axis else 'rows'} {start} to {stop - 1} of {name}"
            raise UsageError(
                f"--only -: stdin names {what}, and masks are of whole matrices; give the name instead of the record to"
                " mask all of it, or the record to finetune"
            )

    def _warn(self, what: str) -> None:
        if self._processes.leads:
            sys.stderr.write(f"berttools: warning: {what}\n")

    def _sorted_out(self, tuned: Sequence[str]) -> tuple[list[str], list[str]]:
        """Tell which matrices to mask, and which tensors to tune as they are."""
        from berttools.mask_tuning.masked_linear import can_mask
        from berttools.tuning.parameters import groups_of

        model, head, asked = self.classifier.model, self.classifier.head, self._asked
        shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
        frozen = asked.choice().freeze
        poolers = [name for name in shapes if "pooler" in name and name not in head]
        poolers = [name for name in poolers if not any(re.search(each, name) for each in frozen)]
        wanted = [name for name in tuned if name not in head and "pooler" not in name]
        matrices = [
            name for name in wanted if can_mask(model, name) and (groups_of(name, shapes[name]) or not asked.everything)
        ]
        dense = [name for name in tuned if name in head]
        if asked.pooler is Pooler.mask:
            matrices += [name for name in poolers if can_mask(model, name)]
        elif asked.pooler is Pooler.dense:
            dense += poolers
        if not matrices:
            what = "of linear layers in the groups that are known" if asked.everything else "that the options choose"
            raise ToolError(
                f"{asked.base}: there is nothing to mask: no tensor {what} is a linear layer's matrix (GPT-2's Conv1D"
                " is no linear layer); choose others with --only",
                kind="no-matrix",
            )
        if asked.only and (left := len(set(wanted) - set(matrices))):
            self._warn(f"{left} of {len(wanted)} tensors that were chosen are no matrices of linear layers: they stay")
        return matrices, dense

    def _taught(self, folder: Path) -> Any:
        """Return a teacher's logits of the training texts, as its own tokenizer encodes them, for our labels in order.

        Parameters
        ----------
        folder
            The teacher's. Its vocabulary, the inputs it wants and its length are its own.

        Raises
        ------
        ToolError
            Kind ``"other-labels"``: its labels, or how many numbers it gives a text, are not ours.
        """
        from berttools.checkpoints.model_folder import silent_transformers
        from berttools.classifier.inference import Judge
        from berttools.classifier.model import open_model
        from berttools.texts.batches import encode

        teacher = open_model(folder)
        names, ours = list(teacher.labels.names), list(self.classifier.labels.names)
        if sorted(names) != sorted(ours):
            raise ToolError(
                f"--distill {folder}: knows the labels {', '.join(names) or 'of numbers'}, and --train has"
                f" {', '.join(ours) or 'numbers'}",
                kind="other-labels",
            )
        theirs, own = (int(each.model.config.num_labels) for each in (teacher, self.classifier))
        if theirs != own:  # of labels that are numbers a text can have several
            raise ToolError(f"--distill {folder}: gives {theirs} numbers a text, and --base {own}", kind="other-labels")
        texts = encode(teacher.tokenizer, self._examples, most=teacher.longest)
        with silent_transformers():
            logits = Judge(teacher, self._device, half=self.knobs.half).logits(texts)
        return logits[:, [names.index(name) for name in ours]] if ours else logits

    def _more_about(self) -> dict[str, Any]:
        from berttools.mask_tuning.masked_linear import draws_of

        asked = self._asked
        recipe = {**asdict(asked.recipe()), "score_learning_rate": asked.pace, "pooler": asked.pooler}
        recipe |= {"refit_head": asked.refit_head, "code": asked.code}
        if asked.method is Method.bernoulli:
            recipe["draws"] = draws_of(self._device, asked.pattern)
        recipe = {key: str(value) if isinstance(value, StrEnum) else value for key, value in recipe.items()}
        return {"recipe": recipe, "teacher_sha256": _teacher_digest(asked.distill) if asked.distill else None}

    def _rank(self, record: dict[str, Any]) -> tuple[float, ...]:
        """Rank a mask that topk has not yet brought to its target below all that it has."""
        return (float(self._at_target(record["step"])), *super()._rank(record))

    def _at_target(self, step: int) -> bool:
        recipe = self._asked.recipe()
        return recipe.sparsity_at(step / self.knobs.steps) == recipe.sparsity_at(1.0)

    @property
    def _over(self) -> bool:
        return self._at_target(self.tuner.step) and super()._over

    def _measured(self, dev: Data) -> dict[str, Any]:
        """Measure the mask that would be stored: scores above zero, or where that is better one draw."""
        found = {"inference": "threshold", **self._with(None, dev)}
        if self._asked.method is not Method.bernoulli:
            return found
        drawn = {"inference": "draw", **self._with(self.tuner.step, dev)}
        scores = [each[self.metric] for each in (found, drawn)]
        best = drawn if scores[1] is not None and (scores[0] is None or scores[1] > scores[0]) else found
        return {**best, "score_at_threshold": scores[0], "score_of_draw": scores[1]}

    def _with(self, stored: int | None, dev: Data) -> dict[str, Any]:
        self._draws.step, self._draws.stored = self.tuner.step, stored
        return self.tuner.judge.measure(dev)

    def _write(self, figures: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
        from berttools.classifier.model import config_text, state_arrays
        from berttools.mask_tuning.masked_linear import unmask_model
        from berttools.masks.writer import write_mask
        from berttools.tuning.delta import changed_of

        model, asked = self.classifier.model, self._asked
        self._draws.step = figures["step"]
        self._draws.stored = figures["step"] if figures.get("inference") == "draw" else None
        model.eval()
        keeps = unmask_model(model, self._scores)
        if asked.refit_head and self._dense:
            figures = self._refitted(figures)
        tensors, config = state_arrays(model), config_text(model)
        dense, same = changed_of({name: each for name, each in tensors.items() if name not in keeps}, self._base)
        made = {**about, "figures": figures, "seed": asked.seed, "tuned": sorted(dense)}
        sizes = write_mask(asked.out, keeps, dense, config, self._base, made, code=str(asked.code), others=same)
        return {**figures, **sizes}

    def _as_written(self, figures: dict[str, Any]) -> dict[str, Any]:
        from berttools.masks.file import open_mask

        return {**figures, "path": self._asked.out, **open_mask(self._asked.out).figures()}

    def _refitted(self, figures: dict[str, Any]) -> dict[str, Any]:
        """Tune the head on the mask as it is; keep what it was where that is no better."""
        from berttools.tuning.trainer import Tuner

        model = self.classifier.model
        before = {name: each.detach().clone() for name, each in model.named_parameters() if name in self._dense}
        steps = max(1, self.knobs.steps // 10)
        knobs = replace(self.knobs, steps=steps, every=steps)
        tuner = Tuner(self.classifier, self._dense, self.train, knobs, device=self._device)
        for _ in tuner.rounds():
            pass
        if self.dev is None:
            return {**figures, "refitted": True}
        found = tuner.judge.measure(self.dev)
        if rank_of({"score": found[self.metric]}) <= rank_of(figures):
            for name, values in before.items():
                model.get_parameter(name).data.copy_(values)
            return {**figures, "refitted": False}
        return {**figures, "score": found[self.metric], "dev_loss": found.pop("loss"), **found, "refitted": True}


def _teacher_digest(folder: Path) -> str:
    """Return the sha256 of all that a teacher's logits follow from besides the texts: weights, config, tokenizer."""
    from berttools.checkpoints.digests import base_digest, tokenizer_digest
    from berttools.checkpoints.files import open_checkpoint

    teacher = open_checkpoint(folder)
    parts = [base_digest(teacher), teacher.config, tokenizer_digest(folder)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
