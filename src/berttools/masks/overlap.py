"""Sparsity of a mask and overlap of masks: matrix by matrix, and summed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np

from _toolio.errors import ToolError
from _toolio.streams.records import Record
from berttools.checkpoints.files import Checkpoint
from berttools.checkpoints.groups import KNOWN
from berttools.checkpoints.matrix_parts import MatrixPart, groups_of, matrix_parts, whole_matrix
from berttools.checkpoints.names.layers import row_order
from berttools.masks.base import check_base
from berttools.masks.coding import Bools
from berttools.masks.file import Mask

SEVERAL_BASES = "several-bases"
"""Kind of the error of masks of different bases of which one cannot be read without its own."""


@dataclass(frozen=True, slots=True)
class Sparsity:
    """What one mask zeroes in some matrices.

    Attributes
    ----------
    weights, zeroed
        Entries, and how many of them are zeroed.
    bytes
        Of code.
    tensors
        Matrices.
    """

    weights: int = 0
    zeroed: int = 0
    bytes: int = 0
    tensors: int = 0

    def __add__(self, other: Sparsity) -> Sparsity:
        return Sparsity(*(getattr(self, key) + getattr(other, key) for key in self.__slots__))

    def fields(self) -> Record:
        """Return the fields of a record."""
        return {
            "sparsity": _ratio(self.zeroed, self.weights),
            "weights": self.weights,
            "zeroed": self.zeroed,
            "bytes": self.bytes,
            "bits_per_weight": _ratio(8 * self.bytes, self.weights),
            "tensors": self.tensors,
        }


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two masks zero in some matrices.

    Attributes
    ----------
    weights
        Entries.
    zeroed_a, zeroed_b, both
        Zeroed by the one, by the other, by both.
    expected, variance
        Of `both`, if they were independent in each matrix (hypergeometric distribution).
    tensors
        Matrices.
    """

    weights: int = 0
    zeroed_a: int = 0
    zeroed_b: int = 0
    both: int = 0
    expected: float = 0.0
    variance: float = 0.0
    tensors: int = 0

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(*(getattr(self, key) + getattr(other, key) for key in self.__slots__))

    def fields(self) -> Record:
        """Return the fields of a record; ``z`` is in standard deviations."""
        either = self.zeroed_a + self.zeroed_b - self.both
        found: Record = {
            "jaccard": _ratio(self.both, either),
            "sparsity_a": _ratio(self.zeroed_a, self.weights),
            "sparsity_b": _ratio(self.zeroed_b, self.weights),
            "weights": self.weights,
            "hamming": either - self.both,
            "overlap": self.both,
            "overlap_expected": self.expected,
            "z": (self.both - self.expected) / math.sqrt(self.variance) if self.variance else None,
            "tensors": self.tensors,
        }
        if not self.tensors:
            found["reason"] = "they mask no matrix in common"
        elif not either:
            found["reason"] = "neither zeroes anything"
        elif not self.variance:
            found["reason"] = "one of them zeroes all or nothing: there is no other overlap"
        return found


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def overlap(one: Bools, other: Bools) -> Overlap:
    """Compare two masks of one matrix, each True where an entry stays."""
    return _overlap_of(*_counts(one, other))


def _counts(one: Bools, other: Bools) -> tuple[int, int, int, int]:
    """Count entries, those that one zeroes, that the other does, and that both do."""
    n = one.size
    a, b, both = (n - int(np.count_nonzero(keep)) for keep in (one, other, one | other))
    return n, a, b, both


def _overlap_of(n: int, a: int, b: int, both: int) -> Overlap:
    variance = a * b * (n - a) * (n - b) / (n * n * (n - 1)) if n > 1 else 0.0
    return Overlap(n, a, b, both, a * b / n if n else 0.0, variance, 1)


def sparsity_by_matrix(
    mask: Mask, base: Checkpoint | None = None, *, divided: bool = True
) -> Iterator[tuple[MatrixPart, Sparsity]]:
    """Yield what a mask zeroes, matrix by matrix.

    Parameters
    ----------
    mask
        The mask.
    base
        Its base, which is checked.
    divided
        Divide fused matrices, for which they are decoded; nothing else is. Each part has an equal share of the code's
        bytes.

    Raises
    ------
    ToolError
        It is another base, or there is none, and what is to be decoded is coded given its weights.
    """
    names = check_base(mask.fingerprint, base) if base else {}
    stacks = KNOWN.stacks(mask.shapes)
    for name, shape in mask.shapes.items():
        parts, coded = matrix_parts(name, shape, stacks), mask.coded_bytes[name]
        if len(parts) == 1 or not divided:
            yield whole_matrix(name, shape, stacks), Sparsity(math.prod(shape), mask.zeroed[name], coded, len(parts))
            continue
        counts = np.zeros((len(parts), 2), np.int64)
        for first, run in mask.runs(name, base.flat(names[name]) if base else None):
            for number, part in enumerate(parts):
                kept = part.select(run, first, shape)
                counts[number] += kept.size, kept.size - np.count_nonzero(kept)
        for number, (part, (size, zeroed)) in enumerate(zip(parts, counts.tolist(), strict=True)):
            share = coded * (number + 1) // len(parts) - coded * number // len(parts)
            yield part, Sparsity(size, zeroed, share, 1)


class PairOverlap(NamedTuple):
    """The overlap of two masks in every matrix that could be compared, and the errors of those that could not."""

    counted: list[tuple[MatrixPart, Overlap]]
    refused: list[tuple[MatrixPart, ToolError]]


def overlaps(masks: Sequence[Mask], base: Checkpoint | None) -> dict[tuple[int, int], PairOverlap]:
    """Compare every two masks, matrix by matrix, where both mask it in one shape; each is decoded once, in runs.

    Two masks with no matrix in common have one `Overlap` of nothing, in no matrix; where all that they have in common
    differs in shape, one refusal says so of the pair.

    Raises
    ------
    ToolError
        No two masks have a matrix in common that can be compared; a base is needed, or one of the masks is of another
        base than is given, or than one is of that needs it.
    """
    _refuse_several_bases(masks)
    digests: dict[str, str] = {}
    names = [check_base(mask.fingerprint, base, digests) if base else {} for mask in masks]
    found = {pair: PairOverlap([], []) for pair in combinations(range(len(masks)), 2)}
    everything = sorted({name for mask in masks for name in mask.shapes})
    stacks = KNOWN.stacks(everything)
    for name in everything:
        have = [number for number, mask in enumerate(masks) if name in mask.shapes]
        for shape in {masks[number].shapes[name]: None for number in have}:
            alike = [number for number in have if masks[number].shapes[name] == shape]
            flats = [base.flat(names[number][name]) if base else None for number in alike]
            runs = [masks[number].runs(name, flat) for number, flat in zip(alike, flats, strict=True)]
            compared = _compared(matrix_parts(name, shape, stacks), shape, dict(zip(alike, runs, strict=True)))
            for numbers, counted in compared.items():
                found[numbers].counted.extend(counted)
        for one, other in combinations(have, 2):
            if (shape := masks[one].shapes[name]) != masks[other].shapes[name]:
                refused = _of_two_shapes(masks[one], masks[other], name)
                found[one, other].refused.append((whole_matrix(name, shape, stacks), refused))
    if not any(pair.counted for pair in found.values()):
        one, other = next((numbers for numbers, pair in found.items() if pair.refused), (0, 1))
        raise _apart(masks[one], masks[other])
    for (one, other), pair in found.items():
        if not pair.counted and pair.refused:
            pair.refused[:] = [(MatrixPart(), _apart(masks[one], masks[other]))]
        elif not pair.counted:
            pair.counted.append((MatrixPart(), Overlap()))
    return found


def _compared(
    parts: Sequence[MatrixPart], shape: tuple[int, ...], runs: Mapping[int, Iterator[tuple[int, Bools]]]
) -> dict[tuple[int, int], list[tuple[MatrixPart, Overlap]]]:
    """Compare every two masks of a matrix, a run of each in memory; one alone is not read."""
    counts = {pair: np.zeros((len(parts), 4), np.int64) for pair in combinations(runs, 2)}
    for read in zip(*runs.values(), strict=True) if counts else ():
        keeps = dict(zip(runs, read, strict=True))
        for number, part in enumerate(parts):
            kept = {mask: part.select(run, first, shape) for mask, (first, run) in keeps.items()}
            for (one, other), sums in counts.items():
                sums[number] += _counts(kept[one], kept[other])
    return {
        pair: [(part, _overlap_of(*some)) for part, some in zip(parts, sums.tolist(), strict=True)]
        for pair, sums in counts.items()
    }


def _of_two_shapes(one: Mask, other: Mask, name: str, why: str = "") -> ToolError:
    shape, other_shape = ("x".join(map(str, mask.shapes[name])) for mask in (one, other))
    return ToolError(
        f"{one.path} and {other.path}: {why}{name} has the shapes {shape} and {other_shape}; give masks of one base",
        kind="other-base",
    )


def _apart(one: Mask, other: Mask) -> ToolError:
    """Return the error of two masks of which nothing can be compared."""
    if common := sorted(one.shapes.keys() & other.shapes.keys()):
        return _of_two_shapes(one, other, common[0], "no matrix that both mask is of one shape: ")
    return ToolError(f"{one.path}: masks no matrix that {other.path} masks too", kind="no-common-tensors")


def _refuse_several_bases(masks: Sequence[Mask]) -> None:
    """Refuse masks of different bases where one cannot be read without its own: only one base can be given."""
    for one, other in combinations(masks, 2):
        if not (one.needs_base or other.needs_base):
            continue
        for name in one.names:
            first, second = one.fingerprint.matrix_sha256s[name], other.fingerprint.matrix_sha256s.get(name)
            if second not in (first, None):
                raise ToolError(
                    f"{one.path} and {other.path}: are masks of different bases: the sha256 of {name} was {first[:12]}"
                    f" and {second[:12]}; {(one if one.needs_base else other).path} is coded given its base's weights",
                    kind=SEVERAL_BASES,
                )


_Counts = TypeVar("_Counts", Sparsity, Overlap)


def sum_by(counted: Iterable[tuple[MatrixPart, _Counts]], by: str) -> dict[MatrixPart, _Counts]:
    """Sum counts of matrices by ``tensor``, ``layer``, ``group``, ``model``, or ``cell`` (layer and group).

    Returns
    -------
    dict
        In the order of layers and groups, what has none last. The keys' fields are None but for those summed by.
    """
    keys = {
        "tensor": "name layer group part stack", "layer": "layer stack", "group": "group", "model": "",
        "cell": "layer group stack",
    }[by]  # fmt: skip
    found: dict[MatrixPart, _Counts] = {}
    for part, counts in counted:
        key = MatrixPart(*(getattr(part, each) if each in keys.split() else None for each in MatrixPart._fields))
        found[key] = found[key] + counts if key in found else counts
    order = groups_of(found)
    return dict(
        sorted(
            found.items(),
            key=lambda item: (
                row_order(item[0].stack, item[0].layer),
                order.index(item[0].group) if item[0].group else len(order),
                item[0].name or "",
            ),
        )
    )
