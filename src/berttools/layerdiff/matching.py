"""Match the tensors of two models, and refuse models that cannot be compared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from _toolio.errors import InputError, ToolError, param
from berttools.checkpoints.files import EMPTY, Checkpoint
from berttools.checkpoints.groups import Grouping, Part
from berttools.checkpoints.names import Alignment, AmbiguousNamesError, align_names
from berttools.checkpoints.names.layers import stack_names
from berttools.checkpoints.tied import tied_tensors, untied_matrices
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
    stack
        Which of several stacks its layer is of; None where the base has one, and it is of that.
    tied_base, tied_ft
        The embeddings that stand for it in a model that ties it to them, and has it under no name of its own.
    """

    name: str
    name_ft: str | None
    part: Part
    only_in: str | None = None
    tied_to: str | None = None
    stack: str | None = None
    tied_base: str | None = None
    tied_ft: str | None = None


def align_models(base: Checkpoint, ft: Checkpoint, selection: Selection) -> Alignment:
    """Match the names of all tensors of two models.

    Raises
    ------
    ToolError
        As of `berttools.layerdiff.diffs.diff_checkpoints`.
    """
    shapes = [{name: stored.shape for name, stored in model.tensors.items()} for model in (base, ft)]
    try:
        names = align_names(*shapes, strip=selection.strip_prefix)
    except AmbiguousNamesError as error:
        raise error.of(ft.path) from None
    for model in (base, ft):
        _check_gathered(model)
    if not names.pairs:
        raise ToolError(_nothing_in_common(base, ft, names), kind="no-common-tensors")
    _check_order(base, ft)
    _check_architectures(base, ft, names.pairs)
    return names


def match_tensors(
    base: Checkpoint, ft: Checkpoint, selection: Selection, names: Alignment | None = None
) -> list[Match]:
    """Match the selected tensors of two models: the base's in sorted order, then those that only the other has.

    Parameters
    ----------
    base, ft, selection
        As of `berttools.layerdiff.diffs.diff_checkpoints`.
    names
        Those of both models, matched by `align_models`; by default they are matched here.

    Raises
    ------
    ToolError
        As of `berttools.layerdiff.diffs.diff_checkpoints`.
    """
    names = names or align_models(base, ft, selection)
    tied, tied_ft = tied_tensors(base), tied_tensors(ft)
    stacks, stacks_ft = _stacks(base, names, selection.grouping)
    back = {name_ft: name for name, name_ft in names.pairs.items()}
    in_ft = untied_matrices(base, ft, [name for name in names.only_base if name not in tied], names.pairs)
    in_base = untied_matrices(ft, base, [name for name in names.only_ft if name not in tied_ft], back)
    matches = []
    for name, stored in base.tensors.items():
        there = names.pairs.get(name) or in_ft.get(name)
        for part in selection.parts(name, stored.shape):
            only = None if there else "base"
            matches.append(Match(name, there, part, only, tied.get(name), stacks[name], tied_ft=in_ft.get(name)))
    for name in names.only_ft:
        for part in selection.parts(name, ft.tensors[name].shape):
            only = None if name in in_base else "ft"
            matches.append(Match(name, name, part, only, tied_ft.get(name), stacks_ft[name], in_base.get(name)))
    if not matches:
        raise ToolError(
            f"{base.path}: {param('only')} and {param('group')} leave none of its {len(base.tensors)} tensors; run"
            " without them to see names and groups",
            kind="nothing-chosen",
        )
    return matches


def _stacks(
    base: Checkpoint, names: Alignment, grouping: Grouping
) -> tuple[Mapping[str, str | None], Mapping[str, str | None]]:
    """Return the stacks of the base's tensors, and of those that only the fine-tuned model has.

    The base's have the names that they have whatever it is compared with.
    """
    paths = {name: grouping.path(name) for name in base.tensors}
    # A layer of which the base has some tensors is the base's layer, whatever it is called in the other model.
    known = {grouping.path(name_ft): paths[name] for name, name_ft in names.pairs.items()}
    paths_ft = {name: known.get(path := grouping.path(name)) or path for name in names.only_ft}
    own = {path for path in paths.values() if path is not None}
    named = stack_names(own)
    more = {path for path in paths_ft.values() if path is not None} - own
    taken = set(named.values())
    named |= {path: path if name in taken else name for path, name in stack_names(own | more).items() if path in more}
    both = (paths, paths_ft)
    stacks, stacks_ft = ({name: named.get(path) if path else None for name, path in each.items()} for each in both)
    return stacks, stacks_ft


def few_matched(base: Checkpoint, ft: Checkpoint, names: Alignment) -> InputError | None:
    """Return an error if fewer than half of the tensors of the smaller model are matched, else None."""
    fewest = min(len(base.tensors), len(ft.tensors))
    if 2 * len(names.pairs) >= fewest:
        return None
    prefix = _prefix_in_the_way(base, ft, names)
    advice = f"try {param('strip_prefix')} {prefix}" if prefix else (
        f"if names differ by what stands in front of them, give that as {param('strip_prefix')}"
    )  # fmt: skip
    return InputError(
        f"only {len(names.pairs)} of {len(base.tensors)} tensors of {base.path} are matched with one of the"
        f" {len(ft.tensors)} of {ft.path}: {names.only_base[0]} and {names.only_ft[0]} are not; {advice}",
        kind="few-matched",
    )


def _prefix_in_the_way(base: Checkpoint, ft: Checkpoint, names: Alignment) -> str | None:
    """Return the prefix without which most of the tensors that are not matched would have the other model's names."""
    counts: Counter[str] = Counter()
    for only, model, others, other in (
        (names.only_base, base, names.only_ft, ft),
        (names.only_ft, ft, names.only_base, base),
    ):
        shapes = {name: other.tensors[name].shape for name in others}
        for name in only:
            parts = name.split(".")
            for at in range(1, len(parts)):
                if shapes.get(".".join(parts[at:])) == model.tensors[name].shape:
                    counts[".".join(parts[:at]) + "."] += 1
                    break
    return counts.most_common(1)[0][0] if counts else None


def _check_gathered(model: Checkpoint) -> None:
    """Refuse a model whose weights have no entries."""
    sizes = [stored.size for name, stored in model.tensors.items() if name.endswith("weight")]
    if sizes and not any(sizes):
        raise ToolError(f"{model.path}: {EMPTY}", kind="empty-tensor")


def _nothing_in_common(base: Checkpoint, ft: Checkpoint, names: Alignment) -> str:
    first = [next(iter(model.tensors), "nothing") for model in (base, ft)]
    prefix = _prefix_in_the_way(base, ft, names)
    advice = f"try {param('strip_prefix')} {prefix}" if prefix else "give two checkpoints of one architecture"
    return f"no tensor of {base.path} is in {ft.path}: the first names are {first[0]} and {first[1]}; {advice}"


# What a fine-tuned model's class is called; a pre-trained one's ends in Model, ForMaskedLM, ForCausalLM and the like.
_TASK_CLASS = re.compile(r"For(?:Sequence|Token)Classification|ForQuestionAnswering|ForMultipleChoice")
_ANYWAY = "to compare them as they are, name the weight files instead of the folders"


def _check_order(base: Checkpoint, ft: Checkpoint) -> None:
    """Refuse a base that has a task head where the fine-tuned model, which should, has none."""
    stated = [model.config.get("architectures") for model in (base, ft)]
    classes = [" ".join(map(str, names)) if isinstance(names, list) else "" for names in stated]
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
    matrices = [
        (name, name_ft)
        for name, name_ft in pairs.items()
        if len(base.tensors[name].shape) == 2 and ft.tensors[name_ft].size
    ]
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
