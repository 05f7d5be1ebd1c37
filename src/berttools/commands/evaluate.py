"""The command ``berttools evaluate``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.errors import InputError
from _toolio.streams.records import Order, RecordWriter, has_failed
from _toolio.streams.shards import refuse_processes
from berttools.commands._options import DataInputs, inputs_of, warn
from berttools.texts.metric_names import Metric

SCHEMA = "berttools.evaluate/1"
COLUMNS = ("metric", "task", "chance", "interval", "n", "classes", "reason")


def evaluate(
    paths: options.Paths = None,
    inputs: DataInputs = None,
    metric: Annotated[list[Metric] | None, typer.Option(help="Compute only this metric; repeatable.")] = None,
    seed: options.Seed = 0,
) -> int:
    """Evaluate predictions against their gold labels.

    Reads records of predict, or any with label and gold, and writes one record a metric, first field its value, with
    the 95% confidence interval of a bootstrap over texts. Without --metric: accuracy, f1, macro-f1 and matthews of
    classes, pearson and spearman of a regression, micro-f1, macro-f1 and accuracy where labels are lists. f1 is that of
    the second of two classes, of more the mean. If the records are of several tasks (their field task), each is
    evaluated by itself. Records with an error pass through.
    """
    from berttools.texts.rows import parse_columns, rows_of

    refuse_processes("evaluate")
    names = inputs_of(options.named(inputs, paths))
    with RecordWriter(SCHEMA, "score", COLUMNS, order=Order.made) as writer:
        from berttools.texts.evaluation import NEEDED, Evaluation

        evaluation = Evaluation()
        for row in (row for name in names for row in rows_of(name, parse_columns(None), needed=NEEDED)):
            if has_failed(row.fields):
                writer.pass_on(row.fields)
                continue
            try:
                if row.error:
                    raise row.error
                evaluation.add(row.fields, row.where)
            except InputError as error:
                writer.fail(error, {}, through=row.fields)
        best = ""
        for result in evaluation.results([each.value for each in metric or []], seed=seed):
            fields: dict[str, Any] = {"score": result.value, "metric": result.metric}
            fields |= {"task": result.task} if result.task else {}
            fields |= {"chance": result.chance, "interval": result.interval, "n": result.count}
            fields |= {"classes": result.classes, "labels": result.labels} if result.classes else {}
            fields |= {"reason": "one side has one value only"} if result.value is None else {}
            writer.emit(fields)
            if result.value is not None and not best:
                best = f"{result.metric} {result.value:.3f}"
                best += f" ({result.interval[0]:.3f} to {result.interval[1]:.3f})" if result.interval else ""
                best += f" of {result.count:,} texts"
                writer.sum_up(best + (f"; {writer.failures:,} failed" if writer.failures else ""))
        for said in evaluation.doubts():
            warn(said)
        return writer.exit_code


PAGE = Page(
    fields={
        "score": "The metric.",
        "metric": "Which one: accuracy, f1, macro-f1 or matthews of classes; pearson or spearman of a regression;"
        " micro-f1, macro-f1 or accuracy (of whole lists) of multi-label data.",
        "task": "Which task was evaluated; absent if the records are of one or none.",
        "chance": "What the metric is at best where every text gets the same label: of accuracy the majority's share,"
        " of a correlation 0. F1 is high by itself where its class is frequent.",
        "interval": "Its 95% confidence interval, by bootstrap over texts.",
        "n": "How many predictions were evaluated.",
        "classes": "How many classes there are.",
        "labels": "For each class how often it is gold, how often it is predicted, and how often both (right).",
        "reason": "Why there is no score.",
        "error": "What is wrong with this line, or was with an input of predict: kind and message.",
    },
    examples=(
        ("berttools predict --model ft/ --in dev.jsonl | berttools evaluate", "Every metric of a model."),
        ("berttools predict ft/ dev.jsonl | berttools evaluate --metric f1", "One metric."),
    ),
)
