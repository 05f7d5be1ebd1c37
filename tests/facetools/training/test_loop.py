"""The training loop: its schedule, its steps, early stopping and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from _toolio.compute.distributed import Processes
from _toolio.errors import ToolError, UsageError
from facetools.training.loop import TrainingConfig, TrainingLoop, one_cycle


class Line:
    """Fits y = 3 x by a training of five steps an epoch."""

    def __init__(self, epochs: int = 3, learning_rate: float = 0.1) -> None:
        torch.manual_seed(0)
        self.network = nn.Linear(1, 1)
        self.loop = TrainingLoop(
            TrainingConfig(epochs=epochs, batch=4, learning_rate=learning_rate),
            self.network.parameters(),
            steps=5,
            weight_decay=0.0,
            network=self.network,
        )
        self.parts: dict[str, nn.Module] = {"network": self.network}

    def batches(self) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(self.loop.epoch)
        for _ in range(self.loop.steps):
            yield torch.randn(4, 1, generator=generator)

    def loss(self, x: torch.Tensor) -> float:
        loss = (self.network(x) - 3 * x).square().mean()
        self.loop.step(loss)
        return float(loss.detach())

    def train(self) -> list[float]:
        return [loss for (loss,) in self.loop.run(self.batches, self.loss)]


def rates(steps: int, peak: float = 1.0, shortest: int = 6) -> list[float]:
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=peak)
    schedule = one_cycle(optimizer, peak, steps, shortest=shortest)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_rate_rises_for_a_tenth_of_the_steps_and_falls_to_nearly_nothing() -> None:
    found = rates(200)
    top = found.index(max(found))
    assert found[0] == pytest.approx(1 / 25)
    assert (top, found[top]) == (20, pytest.approx(1.0, abs=1e-3))
    assert all(a < b for a, b in pairwise(found[: top + 1]))
    assert all(a > b for a, b in pairwise(found[top:]))
    assert found[-1] < 1e-3


@pytest.mark.parametrize("steps", range(1, 16))
def test_a_training_of_few_steps_has_a_schedule(steps: int) -> None:
    """With nine steps torch's schedule divides by the length of a warm-up that has none."""
    assert all(0 < rate <= 1.0 + 1e-9 for rate in rates(steps))
    assert all(0 < rate <= 1.0 + 1e-9 for rate in rates(steps, shortest=12))


def test_a_training_learns_and_counts_its_epochs() -> None:
    line = Line(epochs=20)
    losses = line.train()
    assert len(losses) == line.loop.epoch == 20
    assert losses[-1] < 0.01 * losses[0]
    assert float(line.network.weight.detach()) == pytest.approx(3, abs=0.05)
    assert line.train() == [], "nothing is left"


def test_a_step_clips_only_the_gradients_that_it_is_told_to() -> None:
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    config = TrainingConfig(epochs=1, batch=1, learning_rate=1.0)
    loop = TrainingLoop(config, [one, other], steps=3, weight_decay=0.0, max_norm=2.0, clipped=[one])
    loop.step((30 * one + 40 * other).sum())
    assert one.grad is not None and other.grad is not None
    assert (float(one.grad), float(other.grad)) == (pytest.approx(2), 40)
    both = TrainingLoop(config, [one, other], steps=3, weight_decay=0.0, max_norm=2.0)
    both.step((30 * one + 40 * other).sum())
    assert math.hypot(float(one.grad), float(other.grad)) == pytest.approx(2)
    assert float(other.grad) / float(one.grad) == pytest.approx(4 / 3)


def test_the_average_starts_at_the_first_step_and_moves_by_one_in_two_hundred() -> None:
    line = Line()
    expected = None
    for _ in range(3):
        line.loss(torch.ones(4, 1))
        now = float(line.network.weight.detach())
        expected = now if expected is None else 0.995 * expected + 0.005 * now
    assert float(line.loop.averaged.weight.detach()) == pytest.approx(expected, rel=1e-6)
    assert not line.loop.averaged.training


def test_stopping_early_is_asked_before_each_epoch_and_after_the_last() -> None:
    line, asked = Line(epochs=2), []

    def stop() -> bool:
        asked.append(line.loop.epoch)
        return False

    assert len(list(line.loop.run(line.batches, line.loss, stop=stop))) == 2
    assert asked == [0, 1, 2]
    stopped = Line(epochs=5)
    assert len(list(stopped.loop.run(stopped.batches, stopped.loss, stop=lambda: stopped.loop.epoch == 3))) == 3
    assert stopped.loop.epoch == 3


class Doubling(Processes):
    """Two processes that have met the same."""

    def total(self, value: float) -> float:
        return 2 * value


def test_parts_of_a_loss_are_averaged_each_and_summed_over_processes() -> None:
    line = Line(epochs=1)
    line.loop._processes = Doubling()
    values = iter([(1.0, 10.0), (2.0, 20.0), (3.0, 30.0), (4.0, 40.0), (5.0, 50.0)])
    assert list(line.loop.run(line.batches, lambda _: next(values))) == [(6.0, 60.0)]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_the_training(wrong: float) -> None:
    line = Line()
    losses = iter([1.0, wrong, 1.0, 1.0, 1.0])
    with pytest.raises(ToolError, match="the loss became NaN or infinite; try a lower learning_rate") as caught:
        next(line.loop.run(line.batches, lambda _: next(losses)))
    assert caught.value.kind == "diverged"
    assert line.loop.epoch == 0


def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    about = {"schema": "x/1", "arguments": {"seed": 0}}
    whole = Line()
    losses = whole.train()
    first = Line()
    next(first.loop.run(first.batches, first.loss))
    first.loop.save(tmp_path / "c", first.parts, {**about, "history": [1]})
    second = Line()
    assert second.loop.load(tmp_path / "c", second.parts, about)["history"] == [1]
    assert second.loop.epoch == 1
    assert second.train() == losses[1:]
    for loop in (whole, second):
        loop.loop.save(tmp_path / f"end {loop is whole}", loop.parts, about)
    assert (tmp_path / "end True").read_bytes() == (tmp_path / "end False").read_bytes(), "moments and schedule too"
    with pytest.raises(UsageError, match=r"made with other arguments \(seed was 0, and is 1\)"):
        Line().loop.load(tmp_path / "c", second.parts, {**about, "arguments": {"seed": 1}})
