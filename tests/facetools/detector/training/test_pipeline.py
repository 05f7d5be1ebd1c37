"""The training of a detector from faces to its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _toolio.errors import ToolError, UsageError
from _toolio.tensors.reader import open_safetensors, read_metadata
from detector_faces import CPU, sources, striped_people
from facetools.detector import scoring
from facetools.detector.calibration import calibrate_sources, figures_by_source
from facetools.detector.files import open_detector, read_calibration
from facetools.detector.scoring import UnseenScores
from facetools.detector.training import cross_validation, pipeline
from facetools.detector.training.cross_validation import deal_sources
from facetools.detector.training.examples import Example
from facetools.detector.training.pipeline import DetectorConfig, files_of_folds, train_detector
from facetools.detector.training.trainer import DetectorTrainer
from facetools.training.loop import TrainingConfig

pytestmark = pytest.mark.usefixtures("one_thread", "few_changes")

TRAINING = TrainingConfig(epochs=2, batch=4, learning_rate=3e-3)
PEOPLE = DetectorConfig(training=TRAINING, attacks=("columns", "rows"), numbers=(0, 1), held_out=0.5)
FOLDS = replace(PEOPLE, folds=2, keep_folds=True, false_alarms=0.1)
ABOUT = {"version": "0", "inputs_sha256": "x"}


@pytest.fixture
def few_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces are scored after each change; what each does is looked at elsewhere."""
    from facetools.detector import calibration

    for module in (scoring, calibration):
        monkeypatch.setattr(module, "ODD", ("grain",))
        monkeypatch.setattr(module, "SURVIVED", ("resize",))
    monkeypatch.setattr(scoring, "WEAKENED", ("resize", "blur"))


def silent(epochs: Iterator[Any], *_: Any) -> Iterator[Any]:
    return epochs


def train(examples: Sequence[Example], config: DetectorConfig, out: Path, **changed: Any) -> list[dict[str, Any]]:
    given = {"device": CPU, "checkpoint": Path(f"{out}.checkpoint"), "about": ABOUT, "progress": silent} | changed
    return list(train_detector(examples, config, out, **given))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Interrupted(Exception):
    pass


def stop_after(phase: int, epochs: int) -> Any:
    """Return a progress that ends in a phase, the trainings being counted from 1, after some of its epochs."""
    begun = 0

    def progress(losses: Iterable[Any], *_: Any) -> Iterator[Any]:
        nonlocal begun
        begun += 1
        for number, each in enumerate(losses):
            if (begun, number) == (phase, epochs):
                raise Interrupted
            yield each
        if begun == phase:
            raise Interrupted

    return progress


def held_out_of(examples: Sequence[Example]) -> set[str]:
    return {each.person for each in pipeline.split_people(examples, seed=TRAINING.seed, share=0.5)[1]}


# ---------------------------------------------------------------- people


def test_people_are_held_out_and_a_detector_is_written(tmp_path: Path) -> None:
    examples = striped_people(8, side=40)
    records = train(examples, PEOPLE, tmp_path / "d.safetensors")
    assert names_in(tmp_path) == ["d.safetensors"]
    assert [record["epoch"] for record in records] == [1, 2]
    unseen = 2 * len(held_out_of(examples))
    assert 0 < unseen < len(examples)
    for record in records:
        assert (record["held_out_faces"], record["faces"]) == (unseen, len(examples) - unseen)
        assert 0 <= record["auc"] <= 1
    made = read_metadata(tmp_path / "d.safetensors")
    shares = {key: made["figures"].pop(key) for key in ("recall", "false_alarms", "odd_false_alarms")}
    assert all(0 <= share <= 1 for share in shares.values())
    assert made["figures"] == records[-1]
    assert ABOUT.items() <= made.items()
    opened = open_detector(tmp_path / "d.safetensors", CPU)
    assert (opened.attacks, opened.calibration.false_alarms) == (("columns", "rows"), 0.005)


@pytest.mark.parametrize("epochs", [1, 2])
def test_an_interrupted_training_ends_as_a_whole_one(epochs: int, tmp_path: Path) -> None:
    examples = striped_people(8, side=40)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    expected = train(examples, PEOPLE, tmp_path / "whole" / "d.safetensors")
    with pytest.raises(Interrupted):
        train(examples, PEOPLE, tmp_path / "cut" / "d.safetensors", progress=stop_after(1, epochs))
    assert names_in(tmp_path / "cut") == ["d.safetensors.checkpoint"]
    assert train(examples, PEOPLE, tmp_path / "cut" / "d.safetensors") == expected
    assert files_in(tmp_path / "cut") == files_in(tmp_path / "whole")


# ---------------------------------------------------------------- sources


@pytest.fixture
def examples() -> list[Example]:
    return sources(a=3, b=2, c=2)


def test_sources_are_held_out_in_turn_and_detectors_are_written(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[str]] = []
    networks: dict[int, set[str]] = {}
    scored: dict[str, set[str]] = {}
    scores: dict[str, UnseenScores] = {}

    class Spy(DetectorTrainer):
        def __init__(self, known: Sequence[Example], *given: Any, **named: Any) -> None:
            super().__init__(known, *given, **named)
            trained.append({each.group for each in known})
            networks[id(self.averaged)] = trained[-1]

    score_sources = cross_validation.score_sources

    def spied(network: Any, unseen: Sequence[Example], attacks: Sequence[int]) -> dict[str, UnseenScores]:
        found = score_sources(network, unseen, attacks)
        scored.update(dict.fromkeys(found, networks[id(network)]))
        scores.update(found)
        return found

    monkeypatch.setattr(cross_validation, "DetectorTrainer", Spy)
    monkeypatch.setattr(pipeline, "DetectorTrainer", Spy)
    monkeypatch.setattr(cross_validation, "score_sources", spied)
    out = tmp_path / "d.safetensors"
    records = train(examples, FOLDS, out)

    dealt = deal_sources(examples, 2)
    assert dealt == [["a"], ["b", "c"]]
    assert trained == [{"b", "c"}, {"a"}, {"a", "b", "c"}]
    assert scored == {"a": {"b", "c"}, "b": {"a"}, "c": {"a"}}
    assert names_in(tmp_path) == ["d.safetensors", "d.without-a.safetensors", "d.without-b+c.safetensors"]
    assert [path.name for path in files_of_folds(examples, 2, out)] == names_in(tmp_path)[1:]

    # What is printed: the folds, the sources, and then the epochs of the training on all.
    folds, by_source, epochs = records[:2], records[2:5], records[5:]
    assert [(each["auc"], each["fold"], each["left_out"]) for each in folds] == [
        (None, 1, ["a"]),
        (None, 2, ["b", "c"]),
    ]
    assert all(each["loss"] > 0 for each in folds)
    assert by_source == list(figures_by_source(scores, false_alarms=0.1))
    assert [(each["source"], each["clean_faces"], each["cloaked_faces"]) for each in by_source] == [
        ("a", 3, 3), ("b", 2, 2), ("c", 2, 2)
    ]  # fmt: skip
    assert [(each["auc"], each["epoch"], each["faces"], each["paired"]) for each in epochs] == [
        (None, 1, 14, 0), (None, 2, 14, 0)
    ]  # fmt: skip

    # Each detector is calibrated on faces that no network which scored them has seen: not on those of its own sources.
    for path, names in ((out, "abc"), (tmp_path / "d.without-a.safetensors", "bc"),
                        (tmp_path / "d.without-b+c.safetensors", "a")):  # fmt: skip
        others = {name: scores[name] for name in names}
        assert read_calibration(path) == calibrate_sources(others, false_alarms=0.1)
        assert open_detector(path, CPU).attacks == ("columns", "rows")
    made = read_metadata(out)
    assert (made["figures"], made["inputs_sha256"]) == ({"sources": by_source}, "x")
    assert "left_out" not in made
    assert read_metadata(tmp_path / "d.without-b+c.safetensors")["left_out"] == ["b", "c"]


def test_a_kept_detector_is_the_one_that_scored_its_sources(examples: list[Example], tmp_path: Path) -> None:
    train(examples, FOLDS, tmp_path / "d.safetensors")
    known = [each for each in examples if each.group != "a"]
    trainer = DetectorTrainer(known, (0, 1), TRAINING, device=CPU)
    list(trainer.epochs())
    everything = DetectorTrainer(examples, (0, 1), TRAINING, device=CPU)
    list(everything.epochs())
    for path, network in (("d.without-a.safetensors", trainer.averaged), ("d.safetensors", everything.averaged)):
        file = open_safetensors(tmp_path / path)
        for name in file.entries:
            assert np.array_equal(file.tensor(name), network.state_dict()[name].half().numpy()), (path, name)


def test_without_keep_folds_only_the_detector_is_left(examples: list[Example], tmp_path: Path) -> None:
    train(examples, replace(FOLDS, keep_folds=False), tmp_path / "one.safetensors")
    assert names_in(tmp_path) == ["one.safetensors"]
    (tmp_path / "kept").mkdir()
    train(examples, FOLDS, tmp_path / "kept" / "one.safetensors")
    assert files_in(tmp_path / "kept")["one.safetensors"] == (tmp_path / "one.safetensors").read_bytes()


CUTS = [
    ((1, 1), ["checkpoint"], "in a fold"),
    ((1, 2), ["checkpoint"], "before its checkpoint is kept"),
    ((2, 0), ["checkpoint.fold-1"], "in the first epoch of the next"),
    ((2, 1), ["checkpoint", "checkpoint.fold-1"], "in a later one"),
    ((3, 0), ["checkpoint.fold-1", "checkpoint.fold-2"], "in the training on all"),
    ((3, 1), ["checkpoint", "checkpoint.fold-1", "checkpoint.fold-2"], "in a later epoch of it"),
    ((3, 2), ["checkpoint", "checkpoint.fold-1", "checkpoint.fold-2"], "before anything is saved"),
]


def test_a_training_that_is_cut_off_anywhere_ends_as_a_whole_one(tmp_path: Path) -> None:
    """With the same files and records, and nothing beside them."""
    examples = sources(a=1, b=2)
    (tmp_path / "whole").mkdir()
    expected = train(examples, FOLDS, tmp_path / "whole" / "d.safetensors")
    for (phase, epochs), left, what in CUTS:
        folder = tmp_path / f"{phase} {epochs}"
        folder.mkdir()
        out = folder / "d.safetensors"
        with pytest.raises(Interrupted):
            train(examples, FOLDS, out, progress=stop_after(phase, epochs))
        assert names_in(folder) == [f"d.safetensors.{name}" for name in left], what
        again = train(examples, FOLDS, out)
        assert again == expected, what
        assert files_in(folder) == files_in(tmp_path / "whole"), what


def test_an_end_between_folds_and_while_files_are_saved_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = sources(a=1, b=2)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    expected = train(examples, FOLDS, tmp_path / "whole" / "d.safetensors")
    out, written = tmp_path / "cut" / "d.safetensors", 0
    # The consumer of the first fold's record ends: it has been kept, and scored.
    records = train_detector(
        examples, FOLDS, out, device=CPU, checkpoint=Path(f"{out}.checkpoint"), about=ABOUT, progress=silent
    )
    assert next(records) == expected[0]
    records.close()  # type: ignore[attr-defined]
    assert names_in(out.parent) == ["d.safetensors.checkpoint.fold-1"]
    save = pipeline.save_detector

    def save_some(*given: Any) -> None:
        nonlocal written
        if written == 2:
            raise Interrupted
        written += 1
        save(*given)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "save_detector", save_some)
        with pytest.raises(Interrupted):
            train(examples, FOLDS, out)
    leftovers = [f"d.safetensors.checkpoint{part}" for part in ("", ".fold-1", ".fold-2")]
    assert names_in(out.parent) == [*leftovers, "d.without-a.safetensors", "d.without-b.safetensors"]
    assert train(examples, FOLDS, out) == expected
    assert files_in(out.parent) == files_in(tmp_path / "whole")


@pytest.mark.parametrize("config", [PEOPLE, FOLDS])
def test_a_checkpoint_of_another_training_is_refused_and_kept(config: DetectorConfig, tmp_path: Path) -> None:
    """Also that of a training without folds by one with them, and the other way round."""
    examples, out = sources(a=4, b=4), tmp_path / "d.safetensors"
    kinds = [PEOPLE, FOLDS]
    abouts = [{**ABOUT, "arguments": {"folds": each.folds}} for each in kinds]
    with pytest.raises(Interrupted):
        train(examples, config, out, about=abouts[kinds.index(config)], progress=stop_after(1, 1))
    before = files_in(tmp_path)
    for other, about in zip(kinds, abouts, strict=True):
        changed = about if other is not config else {**about, "inputs_sha256": "y"}
        with pytest.raises(UsageError, match=r"checkpoint: made with other (arguments|inputs_sha256)"):
            train(examples, other, out, about=changed)
        assert files_in(tmp_path) == before


@pytest.mark.parametrize(("config", "phase"), [(PEOPLE, 1), (FOLDS, 3)])
def test_epochs_of_an_interrupted_run_are_shown_and_not_saved_again(
    config: DetectorConfig, phase: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, out = sources(a=4, b=4), tmp_path / "d.safetensors"
    with pytest.raises(Interrupted):
        train(examples, config, out, progress=stop_after(phase, 1))
    shown, saved, save = list[str](), list[int](), DetectorTrainer.save

    def progress(epochs: Iterator[Any], what: str, _: int) -> Iterator[Any]:
        for each in epochs:
            shown.append(what)
            yield each

    def spied(trainer: DetectorTrainer, *given: Any) -> None:
        saved.append(trainer.epoch)
        save(trainer, *given)

    monkeypatch.setattr(DetectorTrainer, "save", spied)
    train(examples, config, out, progress=progress)
    assert (shown, saved) == (["training"] * 2, [2])


def test_nothing_is_trained_for_files_whose_names_are_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "cross_validate", lambda *_, **__: pytest.fail("nothing may be trained"))
    some = sources(**{letter * 90: 1 for letter in "abcdef"})
    for call in (
        lambda: train(some, FOLDS, tmp_path / "d.safetensors"),
        lambda: files_of_folds(some, 2, tmp_path / "d"),
    ):
        with pytest.raises(ToolError, match=r"^keep_folds: the name of a detector without 3 sources"):
            call()
    assert names_in(tmp_path) == []


def test_callers_draws_go_on_as_before(examples: list[Example], tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(examples, replace(FOLDS, keep_folds=False), tmp_path / "d.safetensors")
    assert torch.equal(torch.rand(3), expected)
