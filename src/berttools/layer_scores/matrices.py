"""The matrices of a base that can be ranked: those that have a group, fused ones taken apart."""

from __future__ import annotations

from typing import Any

from _toolio.errors import ToolError
from berttools.checkpoints.files import Checkpoint
from berttools.checkpoints.groups import KNOWN
from berttools.checkpoints.matrix_parts import MatrixPart, matrix_parts


def ranked_matrices(base: Checkpoint) -> list[MatrixPart]:
    """Return every matrix of a layer that has a group, in the order of the files: as ``layerdiff`` has them.

    Raises
    ------
    ToolError
        Kind ``"no-matrices"``: there is none.
    """
    stacks = KNOWN.stacks(base.tensors)
    parts = [
        part for name, stored in base.tensors.items() for part in matrix_parts(name, stored.shape, stacks) if part.group
    ]
    if not parts:
        raise ToolError(f"{base.path}: no matrix of it is known as one of a layer: nothing to rank", kind="no-matrices")
    return parts


def cut(whole: Any, part: MatrixPart) -> Any:
    """Return a part's rows or columns of an array or tensor of the stored matrix's shape, as a view."""
    if part.part is None:
        return whole
    axis, start, stop = part.part
    return whole[start:stop] if axis == 0 else whole[:, start:stop]
