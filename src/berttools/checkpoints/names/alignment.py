"""Align the tensor names of two checkpoints: prefixes, wrappers, legacy spellings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from _toolio.errors import ToolError, param
from berttools.checkpoints.names.prefixes import Met, Rival, Shapes, best_match
from berttools.checkpoints.names.wrappers import bare_names

if TYPE_CHECKING:
    from berttools.checkpoints.files import Checkpoint


class Alignment(NamedTuple):
    """The correspondence of two models' tensor names."""

    pairs: dict[str, str]
    """The base's name to the fine-tuned model's."""
    only_base: list[str]
    only_ft: list[str]


class AmbiguousNamesError(ToolError):
    """A part of one model fits two parts of the other equally well.

    Attributes
    ----------
    what
        The message without what to try.
    """

    def __init__(self, what: str, prefixes: str) -> None:
        super().__init__(f"{what}; give {prefixes} as {param('strip_prefix')}", kind="ambiguous")
        self.what, self._prefixes = what, prefixes

    def of(self, path: object) -> AmbiguousNamesError:
        """Return the error, with the file or folder in front."""
        return AmbiguousNamesError(f"{path}: {self.what}", self._prefixes)


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

    Raises
    ------
    AmbiguousNamesError
        Kind ``"ambiguous"``: without a prefix of the one side, as many names of the other meet as without another: an
        encoder by itself fits the encoder and the decoder that it may have been taken from.
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
    ambiguous: AmbiguousNamesError | None = None
    variants = [[bare_names(names, maybe=False), bare_names(names, maybe=True)] for names in (base, ft)]
    seen: list[tuple[dict[str, str], dict[str, str]]] = []
    for mine in variants[0]:
        for theirs in variants[1]:
            if (mine, theirs) in seen:
                continue
            seen.append((mine, theirs))
            left, right = _modern_norms(mine), _modern_norms(theirs)
            met, rival = _in_two_rounds({b: base[n] for b, n in left.items()}, {b: ft[n] for b, n in right.items()})
            pairs = {left[name]: right[other] for name, other in met.items()}
            score = (sum(base[name] == ft[other] for name, other in pairs.items()), len(pairs))
            if score > best_score:
                best, best_score, ambiguous = pairs, score, rival and _ambiguous(rival, left, right)
    if ambiguous is not None:
        raise ambiguous
    return best


def _in_two_rounds(base: Shapes, ft: Shapes) -> Met:
    pairs: dict[str, str] = {}
    rival: Rival | None = None
    # A second round meets what lies outside the first one's prefix: the embeddings beside `bert.encoder.`.
    # It takes off wrappers only, or two models' heads would meet by accident.
    for wrappers_only in (False, True):
        left = {name: shape for name, shape in base.items() if name not in pairs}
        taken = set(pairs.values())
        right = {name: shape for name, shape in ft.items() if name not in taken}
        met = best_match(left, right, wrappers_only=wrappers_only)
        pairs.update(met.pairs)
        rival = rival or met.rival
    return Met(pairs, rival)


def _ambiguous(rival: Rival, base: Mapping[str, str], ft: Mapping[str, str]) -> AmbiguousNamesError:
    """Return the error, given the files' names of both sides by those that were matched."""
    two, one = (base, ft) if rival.of_base else (ft, base)
    name, choices = one[rival.name], [two[rival.one], two[rival.other]]
    tail = rival.name.removeprefix(rival.prefix)
    prefixes = " or ".join(sorted(choice.removesuffix(tail) for choice in choices))
    side = "the base" if rival.of_base else "the fine-tuned model"
    more = f" ({rival.prefix} too)" if rival.prefix else ""
    return AmbiguousNamesError(
        f"{name} may be {' or '.join(sorted(choices))}: two parts of {side} fit equally well", prefixes + more
    )


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


def base_names(base: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Map the names of an open model to those of its base's files, which may have another prefix.

    Raises
    ------
    ToolError
        Kind ``"ambiguous"``, as of `align_names`.
    """
    try:
        pairs = align_names({name: stored.shape for name, stored in base.tensors.items()}, shapes).pairs
    except AmbiguousNamesError as error:
        raise ToolError(
            f"{base.path}: {error.what}; give the folder of that part, as its own class saves it", kind=error.kind
        ) from None
    return {name: stored for stored, name in pairs.items() if base.tensors[stored].shape == shapes[name]}
