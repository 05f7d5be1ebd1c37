"""Read the texts to train and to evaluate on, open a classifier for their labels, and tokenise them for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from _toolio.errors import ToolError, UsageError, of_the_whole_run, param
from _toolio.streams.inputs import STDIN

if TYPE_CHECKING:
    from berttools.classifier.model import Classifier
    from berttools.texts.batches import Dataset, Encoded
    from berttools.texts.examples import Example
    from berttools.texts.labels import Labels
    from berttools.tuning.config import TaskConfig


def read_texts(
    train: str, dev: str | None, columns: str | None, *, task: str = "auto"
) -> tuple[list[Example], list[Example]]:
    """Return the examples to train and to evaluate on; of the latter none without ``dev``.

    Where ``task`` is ``regression`` or ``multilabel``, labels that are numbers or lists in strings are read as such.

    Raises
    ------
    UsageError
        If a file is stdin.
    ToolError
        If a line cannot be used, or one file holds pairs and the other single texts.
    """
    to_train = _read(train, columns, task)
    if not dev:
        return to_train, []
    to_evaluate = _read(dev, columns, task)
    if (to_evaluate[0].second is None) != (to_train[0].second is None):
        kinds = ("pairs", "single texts") if to_evaluate[0].second else ("single texts", "pairs")
        raise ToolError(
            f"{param('dev')} {dev}: holds {kinds[0]}, and {param('train')} {train} {kinds[1]}", kind="bad-text"
        )
    return to_train, to_evaluate


def _read(name: str, columns: str | None, task: str) -> list[Example]:
    from berttools.texts.examples import read_examples, with_lists, with_values
    from berttools.texts.rows import parse_columns

    if name == STDIN:
        raise UsageError(f"{param('train')} and {param('dev')} are files: they are read more than once")
    known = parse_columns(columns)
    examples = read_examples(name, known)
    if task == "regression":
        return with_values(examples)
    return with_lists(examples, known.of("label")) if task == "multilabel" else examples


def open_classifier(
    config: TaskConfig, train: list[Example], dev: list[Example] | None = None, *, warn: Callable[[str], object]
) -> tuple[Classifier, str]:
    """Open the base with its own head, or with a new one for the labels of ``train``.

    Parameters
    ----------
    config
        The base, and what its head is to predict.
    train, dev
        All labelled texts.
    warn
        What to call with what is doubtful about labels and tokenizer, a line each.

    Returns
    -------
    tuple
        The classifier, and where its labels are from, for messages.

    Raises
    ------
    ToolError
        If the base cannot be opened, has NaN or infinite weights, labels cannot be learned, or one is unknown.
    """
    from berttools.classifier.model import open_base, refuse_not_finite
    from berttools.texts.labels import doubt, doubtful, numbers_of

    new = config.new_labels(train)
    classifier = open_base(config.base, new, seed=config.seed)
    refuse_not_finite(config.base, classifier.model)
    source = (
        f"{param('train')} {config.train} has" if new else f"the base's head knows; {param('new_head')} replaces it"
    )
    for examples in (train, dev or []):
        numbers_of(examples, classifier.labels, source)  # what is wrong is said before what is doubtful
    if unused := classifier.limits.unused_tokens(classifier.tokenizer):
        warn(f"{config.base}: {unused}")
    for doubt_of_names in doubtful(new, task=config.task) if new else ():
        warn(f"{config.train}: {doubt_of_names}")
    if said := doubt(classifier.labels, (example.label for example in (*train, *(dev or ())))):
        warn(f"{config.base}: {said}")
    return classifier, source


def tokenised(examples: list[Example], classifier: Classifier, *, longest: int | None, source: str) -> Dataset:
    """Return examples as a classifier takes them.

    Parameters
    ----------
    examples
        With labels.
    classifier
        Its tokenizer and labels are used.
    longest
        Tokens at which texts are truncated; None for as many as the model takes.
    source
        Where the labels are from, for the message about one that is unknown.

    Raises
    ------
    ToolError
        If a label is none of the classifier's, or a text has a token that the model's embedding has no row for.
    """
    import numpy as np

    from berttools.texts.batches import Dataset
    from berttools.texts.labels import numbers_of

    targets = np.array(numbers_of(examples, classifier.labels, source))
    places = [example.where for example in examples]
    return Dataset(checked_texts(examples, classifier, longest=longest), targets, places=places)


def checked_texts(examples: Sequence[Example], classifier: Classifier, *, longest: int | None = None) -> list[Encoded]:
    """Return the tokens of texts, at most ``longest`` of each.

    Raises
    ------
    ToolError
        If a classifier cannot take one of them.
    """
    from berttools.texts.batches import encode

    most = min(longest or classifier.longest, classifier.longest)
    found = encode(classifier.tokenizer, examples, most=most)
    with of_the_whole_run():
        for text, example in zip(found, examples, strict=True):
            classifier.limits.check(text, example.where, classifier.tokenizer)
    return found


def check_metric(metric: str, labels: Labels) -> None:
    """Raise UsageError if a metric does not fit the labels."""
    from berttools.texts.metrics import metrics_for

    known = metrics_for(len(labels.names), multiple=labels.multiple)
    if metric not in known:
        what = "lists of classes" if labels.multiple else "numbers" if labels.regression else "classes"
        raise UsageError(f"{param('metric')} {metric}: the labels are {what}; give one of {', '.join(known)}")
