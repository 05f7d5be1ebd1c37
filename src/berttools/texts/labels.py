"""Labels of a task: classes, or values of a regression."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from _toolio.errors import InputError, ToolError, of_the_whole_run, param
from berttools.texts.examples import PRINTED, Example, Label, is_fraction, is_name, numbers_in, value_in
from berttools.texts.spellings import almost_equal, is_like, joined, list_in, number_spelled, odd_list

_VECTORS = {("0", "1"), ("1", "0")}
_NO_VECTORS = "vectors of 0 and 1 are not read: a list holds the names of the classes that hold of its text"
_LARGEST = 3.4e38
"""Largest label of a regression: a model computes in float32."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels that a model can predict.

    Attributes
    ----------
    names
        The classes, by index; empty for a regression, whose output is one value.
    numbered
        Data may name a class by its index too: names out of a model's configuration (LABEL_0) are often in no data.
    multiple
        A text has any number of the classes, and not one: multi-label data.
    thresholds
        Of multi-label data: the probability from which on each class is predicted; empty for 0.5 of each.
    """

    names: tuple[str, ...] = ()
    numbered: bool = False
    multiple: bool = False
    thresholds: tuple[float, ...] = ()

    @property
    def regression(self) -> bool:
        """Whether labels are values to regress, and not classes."""
        return not self.names

    @property
    def are_numbers(self) -> bool:
        """Whether every class is named by an integer as it is printed, as in GLUE."""
        return all(PRINTED.fullmatch(name) for name in self.names)

    def target(self, label: Label | None, where: str, source: str = "there are") -> float | list[float]:
        """Return the target of a label: its class index, its value, or for each class whether it holds, 0 or 1.

        Parameters, and what is raised, as of ``number``. Of multi-label data a class alone stands for a list of it.
        """
        if not self.multiple:
            return self.number(label, where, source)
        held = {self.number(each, where, source) for each in classes_in(label)}
        return [float(number in held) for number in range(len(self.names))]

    def number(self, label: Label | None, where: str, source: str = "there are") -> float:
        """Return the target of one class or value: its index, or itself.

        Parameters
        ----------
        label
            The label of a line; ``where`` names the line in messages.
        source
            Where the classes are from, for the message: ``the training set has``. What to do about another label may
            follow after a semicolon, and is said where the label does not show what is wrong.

        Raises
        ------
        InputError
            If it is none of the labels.
        """
        if isinstance(label, tuple):
            what = "values" if self.regression else "single classes"
            raise InputError(f"{where}: label is a list, and the model's labels are {what}", kind="bad-label")
        if self.regression:
            if isinstance(label, str) or label is None:
                advice = "write it without quotes" if label and numbers_in([label]) else _as_program(label)
                said = f"label {label!r} is no number, as others are{advice and '; ' + advice}"
                raise InputError(f"{where}: {said}", kind="bad-label")
            if abs(label) > _LARGEST:
                raise InputError(f"{where}: label is too large a number; give all on a smaller scale", kind="bad-label")
            return float(label)
        name = class_name(label)
        if name in self.names:
            return self.names.index(name)
        if self.numbered and isinstance(label, int) and not self.are_numbers and 0 <= label < len(self.names):
            return label
        known, semicolon, advice = source.partition("; ")
        raise InputError(
            f"{where}: label {label!r:.80} is none of {_few(self.names)}, which {known}"
            f"{self._advice(label) or semicolon + advice}",
            kind="unknown-label",
        )

    def _advice(self, label: Label | None) -> str | None:
        """Return what to do about a label that is no class's, if that can be seen from it."""
        place = label if isinstance(label, float) else None
        if isinstance(label, str):
            if odd := odd_list(label):
                return f": it {odd}"
            if like := next((name for name in self.names if is_like(name, label)), None):
                return f"; it differs from {like!r} by case or spaces alone: write it so"
            place = int(label) if PRINTED.fullmatch(label.strip()) and len(label) < 9 else None
        if place is None or not self.numbered or self.are_numbers or place not in range(len(self.names)):
            return None
        without = "quotes" if isinstance(label, str) else "a decimal point"
        return f"; write {int(place)} without {without} for its place, or the names, in every line"

    def shown(self, number: int) -> str | int:
        """Return a class's name as data sets write it: an integer where all are."""
        return int(self.names[number]) if self.are_numbers else self.names[number]


def doubt(labels: Labels, given: Iterable[Label | None]) -> str | None:
    """Return what to warn of where integers stand for the classes of a model's head; None if there is no doubt.

    Parameters
    ----------
    labels
        The head's.
    given
        The labels of data.
    """
    names = labels.names
    single = {each for label in given for each in classes_in(label)}
    numbers = sorted(each for each in single if isinstance(each, int) and 0 <= each < len(names))
    if not labels.numbered or not numbers:
        return None
    if labels.are_numbers:
        other = [number for number in numbers if names[number] != str(number)]
        if not other or {*names} != {str(number) for number in range(len(names))}:
            return None
        return (
            f"classes are called by numbers in another order (class {other[0]} is called {names[other[0]]}):"
            " the labels of the texts are taken for what classes are called"
        )
    taken = [number for number in numbers if str(number) not in names and names[number] != f"LABEL_{number}"]
    if not taken:
        return None
    said = _few(f"{number} for {names[number]!r}" for number in taken)
    return f"labels of texts are numbers, and classes have names: {said} is assumed; if that is wrong, write the names"


def doubtful(labels: Labels, *, task: str = "auto") -> Iterator[str]:
    """Yield what to warn of where the names of classes that were learned may be meant otherwise.

    With ``task`` ``classification`` the user has said that each label is one class.
    """
    if said := almost_equal(labels.names):
        yield said
    if task != "classification" and (said := joined(labels.names)):
        yield said


def classes_in(label: Label | None) -> tuple[Label | None, ...]:
    """Return the classes that a label names, one or several."""
    return label if isinstance(label, tuple) else (label,)


def class_name(label: Label | None) -> str:
    """Return the name that a model's configuration has for a class."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _as_program(label: Label | None) -> str:
    """Return what to do about a number that only people can read; empty for any other label."""
    found = number_spelled(label) if isinstance(label, str) else ()
    return f"write {' or '.join(found)}" if found else ""


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def learn_labels(examples: Sequence[Example], *, task: str = "auto", most: int = 1000, single: bool = False) -> Labels:
    """Infer the task, and its classes, from the labels of a training set.

    Parameters
    ----------
    examples
        At least one, with labels.
    task
        ``classification``, ``regression``, ``multilabel``, or ``auto``: multi-label if labels are lists, a regression
        if a label has a decimal point.
    most
        Largest number of classes: more are a column that was mistaken for labels.
    single
        Whether all labels may be equal.

    Raises
    ------
    ToolError
        If text, numbers and lists are mixed, all labels are equal, or there are too many of them; with ``auto``, if
        strings are numbers or lists, or write classes down as no list, or whole numbers have a decimal point.
    """
    # Whoever only evaluates labels can give no task.
    otherwise = "other names of classes" if single else f"give {param('task')} classification for classes"
    if task == "auto":
        _refuse_odd_lists(examples)
    multiple = _are_lists(examples, task)
    where = examples[0].where.rpartition(", line ")[0]
    given = {frozenset(map(class_name, classes_in(example.label))) for example in examples}
    if multiple:
        examples = [replace(e, label=each, written=None) for e in examples for each in classes_in(e.label)]
        if not examples:
            raise ToolError(f"{where}: no text has a label", kind="no-label")
    if task == "regression" and not multiple:
        _refuse_names(examples)
        return Labels()
    is_text = _are_strings(examples)
    if task == "auto" and is_text:
        spelled = {word: number_spelled(word) for word in {str(example.label) for example in examples}}
        if not multiple:
            _refuse_spelled(examples, spelled, otherwise)
        _refuse_written(examples, spelled, otherwise)
    fraction = next((example for example in examples if isinstance(example.label, float)), None)
    if task == "auto" and fraction is not None and not multiple:
        if not single:
            _refuse_whole(examples, fraction)
        return Labels()
    for example in examples:
        if isinstance(example.label, float) and not example.label.is_integer():
            raise ToolError(f"{example.where}: label {example.label} names no class", kind="bad-label")
    names = {class_name(example.label) for example in examples}
    if len(given) == 1 and not single:
        note = f"; {_NO_VECTORS}" if multiple and names == {"0", "1"} else ""
        raise ToolError(
            f"{where}: all labels are {_few(sorted(names))}: there is nothing to learn{note}", kind="one-label"
        )
    if len(names) > most:
        raise ToolError(f"{where}: {len(names)} different labels", kind="many-labels")
    ordered = sorted(names, key=lambda name: (0, int(name), "") if not is_text else (0, 0, name))
    return Labels(tuple(ordered), multiple=multiple)


def _refuse_odd_lists(examples: Sequence[Example]) -> None:
    """Raise if a string writes classes down, and as no list."""
    said = {label: odd_list(label) for label in {example.label for example in examples} if isinstance(label, str)}
    if odd := next((example for example in examples if said.get(str(example.label))), None):
        raise ToolError(
            f"{odd.where}: label {odd.label!r:.80} {said[str(odd.label)]}, or give {param('task')} classification if a"
            " class is called so",
            kind="bad-label",
        )


def _refuse_names(examples: Sequence[Example]) -> None:
    """Raise if one of the labels of a regression is no number."""
    if text := next((example for example in examples if isinstance(_as_known(example, Labels()), str)), None):
        advice = _as_program(text.label) or "leave the line out"
        raise ToolError(f"{text.where}: label {text.label!r} is no number; {advice}", kind="bad-label")


def _are_lists(examples: Sequence[Example], task: str) -> bool:
    """Test whether labels are multi-label; ToolError if some are lists that are not."""
    lists = [example for example in examples if isinstance(example.label, tuple)]
    if task == "multilabel" or not lists:
        return task == "multilabel"
    if task != "auto":
        raise ToolError(
            f"{lists[0].where}: label is a list, and {param('task')} is {task}; give {param('task')} multilabel",
            kind="bad-label",
        )
    if odd := next((example for example in examples if not isinstance(example.label, tuple)), None):
        raise ToolError(
            f"{odd.where}: label {odd.label!r} is no list, unlike the label in {lists[0].where}; give all labels as"
            f" one kind, or {param('task')} multilabel, where a class alone stands for a list of it",
            kind="mixed-labels",
        )
    return True


def _are_strings(examples: Sequence[Example]) -> bool:
    """Test whether classes are strings, and not numbers; ToolError if some are."""
    is_text = isinstance(examples[0].label, str)
    if odd := next((example for example in examples if isinstance(example.label, str) != is_text), None):
        first = examples[0]
        advice = _as_program(first.label if is_text else odd.label) or "give all labels as one kind"
        raise ToolError(
            f"{odd.where}: label {odd.label!r} is {'no text' if is_text else 'text'}, unlike {first.label!r} in"
            f" {first.where}; {advice}",
            kind="mixed-labels",
        )
    return is_text


_Spelled = Mapping[str, tuple[str, ...]]
"""Each label, and what it may be as of ``number_spelled``."""


def _refuse_spelled(examples: Sequence[Example], spelled: _Spelled, otherwise: str) -> None:
    """Raise if strings are numbers, some as only people can read them: each value would be a class."""
    odd = next((example for example in examples if spelled[str(example.label)]), None)
    if odd is None or numbers_in([found[0] if found else word.strip() for word, found in spelled.items()]) is None:
        return
    label = str(odd.label).strip()
    pair = f", [{label}] for two classes of one text" if re.fullmatch(r"\d+,\s*\d+", label) else ""
    raise ToolError(
        f"{odd.where}: labels are numbers as {label!r}, which no program reads; {_as_program(label)} for a value{pair},"
        f" or {otherwise}",
        kind="numbers-in-strings",
    )


def _refuse_written(examples: Sequence[Example], spelled: _Spelled, otherwise: str) -> None:
    """Raise if strings are numbers or lists, where JSONL could say so, or most are numbers and one is none."""
    first, words = examples[0], [str(example.label) for example in examples]
    if first.written is None and numbers_in(words) is not None:
        raise ToolError(
            f"{first.where}: labels are numbers in strings, such as {first.label!r}; give {param('task')} regression"
            f" for values, or {param('task')} classification for classes",
            kind="numbers-in-strings",
        )
    listed = [example for example, word in zip(examples, words, strict=True) if list_in(word) is not None]
    if listed:
        raise ToolError(
            f"{listed[0].where}: label {listed[0].label!r:.80} is a list in a string; give {param('task')} multilabel"
            f" if it is one of classes, or {param('task')} classification if a class is called so",
            kind="lists-in-strings",
        )
    values = [is_fraction(word) or bool(spelled[word]) for word in words]
    others = (n for n, word in enumerate(words) if not values[n] and not PRINTED.fullmatch(word.strip()))
    if sum(values) * 2 > len(values) and (place := next(others, None)) is not None:
        odd, value = examples[place], examples[values.index(True)]
        raise ToolError(
            f"{odd.where}: label {odd.label!r} is no number, unlike most, such as {value.label!r} in {value.where};"
            f" leave the line out, or {otherwise}",
            kind="mixed-labels",
        )


def _refuse_whole(examples: Sequence[Example], first: Example) -> None:
    """Raise if all labels are whole numbers, and one has a decimal point: pandas writes classes so beside a gap."""
    if all(float(example.label).is_integer() for example in examples if isinstance(example.label, int | float)):
        raise ToolError(
            f"{first.where}: labels are whole numbers with a decimal point, such as {first.written or first.label!r};"
            f" give {param('task')} regression for values, or {param('task')} classification for classes",
            kind="whole-numbers",
        )


def numbers_of(examples: Sequence[Example], labels: Labels, source: str) -> list[float] | list[list[float]]:
    """Return the target of each example: class indices, or values, or of multi-label data a row of 0 and 1.

    Raises
    ------
    ToolError
        If a label is none of ``labels``; ``source`` says in the message where they are from. If they are vectors.
    """
    refuse_vectors(examples)
    with of_the_whole_run():
        return [labels.target(_as_known(example, labels), example.where, source) for example in examples]  # type: ignore[return-value]


def refuse_vectors(examples: Sequence[Example]) -> None:
    """Raise if labels are [0,1] and [1,0], and nothing else: as lists of classes all would be equal.

    Longer vectors have a number twice, and are refused one by one.
    """
    given = {tuple(map(str, label)) if isinstance(label, tuple) else () for label in {e.label for e in examples}}
    if given == _VECTORS:
        raise ToolError(f"{examples[0].where}: labels are [0,1] and [1,0]; {_NO_VECTORS}", kind="bad-label")


def _as_known(example: Example, labels: Labels) -> Label | None:
    """Return a table's label in the form that ``labels`` has, whatever the rest of its column looks like."""
    written = example.written
    if written is None:
        return example.label
    if labels.regression:
        value = value_in(written)
        return example.label if value is None else value
    # 2.0 may be the name of a class, and 007 is none called 7, though other lines have 1.5.
    return written if written in labels.names or is_name(written) else example.label
