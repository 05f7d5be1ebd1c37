"""Evaluations of few photos on a line, whose numbers are worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from _toolio.errors import InputError, ToolError
from _toolio.streams.inputs import Item
from facetools.evaluation.classifiers.embedding_classifiers import Fallback, Task
from facetools.evaluation.cloaks import match_cloaks
from facetools.evaluation.config import ProtocolConfig
from facetools.evaluation.experiment import Evaluation
from facetools.evaluation.gallery import Gallery
from facetools.evaluation.splits import split_photos
from facetools.evaluation.summary import summarise
from galleries import crowd, gallery_of

HALF = ProtocolConfig(split=0.5)
"""Of four photos two are trained on and two are asked."""


def on_a_line(values: Sequence[float], names: Sequence[str], top: str = "clean") -> Gallery:
    rows = np.array([[value, 0.0] for value in values], np.float32)
    return Gallery("e", "d", "euclidean", tuple(Item(f"{top}/{name}", name) for name in names), rows)


def laid_out(places: Mapping[str, tuple[Sequence[float], ...]]) -> tuple[Gallery, Gallery, list[str]]:
    """Put people's photos on a line: those trained on, these cloaked, and those asked, whichever the draw chooses."""
    people = [person for person in places for _ in range(4)]
    names = [f"{person}/{number % 4}.jpg" for number, person in enumerate(people)]
    (asked,) = split_photos(people, HALF, names)
    clean, cloaked = np.zeros(len(people)), np.full(len(people), 1e6)
    for person, (train, moved, tests) in places.items():
        mine = np.array(people) == person
        clean[mine & ~asked], cloaked[mine & ~asked], clean[mine & asked] = train, moved, tests
    return on_a_line(clean, names), on_a_line(cloaked, names, "cloaked"), people


def evaluate(
    models: Sequence[Gallery], cloaked: Sequence[Gallery], people: Sequence[str], classifier: str = "nn"
) -> dict[str, Any]:
    cloaks = match_cloaks("x", models[0], cloaked[0])
    return dict(Evaluation(models, [cloaked], [cloaks], people, HALF).run(classifier, sorted(set(people))))


LINE = {
    "a": ([0, 1], [100, 101], [0.2, 5.1]),
    "b": ([5, 6], [5, 50], [5.4, 6.4]),
    "c": ([10, 11], [20, 21], [10.2, 10.6]),
}


def test_three_people_on_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # 24 pairs of a test and a training photo of two people: 0.1 0.9 3.6 4.2 4.4 and more; a fifth of them is four.
    monkeypatch.setattr("facetools.evaluation.verification.FALSE_ACCEPT_RATES", (0.2, 1e-4))
    clean, cloaked, people = laid_out(LINE)
    done = evaluate([clean], [cloaked], people)
    shown = {name: (f["protection"], f["floor"], f["others_accuracy"]) for name, f in done.items()}
    # a's test at 5.1 is taken for b whatever a does.
    assert shown == {"a": (1.0, 0.5, 1.0), "b": (0.0, 0.0, 0.75), "c": (1.0, 0.0, 0.75)}
    assert [done[name]["tar"]["0.2"] for name in "abc"] == [0, 0.5, 0]
    assert [done[name]["tar_clean"]["0.2"] for name in "abc"] == [0.75, 1, 1]
    summary = summarise(list(done.values()))
    assert summary["protection"] == pytest.approx(2 / 3)
    assert summary["floor"] == pytest.approx(1 / 6)
    assert summary["tar"] == {"0.2": pytest.approx(1 / 6), "0.0001": None}
    assert summary["tar_clean"]["0.2"] == pytest.approx(2.75 / 3)
    assert summary["others_accuracy"] == pytest.approx(2.5 / 3)
    assert (summary["train_photos"], summary["cloaked_photos"], summary["test_photos"]) == (6, 6, 6)
    assert summary["rank5"] == 1.0


def test_one_person_has_no_interval() -> None:
    clean, cloaked, people = laid_out(LINE)
    summary = summarise([evaluate([clean], [cloaked], people)["a"]])
    assert (summary["protection"], summary["interval"], summary["floor_interval"]) == (1.0, None, None)


TWO_MODELS = (
    # The accurate model takes the cloaked a and b for others. a's clean photos are 40 apart, the cloaked 1; the nearest
    # of others is 10 from a, and 50 from b.
    {"a": ([0, 40], [1000, 1001], [0, 0]), "b": ([90, 91], [200, 201], [90, 90]), "c": ([10, 12], [10, 12], [10, 12])},
    # The robust one still knows a, and not b; its own photos of a person are 50 apart.
    {"a": ([0, 50], [0, 50], [0, 0]), "b": ([500, 550], [900, 950], [500, 500]), "c": ([300, 350], [300, 350], [1, 1])},
)


@pytest.mark.parametrize("classifier", ["top2", "threshold"])
def test_a_robust_model_sees_cloaked_photos_too(classifier: str) -> None:
    (clean, cloaked, people), (robust, robust_cloaked, _) = (laid_out(places) for places in TWO_MODELS)
    done = evaluate([clean, robust], [cloaked, robust_cloaked], people, classifier)
    assert [done[name]["protection"] for name in "abc"] == [0, 1, 0]
    assert [done[name]["rank5"] for name in "abc"] == ([None] * 3 if classifier == "top2" else [1, 1, 1])
    if classifier == "threshold":
        # Gaps 1 1 1 1 2 2 of what the trainer of a cloaked a has.
        assert done["a"]["limit"] == 2.0
        assert summarise(list(done.values()))["limit"] == pytest.approx(np.mean([f["limit"] for f in done.values()]))


def test_a_threshold_needs_somebody_with_two_photos() -> None:
    rows, labels = np.array([[0.0], [9.0]], np.float32), np.array([0, 1])
    single = Task(rows, labels, rows, labels, 2, "euclidean")
    with pytest.raises(ToolError, match="nobody has two photos to train on"):
        Fallback(single, single)
    rows, labels = np.array([[0.0], [1.0], [9.0]], np.float32), np.array([0, 0, 1])
    pair = Task(rows, labels, rows, labels, 2, "euclidean")
    with pytest.raises(InputError, match="nobody else has two photos"):
        Fallback(pair, pair).replaced(0, [rows[:1], rows[:1]])


def test_who_has_no_score_is_not_among_five() -> None:
    clean, cloaked, people = laid_out(LINE)

    class Silent:
        answers = 1

        def clean(self) -> np.ndarray:
            return np.full((6, 3), np.inf)

        def replaced(self, person: int, rows: object) -> np.ndarray:
            return np.full((6, 3), np.inf)

    cloaks = match_cloaks("x", clean, cloaked)
    evaluation = Evaluation([clean], [[cloaked]], [cloaks], people, HALF)
    for _, fields in evaluation.run("other", ["a"], lambda tasks: Silent()):
        assert isinstance(fields, dict)
        assert (fields["protection"], fields["rank5"]) == (1.0, 0.0)


def test_a_fold_that_asks_nobody_leaves_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facetools.evaluation.verification.FALSE_ACCEPT_RATES", (0.5,))
    names = [f"{person}/{number}.jpg" for person in "abc" for number in range(2)]
    people = [name[0] for name in names]
    clean = on_a_line([0, 1, 10, 11, 20, 21], names)
    cloaks = [match_cloaks("x", clean, clean)]
    done = dict(Evaluation([clean], [[clean]], cloaks, people, ProtocolConfig(folds=3)).run("nn", ["a"]))
    assert isinstance(done["a"], dict)
    assert done["a"]["tar"] == done["a"]["tar_clean"] == {"0.5": 1.0}
    assert done["a"]["test_photos"] == 2


@pytest.mark.parametrize("classifier", ["nn", "linear", "top2", "threshold"])
def test_photos_that_are_dropped_are_missing_from_the_floor_too(classifier: str) -> None:
    """Bit for bit copies of three photos of each person protect nobody."""
    names, people, rows = crowd()
    (asked,) = split_photos(people, ProtocolConfig(), names)
    kept = [n for person in dict.fromkeys(people) for n in np.flatnonzero(~asked & (np.array(people) == person))[1:4]]
    clean, few = gallery_of(rows, names), gallery_of(rows[kept], [names[n] for n in kept], "cloaked")
    many = 2 if classifier in ("top2", "threshold") else 1
    cloaks = [match_cloaks("x", clean, few)]
    evaluation = Evaluation([clean] * many, [[few] * many], cloaks, people, ProtocolConfig(drop_missing=True))
    done = dict(evaluation.run(classifier, evaluation.protected))
    for fields in done.values():
        assert isinstance(fields, dict)
        assert (fields["train_photos"], fields["cloaked_photos"]) == (3, 3)
        assert fields["protection"] == fields["floor"]
        assert fields.get("tar") == fields.get("tar_clean")
    whole = Evaluation([clean] * many, [[clean] * many], [match_cloaks("y", clean, clean)], people, ProtocolConfig())
    usual = dict(whole.run(classifier, whole.protected))
    assert sum(f["floor"] for f in done.values()) > sum(f["floor"] for f in usual.values())  # type: ignore[index]
    assert all(f["protection"] == f["floor"] for f in usual.values())  # type: ignore[index]


def test_the_order_of_records_decides_nothing() -> None:
    names, people, rows = crowd()
    moved = rows + np.random.default_rng(1).normal(size=rows.shape).astype(np.float32)
    shuffled = np.random.default_rng(2).permutation(len(names))
    given = []
    for order in (np.arange(len(names)), shuffled):
        listed = [names[n] for n in order]
        clean, old, new = (
            gallery_of(values[order], listed, top) for values, top in ((rows, "clean"), (moved, "old"), (-moved, "new"))
        )
        cloaks = [match_cloaks(name, clean, each) for name, each in (("old", old), ("new", new))]
        plan = ProtocolConfig(fraction=0.6, folds=2)
        evaluation = Evaluation([clean], [[old], [new]], cloaks, [people[n] for n in order], plan)
        given.append(dict(evaluation.run("nn", evaluation.protected)))
    assert given[0] == given[1]
    assert 0 < np.mean([fields["protection"] for fields in given[0].values()]) < 1  # type: ignore[index]


def dealt(plan: ProtocolConfig, kinds: int, photos: int = 10) -> list[list[float]]:
    """Give each person's training rows: a photo is its number in order, a copy the same and 100 more for each cloak."""
    names = [f"p{person}/{number}.jpg" for person in range(8) for number in range(photos)][::-1]
    people = [name[:2] for name in names]
    values = np.array([int(name[3:-4]) for name in names])
    clean = on_a_line(values, names)
    copies = [on_a_line(values + 100 * (kind + 1), names, str(kind)) for kind in range(kinds)]
    cloaks = [match_cloaks(str(kind), clean, each) for kind, each in enumerate(copies)]
    evaluation = Evaluation([clean], [[each] for each in copies], cloaks, people, plan)
    (asked,) = split_photos(people, plan, names)
    found = [evaluation._training(str(name), own, asked) for own, name in enumerate(evaluation.names)]
    return [sorted(each.rows[0][:, 0].tolist(), key=lambda value: value % 100) for each in found]


def test_the_oldest_cloak_has_the_first_photos() -> None:
    for rows in dealt(ProtocolConfig(), 2):
        assert [value // 100 for value in rows] == [1, 1, 1, 1, 2, 2, 2]


def test_a_part_that_is_cloaked_is_drawn_and_has_one_photo_at_least() -> None:
    several = [[value // 100 for value in rows] for rows in dealt(ProtocolConfig(fraction=0.4), 1)]
    assert {sum(rows) for rows in several} == {3}
    assert len({tuple(rows) for rows in several}) > 4
    assert {sum(value // 100 for value in rows) for rows in dealt(ProtocolConfig(fraction=0.01), 1)} == {1}


def test_each_cloak_of_several_gives_a_photo() -> None:
    with pytest.raises(InputError, match="p0: 1 of the photos to train on are cloaked, and each of 2 cloaks needs one"):
        dealt(ProtocolConfig(), 2, photos=2)
    names, people, rows = crowd()
    clean = gallery_of(rows, names)
    (asked,) = split_photos(people, ProtocolConfig(), names)
    last = {names[n] for n in np.flatnonzero(~asked)[4:7]}
    fewer = [n for n in range(len(names)) if names[n] not in last]
    new = gallery_of(rows[fewer] + 9, [names[n] for n in fewer], "new")
    cloaks = [match_cloaks("old", clean, clean), match_cloaks("new", clean, new)]
    evaluation = Evaluation([clean], [[clean], [new]], cloaks, people, ProtocolConfig(drop_missing=True))
    done = dict(evaluation.run("nn", evaluation.protected))
    assert isinstance(done["p0"], InputError)
    assert "p0: no photo to train on has a cloaked copy in new" in done["p0"].message
    others = [fields for fields in done.values() if isinstance(fields, dict)]
    assert {tuple(fields["photos_of_cloaks"]) for fields in others} == {(4, 3)}
    assert summarise(others)["photos_of_cloaks"] == [28, 21]


def test_a_copy_without_a_face_is_not_called_missing() -> None:
    names, people, rows = crowd()
    (asked,) = split_photos(people, ProtocolConfig(), names)
    lost = int(np.flatnonzero(~asked)[0])
    kept = [n for n in range(len(names)) if n != lost]
    items = tuple(Item(f"c/{names[n]}", names[n]) for n in kept)
    cloaked = Gallery("e", "d", "euclidean", items, rows[kept], faceless=(Item(f"c/{names[lost]}", names[lost]),))
    clean = gallery_of(rows, names)
    cloaks = match_cloaks("x", clean, cloaked)
    assert (cloaks.faceless, cloaks.unmatched) == ({lost: f"c/{names[lost]}"}, ())
    (_, error), *_ = Evaluation([clean], [[cloaked]], [cloaks], people, ProtocolConfig()).run("nn", ["p0"])
    assert isinstance(error, InputError)
    assert error.kind == "no-face"
    assert f"no face was found in the cloaked copies of 1 of 7 photos to train on (c/{names[lost]} is" in error.message
    other = match_cloaks("x", cloaked, clean)
    assert (other.orphans, other.unmatched) == (((f"clean/{names[lost]}", f"c/{names[lost]}"),), ())
