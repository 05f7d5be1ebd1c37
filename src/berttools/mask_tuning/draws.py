"""Random draws of masks, reproducible from seed, step and matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from berttools.kernels.available import is_fused, triton_kernels
from berttools.mask_tuning.recipe import Pattern

BLOCK = 1 << 17  # weights whose scores, bits and products fit a core's cache together
LEVELS = 65536  # of a probability: a draw takes 16 random bits


@dataclass(slots=True)
class Draws:
    """What all masks of a model depend on besides their scores.

    Attributes
    ----------
    seed
        Seed of the draws.
    steps
        Steps in all, on which topk's sparsity depends.
    step
        The current step; masks of training are its draws.
    stored
        The step whose draws are stored; None for scores above zero.
    """

    seed: int
    steps: int
    step: int = 0
    stored: int | None = None

    @property
    def progress(self) -> float:
        """Share of the steps made, 0 to 1."""
        return self.step / self.steps

    def key(self, step: int, index: int) -> int:
        """Return the seed of the draws of a step and a matrix; 63 bits."""
        return int(np.random.SeedSequence([self.seed, step, index]).generate_state(1, np.uint64)[0]) >> 1

    def bits(self, step: int, index: int, count: int, device: torch.device) -> Tensor:
        """Return random integers that follow from seed, step and matrix; int16 [count]."""
        if device.type == "cpu":
            return _taken(self._source(step, index), count)
        generator = torch.Generator(device).manual_seed(self.key(step, index))
        return torch.randint(-LEVELS // 2, LEVELS // 2, (count,), dtype=torch.int16, generator=generator, device=device)

    def blocks(self, step: int, index: int, count: int, device: torch.device) -> Iterator[Tensor]:
        """Yield what `bits` returns, BLOCK at a time; on a CPU each as it is needed, so that it stays in the cache."""
        if device.type != "cpu":
            yield from torch.split(self.bits(step, index, count, device), BLOCK)
            return
        source = self._source(step, index)
        for start in range(0, count, BLOCK):
            yield _taken(source, min(BLOCK, count - start))

    def _source(self, step: int, index: int) -> np.random.Philox:
        return np.random.Philox(key=np.random.SeedSequence([self.seed, step, index]).generate_state(2, np.uint64))


def _taken(source: np.random.Philox, count: int) -> Tensor:
    """Return the next random integers, int16 [count]; they are drawn by fours, of which what is left is lost."""
    return torch.from_numpy(source.random_raw(-(-count // 4)).view(np.int16)[:count])


def draw(scores: Tensor, blocks: Iterable[Tensor], keep: Tensor) -> None:
    """Fill ``keep`` (bool [n]) with draws of probability sigmoid(scores), to 1/65536; ``blocks`` are of `Draws`."""
    # Into the same memory for each block, and compared by numpy on a CPU, which is quicker at it than torch.
    chances = torch.empty(min(BLOCK, len(scores)), dtype=scores.dtype, device=scores.device)
    for number, bits in enumerate(blocks):
        part = slice(number * BLOCK, number * BLOCK + len(bits))
        chance = torch.sigmoid(scores[part], out=chances[: len(bits)]).mul_(LEVELS).sub_(LEVELS // 2)
        if chance.device.type == "cpu":
            np.less(bits.numpy(), chance.numpy(), out=keep[part].numpy())
        else:
            torch.lt(bits, chance, out=keep[part])


def draws_of(device: torch.device, pattern: Pattern) -> str:
    """Return the name of the generator of draws, for provenance: with another one, a seed means other masks."""
    if device.type == "cpu":
        return "numpy"
    return "triton" if is_fused(device) and pattern is Pattern.free and triton_kernels() is not None else "torch"
