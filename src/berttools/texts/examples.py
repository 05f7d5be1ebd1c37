"""Examples of a data set: a text or a pair of texts, and its label.

A wrong line is an ``InputError`` that names file and line; what makes a whole data set useless is a ``ToolError``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from _toolio.errors import InputError, ToolError, of_the_whole_run, param
from _toolio.streams.records import Record
from berttools.texts.rows import SUFFIXES, Columns, Row, listed_names, rows_of
from berttools.texts.spellings import list_in, odd_list

PRINTED = re.compile(r"0|-?[1-9][0-9]*")
"""An integer as it is printed: 007, +7 and 1_0 are names."""
EMPTY_LIST = "other labels are lists: write [] where no class holds, or leave the line out"
"""What to do about a missing label among lists."""
_DIGITS = re.compile(r"[+-]?\d+")

Label = str | int | float | tuple[str | int, ...]
"""A class, a value, or the classes of a text that has several or none."""


@dataclass(frozen=True, slots=True)
class Example:
    """A text, or a pair of texts, and its label if it has one.

    Attributes
    ----------
    where
        File and line.
    text, second
        The text, or both texts of a pair.
    label
        None if it has none; a tuple where a list of classes is given.
    written
        The label's text in a CSV or TSV file; None for a label of JSONL.
    """

    where: str
    text: str
    second: str | None = None
    label: Label | None = None
    written: str | None = None


def to_example(row: Row, columns: Columns, *, labelled: bool) -> Example:
    """Return a row's texts, and its label if ``labelled``, as an example.

    Raises
    ------
    InputError
        If a text is missing, empty, or no string; or the label is none: as of ``check_label``.
    """
    if row.error is not None:
        raise row.error
    first, second = (columns.of(role) for role in ("text_a", "text_b"))
    if name := columns.lacking(row.fields):
        raise InputError(
            f"{row.where}: no {name} among {listed_names(row.fields)}; see {param('columns')}", kind="no-text"
        )
    if (single := columns.of("text")) in row.fields:
        if first in row.fields or second in row.fields:
            raise InputError(f"{row.where}: has {single} and {first} or {second}; give one of them", kind="bad-text")
        texts = [_text(row, single)]
    elif first in row.fields:
        texts = [_text(row, name) for name in ([first, second] if second in row.fields else [first])]
    else:
        among = f" among {listed_names(row.fields)}" if row.fields else ""
        raise InputError(
            f"{row.where}: no {single}, and no {first}{among}; name them with {param('columns')}", kind="no-text"
        )
    label = check_label(row.fields, columns.of("label"), row.where) if labelled else None
    return Example(row.where, texts[0], texts[1] if len(texts) == 2 else None, label)


def _text(row: Row, name: str) -> str:
    text = row.fields[name]
    if not isinstance(text, str):
        raise InputError(f"{row.where}: {name} is no text", kind="bad-text")
    if not text.strip():
        raise InputError(f"{row.where}: {name} is empty", kind="empty-text")
    # Half of a surrogate pair, which JSON can hold, is no character for a tokenizer.
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text


def check_label(fields: Record, name: str, where: str) -> Label:
    """Return a record's label.

    Raises
    ------
    InputError
        If it is missing, or neither a string nor a finite number nor a list of classes.
    """
    label = fields.get(name)
    if label is None or label == "":
        among = f" among {listed_names(fields)}" if name not in fields and fields else ""
        raise InputError(f"{where}: no {name}{among}", kind="no-label")
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, list):
        return _checked_list(label, name, where)
    if not isinstance(label, str | int | float):
        raise InputError(f"{where}: {name} is neither text nor a number", kind="bad-label")
    if isinstance(label, float) and not math.isfinite(label):
        raise InputError(f"{where}: {name} is not finite", kind="bad-label")
    return label


def _checked_list(label: list[Any], name: str, where: str) -> tuple[str | int, ...]:
    """Return a list of classes; InputError if it is one of something else, or a vector of 0 and 1."""
    advice = "list the classes that hold of the text, each once, and write no vector of 0 and 1"
    for each in label:
        if isinstance(each, bool | float):
            raise InputError(f"{where}: {name} is a list with {each}: {advice}", kind="bad-label")
        if not isinstance(each, str | int) or each == "":
            raise InputError(f"{where}: {name} is a list of what is neither text nor a number", kind="bad-label")
        if label.count(each) > 1:
            raise InputError(f"{where}: {name} has {each!r} twice: {advice}", kind="bad-label")
    return tuple(label)


def with_lists(examples: list[Example], name: str, *, strict: bool = True) -> list[Example]:
    """Convert labels that are lists of classes in strings to lists; ``name`` is the label's column.

    Raises
    ------
    ToolError
        If one is a list of something else; if ``strict``, also if it writes classes down as no list.
    """
    with of_the_whole_run():
        return [
            replace(e, label=None if e.label is None else listed(e.label, name, e.where, strict=strict))
            for e in examples
        ]


def listed(label: Label, name: str, where: str, *, strict: bool = True) -> Label:
    """Return a label, and where it is a string that writes down a list, that list, as of ``check_label``.

    Raises
    ------
    InputError
        If it is a list of something else; if ``strict``, also if it writes classes down as no list.
    """
    if not isinstance(label, str):
        return label
    if (found := list_in(label)) is not None:
        return _checked_list(found, name, where)
    if strict and (odd := odd_list(label)):
        raise InputError(f"{where}: {name} {label!r:.80} {odd}", kind="bad-label")
    return label


def with_values(examples: list[Example]) -> list[Example]:
    """Convert labels that are numbers in strings to numbers, each for itself; others stay."""
    found = []
    for example in examples:
        value = value_in(example.label) if isinstance(example.label, str) else None
        found.append(example if value is None else replace(example, label=value))
    return found


def read_examples(name: str, columns: Columns) -> list[Example]:
    """Read a labelled data set, to train or to evaluate on.

    Labels of CSV and TSV are numbers if all of them are (see ``with_numbers``), and lists where one is written
    (``["a","b"]``). Labels of JSONL are what they are: a string is none of these.

    Raises
    ------
    ToolError
        If a line cannot be used, or there is none.
    """
    if SUFFIXES.get(Path(name).suffix.lower()) == "txt":
        raise ToolError(f"{name}: a .txt has texts alone; give a .jsonl, .csv or .tsv, with labels", kind="no-label")
    with of_the_whole_run():
        examples = list(_labelled(rows_of(name, columns), columns))
    if not examples:
        raise ToolError(f"{name}: holds no example", kind="empty")
    pairs = examples[0].second is not None
    if odd := next((example for example in examples if (example.second is not None) != pairs), None):
        raise ToolError(f"{odd.where}: one text among pairs, or a pair among single texts", kind="bad-text")
    if SUFFIXES.get(Path(name).suffix.lower()) in ("csv", "tsv"):
        return with_numbers(with_lists(examples, columns.of("label"), strict=False))
    return examples


def _labelled(rows: Iterator[Row], columns: Columns) -> Iterator[Example]:
    """Yield the example of each row; the message about one without a label says what to write among lists."""
    name, among_lists = columns.of("label"), False
    for row in rows:
        try:
            yield to_example(row, columns, labelled=True)
        except InputError as error:
            if error.kind == "no-label" and (among_lists or any(is_list(each.fields.get(name)) for each in rows)):
                raise InputError(f"{error.args[0]}; {EMPTY_LIST}", kind=error.kind) from None
            raise
        among_lists = among_lists or is_list(row.fields.get(name))


def is_list(label: Any) -> bool:
    """Test whether a label is a list, or a string that writes one down."""
    return isinstance(label, list) or (isinstance(label, str) and list_in(label) is not None)


def with_numbers(examples: list[Example]) -> list[Example]:
    """Convert the labels of a CSV or TSV file to numbers if every one of them is a number.

    They are integers if each is written as that integer is printed, and floats if one has a decimal point or an
    exponent. Otherwise they are names: 007 and 010, or 1_0, are not 7, 10 and 10.

    Raises
    ------
    ToolError
        If all are numbers, and one of them is NaN or infinite.
    """
    lists = [example.label for example in examples if isinstance(example.label, tuple)]
    if lists:
        numbered = all(isinstance(each, int) for label in lists for each in label)
        return [replace(e, label=int(e.label)) if numbered and _is_printed(e.label) else e for e in examples]
    written = [str(example.label) for example in examples]
    numbers = numbers_in([word.strip() for word in written])
    if numbers is None:
        return [replace(example, written=word) for example, word in zip(examples, written, strict=True)]
    if odd := next((e for e, n in zip(examples, numbers, strict=True) if not abs(n) < math.inf), None):
        raise ToolError(f"{odd.where}: label {odd.label!r} is not finite", kind="bad-label")
    return [replace(e, label=n, written=word) for e, n, word in zip(examples, numbers, written, strict=True)]


def _is_printed(label: Label | None) -> TypeGuard[str]:
    return isinstance(label, str) and PRINTED.fullmatch(label.strip()) is not None


def numbers_in(words: Sequence[str]) -> Sequence[int | float] | None:
    """Return a column's cells as numbers, or None if they are names."""
    if any("_" in word for word in words):
        return None
    try:
        if all(PRINTED.fullmatch(word) for word in words):
            return [int(word) for word in words]
    except ValueError:  # of more digits than Python converts
        return floats_of(words)
    return None if all(_DIGITS.fullmatch(word) for word in words) else floats_of(words)


def value_in(written: str) -> float | None:
    """Return the finite number that a text is; None if it is none, as 1_0 is a name."""
    values = None if "_" in written else floats_of([written])
    return values[0] if values and abs(values[0]) < math.inf else None


def floats_of(words: Iterable[str]) -> list[float] | None:
    """Return texts as floats, or None if one is no number."""
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def is_name(written: str) -> bool:
    """Test whether a cell of digits is not written as its number is printed, and so is a class name."""
    word = written.strip()
    return bool(_DIGITS.fullmatch(word)) and not PRINTED.fullmatch(word)


def is_fraction(written: str) -> bool:
    """Test whether a label's text is a finite number with a decimal point or an exponent."""
    return not _DIGITS.fullmatch(written.strip()) and value_in(written) is not None
