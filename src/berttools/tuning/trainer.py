"""Tuning a model on labelled texts: a plain loop with AdamW, whose every step follows from seed and step number."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
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
from _toolio.errors import ToolError
from berttools.classifier.inference import Judge
from berttools.classifier.losses import TAUGHT, loss_of, taught_loss
from berttools.classifier.model import Classifier
from berttools.texts.batches import Data, draw_steps, in_parts
from berttools.tuning.dropout import ExampleDropout
from berttools.tuning.parts import TunedParts

CHECKPOINT = "berttools.checkpoint/1"


@dataclass(frozen=True, slots=True)
class Knobs:
    """How to train.

    Attributes
    ----------
    steps
        Updates of the weights in all.
    every
        Steps of a round, after which the model is measured.
    batch
        Examples a step, over all processes.
    accumulate
        Passes that a step's examples are taken in, one behind the other: less memory, the same gradient to rounding,
        dropout included (see ``ExampleDropout`` for the models of which that holds).
    learning_rate, warmup
        The peak, and the share of steps until it is reached; from there it falls to 0, both in a line.
    head_learning_rate
        The head's own peak; None for the same.
    weight_decay
        Of matrices; biases and norms have none.
    clip
        Longest gradient; 0 for no limit.
    seed
        Decides order, dropout and the new head. What is dropped of an example follows from seed, step and example.
    half
        Compute in bfloat16 where that is safe; weights stay float32.
    """

    steps: int
    every: int
    batch: int = 16
    accumulate: int = 1
    learning_rate: float = 5e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    half: bool = False
    head_learning_rate: float | None = None


def arguments_of(knobs: Knobs, processes: Processes) -> dict[str, Any]:
    """Give all that decides the outcome besides the model, the data and what is tuned."""
    return {**asdict(knobs), "processes": processes.world}


@dataclass(frozen=True, slots=True)
class Pace:
    """How AdamW moves a tensor that does not go by ``Knobs``: peak rate, decay, what is added to where it divides."""

    learning_rate: float
    weight_decay: float = 0.0
    epsilon: float = 1e-8


class Tuner:
    """Tunes some of a model's tensors.

    Minimises the mean over a step's examples of cross-entropy, or squared error for a regression, with AdamW
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
    knobs
        How.
    device
        Where to compute.
    processes
        Which of several processes this is; each takes its part of every step's examples.
    paces
        Of tensors that do not go by ``knobs``.
    spans
        Of tensors that are tuned in part only: axis, start and stop of each part. The rest stays bit for bit.
    before
        What is to be done before each step, given its number.
    """

    def __init__(
        self,
        classifier: Classifier,
        tuned: Collection[str],
        data: Data,
        knobs: Knobs,
        *,
        device: torch.device,
        processes: Processes = Processes(),  # noqa: B008 - it is frozen
        paces: Mapping[str, Pace] = MappingProxyType({}),
        spans: Mapping[str, Sequence[tuple[int, int, int]]] = MappingProxyType({}),
        before: Callable[[int], object] = int,
    ) -> None:
        self.judge = Judge(classifier, device, half=knobs.half)
        self.knobs, self._data, self._processes, self._device = knobs, data, processes, device
        self._before = before
        wanted = set(tuned)
        named = dict(self.judge.model.named_parameters())
        for name, parameter in named.items():
            parameter.requires_grad_(name in wanted)
        self.names = [name for name in named if name in wanted]
        self._updated = TunedParts({name: named[name] for name in self.names}, spans)
        self._tuned = self._updated.parameters
        self._best: nn.ParameterList | None = None  # made when weights are kept that are not the last
        self.tuned, self.parameters = (sum(p.numel() for p in ps) for ps in (self._tuned, named.values()))
        self._optimizer = torch.optim.AdamW(self._groups(classifier.head, paces), lr=knobs.learning_rate, fused=True)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._slope)
        self._lengths = np.array([len(text) for text in data.texts])
        self._wrapped = processes.wrap(self.judge.model)
        self.per_epoch = -(-len(data.texts) // knobs.batch)
        self.history: list[dict[str, Any]] = []
        """A record a round, which ``keep`` adds; kept in checkpoints."""

    def _groups(self, head: Collection[str], paces: Mapping[str, Pace]) -> list[dict[str, Any]]:
        """Sort what is tuned by how: matrices decay, biases and norms do not, and a head may have its own pace."""
        knobs = self.knobs
        own = knobs.head_learning_rate
        groups: dict[Pace, list[nn.Parameter]] = {}
        for name, parameter in zip(self._updated.names, self._tuned, strict=True):
            rate = own if own is not None and name in head else knobs.learning_rate
            usual = Pace(rate, knobs.weight_decay if parameter.ndim >= 2 else 0.0)
            groups.setdefault(paces.get(name, usual), []).append(parameter)
        return [
            {"params": each, "lr": pace.learning_rate, "weight_decay": pace.weight_decay, "eps": pace.epsilon}
            for pace, each in groups.items()
        ]

    def _slope(self, step: int) -> float:
        warm = max(1, round(self.knobs.warmup * self.knobs.steps))
        if self.knobs.warmup and step < warm:
            return (step + 1) / warm
        return max(0.0, (self.knobs.steps - step) / max(1, self.knobs.steps - (warm if self.knobs.warmup else 0)))

    @property
    def slopes(self) -> list[float]:
        """Each step's learning rate, over its peak."""
        return [self._slope(step) for step in range(self.knobs.steps)]

    @property
    def step(self) -> int:
        """Steps that are made."""
        return int(self._schedule.last_epoch)

    @property
    def epoch(self) -> float:
        """Passes over the data that are made."""
        return self.step / self.per_epoch

    def rounds(self, show: Callable[[range], Iterable[int]] = iter) -> Iterator[float]:
        """Train the rounds that are left; give each one's mean loss. A round's steps go through ``show``."""
        while self.step < self.knobs.steps:
            self.judge.model.train()
            last = min(self.knobs.steps, (self.step // self.knobs.every + 1) * self.knobs.every)
            losses = [self._step(step) for step in show(range(self.step, last))]
            loss = self._processes.total(float(torch.stack(losses).sum())) / len(losses)
            if not np.isfinite(loss):
                raise ToolError("the loss is no number any more; try a lower --learning-rate", kind="diverged")
            yield loss

    def _examples(self, step: int) -> npt.NDArray[np.int64]:
        epoch, number = divmod(step, self.per_epoch)
        if getattr(self, "_drawn", (None,))[0] != epoch:
            steps = draw_steps(self._lengths, self.knobs.batch, seed=self.knobs.seed, epoch=epoch)
            self._drawn: tuple[int, list[npt.NDArray[np.int64]]] = (epoch, steps)
        return self._drawn[1][number]

    def _step(self, step: int) -> Tensor:
        """Update the weights once; give this process's part of the mean loss."""
        self._before(step)
        drawn = self._examples(step)
        length = int(self._lengths[drawn].max())  # the same for all passes and processes: dropout's draws depend on it
        own = drawn[self._processes.rank :: self._processes.world]
        # A process without an example takes part with one that counts nothing: the others wait for it. What the
        # processes give is averaged, so that each weighs its sum as if there were as many examples as processes.
        weight = self._processes.world / len(drawn) if len(own) else 0.0
        parts = list(in_parts(own if len(own) else drawn[:1], self.knobs.accumulate))
        self._optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._device)
        for part in parts:
            with self._quiet(last=part is parts[-1]):
                texts = [self._data.texts[i] for i in part]
                with self._randomness(step, part, drawn):
                    logits = self.judge.forward(self._wrapped, texts, length=length)
                loss = self._loss(logits, part) * weight
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self._updated.take_gradients()
        if self.knobs.clip:
            nn.utils.clip_grad_norm_(self._tuned, self.knobs.clip)
        self._optimizer.step()
        self._updated.write_back()
        self._schedule.step()
        return total / self._processes.world

    @contextmanager
    def _randomness(self, step: int, part: npt.NDArray[np.int64], drawn: npt.NDArray[np.int64]) -> Iterator[None]:
        """Draw dropout by example, and all else that is random by the pass's examples."""
        seed = _mixed(self.knobs.seed, step, *sorted(part.tolist()))
        with seeded(seed, self._device), ExampleDropout(self.knobs.seed, step, part, drawn, self._device):
            yield

    def _loss(self, logits: Tensor, part: npt.NDArray[np.int64]) -> Tensor:
        data, classes = self._data, self.judge.classes
        loss = loss_of(logits, torch.from_numpy(data.truth[part]).to(self._device), classes)
        if data.taught is None:
            return loss
        taught = taught_loss(logits, torch.from_numpy(data.taught[part]).to(self._device), classes)
        return (1 - TAUGHT) * loss + TAUGHT * taught

    def _quiet(self, *, last: bool) -> AbstractContextManager[Any]:
        """Let gradients be averaged over the processes once a step."""
        if last or self._processes.world == 1:
            return nullcontext()
        assert isinstance(self._wrapped, nn.parallel.DistributedDataParallel)
        return self._wrapped.no_sync()

    def keep(self, record: Mapping[str, Any], *, best: bool, last: bool = False) -> None:
        """Note a round's record; ``best``: the weights as they are now are those to give out.

        They are copied, to the CPU; not where ``last`` says that those of the last round are always given out.
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
        """Take the kept weights, where any were kept."""
        with torch.no_grad():
            for kept, now in zip(self._best or (), self._tuned, strict=self._best is not None):
                now.copy_(kept)
        self._updated.write_back()

    def _parts(self) -> dict[str, nn.Module]:
        return {"tuned": self._tuned} if self._best is None else {"tuned": self._tuned, "best": self._best}

    @property
    def arguments(self) -> dict[str, Any]:
        """All that decides the outcome besides the model, the data and what is tuned."""
        return arguments_of(self.knobs, self._processes)

    def _about(self, about: Mapping[str, Any]) -> dict[str, Any]:
        return {"schema": CHECKPOINT, "arguments": self.arguments, "tuned": self.names, **about}

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write all that the next round depends on."""
        # As text: the file sorts the fields of what it holds, and a record's first field ranks it.
        now = {"step": self.step, "history": json.dumps(self.history)}
        save_training(path, self._parts(), self._optimizer, {**self._about(about), **now})

    def load(self, path: Path, about: Mapping[str, Any], *, best: bool) -> None:
        """Go on from a checkpoint; ``best``: take the weights that were kept, too.

        Raises
        ------
        UsageError
            It was made with other arguments or inputs.
        """
        if best:
            self._make_best()
        found = load_training(path, self._parts(), self._optimizer, self._schedule, self._about(about))
        self._updated.write_back()
        self.history = json.loads(found["history"])


def _mixed(*numbers: int) -> int:
    """Make one seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
