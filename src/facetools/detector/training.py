"""Training a detector on clean and cloaked faces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from _toolio.compute.checkpoints import load_training, save_training
from _toolio.compute.threads import ordered
from _toolio.errors import ToolError
from facetools.detector.calibration import measure, score
from facetools.detector.examples import Example
from facetools.detector.network import ResidualNet, loss_of
from facetools.detector.windows import draw_lone, draw_pair
from facetools.photos.photo import Pixels

CHECKPOINT = "facetools.train-detector-checkpoint/1"

LONE = 0.25
"""Share of a step's faces that are clean ones without a cloaked copy beside them."""

Pair = tuple[Example, Example]


@dataclass(frozen=True, slots=True)
class Knobs:
    """How to train.

    Attributes
    ----------
    epochs, batch, learning_rate
        An epoch draws as many pairs as there are; ``batch`` counts faces, a quarter of them clean ones alone;
        ``learning_rate`` is the peak of AdamW's one-cycle schedule.
    seed
        Decides initial weights, order and changes.
    """

    epochs: int
    batch: int
    learning_rate: float
    seed: int


def pair_up(examples: Sequence[Example], rng: np.random.Generator) -> dict[int, list[Pair]]:
    """Put each cloaked face beside the clean one that it was cut like.

    Or beside one of a photo of that name, or beside any by lot, where there is none.

    A pair that differs in nothing but the cloak shows the network what to look for: without pairs it needs many times
    as many steps to find so faint a signal, as in steganalysis.

    Returns
    -------
    dict
        Number of the cloak -> pairs (clean, cloaked), in the order of the examples.
    """
    clean = [example for example in examples if not example.cloaked]
    partners = {example.source: example for example in clean}
    namesakes = {example.photo: example for example in clean}
    pairs: dict[int, list[Pair]] = {}
    for example in examples:
        if example.cloaked:
            partner = partners.get(example.partner or "") or namesakes.get(example.photo)
            partner = partner or clean[rng.integers(len(clean))]
            pairs.setdefault(example.cloak, []).append((partner, example))
    return pairs


class Trainer:
    """Trains a network on pairs of clean and cloaked faces, and on clean faces alone.

    A cloak is drawn with a chance that grows with the root of how many faces it has, so that a few costly cloaks are
    seen as well as many cheap ones.

    Parameters
    ----------
    examples
        What to train on: clean ones and cloaked ones.
    attacks
        Of each cloak the number of its attack.
    knobs
        How.
    device
        Where to compute.
    """

    def __init__(
        self, examples: Sequence[Example], attacks: Sequence[int], knobs: Knobs, *, device: torch.device
    ) -> None:
        self._knobs, self._device, self._attacks = knobs, device, attacks
        torch.manual_seed(knobs.seed % 2**63)
        self._network = ResidualNet(max(attacks) + 1).to(device).to(memory_format=torch.channels_last)
        self._clean = [example for example in examples if not example.cloaked]
        pairs = pair_up(examples, np.random.default_rng([knobs.seed % 2**63, 2**32]))
        self._pairs = [pairs[cloak] for cloak in sorted(pairs)]
        roots = np.sqrt([len(each) for each in self._pairs])
        self._chances = roots / roots.sum()
        self._lone = round(LONE * knobs.batch)
        self._together = max(1, (knobs.batch - self._lone) // 2)
        self._steps = -(-sum(map(len, self._pairs)) // self._together)
        self._optimizer = torch.optim.AdamW(self._network.parameters(), lr=knobs.learning_rate, weight_decay=1e-3)
        # Of 5 steps the schedule would give the first one no length, and divide by it.
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, knobs.learning_rate, total_steps=max(12, self._steps * knobs.epochs + 1), pct_start=0.1
        )
        # Weights averaged over the last few hundred steps: calmer than any single iterate.
        decay = torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)  # type: ignore[no-untyped-call]
        self._average = torch.optim.swa_utils.AveragedModel(self._network, multi_avg_fn=decay, use_buffers=True)
        self.epoch = 0
        self.faces, self.paired = len(examples), sum(example.partner is not None for example in examples)
        self.history: list[dict[str, Any]] = []
        """What was measured so far; kept in checkpoints, so that a resumed run says all."""

    @property
    def averaged(self) -> ResidualNet:
        """The network with the weights' moving average, in eval mode."""
        averaged = self._average.module
        assert isinstance(averaged, ResidualNet)
        return averaged.eval()

    def rounds(self) -> Iterator[float]:
        """Train the epochs that are left; give each one's mean loss."""
        while self.epoch < self._knobs.epochs:
            self._network.train()
            # The next steps' faces are cut and changed while the network learns from this step's.
            steps = ordered(self._prepare, range(self._steps), workers=2)
            losses = [self._step(windows, attacks) for windows, attacks in steps]
            if not np.isfinite(losses).all():
                raise ToolError("the loss is no number any more; try a lower --learning-rate", kind="diverged")
            self.epoch += 1
            yield float(np.mean(losses))

    def train(self, unseen: Sequence[Example], attacks: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Train the epochs that are left; give figures of each, beginning with those of an interrupted run.

        Parameters
        ----------
        unseen
            What to measure on: faces of people that are not trained on.
        attacks
            Names.
        """
        yield from list(self.history)
        for loss in self.rounds():
            self.history.append(
                self.measure(unseen, attacks) | {"loss": loss, "faces": self.faces, "paired": self.paired}
            )
            yield self.history[-1]

    def _prepare(self, step: int) -> tuple[Tensor, list[int]]:
        """Draw a step's windows, float32 [B, 3, h, w] in [0, 1], and of each its attack or -1."""
        rng = np.random.default_rng([self._knobs.seed % 2**63, self.epoch, step])
        windows: list[Pixels] = []
        attacks: list[int] = []
        for place in rng.choice(len(self._pairs), self._together, p=self._chances):
            clean, cloaked = self._pairs[place][rng.integers(len(self._pairs[place]))]
            windows += draw_pair(clean, cloaked, rng)
            attacks += [-1, self._attacks[cloaked.cloak]]
        for _ in range(self._lone):
            windows.append(draw_lone(self._clean[rng.integers(len(self._clean))], rng))
            attacks.append(-1)
        stacked: npt.NDArray[np.uint8] = np.stack(windows)
        return torch.from_numpy(stacked).permute(0, 3, 1, 2), attacks

    def _step(self, windows: Tensor, attacks: list[int]) -> float:
        shown = (windows.to(self._device).float() / 255).contiguous(memory_format=torch.channels_last)
        loss = loss_of(self._network(shown), attacks)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._average.update_parameters(self._network)
        return float(loss.detach())

    def measure(self, unseen: Sequence[Example], attacks: Sequence[str]) -> dict[str, Any]:
        """Give figures of the averaged network on held-out faces, as they are."""
        logits = score(self.averaged, unseen)
        figures = measure(logits, [example.cloak for example in unseen], attacks, self._attacks)
        return {**figures, "epoch": self.epoch, "held_out_faces": len(unseen)}

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write all that the next epoch depends on."""
        now = {"epoch": self.epoch, "history": self.history, "step": self._schedule.last_epoch}
        save_training(path, self._parts(), self._optimizer, {"schema": CHECKPOINT, **now, **about})

    def load(self, path: Path, about: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; its next epochs are those that an uninterrupted run would train.

        Raises
        ------
        UsageError
            It was made with other arguments or inputs.
        """
        asked = {"schema": CHECKPOINT, **about}
        found = load_training(path, self._parts(), self._optimizer, self._schedule, asked)
        self.epoch, self.history = found["epoch"], found["history"]

    def _parts(self) -> dict[str, torch.nn.Module]:
        return {"network": self._network, "average": self._average}
