"""Compare masks: what one zeroes or what every two have in common, as records or by layer and group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.streams.records import Record, error_fields
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.groups import By
from berttools.checkpoints.matrix_parts import MatrixPart, matrix_parts
from berttools.checkpoints.names.layers import Row, row_of
from berttools.masks.file import Mask, open_mask
from berttools.masks.overlap import overlaps, sparsity_by_matrix, sum_by


@dataclass(frozen=True)
class Comparison:
    """One mask, or two of them compared.

    Attributes
    ----------
    mask, other
        The masks; ``other`` is None where there is one.
    counted
        By matrix: `Sparsity` of the one, or `Overlap` of both.
    refused
        The errors of matrices that could not be compared.
    """

    mask: Mask
    other: Mask | None
    counted: Sequence[tuple[MatrixPart, Any]]
    refused: Sequence[tuple[MatrixPart, ToolError]] = ()

    @property
    def masks(self) -> list[Mask]:
        """The one mask, or both."""
        return [self.mask, *([self.other] if self.other else [])]

    @property
    def has_matrices(self) -> bool:
        """Whether any matrix was counted."""
        return any(part.name for part, _ in self.counted)

    def records(self, by: By) -> Iterator[Record]:
        """Yield one record a matrix, layer, group or model, then one an error."""
        named: Record = dict(zip(("mask", "mask_b"), (mask.path for mask in self.masks), strict=False))
        for part, found in sum_by(self.counted, by).items():
            place: Record = {"by": by.value}
            place |= {key: getattr(part, key) for key in ("name", "layer", "group") if by in (By.tensor, key)}
            place |= {"stack": part.stack} if part.stack else {}
            if part.name:
                place |= {"name": self.mask.base_names[part.name]} if by is By.tensor else {}
                place["shape"] = part.shape(self.mask.shapes[part.name])
            if part.part:
                place["part"] = dict(zip(("axis", "start", "stop"), part.part, strict=True))
            yield {**named, **place, **found.fields(), **self._uncounted(part, by)}
        for part, error in self.refused:
            place = (
                {"name": self.mask.base_names[part.name], "layer": part.layer, "group": part.group} if part.name else {}
            )
            place |= {"stack": part.stack} if part.stack else {}
            yield {**named, **place, **error_fields(error)}

    def cells(self, field: str) -> dict[tuple[Row, str], float | None]:
        """Return a field of the records by layer and group."""
        return {
            (row_of(part.stack, part.layer), part.group): counts.fields()[field]
            for part, counts in sum_by(self.counted, "cell").items()
            if part.layer is not None and part.group
        }

    def _uncounted(self, part: MatrixPart, by: By) -> Record:
        """Return what is known without counting: of one mask its code, of two how many matrices only one masks."""
        if not self.other:
            return _code_fields(self.mask, part, by)
        if by is not By.model:
            return {}
        left_out = {"left_out_a": _only_in(self.mask, self.other), "left_out_b": _only_in(self.other, self.mask)}
        return {key: value for key, value in left_out.items() if value}


def _only_in(one: Mask, other: Mask) -> int:
    return sum(len(matrix_parts(name, shape)) for name, shape in one.shapes.items() if name not in other.shapes)


def _code_fields(mask: Mask, part: MatrixPart, by: By) -> Record:
    """Return what only one mask's records have: of a matrix its code, of the whole file what else is in it."""
    if part.name:
        return {"code": mask.codes[part.name]}
    if by is not By.model:
        return {}
    figures = mask.figures()
    sizes = {"dense_bytes": figures["dense_bytes"], "file_bytes": figures["bytes"]}
    return {"code": figures["code"], **sizes, "masked_sha256": figures["masked_sha256"]}


def compare_masks(masks: Sequence[Path], base: Path | None = None, *, divided: bool = True) -> list[Comparison]:
    """Open masks, and count what the one zeroes or what every two have in common.

    Parameters
    ----------
    masks
        Mask files.
    base
        The base that all are of; needed where a mask that is coded given its weights must be decoded.
    divided
        As of `sparsity_by_matrix`; two masks are always divided.

    Raises
    ------
    ToolError
        As of `open_mask`, `sparsity_by_matrix` and `overlaps`.
    """
    opened = [open_mask(path) for path in masks]
    checkpoint = open_checkpoint(base) if base else None
    with of_the_whole_run():
        if len(opened) == 1:
            return [Comparison(opened[0], None, list(sparsity_by_matrix(opened[0], checkpoint, divided=divided)))]
        return [
            Comparison(opened[one], opened[other], pair.counted, pair.refused)
            for (one, other), pair in overlaps(opened, checkpoint).items()
        ]
