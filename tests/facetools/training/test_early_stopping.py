"""Early stopping on held-out people."""

from __future__ import annotations

import pytest
import torch

from _toolio.errors import ToolError
from facetools.extractors.extractor import Extractor
from facetools.extractors.files import Prepared
from facetools.training.early_stopping import EarlyStopping, HeldOutEvaluation, interpolate_weights
from facetools.training.paired_faces import PairedFaces
from facetools.training.robust import RobustTrainer, embed_samples, tunable
from robust_trainers import CPU, trainer_of


def stopping_of(trainer: RobustTrainer, extractor: Extractor, faces: PairedFaces) -> EarlyStopping:
    return EarlyStopping(trainer, HeldOutEvaluation(extractor, faces), max_clean_loss=1.0, patience=2)


def test_the_evaluation_counts_by_hand(faces: PairedFaces, extractor: Extractor) -> None:
    evaluation = HeldOutEvaluation(extractor, faces)
    rows = embed_samples(extractor.network, faces.samples, (112, 112), CPU).double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    apart = 1 - rows @ rows.T
    missed = floor = wrong = 0
    for probe in range(12):  # clean photos; 12 to 17 are copies of 0, 2, 4, ...
        pair = probe ^ 1
        others = min(float(apart[probe, n]) for n in range(12) if n // 2 != probe // 2)
        wrong += others < float(apart[probe, pair])
        if probe % 2:  # only the first photo of each is cloaked
            missed += others < float(apart[probe, 12 + probe // 2])
            floor += others < float(apart[probe, pair])
    assert evaluation.before["protections"]["pattern"] == pytest.approx(missed / 6)
    assert evaluation.before["floors"]["pattern"] == pytest.approx(floor / 6)
    assert evaluation.before["clean_accuracy"] == pytest.approx(1 - wrong / 12)
    assert evaluation.measure(extractor.network)["clean_loss"] == 0


def test_only_epochs_that_cost_little_are_kept(
    faces: PairedFaces, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(faces, extractor, epochs=5)
    stopping = stopping_of(trainer, extractor, faces)
    seen = iter([(0.9, 3.0), (0.5, 1.0), (0.4, 1.5), (0.6, 0.0)])

    def measure(_: object) -> dict[str, float]:
        protection, lost = next(seen)
        return {"protection": protection, "clean_loss": lost}

    monkeypatch.setattr(stopping._evaluation, "measure", measure)
    kept, over = [], []
    for losses in trainer.epochs():
        kept.append(stopping.evaluate(losses)["best"])
        over.append(stopping.is_over)
        if over[-1]:
            break
    assert kept == [False, True, False, False]
    assert over == [False, False, False, True]
    assert trainer.figures["protection"] == 0.5
    assert stopping.finish() is None


def test_where_every_epoch_costs_too_much_part_of_the_way_back_is_kept(
    faces: PairedFaces, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(faces, extractor, epochs=1)
    list(trainer.epochs())
    stopping = stopping_of(trainer, extractor, faces)
    start, end = (x.state_dict()["network.stem.0.weight"] for x in (stopping._evaluation.untouched, trainer.averaged))

    def measure(network: Prepared) -> dict[str, float]:
        """Cost 4 points at the end, and in proportion on the way."""
        now = network.state_dict()["network.stem.0.weight"]
        return {"protection": 0.5, "clean_loss": 4 * float((now - start).norm() / (end - start).norm())}

    monkeypatch.setattr(stopping._evaluation, "measure", measure)
    fields = stopping.finish()
    assert fields is not None
    assert fields["blend"] == 0.2  # 4 x 0.2 is below 1 point, 4 x 0.3 above
    assert torch.allclose(trainer.best.state_dict()["network.stem.0.weight"], start + 0.2 * (end - start), atol=1e-6)
    other = stopping_of(trainer_of(faces, extractor), extractor, faces)
    monkeypatch.setattr(other._evaluation, "measure", lambda _: {"protection": 0.5, "clean_loss": 2.0})
    with pytest.raises(ToolError, match="every epoch costs more than 1 points"):
        other.finish()


def test_training_yields_the_untouched_network_first_and_ends_early(
    faces: PairedFaces, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(faces, extractor, epochs=5)
    stopping = stopping_of(trainer, extractor, faces)
    monkeypatch.setattr(stopping._evaluation, "measure", lambda _: {"protection": 0.5, "clean_loss": 0.0})
    (before,) = stopping.start()
    assert (before["epoch"], before["loss"], before["clean_loss"]) == (0, None, 0.0)
    records = list(stopping.epochs())
    # The first is the best, and two more are as good and no better.
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert [record["best"] for record in records] == [True, False, False]
    assert all(record["loss"] == record["identity_loss"] + record["consistency_loss"] for record in records)
    assert stopping.start() == [before, *records], "a resumed run reports all that an uninterrupted one does"
    assert list(stopping.epochs()) == []


def test_what_an_earlier_run_kept_is_dropped_by_a_stricter_one(faces: PairedFaces, extractor: Extractor) -> None:
    trainer = trainer_of(faces, extractor)
    for lost, kept in ((0.9, True), (1.1, False)):
        trainer.keep({"protection": 0.5, "clean_loss": lost, "epoch": 1})
        stopping_of(trainer, extractor, faces)
        assert bool(trainer.figures) is kept


def test_weights_are_interpolated(extractor: Extractor) -> None:
    first, second = tunable(extractor), tunable(extractor)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter += 1.0
    between = interpolate_weights(first, second, 0.3)
    for a, b in zip(first.parameters(), between.parameters(), strict=True):
        torch.testing.assert_close(b, a + 0.3)
    assert not between.training
