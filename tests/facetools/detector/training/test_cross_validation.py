"""Sources that a network has not seen: folds of them, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _toolio.errors import ToolError, UsageError
from detector_faces import CPU, example_of, picture, sources, states_equal
from facetools.detector import scoring
from facetools.detector.scoring import UnseenScores, score, score_sources
from facetools.detector.training import cross_validation
from facetools.detector.training.cross_validation import Fold, cross_validate, deal_sources
from facetools.detector.training.examples import Example
from facetools.detector.training.trainer import DetectorTrainer
from facetools.training.loop import TrainingConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def counted(**sizes: int) -> list[Example]:
    blank = example_of(picture(8, 8))
    return [replace(blank, group=name) for name, count in sizes.items() for _ in range(count)]


def test_sources_are_dealt_evenly_and_each_once() -> None:
    """They weigh as the roots of their sizes."""
    dealt = deal_sources(counted(a=100, b=64, c=49, d=36, e=25, f=4), 3)
    assert dealt == [["a", "f"], ["b", "e"], ["c", "d"]]
    assert deal_sources(counted(f=4, e=25, d=36, c=49, b=64, a=100), 3) == dealt, "whatever their order"
    assert deal_sources(counted(x=5, y=5, z=5), 3) == [["x"], ["y"], ["z"]]
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = {f"s{number}": int(rng.integers(1, 300)) for number in range(rng.integers(5, 12))}
        folds = deal_sources(counted(**sizes), 5)
        assert sorted(name for fold in folds for name in fold) == sorted(sizes)
        weights = [sum(sizes[name] ** 0.5 for name in fold) for fold in folds]
        assert min(weights) > 0
        assert max(weights) - min(weights) <= max(size**0.5 for size in sizes.values())


def test_fewer_sources_than_folds_are_refused() -> None:
    with pytest.raises(ToolError, match=r"folds 3: there are photos of fewer sources \(a, b\); a source is the first"):
        deal_sources(counted(a=3, b=4), 3)
    with pytest.raises(ToolError, match=r"fewer sources \(one\)"):
        deal_sources([example_of(picture(8, 8))], 2)


def validate(examples: Sequence[Example], path: Path, **changed: Any) -> list[Fold]:
    config = TrainingConfig(epochs=2, batch=4, learning_rate=3e-3)
    given = {"folds": 2, "device": CPU, "checkpoint": path, "about": {"inputs_sha256": "x"}} | changed
    given.setdefault("progress", lambda losses, *_: losses)
    return list(cross_validate(examples, (0, 1), config, **given))


def assert_same(one: UnseenScores, other: UnseenScores) -> None:
    assert np.array_equal(one.clean, other.clean)
    assert np.array_equal(one.cloaked, other.cloaked)
    assert list(one.attacks) == list(other.attacks)
    for mine, yours in ((one.clean_after, other.clean_after), (one.cloaked_after, other.cloaked_after)):
        assert mine.keys() == yours.keys()
        assert all(np.array_equal(mine[name], yours[name]) for name in mine)


@pytest.fixture
def small_odd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few changes: what they do is looked at elsewhere."""
    monkeypatch.setattr(scoring, "ODD", ("jpeg", "grain"))
    monkeypatch.setattr(scoring, "SURVIVED", ("resize",))
    monkeypatch.setattr(scoring, "WEAKENED", ("resize", "blur"))


@pytest.mark.usefixtures("small_odd")
def test_no_network_has_seen_the_sources_that_it_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, scored, titles = [], [], []

    class Spy(DetectorTrainer):
        def __init__(self, examples: Sequence[Example], *given: Any, **named: Any) -> None:
            trained.append({(each.group, each.source) for each in examples})
            super().__init__(examples, *given, **named)

    def spied(network: Any, examples: Sequence[Example], attacks: Sequence[int]) -> dict[str, UnseenScores]:
        scored.append({(each.group, each.source) for each in examples})
        return score_sources(network, examples, attacks)

    def progress(losses: Any, title: str, total: int) -> Any:
        titles.append((title, total))
        return losses

    monkeypatch.setattr(cross_validation, "DetectorTrainer", Spy)
    monkeypatch.setattr(cross_validation, "score_sources", spied)
    examples = sources(a=4, b=3, c=3, d=2)
    every = {(each.group, each.source) for each in examples}
    found = validate(examples, tmp_path / "c", progress=progress)
    assert [fold.left_out for fold in found] == [("a", "d"), ("b", "c")]
    assert [fold.number for fold in found] == [1, 2]
    for fold, known, unseen in zip(found, trained, scored, strict=True):
        assert tuple(sorted(fold.scores)) == fold.left_out == tuple(sorted({group for group, _ in unseen}))
        assert not {group for group, _ in known} & set(fold.left_out)
        assert known | unseen == every
        assert np.isfinite(fold.loss)
        # By the network that it says.
        assert not fold.network.training
        clean = [each for each in examples if each.group == fold.left_out[0] and not each.cloaked]
        assert np.array_equal(fold.scores[fold.left_out[0]].clean, score(fold.network, clean))
    assert titles == [("training without a, d", 2), ("training without b, c", 2)]
    assert found[0].loss != found[1].loss
    # What it leaves: a checkpoint of each part.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.fold-1", "c.fold-2"]


class Interrupted(Exception):
    pass


@pytest.mark.usefixtures("small_odd")
@pytest.mark.parametrize(("fold", "epochs"), [(1, 1), (1, 2), (2, 0), (2, 1), (2, 2)])
def test_an_interrupted_cross_validation_goes_on_where_it_was(fold: int, epochs: int, tmp_path: Path) -> None:
    """And ends with the same scores and losses, whether it was in an epoch or about to keep a part's checkpoint."""
    examples = sources(a=2, b=2)
    expected = validate(examples, tmp_path / "whole")
    begun: list[str] = []

    def stop(losses: Any, title: str, _: int) -> Any:
        begun.append(title)
        for number, loss in enumerate(losses):
            if len(begun) == fold and number == epochs:
                raise Interrupted
            yield loss
        if len(begun) == fold:
            raise Interrupted

    with pytest.raises(Interrupted):
        validate(examples, tmp_path / "c", progress=stop)
    left: list[int] = []

    def count(losses: Any, *_: Any) -> Any:
        left.append(0)
        for loss in losses:
            left[-1] += 1
            yield loss

    found = validate(examples, tmp_path / "c", progress=count)
    assert left == ([2 - epochs, 2] if fold == 1 else [0, 2 - epochs])
    for fold_found, wanted in zip(found, expected, strict=True):
        assert (fold_found.number, fold_found.left_out, fold_found.loss) == (
            wanted.number,
            wanted.left_out,
            wanted.loss,
        )
        assert states_equal(fold_found.network, wanted.network)
        assert fold_found.scores.keys() == wanted.scores.keys()
        for name, each in fold_found.scores.items():
            assert_same(each, wanted.scores[name])
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] == "c") == ["c.fold-1", "c.fold-2"]
    # Once more: nothing is trained again, and all is said.
    left.clear()
    again = validate(examples, tmp_path / "c", progress=count)
    assert left == [0, 0]
    assert [each.loss for each in again] == [each.loss for each in expected]


@pytest.mark.usefixtures("small_odd")
def test_a_checkpoint_of_another_cross_validation_is_refused(tmp_path: Path) -> None:
    examples = sources(a=2, b=2)
    validate(examples, tmp_path / "c")
    with pytest.raises(UsageError, match="other inputs_sha256"):
        validate(examples, tmp_path / "c", about={"inputs_sha256": "y"})


def test_sources_without_which_there_is_nothing_to_learn_are_named(tmp_path: Path) -> None:
    examples = [each for each in sources(a=2, b=2, c=1) if not each.cloaked or each.group == "b"]
    with pytest.raises(ToolError, match="without the photos of b there are no clean or no cloaked faces"):
        validate(examples, tmp_path / "c", folds=3)
