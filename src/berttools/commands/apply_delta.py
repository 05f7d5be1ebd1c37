"""The command ``berttools apply-delta``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.errors import ToolError
from _toolio.files.claims import claimed
from _toolio.lazy import uncollected
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import refuse_processes
from berttools.commands._options import ModelFolder

SCHEMA = "berttools.apply-delta/1"
COLUMNS = ("path", "base", "delta", "tensors", "from_delta", "from_base")


def apply_delta(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The model that the delta was made from: a folder.")],
    delta: Annotated[Path, typer.Argument(metavar="DELTA", help="What finetune --save delta wrote.")],
    out: ModelFolder,
    force: options.Force = False,
) -> int:
    """Restore a fine-tuned model from its base and its delta.

    The folder that is written holds the same bytes as finetune --save model would have written. A base with another
    tensor or tokenizer than the delta's is refused.
    """
    from berttools.checkpoints.model_folder import check_folder, refuse_model_folder

    refuse_processes("apply-delta")
    refuse_model_folder(out, force=force, base=base)
    with claimed(out, replace=force), RecordWriter(SCHEMA, "share", COLUMNS, makes_files=True) as writer:
        with uncollected():
            from berttools.tuning import delta as deltas

        check_folder(base)
        try:
            found = deltas.apply_delta(base, delta, out)
        except ToolError as error:
            if error.kind != "not-a-delta":
                raise
            raise ToolError(f"{error.message}; berttools finetune --save delta writes one", kind=error.kind) from None
        share = found["from_delta"] / max(1, found["from_delta"] + found["from_base"])
        writer.emit({"share": share, "path": out, "base": base, "delta": delta, **found})
        writer.sum_up(f"{out} is written")
        return writer.exit_code


PAGE = Page(
    fields={
        "share": "Share of the model's values that come from the delta.",
        "path": "The folder that was written.",
        "base": "The base.",
        "delta": "The delta.",
        "tensors": "How many tensors come from the delta.",
        "from_delta": "How many values that is.",
        "from_base": "How many values come from the base.",
        "base_sha256": "Digest of the base's tensors.",
    },
    examples=(("berttools apply-delta base/ task.safetensors --out tuned/", "Restore a model that was tuned."),),
)
