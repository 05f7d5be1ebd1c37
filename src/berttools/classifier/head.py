"""Labels of a model's head: what its configuration says of them, and whether its weights agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from _toolio.errors import ToolError
from berttools.masks.task_config import MOST_UNNAMED, PROBLEMS, THRESHOLDS
from berttools.texts.labels import Labels


def check_config(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a folder whose config.json, as it is written, contradicts itself on labels.

    transformers would drop names or classes without a word.

    Raises
    ------
    ToolError
        Kind ``"bad-labels"``: ``id2label`` does not number classes from 0 on, or ``num_labels`` is another number.
    """
    names, numbers, count = (config.get(key) for key in ("id2label", "label2id", "num_labels"))
    if numbers is not None and not (isinstance(numbers, dict) and all(type(each) is int for each in numbers.values())):
        raise _bad(folder, "label2id is no table of names and whole numbers")
    if config.get("problem_type") not in PROBLEMS:
        raise _bad(
            folder, f"problem_type is {config['problem_type']!r:.40}, none of {', '.join(filter(None, PROBLEMS))}"
        )
    if count is not None and (type(count) is not int or not 1 <= count <= MOST_UNNAMED):
        raise _bad(folder, f"num_labels is {count!r:.40}, no number of 1 to {MOST_UNNAMED:,}")
    if names is None:
        return
    if not isinstance(names, dict):
        raise _bad(folder, "id2label is no table of numbers and names")
    if {*names} != {str(number) for number in range(len(names))}:
        raise _bad(folder, f"id2label numbers its classes {', '.join(names):.80}, and not from 0 on")
    if count is not None and count != len(names):
        raise _bad(folder, f"num_labels is {count}, and id2label names {len(names)} classes")


def labels_of(config: Any) -> Labels:
    """Return the labels of a model's outputs, by its configuration as transformers has it.

    Raises
    ------
    ToolError
        Kind ``"bad-labels"``: two classes have one name, ``label2id`` numbers a class otherwise, there are not as many
        thresholds as classes, or there are thresholds, and it is no multi-label data.
    """
    multiple = config.problem_type == "multi_label_classification"
    thresholds = getattr(config, THRESHOLDS, None)
    if thresholds is not None and not multiple:
        raise _bad(
            config._name_or_path,
            f"{THRESHOLDS} are of multi-label data, and problem_type is {config.problem_type or 'not set'}, not"
            " multi_label_classification",
        )
    if config.problem_type == "regression" or (config.num_labels == 1 and not multiple):
        return Labels()
    names = tuple(str(config.id2label[number]) for number in range(config.num_labels))
    if twice := next((number for number, name in enumerate(names) if names.index(name) != number), None):
        raise _bad(
            config._name_or_path,
            f"classes {names.index(names[twice])} and {twice} are both called {names[twice]!r} (id2label)",
        )
    numbers = getattr(config, "label2id", None) or {}
    if odd := next((name for n, name in enumerate(names) if numbers.get(name, n) != n), None):
        raise _bad(
            config._name_or_path,
            f"class {odd!r} is {names.index(odd)} in id2label, and {numbers[odd]} in label2id",
        )
    return Labels(names, numbered=True, multiple=multiple, thresholds=_checked(thresholds, names, config))


def _checked(thresholds: Any, names: Sequence[str], config: Any) -> tuple[float, ...]:
    """Return the thresholds in a configuration, none if it has none."""
    if thresholds is None:
        return ()
    if (
        not isinstance(thresholds, list)
        or len(thresholds) != len(names)
        or not all(isinstance(each, int | float) and 0 <= each <= 1 for each in thresholds)
    ):
        raise _bad(config._name_or_path, f"{THRESHOLDS} are not {len(names)} probabilities, one a class")
    return tuple(map(float, thresholds))


def set_thresholds(config: Any, thresholds: Mapping[str, float] | None) -> None:
    """Write the threshold of each class into a model's configuration; with None take those of before out of it."""
    if thresholds is not None:
        setattr(config, THRESHOLDS, list(thresholds.values()))
    elif hasattr(config, THRESHOLDS):
        delattr(config, THRESHOLDS)


def _bad(folder: Any, what: str) -> ToolError:
    return ToolError(f"{folder}: {what}; correct its config.json", kind="bad-labels")


def config_fields(labels: Labels) -> dict[str, Any]:
    """Return what a model's configuration says of labels."""
    if labels.regression:
        return {"num_labels": 1, "problem_type": "regression", "id2label": {0: "value"}, "label2id": {"value": 0}}
    names = dict(enumerate(labels.names))
    numbers = {name: number for number, name in names.items()}
    problem = "multi_label_classification" if labels.multiple else "single_label_classification"
    return {"problem_type": problem, "id2label": names, "label2id": numbers}


def check_shapes(folder: Path, labels: int, mismatched: Mapping[str, tuple[Iterable[int], Iterable[int]]]) -> None:
    """Raise if tensors of a head have not the shapes that a head of so many labels has.

    Parameters
    ----------
    folder
        The model's.
    labels
        How many labels its configuration has.
    mismatched
        Name of each tensor of another shape to its shape, and the one of such a head.

    Raises
    ------
    ToolError
        Kind ``"bad-labels"``.
    """
    if not mismatched:
        return
    name, shapes = max(mismatched.items(), key=lambda item: (len(list(item[1][0])), item[0]))
    found, wanted = ("x".join(map(str, shape)) for shape in shapes)
    raise ToolError(
        f"{folder}: its {name} is of shape {found}, and config.json has {labels} labels (id2label, num_labels), for"
        f" which it is {wanted}; correct config.json, or copy the weights that belong to it",
        kind="bad-labels",
    )
