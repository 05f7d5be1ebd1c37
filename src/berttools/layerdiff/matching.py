"""Match the tensors of two models, and refuse models that cannot be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from _toolio.errors import InputError, ToolError, param
from berttools.checkpoints.files import Checkpoint
from berttools.checkpoints.groups import Part
from berttools.checkpoints.names import align_names
from berttools.checkpoints.tied import tied_tensors
from berttools.layerdiff.config import Selection


class Match(NamedTuple):
    """A tensor, or a part of one, of both models or of one.

    Attributes
    ----------
    name
        In the base, or in the fine-tuned model if only that has it.
    name_ft
        In the fine-tuned model; None if that lacks it.
    part
        Layer, group, and which rows or columns.
    only_in
        ``"base"`` or ``"ft"`` for a tensor of one model only.
    tied_to
        The tensor of the same model that it is a copy of.
    """

    name: str
    name_ft: str | None
    part: Part
    only_in: str | None = None
    tied_to: str | None = None


def match_tensors(base: Checkpoint, ft: Checkpoint, selection: Selection) -> list[Match]:
    """Match the selected tensors of two models: the base's in sorted order, then those that only the other has.

    Raises
    ------
    ToolError
        As of `berttools.layerdiff.diffs.diff_checkpoints`.
    """
    shapes = [{name: stored.shape for name, stored in model.tensors.items()} for model in (base, ft)]
    names = align_names(*shapes, strip=selection.strip_prefix)
    if not names.pairs:
        raise ToolError(_nothing_in_common(base, ft), kind="no-common-tensors")
    _check_order(base, ft)
    _check_architectures(base, ft, names.pairs)
    tied, tied_ft = tied_tensors(base), tied_tensors(ft)
    matches = [
        Match(name, names.pairs.get(name), part, None if name in names.pairs else "base", tied.get(name))
        for name, stored in base.tensors.items()
        for part in selection.parts(name, stored.shape)
    ]
    matches += [
        Match(name, name, part, "ft", tied_ft.get(name))
        for name in names.only_ft
        for part in selection.parts(name, shapes[1][name])
    ]
    if not matches:
        raise ToolError(
            f"{base.path}: {param('only')} and {param('group')} leave none of its {len(base.tensors)} tensors; run"
            " without them to see names and groups",
            kind="nothing-chosen",
        )
    return matches


def _nothing_in_common(base: Checkpoint, ft: Checkpoint) -> str:
    first = [next(iter(model.tensors), "nothing") for model in (base, ft)]
    return (
        f"no tensor of {base.path} is in {ft.path}: the first names are {first[0]} and {first[1]};"
        " give two checkpoints of one architecture"
    )


# What a fine-tuned model's class is called; a pre-trained one's ends in Model, ForMaskedLM, ForCausalLM and the like.
_TASK_CLASS = re.compile(r"For(?:Sequence|Token)Classification|ForQuestionAnswering|ForMultipleChoice")
_ANYWAY = "to compare them as they are, name the weight files instead of the folders"


def _check_order(base: Checkpoint, ft: Checkpoint) -> None:
    """Refuse a base that has a task head where the fine-tuned model, which should, has none."""
    classes = [" ".join(map(str, model.config.get("architectures") or ())) for model in (base, ft)]
    if all(classes) and _TASK_CLASS.search(classes[0]) and not _TASK_CLASS.search(classes[1]):
        raise ToolError(
            f"{base.path} is a {classes[0]} and {ft.path} a {classes[1]}: they look swapped, the base comes first;"
            f" {_ANYWAY}",
            kind="swapped",
        )


def _check_architectures(base: Checkpoint, ft: Checkpoint, pairs: Mapping[str, str]) -> None:
    """Refuse models whose tensors match by name only."""
    kinds = [model.config.get("model_type") for model in (base, ft)]
    if all(kinds) and kinds[0] != kinds[1]:
        raise ToolError(
            f"{base.path} is a {kinds[0]} and {ft.path} a {kinds[1]}: two different architectures; {_ANYWAY}",
            kind="architectures",
        )
    matrices = [(name, name_ft) for name, name_ft in pairs.items() if len(base.tensors[name].shape) == 2]
    if matrices and all(base.tensors[name].shape != ft.tensors[name_ft].shape for name, name_ft in matrices):
        readable = [pair for pair in matrices if _can_be_read(base, pair[0]) and _can_be_read(ft, pair[1])]
        if not readable:  # each is reported where it is compared
            return
        name, name_ft = readable[0]
        shape, shape_ft = base.tensors[name].shape, ft.tensors[name_ft].shape
        raise ToolError(
            f"no matrix of {base.path} has the shape that it has in {ft.path}: {name} is {list(shape)} and"
            f" {list(shape_ft)}; give two checkpoints of one architecture and size",
            kind="architectures",
        )


def _can_be_read(model: Checkpoint, name: str) -> bool:
    try:
        model.flat(name)
    except InputError:
        return False
    return True
