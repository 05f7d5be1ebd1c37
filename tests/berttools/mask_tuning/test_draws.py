"""Draws of masks follow from seed, step and matrix."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from berttools.kernels import available
from berttools.mask_tuning import draws
from berttools.mask_tuning.draws import BLOCK, LEVELS, Draws, draw
from berttools.mask_tuning.recipe import Pattern

CPU = torch.device("cpu")


def test_draws_follow_from_seed_step_and_matrix() -> None:
    def bits(seed: int = 0, step: int = 0, index: int = 0) -> Tensor:
        return Draws(seed, 10).bits(step, index, 1003, CPU)

    assert len(bits()) == 1003
    assert torch.equal(bits(), bits())
    for other in (bits(seed=1), bits(step=1), bits(index=1)):
        assert (other == bits()).float().mean() < 0.01
    assert abs(float(Draws(0, 10).bits(0, 0, 100_000, CPU).float().mean())) < 5 * 65536 / math.sqrt(12 * 100_000)


@pytest.mark.parametrize("count", [0, 3, 1003, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_blocks_are_the_bits_in_pieces(count: int) -> None:
    bits, blocks = (of(5, 2, count, CPU) for of in (Draws(1, 10).bits, Draws(1, 10).blocks))
    pieces = list(blocks)
    assert [len(each) for each in pieces] == [min(BLOCK, count - start) for start in range(0, count, BLOCK)]
    assert torch.equal(torch.cat([torch.empty(0, dtype=torch.int16), *pieces]), bits)


def test_a_draw_is_below_its_chance() -> None:
    count = 2 * BLOCK + 3
    scores = torch.randn(count, generator=torch.Generator().manual_seed(0)) * 3
    keep = torch.zeros(count, dtype=torch.bool)
    draw(scores, Draws(1, 10).blocks(5, 2, count, CPU), keep)
    chances = torch.sigmoid(scores) * LEVELS - LEVELS // 2
    assert torch.equal(keep, Draws(1, 10).bits(5, 2, count, CPU) < chances)


def test_what_draws_come_from_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    assert draws.draws_of(CPU, Pattern.free) == "numpy"
    assert available.kernels_for(torch.zeros(2, 2)) is None
    monkeypatch.setattr(draws, "triton_kernels", lambda: None)
    assert draws.draws_of(cuda, Pattern.free) == "torch"
    monkeypatch.setattr(draws, "triton_kernels", lambda: draws)
    assert draws.draws_of(cuda, Pattern.free) == "triton"
    assert draws.draws_of(cuda, Pattern.two_of_four) == "torch"
