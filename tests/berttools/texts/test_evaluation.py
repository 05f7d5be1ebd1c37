"""Evaluation of records, against scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics

from _toolio.errors import InputError, ToolError, UsageError
from berttools.texts.chance import chance_levels
from berttools.texts.evaluation import Evaluation, MetricResult


def evaluated(*records: dict[str, object], only: tuple[str, ...] = ()) -> list[MetricResult]:
    evaluation = Evaluation()
    for number, record in enumerate(records, 1):
        evaluation.add(record, f"line {number}")
    assert len(evaluation) == len(records)
    return list(evaluation.results(only, draws=200))


def test_metrics_of_classes_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    gold = rng.choice(["a", "b", "c"], 60).tolist()
    label = [each if rng.random() < 0.7 else "a" for each in gold]
    found = {
        each.metric: each for each in evaluated(*({"label": p, "gold": g} for p, g in zip(label, gold, strict=True)))
    }
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(gold, label))
    assert found["macro-f1"].value == pytest.approx(metrics.f1_score(gold, label, average="macro"))
    assert found["matthews"].value == pytest.approx(metrics.matthews_corrcoef(gold, label))
    for each in found.values():
        assert (each.count, each.classes, each.task) == (60, 3, None)
        assert each.value is not None
        assert each.interval is not None
        assert each.interval[0] <= each.value <= each.interval[1]


def test_tasks_are_evaluated_one_by_one() -> None:
    one = [{"label": "a", "gold": gold, "task": "one", "scores": {"a": 0.9, "b": 0.1}} for gold in "ab"]
    two = [{"label": n / 2, "gold": n**3, "task": "two"} for n in range(5)]
    found = evaluated(*one, *two, only=("accuracy", "spearman"))
    assert [(each.task, each.metric, each.value) for each in found] == [
        ("one", "accuracy", 0.5),
        ("two", "spearman", 1),
    ]
    alone = evaluated(*one, only=("accuracy",))
    assert [(each.task, each.classes) for each in alone] == [(None, 2)]


def test_a_label_may_be_the_number_of_its_class() -> None:
    scores = {"no": 0.1, "yes": 0.9}
    (found,) = evaluated({"label": "yes", "gold": 1, "scores": scores}, only=("accuracy",))
    assert (found.value, found.interval) == (1.0, None)


def test_lists_of_classes_are_scored_as_multi_label_data() -> None:
    rng = np.random.default_rng(0)
    names, gold = ("a", "b", "c"), rng.random((50, 3)) < 0.4
    said = gold ^ (rng.random((50, 3)) < 0.2)
    pairs = [[[name for name, holds in zip(names, row, strict=True) if holds] for row in rows] for rows in (said, gold)]
    records = [{"label": label, "gold": right} for label, right in zip(*pairs, strict=True)]
    found = {each.metric: each for each in evaluated(*records)}
    assert list(found) == ["micro-f1", "macro-f1", "accuracy"]
    for name in ("micro", "macro"):
        expected = metrics.f1_score(gold, said, average=name)
        each = found[f"{name}-f1"]
        assert (each.value, each.count, each.classes) == (pytest.approx(expected), 50, 3)
        assert each.interval is not None
        assert each.interval[0] < expected < each.interval[1]
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(gold, said))
    assert all(each.chance == chance_levels(gold, 3)[name] for name, each in found.items())
    counts = found["accuracy"].labels["a"]
    assert counts == {"gold": gold[:, 0].sum(), "predicted": said[:, 0].sum(), "right": (gold & said)[:, 0].sum()}
    # Classes that are in no record count where scores name them, as they do for scikit-learn.
    more = {"scores": {"a": 0.1, "b": 0.1, "c": 0.1, "d": 0.1}}
    (macro,) = evaluated(*({**record, **more} for record in records), only=("macro-f1",))
    assert macro.value == pytest.approx(metrics.f1_score(gold, said, average="macro") * 3 / 4)
    # A table has the lists in strings, as JSON or as Python prints them.
    for write in (json.dumps, str):
        written = [{key: write(each) for key, each in record.items()} for record in records]
        assert evaluated(*written, only=("micro-f1",)) == [found["micro-f1"]]


def test_a_class_alone_is_a_list_of_one_where_lists_are_predicted() -> None:
    (found,) = evaluated({"label": ["a"], "gold": "a"}, {"label": [], "gold": ["b"]}, only=("accuracy",))
    assert found.value == 0.5
    evaluation = Evaluation()
    evaluation.add({"label": ["a"], "gold": ["a"]}, "line 1")
    for record, said in (
        ({"label": "a", "gold": ["a"]}, "line 2: gold is a list of classes, and label is none"),
        ({"label": "a", "gold": "a"}, "line 2: has other labels, a list or none, than line 1"),
        ({"label": ["a", "a"], "gold": "a"}, "line 2: label has 'a' twice"),
    ):
        with pytest.raises(InputError, match=said):
            evaluation.add(record, "line 2")
    with pytest.raises(InputError, match="line 1: label 'z' is none of a, which its scores name"):
        Evaluation().add({"label": ["a"], "gold": ["z"], "scores": {"a": 0.9}}, "line 1")
    with pytest.raises(UsageError, match="metric matthews: these predictions are judged by micro-f1, macro-f1"):
        evaluated({"label": ["a"], "gold": ["a"]}, only=("matthews",))


@pytest.mark.parametrize("side", ["label", "gold"])
def test_what_is_meant_for_a_list_and_is_none_is_no_class(side: str) -> None:
    record = {"label": ["animal"], "gold": ["animal"], side: str(np.array(["animal", "time"]))}
    with pytest.raises(InputError, match=rf"l: {side} \"\['animal' 'time'\]\" has no comma between classes; write"):
        Evaluation().add(record, "l")
    with pytest.raises(InputError, match=rf"l: no {side}; other labels are lists: write \[\] where no class holds"):
        Evaluation().add({**record, side: ""}, "l")
    # A class that scores name is what it is called.
    odd = {"label": "(a, b)", "gold": "(a, b)", "scores": {"(a, b)": 0.9, '["c"]': 0.1}}
    (found,) = evaluated(odd, {**odd, "gold": '["c"]'}, only=("accuracy",))
    assert found.value == 0.5


def test_vectors_are_not_evaluated() -> None:
    """As lists of classes [0,1] and [1,0] are equal, and every prediction would be right."""
    for names in ({}, {"scores": {"neg": 0.9, "pos": 0.1}}):
        wrong = [{"label": said, "gold": said[::-1], **names} for said in ([0, 1], [1, 0])]
        with pytest.raises(ToolError, match=r"line 1: labels are \[0,1\] and \[1,0\]; vectors of 0 and 1 are not read"):
            evaluated(*wrong)


def test_numbers_for_names_are_told() -> None:
    evaluation = Evaluation()
    evaluation.add({"label": ["no"], "gold": [1], "scores": {"no": 0.9, "yes": 0.2}, "task": "t"}, "line 1")
    assert [said.split(";")[0] for said in evaluation.doubts()] == [
        "task t: labels of texts are numbers, and classes have names: 1 for 'yes' is assumed"
    ]


def test_classes_that_are_called_otherwise_are_told() -> None:
    evaluation = Evaluation()
    for number, (label, gold) in enumerate([("pos", "Positive"), ("neg", "Negative")], 1):
        evaluation.add({"label": label, "gold": gold}, f"line {number}")
    assert list(evaluation.doubts()) == [
        "no label that was predicted (neg, pos) is among the right ones (Negative, Positive);"
        " are they called otherwise?"
    ]
    for pairs in ([("pos", "neg")], [("1.5", "2"), ("3", "4")], [("a", "b"), ("c", "a")]):
        evaluation = Evaluation()
        for number, (label, gold) in enumerate(pairs, 1):
            evaluation.add({"label": label, "gold": gold}, f"line {number}")
        assert list(evaluation.doubts()) == []


def test_names_that_may_be_meant_otherwise_are_told() -> None:
    evaluation = Evaluation()
    for number, (label, gold) in enumerate([("animal", "animal;time"), ("time", "Time"), ("1.0", "1")], 1):
        evaluation.add({"label": label, "gold": gold}, f"line {number}")
    assert [said.split(":")[0] for said in evaluation.doubts()] == [
        "classes 'time' and 'Time' differ by case or spaces alone, and are taken for two",
        "labels such as 'animal;time' have ';' between words that are in other labels too",
    ]
    evaluation = Evaluation()
    evaluation.add({"label": ["a"], "gold": ["a", "b"], "task": "t"}, "line 1")
    assert list(evaluation.doubts()) == []


@pytest.mark.parametrize("convert", [float, str, lambda value: {1: "1.0", 0: "0"}[value]])
def test_whole_numbers_with_a_decimal_point_are_classes_unless_a_correlation_is_chosen(
    convert: Callable[[int], object],
) -> None:
    """pandas writes the classes of one column so where it has a gap: 1 and 1.0 are one class."""
    label, gold = [1, 0, 1, 1, 0, 0, 1], [1, 0, 0, 1, 1, 0, 1]
    evaluation = Evaluation()
    for number, (said, right) in enumerate(zip(label, gold, strict=True)):
        evaluation.add({"label": convert(said), "gold": right if number else float(right)}, f"line {number}")
    found = {each.metric: each for each in evaluation.results(draws=200)}
    assert (found["accuracy"].value, found["accuracy"].classes) == (metrics.accuracy_score(gold, label), 2)
    assert found["f1"].value == metrics.f1_score(gold, label)
    assert [str(said).partition(",")[0] for said in evaluation.doubts()] == [
        "labels are whole numbers with a decimal point"
    ]
    (pearson,) = evaluation.results(["pearson"], draws=200)
    assert pearson.value == pytest.approx(np.corrcoef(gold, label)[0, 1])
    assert list(evaluation.doubts()) == []
    evaluation.add({"label": 0.5, "gold": 1.0}, "line 8")
    assert [each.metric for each in evaluation.results(draws=200)] == ["pearson", "spearman"]


def test_what_cannot_be_evaluated() -> None:
    with pytest.raises(ToolError, match="no prediction that has a right label"):
        evaluated()
    with pytest.raises(UsageError, match="metric pearson: these predictions are judged by accuracy, f1"):
        evaluated({"label": 1, "gold": 0}, only=("pearson",))
    with pytest.raises(ToolError, match="line 2: label 'x' is text, unlike 1 in line 1"):
        evaluated({"label": 1, "gold": 1}, {"label": "x", "gold": 1})
    evaluation = Evaluation()
    evaluation.add({"label": "a", "gold": "a", "scores": {"a": 1.0}}, "line 1")
    for record, kind in (
        ({"label": "a"}, "no-label"),
        ({"label": "a", "gold": "a"}, "mixed"),
        ({"label": "a", "gold": "z", "scores": {"a": 1.0}}, "unknown-label"),
    ):
        with pytest.raises(InputError) as raised:
            evaluation.add(record, "line 2")
        assert raised.value.kind == kind
    assert len(evaluation) == 1


def test_too_many_classes_are_refused_without_advice_that_no_caller_can_follow() -> None:
    evaluation = Evaluation()
    for number in range(1001):
        evaluation.add({"label": number, "gold": number}, f"l, line {number}")
    with pytest.raises(ToolError) as raised:
        list(evaluation.results())
    assert raised.value.message == "l: 1001 different labels"
    evaluation.add({"label": 1.0, "gold": 1.0}, "l, line 1001")
    with pytest.raises(ToolError, match="l: 1001 different labels; for values give metric pearson"):
        list(evaluation.results())
    assert [each.value for each in evaluation.results(["pearson"], draws=1)] == [pytest.approx(1)]


def test_a_gold_label_among_values_that_is_none() -> None:
    """A table with one n/a has its numbers in strings."""
    evaluation = Evaluation()
    for number, gold in enumerate(("3.5", "2", "1.25")):
        evaluation.add({"label": 0.5 * number, "gold": gold}, f"line {number}")
    for gold in ("n/a", "1_0", "nan"):
        with pytest.raises(InputError, match=rf"^line 4: gold '{gold}' is no number, as label is; leave the line out"):
            evaluation.add({"label": 0.5, "gold": gold}, "line 4")
    assert {result.metric: result.count for result in evaluation.results()} == {"pearson": 3, "spearman": 3}
