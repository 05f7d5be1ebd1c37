"""How labels are spelled: what is a list, what only looks like one, and what a user is warned of."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from berttools.texts.spellings import almost_equal, is_like, joined, list_in, number_spelled, odd_list

CLASSES = ["animal", "it's time"]


@pytest.mark.parametrize("classes", [CLASSES, ["animal"], [], ["a'b", 'c"d'], [1, 2]])
def test_lists_as_json_and_python_write_them_are_read(classes: list[str]) -> None:
    for text in (json.dumps(classes), json.dumps(classes, indent=1), str(classes), f" {classes} "):
        assert (list_in(text), odd_list(text)) == (classes, None)


@pytest.mark.parametrize(
    "text",
    [
        str(np.array(CLASSES)),
        str(np.array(CLASSES, dtype=object)),
        str(np.array(["a long name of a class"] * 9)),  # on several lines
        "['animal' 'time', 'sport']",
        '["animal" "time"]',
    ],
)
def test_an_array_as_numpy_prints_it_is_no_list(text: str) -> None:
    """Python joins strings that touch: these were read as one class."""
    said = odd_list(text)
    assert list_in(text) is None
    assert said is not None
    assert said.startswith("has no comma between classes; write classes of one text as [")


@pytest.mark.parametrize(
    "text",
    [
        str({*CLASSES}), str(frozenset(CLASSES)), str(set()), "{}", "()", str(tuple(CLASSES)), "('animal',)",
        str(np.array([1, 0, 1])), str(np.array([1.0, 0.0])), str(np.array([True, False])), "[1;0]",
        repr(np.array(CLASSES)), "array([], dtype=object)", 'c("animal", "time")', "tensor([1, 0, 1])",
        "[animal, time]", "{animal,time}", "(animal, time)", "{'animal': 1, 'time': 0}", "['animal', 'time'",
        "['animal'], ['time']", "[animal; time],[]",
    ],
    ids=itertools.count(),  # a set is printed in another order by each process
)  # fmt: skip
def test_other_spellings_of_several_classes_are_no_list(text: str) -> None:
    said = odd_list(text)
    assert list_in(text) is None
    assert said is not None
    assert said.startswith("is no list that can be read; write classes of one text as [")


@pytest.mark.parametrize(
    "text",
    ["animal", "[spam]", "(unknown)", "{x}", "[not spam]", "f(x, y)", "Tennis (men, women)", "(555) 123", "don't", ""],
)
def test_names_may_have_brackets(text: str) -> None:
    assert (list_in(text), odd_list(text)) == (None, None)


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("animal;time", "animal", "sport"), "'animal;time' have ';'"),
        (("a|b", "b|c"), "'a|b' have '|'"),
        (("a, b", "a", "b"), "'a, b' have ','"),
    ],
)
def test_classes_joined_in_one_label_are_in_doubt(names: tuple[str, ...], named: str) -> None:
    said = joined(names)
    assert said is not None
    assert said.startswith(f"labels such as {named} between words that are in other labels too")


@pytest.mark.parametrize("names", [("a;b", "c"), ("Paris, France", "Lyon, France"), ("a", "b"), ("a;a", "b"), ()])
def test_marks_in_names_that_share_no_part_are_in_no_doubt(names: tuple[str, ...]) -> None:
    assert joined(names) is None


def test_names_that_are_almost_equal_are_in_doubt() -> None:
    said = almost_equal(["neg", "pos", " Pos"])
    assert said == "classes 'pos' and ' Pos' differ by case or spaces alone, and are taken for two"
    assert almost_equal(["caf\u00e9", "cafe\u0301"]) is not None  # one letter, and a letter and its accent
    assert almost_equal(["neg", "pos", "po s"]) is None
    assert [is_like("NEG", other) for other in ("neg", "NEG", "negative")] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("3,5", ("3.5",)),
        (" -0,5 ", ("-0.5",)),
        ("3, 4", ("3.4",)),
        ("1,200", ("1200", "1.200")),
        ("1,200.5", ("1200.5",)),
        ("1.200,5", ("1200.5",)),
        ("1,200,000", ("1200000",)),
        ("1.200.000", ("1200000",)),
        ("1 200", ("1200",)),
        ("1\u202f200,5", ("1200.5",)),
        ("1'200", ("1200",)),
        ("34%", ("34",)),
        ("7,5 %", ("7.5",)),
        ("$3.40", ("3.40",)),
        *(
            (text, ())
            for text in ("3.4", "12", "+7", "1e5", "1_0", "007", "1.2.3", "2020.01.02", "10:30", "3 4", "3,5,7")
        ),
        *((text, ()) for text in ("", "%", "a", "n/a", "a,b", "3,a", "-", ",", ".5,", "1,,2")),
    ],
)
def test_numbers_that_only_people_can_read(text: str, readings: tuple[str, ...]) -> None:
    assert number_spelled(text) == readings
