"""Training a detector."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _toolio.compute.distributed import Processes
from _toolio.errors import ToolError, UsageError
from detector_faces import CPU, example_of, picture, states_equal, striped, striped_people
from facetools.detector.network import Counts, loss_of
from facetools.detector.scoring import measure, score
from facetools.detector.training import trainer as training
from facetools.detector.training.examples import Example
from facetools.detector.training.trainer import UNPAIRED, DetectorTrainer, pair_up
from facetools.detector.training.windows import SIDES_PX, TRANSPLANTED, Window
from facetools.training.loop import TrainingConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def trainer_of(examples: Sequence[Example], attacks: Sequence[int] = (0, 1), **changed: Any) -> DetectorTrainer:
    config = {"epochs": 2, "batch": 4, "learning_rate": 3e-3, "seed": 0, **changed}
    return DetectorTrainer(examples, attacks, TrainingConfig(**config), device=CPU)


@pytest.fixture(scope="module")
def few() -> list[Example]:
    return striped_people(4)


def rows_and_columns(count: int, seed: int, cloak_axis: int) -> list[Example]:
    """People with rows on one photo and columns on the other, of which one is called the cloak."""
    examples = []
    for example in striped_people(count, seed=seed)[::2]:
        examples.append(replace(example, pixels=striped(example.pixels, 1 - cloak_axis)))
        examples.append(replace(example, pixels=striped(example.pixels, cloak_axis), cloak=0))
    return examples


@pytest.mark.parametrize("cloak_axis", [0, 1])
def test_training_learns_a_texture(cloak_axis: int) -> None:
    """Both ways round, on people that it has not seen: a network that has learnt nothing is wrong in one of them."""
    trainer = trainer_of(rows_and_columns(30, 0, cloak_axis), (0,), epochs=3, batch=8, learning_rate=1e-2)
    losses = list(trainer.epochs())
    assert losses[-1] < losses[0]
    assert trainer.measure(rows_and_columns(16, 1, cloak_axis), ["stripes"])["auc"] > 0.9


def test_making_a_trainer_leaves_torchs_generator_as_it_was(few: list[Example]) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one, other = (trainer_of(few, seed=seed).averaged.state_dict() for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_figures_are_of_the_averaged_network(few: list[Example]) -> None:
    trainer = trainer_of(few, epochs=1)
    next(trainer.epochs())
    assert not trainer.averaged.training
    logits = score(trainer.averaged, few)
    expected = measure(logits, [example.cloak for example in few], ["a", "b"], [0, 1])
    assert trainer.measure(few, ["a", "b"]) == {**expected, "epoch": 1, "held_out_faces": 8}


@pytest.mark.parametrize(("people", "batch"), [(6, 64), (2, 64), (2, 4)])
def test_few_faces_are_trained_on_too(people: int, batch: int) -> None:
    examples = striped_people(people, side=60)
    start = trainer_of(examples, epochs=1, batch=batch)
    trainer = trainer_of(examples, epochs=1, batch=batch)
    (loss,) = trainer.epochs()
    assert np.isfinite(loss)
    assert trainer.epoch == 1
    assert not states_equal(trainer.averaged, start.averaged)


def test_the_seed_decides_the_network(few: list[Example]) -> None:
    one, same, other = (trainer_of(few, epochs=1, seed=seed) for seed in (3, 3, 2**70))
    losses = [list(each.epochs()) for each in (one, same, other)]
    assert losses[0] == losses[1] != losses[2]
    assert states_equal(one.averaged, same.averaged)
    assert not states_equal(one.averaged, other.averaged)


def test_a_resumed_training_ends_as_an_uninterrupted_one(few: list[Example], tmp_path: Path) -> None:
    about = {"arguments": {"seed": 0, "faces": "largest"}, "inputs_sha256": "x"}
    whole = trainer_of(few, epochs=3)
    losses = list(whole.epochs())
    first = trainer_of(few, epochs=3)
    assert next(first.epochs()) == losses[0]
    first.history.append({"auc": 0.5, "epoch": 1})
    first.save(tmp_path / "c", about)
    second = trainer_of(few, epochs=3)
    second.load(tmp_path / "c", about)
    assert (second.epoch, second.history) == (1, [{"auc": 0.5, "epoch": 1}])
    assert states_equal(second.averaged, first.averaged)
    assert list(second.epochs()) == losses[1:]
    assert states_equal(whole.averaged, second.averaged)
    whole.save(tmp_path / "whole", about)
    second.history = []
    second.save(tmp_path / "again", about)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "again").read_bytes(), "moments and schedule too"


def test_a_finished_training_has_nothing_left(few: list[Example], tmp_path: Path) -> None:
    whole = trainer_of(few, epochs=1)
    list(whole.epochs())
    whole.save(tmp_path / "c", {})
    second = trainer_of(few, epochs=1)
    second.load(tmp_path / "c", {})
    assert list(second.epochs()) == []
    assert states_equal(whole.averaged, second.averaged)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"arguments": {"seed": 1, "faces": "largest"}}, r"other arguments \(seed was 0, and is 1\)"),
        ({"arguments": {"seed": 0, "faces": "crop"}}, r"other arguments \(faces was 'largest', and is 'crop'\)"),
        ({"arguments": {"seed": 0}}, r"other arguments \(faces was 'largest', and is None\)"),
        ({"attacks": ["a", "c"]}, "other attacks"),
        ({"inputs_sha256": "y"}, "other inputs_sha256"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    few: list[Example], tmp_path: Path, other: dict[str, Any], words: str
) -> None:
    about = {"arguments": {"seed": 0, "faces": "largest"}, "attacks": ["a", "b"], "inputs_sha256": "x"}
    trainer_of(few).save(tmp_path / "c", about)
    with pytest.raises(UsageError, match=words) as caught:
        trainer_of(few).load(tmp_path / "c", {**about, **other})
    assert caught.value.message.startswith(str(tmp_path / "c"))
    assert "\n" not in caught.value.message


def test_a_training_that_diverges_ends(few: list[Example], tmp_path: Path) -> None:
    broken = trainer_of(few)
    broken.save(tmp_path / "c", {})
    with torch.no_grad():
        for parameter in broken._network.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(ToolError, match="the loss became NaN or infinite; try a lower learning_rate") as caught:
        next(broken.epochs())
    assert (caught.value.kind, caught.value.exit_code) == ("diverged", 1)
    assert broken.epoch == 0


# ---------------------------------------------------------------- a step


def test_the_average_by_hand(few: list[Example]) -> None:
    """That of weights and of the statistics of normalisations; it begins at the first step."""
    trainer = trainer_of(few, learning_rate=0.1)
    expected: dict[str, torch.Tensor] = {}
    for number in range(4):
        trainer._step(*trainer._prepare(number))
        for name, value in trainer._network.state_dict().items():
            was = expected.get(name, value)
            expected[name] = 0.995 * was.double() + 0.005 * value.double()
    averaged = trainer.averaged.state_dict()
    for name in (name for name in expected if not name.endswith("num_batches_tracked")):
        torch.testing.assert_close(averaged[name].double(), expected[name], rtol=0, atol=1e-6)
    latest = trainer._network.state_dict()
    for name in ("head.weight", "full.0.1.running_mean"):
        assert float((averaged[name] - latest[name]).abs().max()) > 1e-3


@pytest.mark.parametrize(("sure", "clipped"), [(6.0, True), (-3.0, False)])
def test_a_step_by_hand(few: list[Example], sure: float, clipped: bool) -> None:
    """AdamW's first one: gradients of a norm of at most 1, a decay of 1e-3, a 25th of the peak of the schedule."""
    trainer = trainer_of(few, learning_rate=1.0)
    with torch.no_grad():
        trainer._network.head.bias[0] = sure
    before = copy.deepcopy(trainer._network).train()
    # Of clean faces alone the network is sure that they are cloaked, or that they are not.
    windows = trainer._prepare(0)[0]
    attacks = [-1] * len(windows)
    loss_of(before(windows / 255), attacks, attacks).backward()
    gradients = [parameter.grad for parameter in before.parameters()]
    norm = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
    assert (norm > 1) is clipped
    trainer._step(windows, attacks, attacks, Counts.of(attacks, attacks))
    for was, now, gradient in zip(before.parameters(), trainer._network.parameters(), gradients, strict=True):
        torch.testing.assert_close(now.grad, gradient / max(norm, 1.0), rtol=1e-3, atol=1e-6)
        expected = was * (1 - 0.04 * 1e-3) - 0.04 * now.grad / (now.grad.abs() + 1e-8)
        torch.testing.assert_close(now, expected, rtol=1e-6, atol=1e-7)


def test_in_half_precision_the_maps_are_bfloat16_and_nothing_else(few: list[Example]) -> None:
    training = TrainingConfig(epochs=2, batch=4, learning_rate=3e-3)
    losses, maps = [], []
    for half in (False, True):
        trainer = DetectorTrainer(few, (0, 1), training, device=CPU, half=half)
        hook = trainer._network.middle.register_forward_hook(lambda *given: maps.append(given[-1].dtype))
        losses.append(trainer._step(*trainer._prepare(0)))
        hook.remove()
        assert {parameter.dtype for parameter in trainer._network.parameters()} == {torch.float32}
    assert maps == [torch.float32, torch.bfloat16]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


# ---------------------------------------------------------------- what is drawn


def test_processes_share_the_windows_of_a_step(few: list[Example]) -> None:
    trainer = DetectorTrainer(few, (0, 1), TrainingConfig(epochs=1, batch=16, learning_rate=1e-3), device=CPU)
    whole, attacks, _, counts = trainer._prepare(0)
    found = []
    for rank in range(3):
        trainer._processes = Processes(rank, 3)
        windows, own, twins, counted = trainer._prepare(0)
        assert counted == counts
        assert all(own[twin] >= 0 for twin in twins if twin >= 0)
        found += [(each.numpy().tobytes(), attack) for each, attack in zip(windows, own, strict=True)]
    assert sorted(found) == sorted((e.numpy().tobytes(), a) for e, a in zip(whole, attacks, strict=True))


class Steps:
    """Stands for the learning, and remembers what was shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pairs: list[tuple[Example, Example]] = []
        self.lone: list[Example] = []
        self.batches: list[list[int]] = []
        self.sides: list[int] = []
        self.twins: list[list[int]] = []
        self.onto: list[Example | None] = []
        self.odd: list[float] = []

        def draw_pair(
            clean: Example, cloaked: Example, side: int, _: np.random.Generator, *, onto: Example | None, odd: float
        ) -> list[Window]:
            self.pairs.append((clean, cloaked))
            self.onto.append(onto)
            self.odd.append(odd)
            return [np.zeros((side, side, 3), np.float32)] * 2

        def draw_unpaired(clean: Example, side: int, _: np.random.Generator, *, odd: float) -> Window:
            self.lone.append(clean)
            self.odd.append(odd)
            return np.zeros((side, side, 3), np.float32)

        def step(
            _: DetectorTrainer, windows: torch.Tensor, attacks: list[int], twins: list[int], counts: Counts
        ) -> float:
            side = windows.shape[-1]
            assert counts == Counts.of(attacks, twins)
            assert windows.shape == (len(attacks), 3, side, side)
            assert windows.dtype == torch.float32
            self.batches.append(attacks)
            self.sides.append(side)
            self.twins.append(twins)
            return 0.0

        monkeypatch.setattr(training, "draw_pair", draw_pair)
        monkeypatch.setattr(training, "draw_unpaired", draw_unpaired)
        monkeypatch.setattr(DetectorTrainer, "_step", step)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def people(count: int, cloaks: dict[int, int]) -> list[Example]:
    """Clean photos of people, and of each cloak as many cloaked ones as it says."""
    pixels = picture(20, 20)
    clean = [example_of(pixels, person=f"p{number}") for number in range(count)]
    return clean + [replace(clean[n], cloak=cloak) for cloak, many in cloaks.items() for n in range(many)]


def test_every_cloak_is_drawn_though_one_has_many_times_as_many_photos(steps: Steps) -> None:
    # Cloaks 0 and 2 are of one attack; 1 and 3 have a photo each.
    trainer = trainer_of(people(100, {0: 100, 1: 1, 2: 25, 3: 1}), (0, 1, 0, 2), epochs=40, batch=16)
    list(trainer.epochs())
    assert len(steps.batches) == 40 * -(-127 // 6)
    drawn = Counter(cloaked.cloak for _, cloaked in steps.pairs)
    total, roots = sum(drawn.values()), {0: 10, 1: 1, 2: 5, 3: 1}
    for cloak, root in roots.items():
        assert drawn[cloak] / total == pytest.approx(root / 17, rel=0.25)
    # Every photo of every cloak is.
    assert len({(cloaked.cloak, cloaked.photo) for _, cloaked in steps.pairs}) == 127
    assert len({example.photo for example in steps.lone}) == 100
    attacks = Counter(attack for batch in steps.batches for attack in batch)
    assert [attacks[n] for n in (0, 1, 2)] == [drawn[0] + drawn[2], drawn[1], drawn[3]]


@pytest.mark.parametrize(("batch", "cloaked"), [(64, 24), (8, 3), (4, 1), (5, 2)])
def test_clean_faces_are_shown_beside_cloaked_ones_and_alone(steps: Steps, batch: int, cloaked: int) -> None:
    """Of large windows fewer: a step takes about as long."""
    list(trainer_of(people(9, {0: 9}), (0,), epochs=20, batch=batch).epochs())
    lone = round(UNPAIRED * batch)
    assert len(steps.batches) == 20 * -(-9 // cloaked)
    assert set(steps.sides) == set(SIDES_PX)
    for labels, twins, side in zip(steps.batches, steps.twins, steps.sides, strict=True):
        times = {64: 1, 96: 4 / 9, 128: 0.33}[side]
        pairs, alone = max(1, round(times * cloaked)), round(times * lone)
        assert labels == [-1, 0] * pairs + [-1] * alone
        assert twins == [place for pair in range(pairs) for place in [2 * pair + 1] * 2] + [-1] * alone


def test_epochs_and_steps_draw_otherwise(steps: Steps) -> None:
    trainer = trainer_of(people(30, {0: 30}), (0,), epochs=2, batch=64)
    drawn = set()
    for epoch in (0, 1):
        trainer._loop.epoch = epoch
        for step in range(trainer._loop.steps):
            steps.pairs.clear()
            trainer._prepare(step)
            drawn.add(tuple(cloaked.person for _, cloaked in steps.pairs[:12]))
    assert trainer._loop.steps == 2
    assert len(drawn) == 4


def test_windows_of_all_sides_are_as_many_and_some_cloaks_are_transplanted(steps: Steps) -> None:
    list(trainer_of(people(30, {0: 30}), (0,), epochs=60, batch=16).epochs())
    counts = Counter(steps.sides)
    assert [counts[side] / len(steps.sides) for side in SIDES_PX] == pytest.approx([1 / 3] * 3, abs=0.08)
    moved = [onto for onto in steps.onto if onto is not None]
    assert len(moved) / len(steps.onto) == pytest.approx(TRANSPLANTED, abs=0.05)
    assert {onto.cloaked for onto in moved} == {False}
    assert len({onto.person for onto in moved}) == 30


def test_clean_faces_are_of_sources_by_the_root_of_their_size(steps: Steps) -> None:
    examples = people(100, {0: 100})
    examples = [replace(each, group="few" if each.person in ("p0", "p1", "p2", "p3") else "many") for each in examples]
    list(trainer_of(examples, (0,), epochs=20, batch=16).epochs())
    for shown in (steps.lone, [onto for onto in steps.onto if onto is not None]):
        share = np.mean([each.group == "few" for each in shown])
        assert share == pytest.approx(2 / (2 + 96**0.5), abs=0.05)


def test_what_is_plain_comes_first(steps: Steps) -> None:
    """The share of augmented windows rises over three tenths of the training, and stays."""
    trainer = trainer_of(people(20, {0: 20}), (0,), epochs=10, batch=8)
    shares = []
    for epoch in range(10):
        trainer._loop.epoch = epoch
        for step in range(trainer._loop.steps):
            steps.odd.clear()
            trainer._prepare(step)
            assert len(set(steps.odd)) == 1
            shares.append(steps.odd[0])
    done = np.arange(len(shares)) / len(shares)
    first, last = training.ODD_SHARES
    expected = np.where(done < training.RISING, first + (last - first) * done / training.RISING, last)
    assert shares == pytest.approx(expected.tolist())
    assert shares[0] == first < last == shares[-1]


def test_a_cloaked_face_is_beside_the_clean_one_of_its_photo() -> None:
    examples = people(12, {0: 8, 2: 3})
    lost = replace(example_of(picture(20, 20), person="lost"), cloak=2)
    pairs = pair_up([*examples, lost], np.random.default_rng(0))
    assert {cloak: len(each) for cloak, each in pairs.items()} == {0: 8, 2: 4}
    for cloak, each in pairs.items():
        for clean, cloaked in each:
            assert (clean.cloak, cloaked.cloak) == (-1, cloak)
            assert clean.photo == cloaked.photo or cloaked is lost
    assert [cloaked.photo for _, cloaked in pairs[0]] == [example.photo for example in examples[12:20]]
    # Of several clean photos of one name it is the one that it was cut like, whatever their order.
    right = replace(examples[0], source="right")
    wrong = [replace(examples[0], source=name) for name in ("first", "last")]
    cloaked = replace(examples[12], partner="right")
    for among in ([wrong[0], right, wrong[1]], [right, *wrong], [*wrong, right]):
        assert pair_up([*among, cloaked], np.random.default_rng(0)) == {0: [(right, cloaked)]}
    partners = {pair_up([*examples, lost], np.random.default_rng(seed))[2][-1][0].photo for seed in range(40)}
    assert len(partners) > 6, "by lot"


def test_the_seed_decides_who_is_beside_a_cloaked_face_without_a_clean_copy() -> None:
    clean = people(20, {})
    strangers = [example_of(picture(20, 20), person=f"q{number}", cloak=0) for number in range(20)]

    def beside(seed: int) -> list[str]:
        return [partner.person for partner, _ in trainer_of([*clean, *strangers], (0,), seed=seed)._pairs[0]]

    assert beside(0) == beside(0)
    assert len({tuple(beside(seed)) for seed in (0, 1, 2, 2**62)}) == 4
