"""The command ``berttools layerdiff``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from _toolio.progress import track
from _toolio.records import RecordWriter, error_fields

if TYPE_CHECKING:
    from berttools.comparing import TensorDiff

SCHEMA = "berttools.layerdiff/1"
COLUMNS = ("layer", "group", "name", "shape", "l1", "rel_l2", "max_abs", "changed", "reason")
DISTANCES = ("l1", "mean_abs", "rel_l1", "l2", "rel_l2", "max_abs", "changed")


def layerdiff(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The pre-trained checkpoint: a folder or a file.")],
    ft: Annotated[Path, typer.Argument(metavar="FT", help="The fine-tuned checkpoint: a folder or a file.")],
) -> int:
    """Measure how far fine-tuning moved each tensor.

    One record a tensor, first field the angle. Reads folders, safetensors, sharded safetensors by their index,
    and .bin files (with weights_only). Prefixes such as bert. and the old names of LayerNorm are matched.
    Distances are those of arXiv 2004.14129, summed in float64.
    """
    with RecordWriter(SCHEMA, "angle", COLUMNS, decimals=12) as writer:
        from berttools.checkpoints import open_checkpoint
        from berttools.comparing import diff_checkpoints

        before, after = open_checkpoint(base), open_checkpoint(ft)
        for diff in track(diff_checkpoints(before, after), "comparing", len(before.tensors)):
            writer.emit(_describe(diff))
        return writer.exit_code


def _describe(diff: TensorDiff) -> dict[str, Any]:
    """Lay one tensor's distances out as a record."""
    found = diff.distance
    shape = diff.shape_ft if diff.shape_base is None else diff.shape_base
    dtype = diff.dtype_base or diff.dtype_ft
    record: dict[str, Any] = {"angle": found and found.angle, "name": diff.name}
    record |= {"layer": diff.layer, "group": diff.group, "shape": shape}
    record["angle_rad"] = None if found is None or found.angle is None else found.angle * math.pi
    record |= {key: getattr(found, key, None) for key in DISTANCES}
    record["dtype"] = dtype
    extra = {
        "name_ft": diff.name_ft if diff.name_ft != diff.name else None,
        "shape_ft": diff.shape_ft if diff.shape_ft != shape else None,
        "dtype_ft": diff.dtype_ft if diff.dtype_ft != dtype else None,
        "only_in": diff.only_in,
        "reason": diff.reason,
    }
    record |= {key: value for key, value in extra.items() if value is not None}
    if found and (counts := {k: n for k in ("nan_base", "inf_base", "nan_ft", "inf_ft") if (n := getattr(found, k))}):
        record["not_finite"] = counts
    return record | (error_fields(diff.error) if diff.error else {})
