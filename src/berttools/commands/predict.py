"""The command ``berttools predict``."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from _toolio.cli import engines, options
from _toolio.cli.manual import Page
from _toolio.compute.precision import Precision, doubt_of
from _toolio.errors import InputError, spelled
from _toolio.lazy import uncollected
from _toolio.streams.records import Order, RecordWriter, has_failed
from _toolio.streams.shards import refuse_processes
from berttools.commands._options import ColumnsOption, DataInputs, MaxLength, PredictPrecision, inputs_of, warn
from berttools.commands._predict import chosen, handed_on, model_and_files, summary_of

SCHEMA = "berttools.predict/1"
COLUMNS = ("label", "gold", "text", "text_a", "text_b", "truncated")


def predict(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [FILE]...",
            show_default=False,
            help="As --model, if neither it nor --base is given; then as --in. Options and arguments may be mixed.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="DIR", help="A fine-tuned model: a folder that finetune wrote, or any such."),
    ] = None,
    base: Annotated[Path | None, typer.Option(metavar="DIR", help="Instead of --model: the base of masks.")] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(metavar="[TASK=]FILE", help="A mask over --base; repeatable. TASK: its name up to the first dot."),
    ] = None,
    inputs: DataInputs = None,
    text: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A text; may be repeated.")] = None,
    columns: ColumnsOption = None,
    max_length: MaxLength = None,
    batch: options.Batch = 32,
    precision: PredictPrecision = Precision.auto,
    device: options.Device = "auto",
    engine: engines.Choice = engines.Kind.local,
    actors: engines.Actors = None,
    gpus_per_actor: engines.GpusPerActor = None,
) -> int:
    """Predict labels of texts.

    One record a line of input, in its order, first field the probability of the label; for a regression the value. Of
    multi-label data label is the list of classes whose probability reaches the threshold in config.json, else 0.5.
    Fields of the input pass through; its label, if it has one, is called gold, so that evaluate finds it. A gold that
    is there already wins, as in records of an earlier predict. Records with an error pass through unlabelled.

    Of several masks a line's task says which; the base is in memory once. Of one mask, a line without a task is of it,
    and a line with another task is an error.

    The last digits of a value can differ with the texts that are in one batch; in bfloat16 earlier ones can. With
    --batch 1 a value depends on its text alone, and the run takes longer.
    """
    from berttools.checkpoints.model_folder import check_folder
    from berttools.texts.rows import parse_columns, rows_of_texts, windows_of

    refuse_processes("predict")
    chosen_engine = engines.choose("berttools", engine, device, actors, gpus_per_actor)
    model, paths = model_and_files(model, base, paths or [])
    folder, masks = chosen(model, base, mask or [])
    known, names = parse_columns(columns), options.named(inputs, paths)
    given = rows_of_texts(text or [], known)
    if names or not given:
        names = inputs_of(names)
    check_folder(folder)
    with RecordWriter(SCHEMA, "score", COLUMNS, order=Order.made) as writer, chosen_engine:
        with uncollected():
            from _toolio.compute.device import pick_device
            from berttools.classifier.worker import PredictionWorker

        half = precision is Precision.bfloat16
        if engine is engines.Kind.local and (doubt := doubt_of(pick_device(device), half=half)):
            warn(spelled(doubt))
        opening = partial(PredictionWorker, folder, masks, known, half, batch, max_length)
        labels = Counter[str]()
        windows = chain([given] if given else (), (window for name in names for window in windows_of(name, known)))
        for window, found in chosen_engine.map(opening, windows, batch=1):
            if (least := chosen_engine.halved_to) is not None and least < batch:
                batch = least
                warn(f"out of memory: texts are labelled {batch} at a time from here on; --batch {batch} begins so")
            outcomes = iter(found)
            for row in window:
                if has_failed(row.fields):
                    writer.pass_on(row.fields)
                    continue
                outcome = next(outcomes)
                through = handed_on(row.fields, known.of("label"))
                if isinstance(outcome, InputError):
                    writer.fail(outcome, {}, through=through)
                    continue
                fields: dict[str, Any] = {"score": outcome.score, "label": outcome.label}
                fields |= {"scores": outcome.scores} if outcome.scores else {}
                fields |= {"truncated": outcome.cut} if outcome.cut else {}
                writer.emit(fields, through=through)
                labels.update(map(str, outcome.label if isinstance(outcome.label, list) else [outcome.label]))
        writer.sum_up(summary_of(writer.written, labels, writer.failures))
        return writer.exit_code


PAGE = Page(
    fields={
        "score": "The probability of the label, 0 to 1; of a regression the value, of multi-label data the largest"
        " probability of a class.",
        "label": "The most probable class, or the value with all its digits. Of multi-label data a list of classes, in"
        " the model's order.",
        "scores": "The probability of every class.",
        "task": "With --mask: the task of the line, as in the input. One that no mask has is an error,"
        " unknown-task, with one --mask too. A line without is of the only mask; of several it is an error.",
        "gold": "The gold that the input had, or else its label, if it had one.",
        "text": "As in the input, as are text_a, text_b and any other field.",
        "truncated": "How many tokens at the text's end were truncated; absent if none.",
        "error": "What is wrong with this line, or was before: kind and message. unknown-token is a token, unknown-type"
        " a token type, that the model's embedding has no row for.",
    },
    examples=(
        ("berttools predict ft/ dev.jsonl | sort | head -3", "The three least certain predictions."),
        ('berttools predict ft/ --text "a fine day" --text "a dull film"', "Two texts."),
        (
            """echo '{"text":"a fine day"}' | berttools predict --model ft/""",
            "Label what a pipe brings.",
        ),
        (
            """echo '{"task":"other","text":"a fine day"}' | berttools predict --base base/"""
            " --mask task.mask.safetensors --mask other.mask.safetensors",
            "Each line by the mask that it names, all over one base.",
        ),
    ),
)
