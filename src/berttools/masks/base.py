"""Identify the base that a mask is for, and refuse another: its matrices under whatever names, and their sha256.

A mask file has one sha256 of each masked matrix, so that the first that differs can be named; of all else that the
model uses, the names and one sha256; of the tokenizer one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _toolio.errors import ToolError
from _toolio.tensors.dtypes import DTYPE_BYTES
from berttools.checkpoints.digests import combined_digest, tensor_digest, tokenizer_of
from berttools.checkpoints.files import Checkpoint
from berttools.checkpoints.names import align_names, base_names, modern_name


@dataclass(frozen=True, slots=True)
class BaseFingerprint:
    """What a mask file records of the base that it was made for.

    Attributes
    ----------
    mask
        The mask file, for messages.
    shapes
        Of the masked matrices, by their names in the model's state dict.
    matrix_sha256s
        `tensor_digest` of each masked matrix.
    others
        Names of what else the model uses of the base.
    others_sha256
        `combined_digest` of these.
    tokenizer_sha256
        `tokenizer_digest`; None where the base had no tokenizer.
    """

    mask: Path
    shapes: Mapping[str, tuple[int, ...]]
    matrix_sha256s: Mapping[str, str]
    others: Sequence[str]
    others_sha256: str
    tokenizer_sha256: str | None


def other_tensors(base: Checkpoint, masked: Mapping[str, str], dense: Mapping[str, Any]) -> dict[str, str]:
    """Map every readable tensor of a base that is neither masked nor dense, by the model's names, to the base's."""
    known = {name: stored for name, stored in base.tensors.items() if stored.dtype in DTYPE_BYTES}
    named = {model: name for name, model in names_in_model(base, masked).items() if name in known}
    return {model: name for model, name in named.items() if model not in masked and model not in dense}


def names_in_base(base: Checkpoint, shapes: Mapping[str, tuple[int, ...]], masked_by: Path) -> dict[str, str]:
    """Map masked matrices to their names in the base, which may have another prefix.

    Parameters
    ----------
    base
        The base.
    shapes
        Of the matrices, by the model's names.
    masked_by
        What masks them, for the message.

    Raises
    ------
    ToolError
        Kind ``"other-base"``: the base lacks one, or has it in another shape.
    """
    names = base_names(base, shapes)
    if lacking := next((name for name in sorted(shapes) if name not in names), None):
        shape = "x".join(map(str, shapes[lacking]))
        raise ToolError(
            f"{base.path}: has no {lacking} of shape {shape}, which {masked_by} masks; give the base that it was made"
            " for",
            kind="other-base",
        )
    return names


def names_in_model(base: Checkpoint, stored: Mapping[str, str]) -> dict[str, str]:
    """Map every name of the base to the one that the model's state dict has.

    Parameters
    ----------
    base
        The base.
    stored
        Names of the model to those of the base, for some matrices: the prefixes that these differ by are the others'
        too, where they have them. LayerNorm's gamma and beta become weight and bias.
    """
    seen = Counter(_differing_prefixes(theirs, ours) for ours, theirs in stored.items())
    (theirs, ours), _ = seen.most_common(1)[0] if seen else (("", ""), 0)
    known = {name: model for model, name in stored.items()}
    return {
        name: known.get(name) or modern_name(ours + name.removeprefix(theirs) if name.startswith(theirs) else name)
        for name in base.tensors
    }


def _differing_prefixes(one: str, other: str) -> tuple[str, str]:
    """Return what stands in front of the longest common suffix, in whole parts, of two dotted names."""
    left, right = one.split("."), other.split(".")
    while left and right and left[-1] == right[-1]:
        left.pop()
        right.pop()
    front = [".".join(parts) + "." if parts else "" for parts in (left, right)]
    return front[0], front[1]


def others_in_base(made_for: BaseFingerprint, base: Checkpoint) -> dict[str, str]:
    """Map what the model uses of the base besides, by the model's names, to the base's.

    Raises
    ------
    ToolError
        Kind ``"other-base"``: the base lacks one.
    """
    theirs = {name: stored.shape for name, stored in base.tensors.items()}
    pairs = align_names(theirs, {**dict.fromkeys(made_for.others, ()), **made_for.shapes}).pairs
    found = {name: stored for stored, name in pairs.items() if name not in made_for.shapes}
    if lacking := next((name for name in made_for.others if name not in found), None):
        raise ToolError(
            f"{base.path}: has no {lacking}, which the model of {made_for.mask} uses; give the base that it was made"
            " for",
            kind="other-base",
        )
    return found


def check_base(made_for: BaseFingerprint, base: Checkpoint, digests: dict[str, str] | None = None) -> dict[str, str]:
    """Refuse another base, and return the masked matrices' names in it.

    Parameters
    ----------
    made_for, base
        What the mask records, and what may be its base.
    digests
        By the base's names: `tensor_digest` of what was read before; what is read now is put there.

    Raises
    ------
    ToolError
        Kind ``"other-base"``: names the first matrix that differs, or says that something else does.
    """
    digests = {} if digests is None else digests
    names, others = names_in_base(base, made_for.shapes, made_for.mask), others_in_base(made_for, base)
    check_tokenizer(made_for, base)
    for stored in (*names.values(), *others.values()):
        if stored not in digests:
            digests[stored] = tensor_digest(base, stored)
    for name, stored in names.items():
        check_matrix(made_for, base, name, digests[stored])
    check_others(made_for, base, {name: digests[stored] for name, stored in others.items()})
    return names


def check_matrix(made_for: BaseFingerprint, base: Checkpoint, name: str, sha256: str) -> None:
    """Refuse a base where `sha256`, that of its tensor `name`, is not the one the mask was made for."""
    if sha256 != made_for.matrix_sha256s[name]:
        raise ToolError(
            f"{made_for.mask}: was made for another base: the sha256 of {name} was"
            f" {made_for.matrix_sha256s[name][:12]}, and in {base.path} it is {sha256[:12]}; give that one",
            kind="other-base",
        )


def check_others(made_for: BaseFingerprint, base: Checkpoint, digests: Mapping[str, str]) -> None:
    """Refuse a base where what the model uses besides, `digests` by its names, is not what the mask was made with."""
    if made_for.others and (sha256 := combined_digest(digests)) != made_for.others_sha256:
        raise ToolError(
            f"{made_for.mask}: was made for another base: the sha256 of what is outside the masked matrices was"
            f" {made_for.others_sha256[:12]}, and in {base.path} it is {sha256[:12]}; give that one",
            kind="other-base",
        )


def check_tokenizer(made_for: BaseFingerprint, base: Checkpoint) -> None:
    """Refuse a base with another tokenizer; one that is missing, or was missing then, cannot be compared."""
    if None not in (made_for.tokenizer_sha256, found := tokenizer_of(base)) and found != made_for.tokenizer_sha256:
        raise ToolError(
            f"{made_for.mask}: was made for another base: its tokenizer is not the one in {base.path}; give"
            f" {base.path} the files that it had then",
            kind="other-base",
        )
