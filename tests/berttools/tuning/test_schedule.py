"""The learning-rate schedule against transformers' own."""

from __future__ import annotations

import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from berttools.tuning.schedule import rate_factor


@pytest.mark.parametrize(("steps", "warmup"), [(10, 0.0), (10, 0.3), (7, 0.5), (100, 0.06), (3, 1.0)])
def test_it_is_linear_up_and_down(steps: int, warmup: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    warm = round(warmup * steps)
    schedule = get_linear_schedule_with_warmup(optimizer, warm, steps)
    for step in range(steps):
        # Theirs begins with a step of rate zero, which changes nothing; ours is one ahead while it rises.
        expected = schedule.get_last_lr()[0] + 1 / warm if step < warm else schedule.get_last_lr()[0]
        assert rate_factor(step, steps, warmup) == pytest.approx(expected)
        optimizer.step()
        schedule.step()


def test_a_share_of_the_warmup_is_a_step_at_least() -> None:
    assert rate_factor(0, 10, 0.01) == 1.0
    assert rate_factor(10, 10, 0.1) == 0.0
