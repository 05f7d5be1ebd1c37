"""The keys of a model's configuration that a mask file may set: those that a task changes, and no others.

A mask may come from anybody. All else of config.json, and with it what code a model is made of, is the base's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from _toolio.errors import ToolError
from _toolio.json_text import parse_json

THRESHOLDS = "label_thresholds"
"""Of multi-label data: the probability from which on each class is predicted, in the order of ``id2label``."""

TASK_KEYS = (
    "architectures", "id2label", "label2id", "num_labels", "problem_type", "dtype", "torch_dtype", "pad_token_id",
    THRESHOLDS,
)  # fmt: skip
"""What tuning a task changes of its base's config.json."""

PROBLEMS = (None, "regression", "single_label_classification", "multi_label_classification")
MOST_UNNAMED = 1 << 16
"""Labels that are counted without being named."""


def task_config(text: str) -> dict[str, Any]:
    """Read the text of a config.json, and check what it says of the task.

    Raises
    ------
    ValueError
        It is no JSON object, or no model has such a configuration.
    """
    config = parse_json(text)
    if not isinstance(config, dict):
        raise ValueError("config is no JSON object")
    json.dumps(config, ensure_ascii=False).encode()  # half a surrogate pair could not be written
    _check_words(config)
    _check_labels(config)
    return config


def _check_words(config: Mapping[str, Any]) -> None:
    named = config.get("architectures")
    if named is not None and not (isinstance(named, list) and all(isinstance(each, str) for each in named)):
        raise ValueError("architectures are no list of names")
    if config.get("problem_type") not in PROBLEMS:
        raise ValueError("problem_type is none that is known")
    for key in ("dtype", "torch_dtype"):
        found = config.get(key)
        if found is not None and not (isinstance(found, str) and re.fullmatch("b?float(16|32|64)", found)):
            raise ValueError(f"{key} is no kind of float")
    padding = config.get("pad_token_id")
    if padding is not None and type(padding) is not int:
        raise ValueError("pad_token_id is no whole number")
    if not isinstance(config.get("model_type", ""), str):
        raise ValueError("model_type is no text")


def _check_labels(config: Mapping[str, Any]) -> None:
    names, numbers, count = (config.get(key) for key in ("id2label", "label2id", "num_labels"))
    if count is not None and (type(count) is not int or not 1 <= count <= MOST_UNNAMED):
        raise ValueError("num_labels is no count of labels")
    limits = config.get(THRESHOLDS)
    if limits is not None and not (
        isinstance(limits, list) and all(type(each) in (int, float) and 0 <= each <= 1 for each in limits)
    ):
        raise ValueError(f"{THRESHOLDS} are no probabilities")
    if limits is not None and config.get("problem_type") not in (None, "multi_label_classification"):
        raise ValueError(f"{THRESHOLDS} are of multi-label data, and problem_type is another")
    if numbers is not None and not (
        isinstance(numbers, dict) and all(type(number) is int for number in numbers.values())
    ):
        raise ValueError("label2id does not number labels")
    if names is None:
        return
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ValueError("id2label does not name labels")
    if sorted(names) != sorted(map(str, range(len(names)))) or count not in (None, len(names)):
        raise ValueError("id2label does not number labels from 0 on")


def label_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what says which labels there are, as transformers makes it of what `task_config` read."""
    if (named := config.get("id2label")) is not None:
        names = {number: named[str(number)] for number in range(len(named))}
    else:
        names = {number: f"LABEL_{number}" for number in range(config.get("num_labels") or 2)}
    numbers = config.get("label2id") or {name: number for number, name in names.items()}
    fields = {"id2label": names, "label2id": numbers, "problem_type": config.get("problem_type")}
    return fields | ({THRESHOLDS: config[THRESHOLDS]} if config.get(THRESHOLDS) is not None else {})


def unfit_tensor(mask: Path, folder: Path, labels: int, name: str, shape: Iterable[int]) -> ToolError:
    """Return the error of a mask file that has, or leaves to its base in `folder`, a tensor of the wrong shape."""
    return ToolError(
        f"{mask}: no model of {labels} labels over {folder} has a {name} of shape {'x'.join(map(str, shape))}; copy it"
        " again, or make it again",
        kind="bad-mask",
    )


def model_config(base: Mapping[str, Any], task: Mapping[str, Any], *, mask: Path, folder: Path) -> dict[str, Any]:
    """Return the configuration of a task's model.

    Parameters
    ----------
    base
        What the config.json of the base says.
    task
        What the mask's says, as `task_config` reads it: where it leaves out one of `TASK_KEYS`, that has its default.
    mask, folder
        Of the mask and of the base, for the message.

    Raises
    ------
    ToolError
        Kind ``"other-base"``: they are of different types.
    """
    types = [each.get("model_type") for each in (task, base)]
    if types[1] is not None and types[0] != types[1]:
        raise ToolError(
            f"{mask}: was made for a model of type {str(types[0])[:40]!r}, and {folder} is one of type"
            f" {str(types[1])[:40]!r}; give that base",
            kind="other-base",
        )
    keys = ("model_type", *TASK_KEYS) if types[1] is None else TASK_KEYS
    own = {key: task[key] for key in keys if key in task}
    return {key: value for key, value in base.items() if key not in keys} | own
