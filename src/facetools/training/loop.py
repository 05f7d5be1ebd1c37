"""The training loop of every trainer: AdamW, one-cycle learning rate, gradient clipping, weight averaging, checkpoints.

A trainer brings its batches and its loss; what one epoch does to the next is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from _toolio.compute.checkpoints import load_training, save_training
from _toolio.compute.distributed import Processes
from _toolio.errors import ToolError, param

Batch = TypeVar("Batch")
Network = TypeVar("Network", bound=nn.Module)
Losses = TypeVar("Losses", float, tuple[float, float])

exponential_average = torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)  # type: ignore[no-untyped-call]
"""Average over the last few hundred steps: calmer than any single iterate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """What every training is configured by.

    Attributes
    ----------
    epochs
        Passes over the training data.
    batch
        Faces a step.
    learning_rate
        Peak of the one-cycle schedule.
    seed
        Decides initial weights, order and augmentation.
    """

    epochs: int
    batch: int
    learning_rate: float
    seed: int = 0


def one_cycle(
    optimizer: torch.optim.Optimizer, peak: float, steps: int, *, shortest: int = 6
) -> torch.optim.lr_scheduler.OneCycleLR:
    """Return the learning-rate schedule: warm-up over a tenth of the steps, then cosine decay (arXiv 1708.07120).

    Parameters
    ----------
    peak
        Highest learning rate.
    steps
        Optimiser steps of the whole training.
    shortest
        Length of the schedule of a training with fewer steps.
    """
    total = max(shortest, steps + 1)
    if total == 10:  # the warm-up would end at step 0, and torch divides by its length
        total = 11
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=total, pct_start=0.1)


def refuse_idle(items: int, processes: Processes) -> None:
    """Raise a ToolError if a step has fewer items than there are processes to share it."""
    if items < processes.world:
        raise ToolError(f"{items} faces a step for {processes.world} processes; give a larger {param('batch')}")


class TrainingLoop(Generic[Network]):
    """Optimise parameters epoch by epoch, so that a resumed training ends as an uninterrupted one.

    Parameters
    ----------
    config
        Epochs and peak learning rate.
    parameters
        To be optimised by AdamW.
    steps
        Optimiser steps an epoch.
    weight_decay
        AdamW's.
    max_norm
        Gradients are scaled down to this norm.
    clipped
        Parameters whose gradients count and are scaled. Default: all that are optimised.
    network
        Keep a moving average of this network's weights and buffers, in checkpoints too.
    average
        How the average moves, as `torch.optim.swa_utils.AveragedModel` takes it.
    shortest
        See `one_cycle`.
    processes
        The processes that train together: gradients are averaged over them where the loss is computed by what
        `Processes.wrap` returns.
    """

    def __init__(
        self,
        config: TrainingConfig,
        parameters: Iterable[nn.Parameter],
        *,
        steps: int,
        weight_decay: float,
        max_norm: float = 5.0,
        clipped: Iterable[nn.Parameter] | None = None,
        network: Network | None = None,
        average: Callable[..., None] = exponential_average,
        shortest: int = 6,
        processes: Processes = Processes(),  # noqa: B008 - it is frozen
    ) -> None:
        self._processes = processes
        self.config, self.steps, self.epoch = config, steps, 0
        optimised = list(parameters)
        self._clipped, self._max_norm, self._network = list(clipped or optimised), max_norm, network
        self._optimizer = torch.optim.AdamW(optimised, lr=config.learning_rate, weight_decay=weight_decay)
        self._schedule = one_cycle(self._optimizer, config.learning_rate, steps * config.epochs, shortest=shortest)
        self._average = (
            None
            if network is None
            else torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=average, use_buffers=True)
        )

    def run(
        self,
        batches: Callable[[], Iterable[Batch]],
        loss: Callable[[Batch], Losses],
        *,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[float, ...]]:
        """Train the remaining epochs.

        Parameters
        ----------
        batches
            Return the batches of the epoch numbered `epoch`.
        loss
            Compute a batch's loss, pass it to `step`, and return its value, or those of its parts; of several
            processes, this one's share of each.
        stop
            Called before each epoch and after the last: early stopping. What the leading process returns decides for
            all.

        Yields
        ------
        tuple of float
            The epoch's mean loss, or that of each part. The consumer measures and saves before it takes the next.

        Raises
        ------
        ToolError
            The loss became NaN or infinite.
        """
        while not self._agree(stop) and self.epoch < self.config.epochs:
            means = np.mean([loss(batch) for batch in batches()], axis=0)
            losses = tuple(self._processes.total(float(mean)) for mean in np.atleast_1d(means))
            if not np.isfinite(sum(losses)):
                raise ToolError(
                    f"the loss became NaN or infinite; try a lower {param('learning_rate')}", kind="diverged"
                )
            self.epoch += 1
            yield losses

    def _agree(self, stop: Callable[[], bool]) -> bool:
        # However long the leading process has measured, the others wait here.
        return bool(self._processes.agree(stop() if self._processes.leads else None))

    def step(self, loss: Tensor) -> None:
        """Take one optimiser step down a loss's gradient, and move the schedule and the average on."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._clipped, self._max_norm)
        self._optimizer.step()
        self._schedule.step()
        if self._average is not None and self._network is not None:
            self._average.update_parameters(self._network)

    @property
    def averaged(self) -> Network:
        """The network with the weights' moving average, in eval mode."""
        assert self._average is not None, "a loop that was given no network"
        return cast(Network, self._average.module.eval())

    def save(self, path: Path, parts: Mapping[str, nn.Module], about: Mapping[str, Any]) -> None:
        """Write a checkpoint: modules, the optimizer's moments, epoch and step, and ``about``."""
        progress = {"epoch": self.epoch, "step": self._schedule.last_epoch}
        save_training(path, self._with_average(parts), self._optimizer, {**progress, **about})

    def load(self, path: Path, parts: Mapping[str, nn.Module], about: Mapping[str, Any]) -> dict[str, Any]:
        """Resume from a checkpoint, and return all that it says of itself.

        Raises
        ------
        UsageError
            It says something else than ``about``: other arguments or inputs.
        """
        found = load_training(path, self._with_average(parts), self._optimizer, self._schedule, about, self._processes)
        self.epoch = found["epoch"]
        return found

    def _with_average(self, parts: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        return parts if self._average is None else {**parts, "average": self._average}
