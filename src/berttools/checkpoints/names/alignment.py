"""Align the tensor names of two checkpoints: prefixes, wrappers, legacy spellings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from berttools.checkpoints.names.wrappers import bare_names

if TYPE_CHECKING:
    from berttools.checkpoints.files import Checkpoint


class Alignment(NamedTuple):
    """The correspondence of two models' tensor names."""

    pairs: dict[str, str]
    """The base's name to the fine-tuned model's."""
    only_base: list[str]
    only_ft: list[str]


# Parts of names that only say what a model is wrapped in.
_WRAPPERS = {
    "module", "model", "base_model", "_orig_mod", "bert", "roberta", "distilbert", "electra", "deberta",
    "transformer", "encoder", "backbone", "discriminator", "language_model",
}  # fmt: skip
_LEGACY = (
    (re.compile(r"(norm[^.]*)\.gamma$", re.I), r"\1.weight"),
    (re.compile(r"(norm[^.]*)\.beta$", re.I), r"\1.bias"),
)

Shapes = Mapping[str, tuple[int, ...]]


def align_names(base: Shapes, ft: Shapes, *, strip: Sequence[str] = ()) -> Alignment:
    """Match the names of two models that may be wrapped differently.

    Wrappers are dropped wherever they stand, those that may be a model's own modules only where more tensors meet
    then. A prefix such as ``bert.`` is taken off either side if that makes more tensors meet, counting first those
    of the same shape; ``LayerNorm.gamma`` and ``beta`` are ``weight`` and ``bias``, and weight and spectral norm of
    before torch 2.0 are parametrizations. Where nothing is gained, names count as they are.

    Parameters
    ----------
    base, ft
        Name to shape.
    strip
        Prefixes that are taken off the names of either side first, from each name the longest that it has.
    """
    if strip:
        mine, theirs = _without(base, strip), _without(ft, strip)
        bare = align_names({b: base[n] for b, n in mine.items()}, {b: ft[n] for b, n in theirs.items()})
        pairs = {mine[left]: theirs[right] for left, right in bare.pairs.items()}
        return _alignment(base, ft, pairs)
    return _alignment(base, ft, _bare_pairs(base, ft))


def _bare_pairs(base: Shapes, ft: Shapes) -> dict[str, str]:
    """Match names without wrappers, in the way in which most tensors meet; the fewest parts are dropped for that."""
    best: dict[str, str] = {}
    best_score = (-1, -1)
    variants = [[bare_names(names, maybe=False), bare_names(names, maybe=True)] for names in (base, ft)]
    seen: list[tuple[dict[str, str], dict[str, str]]] = []
    for mine in variants[0]:
        for theirs in variants[1]:
            if (mine, theirs) in seen:
                continue
            seen.append((mine, theirs))
            left, right = _modern_norms(mine), _modern_norms(theirs)
            met = _in_two_rounds({b: base[n] for b, n in left.items()}, {b: ft[n] for b, n in right.items()})
            pairs = {left[name]: right[other] for name, other in met.items()}
            score = (sum(base[name] == ft[other] for name, other in pairs.items()), len(pairs))
            if score > best_score:
                best, best_score = pairs, score
    return best


def _in_two_rounds(base: Shapes, ft: Shapes) -> dict[str, str]:
    pairs: dict[str, str] = {}
    # A second round meets what lies outside the first one's prefix: the embeddings beside `bert.encoder.`.
    # It takes off wrappers only, or two models' heads would meet by accident.
    for wrappers_only in (False, True):
        left = {name: shape for name, shape in base.items() if name not in pairs}
        taken = set(pairs.values())
        right = {name: shape for name, shape in ft.items() if name not in taken}
        pairs.update(_best_match(left, right, wrappers_only=wrappers_only))
    return pairs


# What replaces the ending in today's spelling, if the tensor of the second ending is there too.
_NORMS = {
    "_g": ("_v", ".original0"), "_v": ("_g", ".original1"),
    "_orig": ("_u", ".original"), "_u": ("_orig", ".0._u"),
}  # fmt: skip
_NORMED = re.compile(r"((?:.*\.)?)(weight\w*?|bias)(_g|_v|_orig|_u)")


def _modern_norms(names: Mapping[str, str]) -> dict[str, str]:
    """Rename the keys of weight norm (``weight_g``, ``weight_v``) and spectral norm as torch's parametrizations.

    Spectral norm's ``weight_v`` is a vector that it keeps, not the weight: which of both it is, its neighbours say.
    """
    found = {}
    for bare, name in names.items():
        modern = bare
        if match := _NORMED.fullmatch(bare):
            module, own, ending = match.groups()
            beside, today = _NORMS[ending]
            if ending == "_v" and f"{module}{own}_orig" in names:
                beside, today = "_orig", ".0._v"
            if f"{module}{own}{beside}" in names:
                modern = f"{module}parametrizations.{own}{today}"
        found[bare if modern in names else modern] = name
    return found


def _without(names: Iterable[str], strip: Sequence[str]) -> dict[str, str]:
    """Map each name without its prefix to the name; a name that would collide with another keeps its prefix."""
    found = {}
    for name in sorted(names, key=len):
        prefix = max((p for p in strip if name.startswith(p) and name != p), key=len, default="")
        bare = name.removeprefix(prefix)
        found[name if bare in found else bare] = name
    return found


def _alignment(base: Shapes, ft: Shapes, pairs: Mapping[str, str]) -> Alignment:
    taken = set(pairs.values())
    return Alignment(
        {name: pairs[name] for name in sorted(pairs)},
        sorted(base.keys() - pairs.keys()),
        sorted(ft.keys() - taken),
    )


def _best_match(base: Shapes, ft: Shapes, *, wrappers_only: bool) -> dict[str, str]:
    best: dict[str, str] = {}
    best_score = (0, 0, 0)
    stripped_ft = {prefix: _stripped(ft, prefix) for prefix in _prefixes(ft, wrappers_only=wrappers_only)}
    for prefix in _prefixes(base, wrappers_only=wrappers_only):
        stripped = _stripped(base, prefix)
        for ft_prefix, other in stripped_ft.items():
            pairs = {stripped[name]: other[name] for name in stripped.keys() & other.keys()}
            same_shape = sum(base[name] == ft[ft_name] for name, ft_name in pairs.items())
            score = (same_shape, len(pairs), -len(prefix) - len(ft_prefix))
            if pairs and score > best_score:
                best, best_score = pairs, score
    return best


def _prefixes(names: Iterable[str], *, wrappers_only: bool) -> list[str]:
    """Return the prefixes that may be stripped: up to three parts that are wrappers, or that half of the names have."""
    names = list(names)
    counts: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        for depth in range(1, min(4, len(parts))):
            prefix = ".".join(parts[:depth]) + "."
            counts[prefix] = counts.get(prefix, 0) + 1
    return ["", *sorted(
        prefix
        for prefix, count in counts.items()
        if _WRAPPERS.issuperset(prefix[:-1].split("."))
        or (not wrappers_only and 2 * count >= len(names) and not any(map(str.isdigit, prefix)))
    )]  # fmt: skip


def _stripped(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Map each name without the prefix, spelled as of today, to the name; the shortest wins a collision."""
    found: dict[str, str] = {}
    for name in sorted(names, key=len, reverse=True):
        found[modern_name(name.removeprefix(prefix))] = name
    return found


def modern_name(name: str) -> str:
    """Rename a LayerNorm's gamma and beta to weight and bias; return any other name as it is."""
    for pattern, modern in _LEGACY:
        name = pattern.sub(modern, name)
    return name


def base_names(base: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Map the names of an open model to those of its base's files, which may have another prefix."""
    pairs = align_names({name: stored.shape for name, stored in base.tensors.items()}, shapes).pairs
    return {name: stored for stored, name in pairs.items() if base.tensors[stored].shape == shapes[name]}
