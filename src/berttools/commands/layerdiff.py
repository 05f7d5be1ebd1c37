"""The command ``berttools layerdiff``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from _toolio.cli import engines, options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.errors import param
from _toolio.files.claims import claimed
from _toolio.streams.records import RecordWriter
from berttools.checkpoints import groups
from berttools.commands import _options
from berttools.commands._layerdiff import Baseline, Tally, complain_of, expression, selection_of, watch
from berttools.layerdiff import LayerdiffConfig, refuse_no_pairs

if TYPE_CHECKING:
    from berttools.layerdiff.records import Panel

SCHEMA = "berttools.layerdiff/1"
SUBJECT = ("base", "ft", "by", "stack", "layer", "group", "name")
COLUMNS = (
    *(*SUBJECT, "shape", "tensors", "l1", "rel_l2", "max_abs", "changed", "rounding_angle", "svd_share"),
    *("baseline_angle", "rows_common", "rows_new", "rows_gone", "vocabulary", "reason"),
)
CSV_FIELDS = (
    *(*SUBJECT, "part", "shape", "tensors", "left_out", "n", "angle_rad", "l1", "mean_abs", "rel_l1", "l2", "rel_l2"),
    *("max_abs", "changed", "dtype", "rounding_angle", "svd_share", "baseline_angle", "baseline_l1", "baseline_rel_l2"),
    *("name_ft", "shape_ft", "dtype_ft", "only_in", "tied_to", "tied_base", "tied_ft"),
    *("rows_common", "rows_new", "rows_gone", "vocabulary", "not_finite", "reason", "error"),
)


def layerdiff(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The pre-trained checkpoint: a folder or a file.")],
    ft: Annotated[
        list[Path],
        typer.Argument(metavar="FT...", help="The fine-tuned checkpoints: folders, files, or LoRA adapters of BASE."),
    ],
    by: Annotated[
        groups.By, typer.Option(help="One record a tensor, or all of a layer, group or model, summed exactly.")
    ] = groups.By.tensor,
    only: Annotated[
        str | None,
        typer.Option(metavar="REGEX", callback=expression, help="Only tensors in whose name it is found."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="Q,K",
            autocompletion=options.completion(_options.groups),
            help="Only matrices of these groups.",
        ),
    ] = None,
    matrices: Annotated[
        bool,
        typer.Option(
            "--matrices", help="Only matrices that have a group, which are what to rank for tuning: no biases, norms."
        ),
    ] = False,
    group_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rules in front of the built-in ones: a group and an expression a line."),
    ] = None,
    strip_prefix: Annotated[
        list[str] | None, typer.Option(metavar="PREFIX", help="Take this off names on either side; repeatable.")
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Compare the fine-tuned ones with each other too.")] = False,
    baseline: Annotated[
        Baseline | None,
        typer.Option(help="Add the base's distance to a random initialisation of its config.json."),
    ] = None,
    seed: options.Seed = 0,
    svd: Annotated[
        int, typer.Option(min=0, metavar="K", help="Add the share of each change in its first K singular values.")
    ] = 0,
    device: options.Device = "cpu",
    engine: engines.Choice = engines.Kind.local,
    actors: engines.Actors = None,
    gpus_per_actor: engines.GpusPerActor = None,
    heatmap: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw angles: .png, .svg or .pdf.")] = None,
    force: options.Force = False,
) -> int:
    """Measure how far fine-tuning moved each tensor.

    One record a tensor, first field the angle over pi (0 to 1). Reads folders, safetensors, sharded safetensors by
    their index, .bin files (with weights_only), and LoRA adapters, merged tensor by tensor as PEFT merges them into
    the base as it was published (PiSSA, OLoRA and DoRA too; what cannot be merged so is refused by name). Quantized
    weights (FP8, compressed-tensors, bitsandbytes, GPTQ, AWQ, MXFP4, torchao) are read as the weights that they stand
    for; what cannot be read for certain is an error of that tensor. Prefixes such as bert., wrappers such as
    _orig_mod and the old names of LayerNorm are matched; fused matrices (Wqkv, c_attn) are divided. Angles and L1
    distances are what arXiv 2004.14129 compares models by; the scale of l1, sum|d| / sqrt(n), is chosen here. Sums
    are float64. Where fewer than half of the smaller checkpoint's tensors are matched, it says so and exits 3.

    A line of --group-map such as Q attn[.]query names the group, then an expression searched for in names; Q+K+V
    divides a matrix by rows into equal parts, Q+K+V@1 by columns; (?P<layer>[0-9]+) in it is the layer.
    """
    chosen = engines.choose("berttools", engine, device, actors, gpus_per_actor)
    local = engine is engines.Kind.local
    kind = _options.drawn_as(heatmap, force=force)
    config = LayerdiffConfig(
        selection=selection_of(only, group, group_map, strip_prefix or (), matrices=matrices),
        by=by,
        svd=svd,
        baseline=baseline is not None,
        seed=seed,
        pairs=pairs,
        device=device,
        processes=None if local else 1,  # each actor has one core
    )
    names, panels = config.selection.grouping.names, list["Panel"]()
    tally = Tally()
    refuse_no_pairs(ft, config)
    drawn = claimed(heatmap, replace=force, named=param("heatmap"))
    written = RecordWriter(SCHEMA, "angle", COLUMNS, decimals=12, csv_fields=CSV_FIELDS, makes_files=bool(heatmap))
    with drawn, written as writer, chosen:
        from berttools.layerdiff.records import PairWorker, Panel

        observe, cells = watch if local else None, names if heatmap else None
        opening = partial(PairWorker, base, ft, config, observe=observe, cells=cells)
        worker = opening(chosen.here)
        worker.open_all()
        dealt = worker.pairs if local else track(worker.pairs, "comparing", len(worker.pairs))
        for each in chosen.map(opening, dealt, worker, batch=1):
            if isinstance(each, Panel):
                panels.append(each)
                continue
            writer.emit(each)
            complain_of(each)
            tally.add(each)
        if heatmap:
            from berttools.heatmap import write_heatmap

            empty = f"no matrix that was compared has a layer and a group; see {param('group_map')}"
            write_heatmap(heatmap, panels, names, kind, if_empty=empty)
        writer.sum_up(tally.line(writer.failures))
        return writer.exit_code


PAGE = Page(
    fields={
        "angle": "Angle between the two tensors as vectors, over pi: 0 same direction, 0.5 orthogonal, 1 opposite.",
        "name": "The tensor's name in the base.",
        "base": "Which checkpoint is the base of this record; given, with ft, where several pairs are compared.",
        "ft": "Which checkpoint is the fine-tuned one.",
        "by": "layer, group or model, where tensors are summed: the distances are of them laid end to end.",
        "tensors": "How many were summed, a tied copy not counted again; left_out could not be compared, or are"
        " integers that are no quantized weights, such as position ids.",
        "n": "Entries that were summed.",
        "name_ft": "Its name in the fine-tuned model, where that differs.",
        "stack": "Which list of layers its layer is of, such as encoder and decoder, or text_model and vision_model;"
        " absent where the base has one, and the layer is of that.",
        "layer": "Number of its layer, from 0; null where it belongs to none.",
        "group": "Q, K, V, AO, I or O for the matrices of a transformer layer, XQ, XK, XV and XAO for those of"
        " cross-attention; null for all else.",
        "shape": "Of the tensor; shape_ft is given where that differs.",
        "angle_rad": "The angle in radians, with all its digits.",
        "l1": "sum|d| / sqrt(n), d being fine-tuned minus base and n the number of entries: a scale chosen here.",
        "mean_abs": "sum|d| / n.",
        "rel_l1": "sum|d| over the sum of the base's absolute values.",
        "l2": "Length of d.",
        "rel_l2": "Length of d over the length of the base.",
        "max_abs": "Largest |d|.",
        "changed": "Fraction of entries that differ.",
        "rounding_angle": "Where dtypes differ: the angle over pi that storing the finer side in the coarser dtype"
        " makes by itself. A measured angle no larger says nothing. Not of quantized weights.",
        "part": "Of a matrix that holds several: axis, start and stop of its rows (0) or columns (1); shape too.",
        "svd_share": "With --svd K: the share of the change's energy in its K largest singular values, 0 to 1;"
        " null for what is no matrix or did not change.",
        "baseline_angle": "With --baseline: the base's distance to the random initialisation; baseline_l1 and"
        " baseline_rel_l2 too.",
        "tied_to": "The tensor that this one is a copy of in its own model.",
        "tied_base": "The embeddings of the base that it was compared with: the base ties it to them, and has no such"
        " tensor of its own. tied_ft: the same of the fine-tuned model.",
        "rows_common": "Where vocabularies differ, of embeddings and of a language model's output: how many rows were"
        " compared, the first of both.",
        "rows_new": "How many rows the fine-tuned model has besides; rows_gone: how many the base has. Of a layer,"
        " group or model: of all its tensors; no distance is of these rows.",
        "vocabulary": "With these: same, if both tokenizers have the same tokens for the rows compared; unchecked, if"
        " their files do not say; other, if rows are of other tokens: nothing is compared, and reason says which.",
        "dtype": "Of the base's tensor, of a quantized one that of its codes; dtype_ft is given where that differs.",
        "only_in": "base or ft, for a tensor, or all of a layer or group, of one side only.",
        "not_finite": "How many entries of each side are NaN or infinite.",
        "reason": "Why there is no angle or no distance.",
        "error": "What went wrong with this tensor: kind and message.",
    },
    examples=(
        ("berttools layerdiff base/ ft/ | sort", "Rank the tensors, least moved first."),
        (
            'berttools layerdiff base/ ft/ | grep \'"group":"V"\' | sort -r | head -3',
            "The three value matrices that moved most.",
        ),
        (
            "berttools layerdiff --matrices base/ ft/ | sort -r | head -8",
            "The eight matrices that moved most, such as finetune --only - takes.",
        ),
        (
            "berttools layerdiff base.safetensors ft/model.safetensors.index.json > moved.jsonl",
            "A single file against shards.",
        ),
        ("berttools layerdiff base/ ft/ --by layer --csv", "How far each layer moved, for a spreadsheet."),
        (
            "berttools layerdiff base/ ft/ --group V,O --heatmap moved.png | sort -r | head -4",
            "Values and outputs only, drawn by layer too.",
        ),
        (
            "berttools layerdiff base/ ft/ ft2/ --pairs --by model",
            "Are two fine-tuned models nearer to the base than to each other?",
        ),
    ),
)
