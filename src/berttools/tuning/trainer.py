"""Train some tensors of a classifier with AdamW, in a loop whose every step follows from seed and step number."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from _toolio.compute.checkpoints import load_training, save_training
from _toolio.compute.device import seeded
from _toolio.compute.distributed import Processes
from _toolio.errors import ToolError, param
from _toolio.json_text import parse_json
from berttools.classifier.inference import Inference
from berttools.classifier.losses import TEACHER_WEIGHT, distillation_loss, task_loss
from berttools.classifier.model import Classifier
from berttools.texts.batches import Dataset, draw_steps, in_parts
from berttools.tuning.config import ParamGroup, TrainingConfig
from berttools.tuning.dropout import ExampleDropout
from berttools.tuning.parts import TunedParts
from berttools.tuning.schedule import rate_factor

CHECKPOINT = "berttools.checkpoint/1"
_NAMED = 3
"""Texts of a step that are named where it failed."""


class Trainer:
    """Trains some of a model's tensors.

    Minimises the mean over a step's examples of ``berttools.classifier.losses.task_loss`` with AdamW
    (Loshchilov and Hutter 2019, arXiv 1711.05101). What is frozen takes part in no backward pass that could be left
    out: autograd stops at the lowest layer that is tuned.

    Dropout follows the example (``ExampleDropout``): a step has the same gradient, to rounding, in however many passes
    and processes it is computed. To that end all passes of a step are padded alike. Torch's generators are as before
    when a step is done; what else a model draws from them follows from seed, step and the pass's examples. On a GPU
    a step comes out the same bit for bit inside ``_toolio.compute.device.reproducible`` only, which the caller enters.

    Parameters
    ----------
    classifier
        The model; changed in place.
    tuned
        Names of the parameters to tune.
    data
        What to train on.
    config
        The hyperparameters.
    device
        Where to compute.
    processes
        Which of several processes this is; each takes its share of every step's examples.
    groups
        Hyperparameters of tensors that do not follow ``config``, by name.
    spans
        Axis, start and stop of each part of tensors that are tuned in part. The rest stays bit for bit.
    before
        Called with the step's number before each step.
    rate
        The parameter by which a user lowers the learning rate of most tensors, for messages.
    """

    def __init__(
        self,
        classifier: Classifier,
        tuned: Collection[str],
        data: Dataset,
        config: TrainingConfig,
        *,
        device: torch.device,
        processes: Processes = Processes(),  # noqa: B008 - it is frozen
        groups: Mapping[str, ParamGroup] = MappingProxyType({}),
        spans: Mapping[str, Sequence[tuple[int, int, int]]] = MappingProxyType({}),
        before: Callable[[int], object] = int,
        rate: str = "learning_rate",
    ) -> None:
        self.inference = Inference(classifier, device, half=config.half)
        self.config, self._data, self._processes, self._device = config, data, processes, device
        self._before, self._rate = before, rate
        wanted = set(tuned)
        named = dict(self.inference.model.named_parameters())
        for name, parameter in named.items():
            parameter.requires_grad_(name in wanted)
        self.names = [name for name in named if name in wanted]
        self._updated = TunedParts({name: named[name] for name in self.names}, spans)
        self._tuned = self._updated.parameters
        self._best: nn.ParameterList | None = None  # made when weights are kept that are not the last
        self.tuned, self.parameters = (sum(p.numel() for p in ps) for ps in (self._tuned, named.values()))
        self._optimizer = torch.optim.AdamW(
            self._param_groups(classifier.head, groups), lr=config.learning_rate, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._rate_factor)
        self._lengths = np.array([len(text) for text in data.texts])
        self._wrapped = processes.wrap(self.inference.model)
        self.per_epoch = -(-len(data.texts) // config.batch)
        self.history: list[dict[str, Any]] = []
        """A record a round, which ``keep`` adds; kept in checkpoints."""
        self.first_loss: float | None = None
        """Mean loss of the first tenth of the steps, as far as they are of the first round; None if it is not made."""

    def _param_groups(self, head: Collection[str], own: Mapping[str, ParamGroup]) -> list[dict[str, Any]]:
        """Return AdamW's parameter groups: matrices decay, biases and norms do not; a head may have its own rate."""
        config = self.config
        head_rate = config.learning_rate if config.head_learning_rate is None else config.head_learning_rate
        found: dict[ParamGroup, list[nn.Parameter]] = {}
        for name, parameter in zip(self._updated.names, self._tuned, strict=True):
            rate = head_rate if name in head else config.learning_rate
            usual = ParamGroup(rate, config.weight_decay if parameter.ndim >= 2 else 0.0)
            found.setdefault(own.get(name, usual), []).append(parameter)
        return [
            {"params": each, "lr": group.learning_rate, "weight_decay": group.weight_decay, "eps": group.epsilon}
            for group, each in found.items()
        ]

    @property
    def rate_factors(self) -> list[float]:
        """Each step's learning rate as a fraction of its peak."""
        return [self._rate_factor(step) for step in range(self.config.steps)]

    def _rate_factor(self, step: int) -> float:
        return rate_factor(step, self.config.steps, self.config.warmup)

    @property
    def step(self) -> int:
        """Number of steps made."""
        return int(self._schedule.last_epoch)

    @property
    def epoch(self) -> float:
        """Passes over the data made."""
        return self.step / self.per_epoch

    def rounds(self, show: Callable[[range], Iterable[int]] = iter) -> Iterator[float]:
        """Train the rounds that are left; yield each one's mean loss. A round's steps pass through ``show``."""
        while self.step < self.config.steps:
            self.inference.model.train()
            last = min(self.config.steps, (self.step // self.config.every + 1) * self.config.every)
            begins = self.step == 0
            losses = [self._step(step) for step in show(range(self.step, last))]
            if begins:
                first = losses[: -(-self.config.steps // 10)]
                self.first_loss = self._processes.total(float(torch.stack(first).sum())) / len(first)
            yield self._processes.total(float(torch.stack(losses).sum())) / len(losses)

    def _examples(self, step: int) -> npt.NDArray[np.int64]:
        epoch, number = divmod(step, self.per_epoch)
        if getattr(self, "_drawn", (None,))[0] != epoch:
            steps = draw_steps(self._lengths, self.config.batch, seed=self.config.seed, epoch=epoch)
            self._drawn: tuple[int, list[npt.NDArray[np.int64]]] = (epoch, steps)
        return self._drawn[1][number]

    def _step(self, step: int) -> Tensor:
        """Update the weights once; return this process's share of the mean loss."""
        self._before(step)
        drawn = self._examples(step)
        length = int(self._lengths[drawn].max())  # the same for all passes and processes: dropout's draws depend on it
        own = drawn[self._processes.rank :: self._processes.world]
        # An idle rank runs a dummy example with weight 0, so the all-reduce completes. It averages over processes, so
        # each weighs its sum as if there were as many examples as processes.
        weight = self._processes.world / len(drawn) if len(own) else 0.0
        parts = list(in_parts(own if len(own) else drawn[:1], self.config.accumulate))
        self._optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._device)
        for part in parts:
            with self._quiet(last=part is parts[-1]):
                texts = [self._data.texts[i] for i in part]
                with self._randomness(step, part, drawn):
                    logits = self.inference.forward(self._wrapped, texts, length=length)
                loss = self._loss(logits, part) * weight
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self._updated.take_gradients()
        # Clipping needs the norm in any case; the test costs a copy of one number, and on a GPU a wait for it: a later
        # look would be at weights, and an optimizer's moments, that have changed.
        norm = nn.utils.get_total_norm([each.grad for each in self._tuned if each.grad is not None])
        if not math.isfinite(float(total + norm)):
            raise self._diverged(step, drawn, total)
        if self.config.clip:
            nn.utils.clip_grads_with_norm_(self._tuned, self.config.clip, norm)
        self._optimizer.step()
        self._updated.write_back()
        self._schedule.step()
        return total / self._processes.world

    def _diverged(self, step: int, drawn: npt.NDArray[np.int64], loss: Tensor) -> ToolError:
        """Return the error of a step whose loss or gradient is NaN or infinite; its weights are those before it."""
        norms = [0.0 if each.grad is None else float(each.grad.norm()) for each in self._tuned]
        # The last one: what is not finite goes down from where it began to all layers below.
        worst = max((n for n, norm in enumerate(norms) if not math.isfinite(norm)), default=int(np.argmax(norms)))
        what = "the gradient" if math.isfinite(float(loss)) else "the loss, and the gradient"
        places = [self._data.places[i] for i in drawn[:_NAMED]] if self._data.places else [*map(str, drawn[:_NAMED])]
        rest = f" and {len(drawn) - len(places)} more" if len(drawn) > len(places) else ""
        precision = f", or {param('precision')} float32" if self.config.half else ""
        return ToolError(
            f"{what} of {self._updated.names[worst]} became NaN or infinite in step {step + 1}, on the texts"
            f" {', '.join(places)}{rest}; try a lower {param(self._rate)}{precision}, or texts without these",
            kind="diverged",
        )

    @contextmanager
    def _randomness(self, step: int, part: npt.NDArray[np.int64], drawn: npt.NDArray[np.int64]) -> Iterator[None]:
        """Draw dropout by example, and all else that is random by the pass's examples."""
        seed = _mixed(self.config.seed, step, *sorted(part.tolist()))
        with seeded(seed, self._device), ExampleDropout(self.config.seed, step, part, drawn, self._device):
            yield

    def _loss(self, logits: Tensor, part: npt.NDArray[np.int64]) -> Tensor:
        data, classes = self._data, self.inference.classes
        loss = task_loss(logits, torch.from_numpy(data.targets[part]).to(self._device), classes)
        if data.teacher_logits is None:
            return loss
        teacher_logits = torch.from_numpy(data.teacher_logits[part]).to(self._device)
        taught = distillation_loss(logits, teacher_logits, classes, multiple=self.inference.labels.multiple)
        return (1 - TEACHER_WEIGHT) * loss + TEACHER_WEIGHT * taught

    def _quiet(self, *, last: bool) -> AbstractContextManager[Any]:
        """Return a context in which gradients are averaged over the processes with the step's last backward only."""
        if last or self._processes.world == 1:
            return nullcontext()
        assert isinstance(self._wrapped, nn.parallel.DistributedDataParallel)
        return self._wrapped.no_sync()

    def keep(self, record: Mapping[str, Any], *, best: bool, last: bool = False) -> None:
        """Keep a round's record; ``best``: also a copy of the weights, on the CPU.

        There is no copy if ``last`` says that those of the last round are the best in any case.
        """
        self.history.append(dict(record))
        if best and not last:
            with torch.no_grad():
                for kept, now in zip(self._make_best(), self._tuned, strict=True):
                    kept.copy_(now)

    def _make_best(self) -> nn.ParameterList:
        if self._best is None:
            copies = [torch.empty_like(each, device="cpu") for each in self._tuned]
            self._best = nn.ParameterList([nn.Parameter(each, requires_grad=False) for each in copies])
        return self._best

    def restore_best(self) -> None:
        """Load the best weights, if a copy was kept."""
        with torch.no_grad():
            for kept, now in zip(self._best or (), self._tuned, strict=self._best is not None):
                now.copy_(kept)
        self._updated.write_back()

    def _parts(self) -> dict[str, nn.Module]:
        return {"tuned": self._tuned} if self._best is None else {"tuned": self._tuned, "best": self._best}

    @property
    def arguments(self) -> dict[str, Any]:
        """All that decides the outcome besides the model, the data and what is tuned, for provenance."""
        return asdict(self.config)

    def _about(self, about: Mapping[str, Any]) -> dict[str, Any]:
        return {"schema": CHECKPOINT, "arguments": self.arguments, "tuned": self.names, **about}

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write a checkpoint: all that the next round depends on."""
        # As text: the file sorts the fields of what it holds, and a record's first field ranks it.
        now = {"step": self.step, "history": json.dumps(self.history)}
        save_training(path, self._parts(), self._optimizer, {**self._about(about), **now})

    def load(self, path: Path, about: Mapping[str, Any], *, best: bool) -> None:
        """Load a checkpoint; ``best``: the copy of the best weights, too.

        Raises
        ------
        UsageError
            If it was made with other arguments or inputs.
        """
        if best:
            self._make_best()
        found = load_training(path, self._parts(), self._optimizer, self._schedule, self._about(about), self._processes)
        self._updated.write_back()
        self.history = parse_json(found["history"])


def _mixed(*numbers: int) -> int:
    """Return one seed for several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
