"""The command ``berttools apply-mask``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.errors import UsageError, param
from _toolio.files.claims import claimed
from _toolio.files.overwriting import refuse_inside
from _toolio.lazy import uncollected
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import refuse_processes
from berttools.commands._options import ModelFolder

SCHEMA = "berttools.apply-mask/1"
COLUMNS = ("path", "base", "mask", "zeroed", "weights", "bytes")


def apply_mask(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The model that the mask was made for: a folder.")],
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="What mask-tune or mask-control wrote.")],
    out: ModelFolder,
    digest_cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep digests of bases here, and do not take them again while the base's files are unchanged.",
        ),
    ] = None,
    force: options.Force = False,
) -> int:
    """Apply a mask to its base, and write the model of the task.

    The folder is one that from_pretrained opens: config.json, weights, tokenizer, and a model card. Zeroed entries are
    +0.0; all other values of the base keep their bits and their dtype, and config.json says what the base's does but
    for the task's labels. Refuses another base than the mask was made for, or another tokenizer, whatever its files,
    shards and prefixes are called.
    """
    from berttools.checkpoints.model_folder import check_folder, refuse_model_folder

    refuse_processes("apply-mask")
    refuse_model_folder(out, force=force, base=base, card=True)
    if digest_cache is not None:
        for read, named in ((base, param("base")), (mask, param("mask"))):
            refuse_inside(digest_cache, read, named, written=param("digest_cache"))
    with claimed(out, replace=force), RecordWriter(SCHEMA, "sparsity", COLUMNS, makes_files=True) as writer:
        with uncollected():
            from berttools.masks import apply as masks_apply
            from berttools.masks.metadata import is_mask

        if is_mask(base):
            raise UsageError(f"{base}: is a mask, not a base; the order is BASE MASK")
        check_folder(base)
        found = masks_apply.apply_mask(base, mask, out, digest_cache=digest_cache)
        writer.emit({"sparsity": None, "path": out, "base": base, "mask": mask, **found})
        writer.sum_up(f"{out} is written")
        return writer.exit_code


PAGE = Page(
    fields={
        "sparsity": "Share of the masked matrices' entries that are zeroed.",
        "path": "The folder that was written.",
        "base": "The base.",
        "mask": "The mask file.",
        "tensors": "How many tensors the folder's weights are.",
        "mask_bytes": "Bytes of the mask itself.",
        "dense_bytes": "Bytes of the head, and of what else the mask file holds as it is.",
        "matrices": "How many matrices are masked.",
        "weights": "How many entries they have.",
        "zeroed": "How many of those are zeroed.",
        "code": "How the mask is coded: bits, entropy, conditional; several are joined by +.",
        "masked_sha256": "Digest of the base's matrices that are masked, and of no other tensor.",
        "bytes": "Bytes of the mask file.",
    },
    examples=(
        ("berttools apply-mask base/ task.mask.safetensors --out task/", "Write the model of a task as a folder."),
    ),
)
