"""Labels: what task they make, and the targets of each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from _toolio.errors import InputError, ToolError
from berttools.texts.examples import Example, read_examples, with_lists, with_values
from berttools.texts.labels import Labels, doubt, learn_labels, numbers_of
from berttools.texts.rows import Columns


def of_labels(*labels: object) -> list[Example]:
    return [Example(f"a.jsonl, line {number}", "x", None, label) for number, label in enumerate(labels, 1)]  # type: ignore[arg-type]


def test_labels_tell_the_task() -> None:
    assert learn_labels(of_labels("no", "yes", "no")).names == ("no", "yes")
    assert learn_labels(of_labels(10, 9, 2)).names == ("2", "9", "10")
    assert learn_labels(of_labels(0, 1.5)).regression
    assert learn_labels(of_labels(0, 1), task="regression").regression
    assert learn_labels(of_labels(0.0, 1.0), task="classification").names == ("0", "1")


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        ((1, "a"), "auto", "line 2: label 'a' is text, unlike 1"),
        ((1, 1), "auto", "all labels are 1"),
        (("a", "b"), "regression", "'a' is no number"),
        ((0.5, 1), "classification", "0.5 names no class"),
        (tuple(range(1001)), "auto", "1001 different labels"),
    ],
)
def test_labels_that_are_no_task(labels: tuple[object, ...], task: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        learn_labels(of_labels(*labels), task=task)


def test_a_label_becomes_a_number_or_is_refused() -> None:
    named = Labels(("bad", "good"), numbered=True)
    assert [named.number(label, "l", "--train") for label in ("bad", "good", 1)] == [0, 1, 1]
    assert [Labels(("-1", "3")).number(label, "l", "--train") for label in (3, -1, "3", 3.0)] == [1, 0, 1, 1]
    assert (named.shown(1), Labels(("-1", "3")).shown(1)) == ("good", 3)
    learned = Labels(("bad", "good"))
    for labels, label in ((named, "nice"), (named, 2), (learned, 1), (Labels(("1", "2")), 0), (Labels(), "x")):
        with pytest.raises(InputError, match=r"line 4: label .* is no"):
            labels.number(label, "line 4", "--train has")  # type: ignore[arg-type]


@pytest.mark.parametrize("labels", [(0.0, 1.0, 1.0), (1, 0.0), (5.0, -2.0)])
def test_whole_numbers_with_a_decimal_point_are_a_question(labels: tuple[float, ...]) -> None:
    """pandas writes classes so where a column had a gap."""
    examples = of_labels(*labels)
    with pytest.raises(
        ToolError, match=r"labels are whole numbers with a decimal point, such as .*; give task"
    ) as raised:
        learn_labels(examples)
    assert raised.value.kind == "whole-numbers"
    assert learn_labels(examples, task="regression").regression
    assert learn_labels(examples, task="classification").names == tuple(sorted({str(int(each)) for each in labels}))
    assert learn_labels([*examples, *of_labels(0.5)]).regression


def test_whole_numbers_of_a_table_are_a_question(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"line 2: labels are whole numbers with a decimal point, such as '1\.0'; give"):
        learn_labels(column(tmp_path, "1.0", "0.0"))
    with pytest.raises(ToolError, match=r"labels are numbers in strings, such as '1\.0'; give task"):
        learn_labels(of_labels("1.0", "0.0"))


@pytest.mark.parametrize("labels", [("3.4", "1e3"), ("0", "1", "0"), ("-1", "2.5"), (" 3.0", "+1.5")])
def test_numbers_in_strings_are_a_question(labels: tuple[str, ...]) -> None:
    examples = of_labels(*labels)
    with pytest.raises(ToolError) as raised:
        learn_labels(examples)
    assert raised.value.kind == "numbers-in-strings"
    assert raised.value.message == (
        f"a.jsonl, line 1: labels are numbers in strings, such as {labels[0]!r}; give task regression for values, or"
        " task classification for classes"
    )
    assert learn_labels(examples, task="classification").names == tuple(sorted({*labels}))
    values = with_values(examples)
    assert learn_labels(values, task="regression").regression
    assert numbers_of(values, Labels(), "t") == [float(label) for label in labels]


@pytest.mark.parametrize(
    ("labels", "first", "readings"),
    [
        (("3,5", "1,25"), "3,5", "3.5"),
        (("2", " -0,5"), "-0,5", "-0.5"),
        (("1.5", "3,5", "7"), "3,5", "3.5"),
        (("2.5", "1,200.5"), "1,200.5", "1200.5"),
        (("1.200,5", "7"), "1.200,5", "1200.5"),
        (("12%", "7.5%"), "12%", "12"),
        (("\u20ac3.40", "7"), "\u20ac3.40", "3.40"),
    ],
)
@pytest.mark.parametrize("table", [True, False])
def test_numbers_that_only_people_can_read_are_a_question(
    tmp_path: Path, labels: tuple[str, ...], first: str, readings: str, table: bool
) -> None:
    examples = column(tmp_path, *(f'"{label}"' for label in labels)) if table else of_labels(*labels)
    pair = f", [{first}] for two classes of one text" if re.fullmatch(r"\d+,\d+", first) else ""
    said = f"labels are numbers as {first!r}, which no program reads; write {readings} for a value{pair}, or"
    with pytest.raises(ToolError, match=re.escape(f"{said} give task classification for classes")):
        learn_labels(examples)
    with pytest.raises(ToolError, match=re.escape(f"{said} other names of classes")):
        learn_labels(examples, single=True)
    label = next(label for label in labels if label.strip() == first)
    with pytest.raises(InputError, match=re.escape(f"is no number, as others are; write {readings}")):
        Labels().number(label, "l")
    assert len(learn_labels(examples, task="classification").names) == len(labels)
    with pytest.raises(ToolError, match=re.escape(f"label {label!r} is no number; write {readings}")):
        learn_labels(with_values(examples), task="regression")


def test_a_comma_before_three_digits_may_part_thousands() -> None:
    with pytest.raises(
        ToolError,
        match=r"as '1,000', which no program reads; write 1000 or 1\.000 for a value, \[1,000\] for two classes",
    ):
        learn_labels(of_labels("1,000", "12,000", "7"))


def test_one_of_many_numbers_with_commas_that_is_none() -> None:
    with pytest.raises(
        ToolError, match=r"line 2: label 'n/a' is no number, unlike most, such as '1,5' in a\.jsonl, line 1"
    ):
        learn_labels(of_labels("1,5", "n/a", "2,5", "3,5"))


def test_commas_in_names_are_left_alone() -> None:
    assert learn_labels(of_labels("3,5", "none")).names == ("3,5", "none")
    assert learn_labels(of_labels(("3,5",), ("1,2",))).names == ("1,2", "3,5")
    assert learn_labels(of_labels("3,5,7", "2,5")).names == ("2,5", "3,5,7")


def test_strings_of_which_one_is_no_number_are_names() -> None:
    assert learn_labels(of_labels("3.4", "n/a")).names == ("3.4", "n/a")
    assert learn_labels(of_labels("007", "010")).names == ("007", "010")
    mixed = of_labels("3.4", "1", "2.5", "n/a", "0.1")
    with pytest.raises(ToolError, match=r"line 4: label 'n/a' is no number, unlike most, such as '3\.4' in a\.jsonl"):
        learn_labels(mixed)
    assert learn_labels(mixed, task="classification").names == ("0.1", "1", "2.5", "3.4", "n/a")
    with pytest.raises(ToolError, match=r"line 4: label 'n/a' is no number; leave the line out"):
        learn_labels(with_values(of_labels("3.4", "1", "2", "n/a")), task="regression")
    with pytest.raises(InputError, match=r"l: label '3\.4' is no number, as others are; write it without quotes"):
        Labels().number("3.4", "l")


def test_lists_are_multi_label_data() -> None:
    examples = of_labels(("b", "a"), (), ("b",))
    labels = learn_labels(examples)
    assert (labels.names, labels.multiple, labels.regression) == (("a", "b"), True, False)
    assert numbers_of(examples, labels, "t") == [[1, 1], [0, 0], [0, 1]]
    assert learn_labels(of_labels((10, 9), (9,))).names == ("9", "10")
    alone = of_labels("b", ("a", "b"))  # a class alone stands for a list of it
    assert numbers_of(alone, learn_labels(alone, task="multilabel"), "t") == [[0, 1], [1, 1]]
    named = Labels(("bad", "good"), numbered=True, multiple=True)
    assert named.target((1, "bad"), "l") == [1, 1]
    assert numbers_of(of_labels(("a",)), learn_labels(of_labels(("a",), ())), "t") == [[1]]


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        (
            (("a",), "b"),
            "auto",
            r"line 2: label 'b' is no list, unlike the label in a.jsonl, line 1; give .* task multilabel",
        ),
        (
            (("a",), ("b",)),
            "classification",
            "line 1: label is a list, and task is classification; give task multilabel",
        ),
        ((("a",), ("b",)), "regression", "line 1: label is a list, and task is regression"),
        ((("a", "b"), ("b", "a")), "auto", "all labels are a, b: there is nothing to learn"),
        (((), ()), "auto", "no text has a label"),
        ((("a",), (1,)), "auto", "line 2: label 1 is no text"),
        ((1.5, 2), "multilabel", "line 1: label 1.5 names no class"),
        (('["a"]', "b"), "auto", r"line 1: label '\[\"a\"\]' is a list in a string; give task multilabel"),
    ],
)
def test_labels_that_are_no_multi_label_data(labels: tuple[object, ...], task: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        learn_labels(of_labels(*labels), task=task)


def test_vectors_of_two_classes_are_no_lists_of_classes() -> None:
    said = "vectors of 0 and 1 are not read: a list holds the names of the classes that hold of its text"
    for labels in (((1, 0), (0, 1)), (("0", "1"), ("1", "0"))):
        examples = of_labels(*labels)
        with pytest.raises(ToolError, match=f"all labels are 0, 1: there is nothing to learn; {said}"):
            learn_labels(examples, task="multilabel")
        # For a head that there is, every text would have both of its classes.
        with pytest.raises(ToolError, match=f"line 1: labels are .0,1. and .1,0.; {said}"):
            numbers_of(examples, Labels(("neg", "pos"), numbered=True, multiple=True), "t")
    head = Labels(("neg", "pos"), numbered=True, multiple=True)
    assert numbers_of(of_labels((1, 0), (0,)), head, "t") == [[1, 1], [1, 0]]


def test_a_list_is_no_label_of_other_heads() -> None:
    for labels, what in ((Labels(("a", "b")), "single classes"), (Labels(), "values")):
        with pytest.raises(InputError, match=f"l: label is a list, and the model's labels are {what}"):
            labels.target(("a",), "l")
    with pytest.raises(InputError, match="l: label 'z' is none of a, b"):
        Labels(("a", "b"), multiple=True).target(("a", "z"), "l")


def column(folder: Path, *cells: str) -> list[Example]:
    (folder / "a.csv").write_text("text,label\n" + "".join(f"x,{cell}\n" for cell in cells))
    return read_examples(str(folder / "a.csv"), Columns({}))


@pytest.mark.parametrize("cell", ["['animal' 'time']", "{'good', 'time'}", "('animal', 'time')", "[1 0 1]", "[a, b]"])
def test_classes_of_one_text_that_are_no_list_are_no_class(tmp_path: Path, cell: str) -> None:
    found = column(tmp_path, "animal", f'"{cell}"', "time")
    with pytest.raises(ToolError) as raised:
        learn_labels(found)
    assert raised.value.message.startswith(f"{tmp_path / 'a.csv'}, line 3: label {cell!r} ")
    assert raised.value.message.endswith(
        'write classes of one text as ["animal","time"], and [] for none, or give task classification if a class is'
        " called so"
    )
    assert cell in learn_labels(found, task="classification").names
    with pytest.raises(ToolError, match=r"line 3: label .*write classes of one text as"):
        with_lists(found, "label")
    # Beside true lists it is named as well, and in strings of JSONL.
    for others in (column(tmp_path, "\"['animal']\"", f'"{cell}"'), of_labels("animal", cell)):
        with pytest.raises(ToolError, match=r"line [23]: label .*write classes of one text as"):
            learn_labels(others)


@pytest.mark.parametrize(
    ("learned", "names", "cells", "numbers"),
    [
        (("007", "010"), ("007", "010"), ("010", "007"), [1, 0]),
        (("007", "10"), ("007", "10"), ("10",), [1]),  # a column of its own would be of whole numbers
        (("1_0", "2.0"), ("1_0", "2.0"), ("2.0",), [1]),  # or of numbers to come near to
        (("10", "9"), ("9", "10"), ("9.0", "10.0"), [0, 1]),
        (("1.5", "2"), (), ("1", "2"), [1.0, 2.0]),
        (("1.5", "2"), (), ("05", "+10"), [5.0, 10.0]),
    ],
)
def test_labels_of_another_table_are_read_as_those_learned(
    tmp_path: Path, learned: tuple[str, ...], names: tuple[str, ...], cells: tuple[str, ...], numbers: list[float]
) -> None:
    labels = learn_labels(column(tmp_path, *learned))
    assert labels.names == names
    assert numbers_of(column(tmp_path, *cells), labels, "--train has") == numbers


@pytest.mark.parametrize(
    ("learned", "cells", "message"),
    [
        (("7", "10"), ("007", "010"), "line 2: label '007' is none of 7, 10, which --train has"),
        (("7", "10"), ("10.0", "007"), "line 3: label '007' is none of 7, 10"),
        (("007", "010"), ("7", "10"), "line 2: label 7 is none of 007, 010"),
        (("1.5", "2"), ("1_0", "5"), "line 2: label '1_0' is no number"),
        (("1.5", "2"), ("good", "5"), "line 2: label 'good' is no number"),
    ],
)
def test_labels_of_another_table_that_were_not_learned(
    tmp_path: Path, learned: tuple[str, ...], cells: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ToolError, match=message):
        numbers_of(column(tmp_path, *cells), learn_labels(column(tmp_path, *learned)), "--train has")


def test_numbers_with_zeros_in_front_where_a_regression_is_asked_for(tmp_path: Path) -> None:
    found = column(tmp_path, "05", "+10")
    labels = learn_labels(found, task="regression")
    assert labels.regression
    assert numbers_of(found, labels, "--train has") == [5.0, 10.0]
    with pytest.raises(ToolError, match="line 3: label '1_0' is no number"):
        learn_labels(column(tmp_path, "05", "1_0"), task="regression")


def test_classes_that_only_look_like_numbers_are_shown_as_they_are_called() -> None:
    labels = Labels(("007", "010"))
    assert [labels.shown(number) for number in (0, 1)] == ["007", "010"]


@pytest.mark.parametrize(
    ("label", "advice"),
    [
        ("0", "; write 0 without quotes for its place, or the names, in every line"),
        (1.0, "; write 1 without a decimal point for its place, or the names, in every line"),
        ("NEG", "; it differs from 'neg' by case or spaces alone: write it so"),
        ("pos ", "; it differs from 'pos' by case or spaces alone: write it so"),
        ("['neg' 'pos']", ': it has no comma between classes; write classes of one text as ["animal","time"], and []'),
        ("2", "; new_head replaces it"),
        ("mid", "; new_head replaces it"),
        (2, "; new_head replaces it"),
    ],
)
def test_a_label_that_is_no_class_says_what_is_wrong_with_it(label: str | float, advice: str) -> None:
    for multiple in (False, True):
        with pytest.raises(InputError) as raised:
            Labels(("neg", "pos"), numbered=True, multiple=multiple).target(
                label, "l", "the head knows; new_head replaces it"
            )
        assert raised.value.message.startswith(f"l: label {label!r} is none of neg, pos, which the head knows{advice}")
    # Classes of other texts have no place.
    with pytest.raises(InputError, match=r"which t has$"):
        Labels(("neg", "pos")).target("0", "l", "t has")


def test_numbers_that_stand_for_named_classes_are_in_doubt() -> None:
    named = Labels(("bad", "good", "fair"), numbered=True)
    said = doubt(named, [1, 0, 1, "fair", None])
    assert said is not None
    assert "0 for 'bad', 1 for 'good' is assumed" in said
    turned = doubt(Labels(("1", "0"), numbered=True), [0])
    assert turned is not None
    assert "class 0 is called 1" in turned
    for labels, given in (
        (named, ["good", "bad"]),
        (named, [7]),  # which is refused
        (Labels(("bad", "good")), [1]),  # which is refused, too: the labels were learned
        (Labels(("LABEL_0", "LABEL_1"), numbered=True), [1, 0]),
        (Labels(("0", "1"), numbered=True), [1, 0]),
        (Labels(("1", "2", "3"), numbered=True), [1, 2]),
        (Labels((), numbered=True), [1, 0]),
    ):
        assert doubt(labels, given) is None
