"""Find the prefixes without which most names of two models meet, and whether others would do as well."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from berttools.checkpoints.names.vocabulary import is_tied, is_tied_to

Shapes = Mapping[str, tuple[int, ...]]

# Parts of names that only say what a model is wrapped in.
_WRAPPERS = {
    "module", "model", "base_model", "_orig_mod", "bert", "roberta", "distilbert", "electra", "deberta",
    "transformer", "encoder", "backbone", "discriminator", "language_model",
}  # fmt: skip
_LEGACY = (
    (re.compile(r"(norm[^.]*)\.gamma$", re.I), r"\1.weight"),
    (re.compile(r"(norm[^.]*)\.beta$", re.I), r"\1.bias"),
)
# Parts of a prefix, and prefixes that are tried on either side.
_DEPTH = 4
_MOST_PREFIXES = 64

# How much a prefix may be trusted: to be left out; so on one side, if half of the other side meets; not at all.
_ANY, _ONE_SIDE, _NEVER = range(3)

Key = tuple[str, str]
"""A prefix of the base's names and one of the fine-tuned model's; either may be empty."""


class Rival(NamedTuple):
    """Two tensors of one side that a tensor of the other meets equally well.

    Attributes
    ----------
    of_base
        Both are the base's, and not the fine-tuned model's.
    name
        The other side's.
    one, other
        The two.
    prefix
        What is left out in front of `name`.
    """

    of_base: bool
    name: str
    one: str
    other: str
    prefix: str


class Met(NamedTuple):
    """The names of a base that meet names of a fine-tuned model, to these; what else they could have met."""

    pairs: dict[str, str]
    rival: Rival | None


def modern_name(name: str) -> str:
    """Rename a LayerNorm's gamma and beta to weight and bias; return any other name as it is."""
    for pattern, modern in _LEGACY:
        name = pattern.sub(modern, name)
    return name


def best_match(base: Shapes, ft: Shapes, *, wrappers_only: bool) -> Met:
    """Match names without one prefix a side, in the way in which most tensors meet, first those of the same shape.

    A prefix has up to four parts, none with a digit. It is a known wrapper; or, without `wrappers_only`, that of half
    of the names, or one in front of layers, if at least half of the other side's names are met.
    """
    search = _Search(base, ft, wrappers_only=wrappers_only)
    best, found = ("", ""), search.pairs("", "")
    score = (*search.score(found), 0)
    for key in search.keys:
        if search.bounds[key] < score[:2]:
            break
        pairs = search.pairs(*key)
        this = (*search.score(pairs), -len(key[0]) - len(key[1]))
        if pairs and this > score and search.is_allowed(key, len(pairs)):
            best, found, score = key, pairs, this
    return Met(found, search.rival(best, found))


class _Search:
    """The prefixes of two models' names, and bounds on how many names meet without them."""

    def __init__(self, base: Shapes, ft: Shapes, *, wrappers_only: bool) -> None:
        self._sides = base, ft
        self._trust = [_prefixes(names, wrappers_only=wrappers_only) for names in (base, ft)]
        tails = [_tails(names, trust) for names, trust in zip(self._sides, self._trust, strict=True)]
        self._same, self._met = self._counts(*tails)
        # Names that both have as they are, by what they begin with: they do not meet where one side's are cut.
        self._whole_same, self._whole_met = self._whole(tails[0], tails[1])
        # Names behind the same prefix on both sides meet with it as well.
        keys = [key for key in self._met if key[0] != key[1] or self._met[key[0], ""] or self._met["", key[1]]]
        self.bounds = {key: self._bound(key) for key in keys if key != ("", "")}
        self.keys = sorted(self.bounds, key=lambda key: (*(-bound for bound in self.bounds[key]), key))

    def _counts(self, mine: _Tails, theirs: _Tails) -> tuple[Counter[Key], Counter[Key]]:
        same, met = Counter[Key](), Counter[Key]()
        base, ft = self._sides
        for tail, owners in mine.items():
            for ft_prefix, other in theirs.get(tail, ()):
                for prefix, name in owners:
                    met[prefix, ft_prefix] += 1
                    same[prefix, ft_prefix] += base[name] == ft[other]
        return same, met

    def _whole(self, mine: _Tails, theirs: _Tails) -> tuple[Counter[str], Counter[str]]:
        same, met = Counter[str](), Counter[str]()
        base, ft = self._sides
        whole = [{tail: name for tail, owners in side.items() for prefix, name in owners if not prefix}
                 for side in (mine, theirs)]  # fmt: skip
        for tail in whole[0].keys() & whole[1].keys():
            for prefix in ("", *_beginnings(tail)):
                met[prefix] += 1
                same[prefix] += base[whole[0][tail]] == ft[whole[1][tail]]
        return same, met

    def _bound(self, key: Key) -> tuple[int, int]:
        """Return the most names of the same shape, and of any, that can meet without two prefixes."""
        same, met = (
            counts[key] + (counts[prefix, ""] if prefix and ft_prefix else 0)
            + (counts["", ft_prefix] if prefix and ft_prefix else 0) + _uncut(whole, key)
            for counts, whole in ((self._same, self._whole_same), (self._met, self._whole_met))
            for prefix, ft_prefix in (key,)
        )  # fmt: skip
        return same, met

    def pairs(self, prefix: str, ft_prefix: str) -> dict[str, str]:
        """Return the names that meet without two prefixes."""
        mine, theirs = _stripped(self._sides[0], prefix), _stripped(self._sides[1], ft_prefix)
        return {mine[name]: theirs[name] for name in mine.keys() & theirs.keys()}

    def score(self, pairs: Mapping[str, str]) -> tuple[int, int]:
        """Return how many names of the same shape meet, and how many in all."""
        base, ft = self._sides
        return sum(base[name] == ft[other] for name, other in pairs.items()), len(pairs)

    def is_allowed(self, key: Key, met: int) -> bool:
        """Test whether two prefixes may be left out, so that so many names meet."""
        trust = [self._trust[side][key[side]] for side in (0, 1)]
        if sum(trust) > _ONE_SIDE:
            return False
        return all(each == _ANY or 2 * met >= len(self._sides[1 - side]) for side, each in enumerate(trust))

    def rival(self, best: Key, found: Mapping[str, str]) -> Rival | None:
        """Return what a tensor could have met as well, if all that are contested could, embeddings of tokens aside.

        Names that are the same on both sides are contested by none.
        """
        if best[0] == best[1]:
            return None
        score = self.score(found)
        tokens = sum(is_tied(name) or is_tied_to(name) for name in found)
        for key in self.keys:
            if self.bounds[key][0] < score[0] - tokens:
                continue
            if (key[0] == best[0]) != (key[1] == best[1]) and (rival := self._rival(best, found, key)):
                return rival
        return None

    def _rival(self, best: Key, found: Mapping[str, str], key: Key) -> Rival | None:
        of_base = key[1] == best[1]
        mine, theirs = self._sides if of_base else self._sides[::-1]
        ours, others = found, self.pairs(*key)
        if of_base:
            ours, others = ({other: name for name, other in each.items()} for each in (ours, others))
        contested = [
            name
            for name, own in sorted(ours.items())
            if others.get(name) != own and not is_tied(own) and not is_tied_to(own)
        ]
        for name in contested:
            if name not in others or (mine[others[name]] != theirs[name] and mine[ours[name]] == theirs[name]):
                return None
        if not contested:
            return None
        name = contested[0]
        return Rival(of_base, name, ours[name], others[name], best[1] if of_base else best[0])


_Tails = Mapping[str, list[tuple[str, str]]]
"""What is left of names without a prefix, to the prefixes and the names."""


def _uncut(whole: Counter[str], key: Key) -> int:
    """Return how many names that both sides have remain as they are if those with a prefix are cut on either side."""
    if not all(key):
        return whole[""] - whole[key[0] or key[1]]
    longer, shorter = sorted(key, key=len, reverse=True)
    return whole[""] - whole[key[0]] - whole[key[1]] + (whole[longer] if longer.startswith(shorter) else 0)


def _beginnings(name: str) -> Iterator[str]:
    parts = name.split(".")
    for depth in range(1, min(_DEPTH + 1, len(parts))):
        if parts[depth - 1].isdigit():
            return
        yield ".".join(parts[:depth]) + "."


def _tails(names: Iterable[str], prefixes: Iterable[str]) -> _Tails:
    known = set(prefixes)
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in names:
        modern = modern_name(name)
        for prefix in ("", *_beginnings(modern)):
            if prefix in known:
                found[modern[len(prefix) :]].append((prefix, name))
    return found


def _prefixes(names: Iterable[str], *, wrappers_only: bool) -> dict[str, int]:
    """Map the prefixes that may be left out to how much each may be trusted."""
    names = list(names)
    counts, in_front_of_layers = Counter[str](), Counter[str]()
    for name in names:
        layers = any(part.isdigit() for part in name.split("."))
        for prefix in _beginnings(name):
            counts[prefix] += 1
            in_front_of_layers[prefix] += layers
    found = {}
    for prefix, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if _WRAPPERS.issuperset(prefix[:-1].split(".")):
            found[prefix] = _ANY
        elif not wrappers_only and (2 * count >= len(names) or in_front_of_layers[prefix] > 1):
            trust = _ANY if 2 * count >= len(names) else _ONE_SIDE
            found[prefix] = _NEVER if any(map(str.isdigit, prefix)) else trust
    return {"": _ANY} | dict(list(found.items())[:_MOST_PREFIXES])


def _stripped(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Map each name without the prefix, spelled as of today, to the name; the shortest wins a collision."""
    found: dict[str, str] = {}
    for name in sorted(names, key=len, reverse=True):
        found[modern_name(name.removeprefix(prefix))] = name
    return found
