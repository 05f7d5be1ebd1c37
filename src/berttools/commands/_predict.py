"""Parse what ``predict`` predicts with, and which fields of a line its record keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _toolio.errors import UsageError
from _toolio.words import many

_OUTCOME = ("score", "label", "scores", "truncated", "error")


def model_and_files(model: Path | None, base: Path | None, words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the model, which the first argument is where no option names one or a base, and the files."""
    if model is None and base is None and words:
        return Path(words[0]), list(words[1:])
    return model, list(words)


def chosen(model: Path | None, base: Path | None, masks: Sequence[str]) -> tuple[Path, dict[str, Path]]:
    """Return the folder to open, and task to mask file; none if the folder is a model of its own.

    Raises
    ------
    UsageError
        If it is neither ``--model`` nor ``--base`` with masks, or two masks are of one task.
    """
    if model is not None and base is None and not masks:
        return model, {}
    if base is None or not masks or model is not None:
        raise UsageError("give a model, or --base and --mask")
    found: dict[str, Path] = {}
    for text in masks:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            name, path = Path(text).name.partition(".")[0], text
        if not name or not path:
            raise UsageError(f"--mask {text}: give TASK=FILE")
        if name in found:
            raise UsageError(f"--mask {text}: the task {name} is given twice; give TASK=FILE, each with another task")
        found[name] = Path(path)
    return base, found


def handed_on(fields: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Return the fields of a line that its record keeps: no prediction of an earlier run, and its label as gold.

    A gold that is there already, as in records of an earlier run, wins over what ``label`` names.
    """
    kept = {key: value for key, value in fields.items() if key not in _OUTCOME}
    if fields.get(label) is not None and kept.get("gold") in (None, ""):
        kept.pop(label, None)
        kept["gold"] = fields[label]
    return kept


MOST_LABELS = 6
"""Labels that a summary counts; a regression has as many as there are texts."""


def summary_of(texts: int, labels: Counter[str], failed: int) -> str:
    """Return one line: texts, labels with how often each was predicted, failed lines."""
    counts = ", ".join(f"{count:,} {label}" for label, count in labels.most_common(MOST_LABELS))
    counted = f": {counts}" if 0 < len(labels) <= MOST_LABELS else ""
    return f"{many(texts, 'text')}{counted}" + (f"; {failed:,} failed" if failed else "")
