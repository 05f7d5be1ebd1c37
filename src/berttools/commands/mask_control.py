"""The command ``berttools mask-control``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.errors import UsageError, param
from _toolio.files.claims import claimed
from _toolio.files.overwriting import refuse_existing, refuse_inside
from _toolio.lazy import uncollected
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import refuse_processes

SCHEMA = "berttools.mask-control/1"
COLUMNS = ("path", "kind", "zeroed", "weights", "bytes", "code")


class Kind(StrEnum):
    """How the zeroed entries are chosen."""

    random = "random"
    magnitude = "magnitude"


def mask_control(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The model that MASK was made for: a folder or a file.")],
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="The mask whose sparsity and head are taken.")],
    out: options.OutFile,
    kind: Annotated[
        Kind, typer.Option(help="At random, or the smallest absolute values of each matrix.")
    ] = Kind.random,
    seed: options.Seed = 0,
    force: options.Force = False,
) -> int:
    """Write a control mask: as sparse as another, but not learned.

    As many entries of each matrix are zeroed as in MASK, at random or by magnitude, two of each four or whole rows
    where those of MASK are, and the head is that of MASK. A learned mask is worth what it scores above both kinds.
    """
    refuse_processes("mask-control")
    refuse_inside(out, mask, param("mask"))
    refuse_inside(out, base, param("base"))
    refuse_existing(out, force=force)
    with claimed(out, replace=force), RecordWriter(SCHEMA, "sparsity", COLUMNS, makes_files=True) as writer:
        with uncollected():
            from berttools.masks.controls import write_control
            from berttools.masks.metadata import is_mask

        if is_mask(base):
            raise UsageError(f"{base}: is a mask, not a base; the order is BASE MASK")
        found = write_control(base, mask, out, kind, seed)
        writer.emit({"sparsity": None, "path": out, "kind": kind.value, "mask": mask, "base": base, **found})
        writer.sum_up(f"{out} is written")
        return writer.exit_code


PAGE = Page(
    fields={
        "sparsity": "Share of the masked matrices' entries that are zeroed: that of the mask it is a control of.",
        "path": "The mask file that was written.",
        "kind": "random or magnitude.",
        "mask": "The mask it is a control of.",
        "base": "The base.",
        "mask_bytes": "Bytes of the mask itself.",
        "dense_bytes": "Bytes of the head, and of what else is stored as it is.",
        "matrices": "How many matrices are masked.",
        "weights": "How many entries they have.",
        "zeroed": "How many of those are zeroed.",
        "code": "How the mask is coded: bits, entropy, conditional; several are joined by +.",
        "masked_sha256": "Digest of the base's matrices that are masked, and of no other tensor.",
        "bytes": "Bytes of the file.",
    },
    examples=(
        (
            "berttools mask-control base/ task.mask.safetensors --kind random --out random.mask.safetensors",
            "As many zeros, at random.",
        ),
        (
            "berttools mask-control base/ task.mask.safetensors --kind magnitude --out small.mask.safetensors"
            " && berttools maskdiff task.mask.safetensors small.mask.safetensors --base base/ --by model",
            "As many zeros among the smallest weights, and how many of them the mask has too.",
        ),
    ),
)
