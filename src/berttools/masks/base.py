"""Which base a mask is of: its tensors under whatever names, and the sha256 of all that the masked model uses of it.

Of a masked matrix a mask file has the sha256, so that the first that differs can be named; of all else that the model
uses, names once and one sha256; of the tokenizer one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import ToolError
from _toolio.tensors.dtypes import DTYPE_BYTES
from berttools.checkpoints.digests import digest_of, tensor_digest, tokenizer_of
from berttools.checkpoints.files import Checkpoint
from berttools.checkpoints.names import align_names, base_names, modern_name

if TYPE_CHECKING:
    from berttools.masks.file import Mask


def rest_of(base: Checkpoint, masked: Mapping[str, str], dense: Mapping[str, Any]) -> dict[str, str]:
    """Give what a base has besides, by the model's names."""
    known = {name: stored for name, stored in base.tensors.items() if stored.dtype in DTYPE_BYTES}
    named = {model: name for name, model in names_in_model(base, masked).items() if name in known}
    return {model: name for model, name in named.items() if model not in masked and model not in dense}


def names_in_base(mask: Mask, base: Checkpoint) -> dict[str, str]:
    """Map the masked matrices to their names in the base, which may have another prefix.

    Raises
    ------
    ToolError
        Kind ``"other-base"``: the base lacks one, or has it in another shape.
    """
    return names_of(base, mask.shapes, mask.path)


def names_of(base: Checkpoint, shapes: Mapping[str, tuple[int, ...]], wanted_by: Path) -> dict[str, str]:
    """As `names_in_base`, of shapes that `wanted_by` masks."""
    names = base_names(base, shapes)
    if lacking := next((name for name in sorted(shapes) if name not in names), None):
        shape = "x".join(map(str, shapes[lacking]))
        raise ToolError(
            f"{base.path}: has no {lacking} of shape {shape}, which {wanted_by} masks; give the base that it was made"
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
    seen = Counter(_prefixes(theirs, ours) for ours, theirs in stored.items())
    (theirs, ours), _ = seen.most_common(1)[0] if seen else (("", ""), 0)
    known = {name: model for model, name in stored.items()}
    return {
        name: known.get(name) or modern_name(ours + name.removeprefix(theirs) if name.startswith(theirs) else name)
        for name in base.tensors
    }


def _prefixes(one: str, other: str) -> tuple[str, str]:
    """Give what stands in front of the parts that two names end in alike."""
    left, right = one.split("."), other.split(".")
    while left and right and left[-1] == right[-1]:
        left.pop()
        right.pop()
    front = [".".join(parts) + "." if parts else "" for parts in (left, right)]
    return front[0], front[1]


def others_in_base(mask: Mask, base: Checkpoint) -> dict[str, str]:
    """Map what the model uses of the base besides, by the model's names, to the base's.

    Raises
    ------
    ToolError
        Kind ``"other-base"``: the base lacks one.
    """
    theirs = {name: stored.shape for name, stored in base.tensors.items()}
    pairs = align_names(theirs, {**dict.fromkeys(mask.others, ()), **mask.shapes}).pairs
    found = {name: stored for stored, name in pairs.items() if name not in mask.shapes}
    if lacking := next((name for name in mask.others if name not in found), None):
        raise ToolError(
            f"{base.path}: has no {lacking}, which the model of {mask.path} uses; give the base that it was made for",
            kind="other-base",
        )
    return found


def check_base(mask: Mask, base: Checkpoint, digests: dict[str, str] | None = None) -> dict[str, str]:
    """Refuse another base; give the masked matrices' names in it.

    Parameters
    ----------
    mask, base
        The mask, and what may be its base.
    digests
        By the base's names: `tensor_digest` of what was looked at before; what is looked at now is put there.

    Raises
    ------
    ToolError
        Kind ``"other-base"``: names the first matrix that differs, or says that something else does.
    """
    digests = {} if digests is None else digests
    names, others = names_in_base(mask, base), others_in_base(mask, base)
    refuse_other_tokenizer(mask, base)
    for stored in (*names.values(), *others.values()):
        if stored not in digests:
            digests[stored] = tensor_digest(base, stored)
    for name, stored in names.items():
        refuse_other(mask, base, name, digests[stored])
    refuse_other_rest(mask, base, {name: digests[stored] for name, stored in others.items()})
    return names


def refuse_other(mask: Mask, base: Checkpoint, name: str, sha256: str) -> None:
    """Refuse a base where `sha256`, that of its tensor `name`, is not the one the mask was made for."""
    if sha256 != mask.base_sha256s[name]:
        raise ToolError(
            f"{mask.path}: was made for another base: the sha256 of {name} was {mask.base_sha256s[name][:12]}, and in"
            f" {base.path} it is {sha256[:12]}; give that one",
            kind="other-base",
        )


def refuse_other_rest(mask: Mask, base: Checkpoint, digests: Mapping[str, str]) -> None:
    """Refuse a base where what the model uses besides, `digests` by its names, is not what the mask was made with."""
    if mask.others and (sha256 := digest_of(digests)) != mask.others_sha256:
        raise ToolError(
            f"{mask.path}: was made for another base: the sha256 of what is outside the masked matrices was"
            f" {mask.others_sha256[:12]}, and in {base.path} it is {sha256[:12]}; give that one",
            kind="other-base",
        )


def refuse_other_tokenizer(mask: Mask, base: Checkpoint) -> None:
    """Refuse a base with another tokenizer; one that is not there, or was not then, cannot be compared."""
    if None not in (mask.tokenizer_sha256, found := tokenizer_of(base)) and found != mask.tokenizer_sha256:
        raise ToolError(
            f"{mask.path}: was made for another base: its tokenizer is not the one in {base.path}; give {base.path} the"
            " files that it had then",
            kind="other-base",
        )
