"""The command ``berttools maskdiff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.errors import ToolError, param
from _toolio.files.claims import claimed
from _toolio.lazy import uncollected
from _toolio.streams.records import RecordWriter
from berttools.checkpoints import groups
from berttools.commands import _options

SCHEMA = "berttools.maskdiff/1"
SUBJECT = ("mask", "mask_b", "by", "stack", "layer", "group", "name", "shape")
OF_ONE = ("weights", "zeroed", "bytes", "bits_per_weight", "tensors", "code", "dense_bytes", "file_bytes")
OF_TWO = (
    *("sparsity_a", "sparsity_b", "weights", "hamming", "overlap", "overlap_expected", "z", "tensors"),
    *("left_out_a", "left_out_b", "reason"),
)


def maskdiff(
    masks: Annotated[list[Path], typer.Argument(metavar="MASK...", help="Mask files; every two are compared.")],
    by: Annotated[
        groups.By, typer.Option(help="One record a matrix, or all of a layer, group or model, summed.")
    ] = groups.By.tensor,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="BASE",
            help="The base that all are of; needed where a mask coded given its weights must be decoded.",
        ),
    ] = None,
    heatmap: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw layers by groups: a .png, .svg or .pdf.")
    ] = None,
    force: options.Force = False,
) -> int:
    """Measure the sparsity of masks, and their overlap.

    One mask: sparsity, bytes and bits a weight. Several: for every two of them the Jaccard index of what they zero, how
    many entries differ, and the overlap beside what it would be by chance, if each zeroed as many entries of each
    matrix at random: z is the difference in standard deviations.
    """
    kind = _options.drawn_as(heatmap, force=force)
    rank, shown, more = (
        ("sparsity", OF_ONE, ["part", "masked_sha256"]) if len(masks) == 1 else ("jaccard", OF_TWO, ["part", "error"])
    )
    columns = (*SUBJECT, *shown)
    drawn = claimed(heatmap, replace=force, named=param("heatmap"))
    with drawn, RecordWriter(SCHEMA, rank, columns, csv_fields=(*columns, *more), makes_files=bool(heatmap)) as writer:
        with uncollected():
            from berttools.masks.comparison import compare_masks
            from berttools.masks.overlap import SEVERAL_BASES

        divided = heatmap is not None or by in (groups.By.tensor, groups.By.group)
        try:
            compared = compare_masks(masks, base, divided=divided)
        except ToolError as error:
            if error.kind != SEVERAL_BASES:
                raise
            advice = "with --code bits or entropy, mask-tune writes masks that can be compared all the same"
            raise ToolError(f"{error.message}: {advice}", kind=error.kind) from None
        for comparison in compared:
            for record in comparison.records(by):
                writer.emit(record)
        if heatmap:
            from berttools.heatmap import write_heatmap

            panels = [
                (" · ".join(mask.path.name for mask in comparison.masks), comparison.cells(rank))
                for comparison in compared
                if comparison.has_matrices
            ]
            empty = "no matrix that is masked has a layer and a group"
            write_heatmap(heatmap, panels, groups.KNOWN_GROUPS, kind, label=rank, if_empty=empty)
        return writer.exit_code


PAGE = Page(
    fields={
        "sparsity": "Of one mask: share of the entries that are zeroed.",
        "jaccard": "Of two masks: entries that both zero over those that either does; null where neither does.",
        "mask": "The mask file; of two the first, a.",
        "mask_b": "The second, b.",
        "by": "tensor, layer, group or model: what the record is about.",
        "name": "The matrix, as the base's files call it, and layerdiff does.",
        "layer": "Number of its layer, from 0; null where it belongs to none.",
        "group": "Q, K, V, AO, I or O; XQ, XK, XV or XAO of cross-attention; null for all else.",
        "stack": "Which list of layers the layer is of, such as encoder and decoder; absent where there is one.",
        "part": "Of a matrix that holds several: axis, start and stop of its rows (0) or columns (1); shape too.",
        "shape": "Of the matrix, or of the part.",
        "weights": "Entries of the masked matrices.",
        "zeroed": "How many of them are zeroed.",
        "bytes": "Bytes that the code takes; of a part, an equal share of them.",
        "bits_per_weight": "Bits of code over entries.",
        "tensors": "How many matrices were summed, each part as one.",
        "code": "bits, entropy or conditional; several are joined by +.",
        "dense_bytes": "With --by model: bytes of the head, and of what else is in the file as it is.",
        "file_bytes": "With --by model: bytes of the file.",
        "masked_sha256": "With --by model: digest of the base's matrices that are masked, as mask-tune's record has"
        " it. Masks of the same matrices are of one base where they have the same.",
        "sparsity_a": "Share of the entries that a zeroes.",
        "sparsity_b": "Share that b zeroes.",
        "hamming": "Entries that one zeroes and the other does not.",
        "overlap": "Entries that both zero.",
        "overlap_expected": "How many that would be by chance, each mask zeroing as many entries of each matrix.",
        "z": "overlap less overlap_expected, in standard deviations of the hypergeometric distribution.",
        "left_out_a": "With --by model: how many matrices a masks and b does not; absent where there is none.",
        "left_out_b": "How many b masks and a does not, likewise.",
        "reason": "Why there is no jaccard or no z.",
        "error": "Why a matrix that both mask, or all of them, cannot be compared: kind and message.",
    },
    examples=(
        ("berttools maskdiff task.mask.safetensors --by group", "What a mask zeroes of each group."),
        ("berttools maskdiff task.mask.safetensors --by layer | sort -r | head -1", "The sparsest layer."),
        (
            "berttools maskdiff task.mask.safetensors other.mask.safetensors --base base/ --by model",
            "Do two masks zero the same?",
        ),
        (
            "berttools maskdiff task.mask.safetensors --by layer --heatmap zeros.png --csv",
            "By layer for a spreadsheet, and a picture by layer and group.",
        ),
    ),
)
