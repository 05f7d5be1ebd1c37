"""Train a detector on pairs of clean and cloaked faces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from _toolio.compute.batch_norm import share_statistics
from _toolio.compute.device import seeded
from _toolio.compute.distributed import Processes
from _toolio.compute.threads import ordered
from facetools.detector.network import Counts, ResidualNet, loss_of
from facetools.detector.scoring import measure, score
from facetools.detector.training.examples import Example
from facetools.detector.training.windows import SIDES_PX, TRANSPLANTED, Window, draw_pair, draw_unpaired
from facetools.training.loop import TrainingConfig, TrainingLoop, refuse_idle

CHECKPOINT = "facetools.train-detector-checkpoint/1"

UNPAIRED = 0.25
"""Share of a step's faces that are clean ones without a cloaked copy beside them."""

Pair = tuple[Example, Example]

Windows = tuple[Tensor, list[int], list[int], Counts]
"""Windows of a step, their attacks, the places of their cloaked twins; and the counts of the whole step."""

ODD_SHARES, RISING = (0.2, 0.7), 0.3
"""The share of augmented windows rises from the first to the second over this share of the training: what is faint is
learned from what is plain, as in steganalysis."""

USUAL_PX = 64
"""Side of windows of which a step has as many as the batch."""

LEAST_TIMES = 0.33
"""Of the batch, as many windows has a step of the largest."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A pair of faces, or a clean face alone, that a step cuts windows of.

    Attributes
    ----------
    seed
        Of all that is drawn for it.
    clean, cloaked
        The faces; ``cloaked`` is None for a clean face alone.
    onto
        See `draw_pair`.
    """

    seed: int
    clean: Example
    cloaked: Example | None = None
    onto: Example | None = None


def pair_up(examples: Sequence[Example], rng: np.random.Generator) -> dict[int, list[Pair]]:
    """Pair each cloaked face with the clean one that it was cut like.

    If there is none, with one of a photo of that name, else with any at random.

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


class DetectorTrainer:
    """Train a network on pairs of clean and cloaked faces, and on clean faces alone.

    Cloaks are sampled with probabilities proportional to the square root of how many faces each has, so that a few
    costly cloaks are seen as well as many cheap ones.

    Parameters
    ----------
    examples
        Training faces, clean and cloaked.
    attacks
        Number of the attack of each cloak.
    config
        An epoch draws as many pairs as there are; a quarter of a batch are clean faces alone.
    device
        Where to compute.
    half
        Compute the network in bfloat16; weights, residuals and the loss are float32.
    processes
        The processes that train together: each cuts its share of a step's pairs and clean faces.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        attacks: Sequence[int],
        config: TrainingConfig,
        *,
        device: torch.device,
        half: bool = False,
        processes: Processes = Processes(),  # noqa: B008 - it is frozen
    ) -> None:
        self._config, self._device, self._attacks, self._half = config, device, attacks, half
        self._processes = processes
        with seeded(config.seed % 2**63):  # the caller's own draws go on as if there were no trainer
            network = ResidualNet(max(attacks) + 1)
        self._network = network.to(device).to(memory_format=torch.channels_last)
        share_statistics(self._network, processes)
        self._wrapped = processes.wrap(self._network)
        sources: dict[str, list[Example]] = {}
        for example in examples:
            if not example.cloaked:
                sources.setdefault(example.group, []).append(example)
        self._clean = [sources[name] for name in sorted(sources)]
        sizes = np.sqrt([len(each) for each in self._clean])
        self._clean_chances = sizes / sizes.sum()
        pairs = pair_up(examples, np.random.default_rng([config.seed % 2**63, 2**32]))
        self._pairs = [pairs[cloak] for cloak in sorted(pairs)]
        roots = np.sqrt([len(each) for each in self._pairs])
        self._chances = roots / roots.sum()
        self._unpaired = round(UNPAIRED * config.batch)
        self._together = max(1, (config.batch - self._unpaired) // 2)
        refuse_idle(sum(self._numbers(max(SIDES_PX))), processes)
        self._loop = TrainingLoop(
            config,
            self._network.parameters(),
            steps=-(-sum(map(len, self._pairs)) // self._together),
            weight_decay=1e-3,
            max_norm=1.0,
            network=self._network,
            shortest=12,
            processes=processes,
        )
        self.faces, self.paired = len(examples), sum(example.partner is not None for example in examples)
        self.history: list[dict[str, Any]] = []
        """What was measured so far; kept in checkpoints, so that a resumed run says all."""

    @property
    def averaged(self) -> ResidualNet:
        """The network with the weights' moving average, in eval mode."""
        return self._loop.averaged

    @property
    def epoch(self) -> int:
        """Epochs trained so far."""
        return self._loop.epoch

    def epochs(self) -> Iterator[float]:
        """Train the remaining epochs; yield each one's mean loss."""
        for (loss,) in self._loop.run(self._batches, lambda batch: self._step(*batch)):
            yield loss

    def _batches(self) -> Iterator[Windows]:
        self._network.train()
        # The next steps' faces are cut and augmented while the network learns from this step's.
        return ordered(self._prepare, range(self._loop.steps), workers=2)

    def train(self, unseen: Sequence[Example], attacks: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Train the remaining epochs; yield what each measured, first the epochs of an interrupted run.

        Parameters
        ----------
        unseen
            Faces of held-out people; empty where nobody is held out, and nothing but the loss is measured.
        attacks
            Names of the attacks.
        """
        yield from list(self.history)
        for loss in self.epochs():
            measured = self.measure(unseen, attacks) if unseen else {"auc": None, "epoch": self.epoch}
            self.history.append(measured | {"loss": loss, "faces": self.faces, "paired": self.paired})
            yield self.history[-1]

    def _numbers(self, side: int) -> tuple[int, int]:
        """Return how many pairs and how many clean faces alone a step has, of windows with such a side in pixels."""
        # Fewer of the large windows: a step takes about as long.
        times = max((USUAL_PX / side) ** 2, LEAST_TIMES)
        return max(1, round(times * self._together)), round(times * self._unpaired)

    def _draw_step(self, step: int) -> tuple[int, float, list[Drawn]]:
        """Draw the side of a step's windows, the share of them that is augmented, and the faces."""
        rng = np.random.default_rng([self._config.seed % 2**63, self.epoch, step])
        done = (self.epoch * self._loop.steps + step) / (self._config.epochs * self._loop.steps)
        side = SIDES_PX[int(rng.integers(len(SIDES_PX)))]
        together, unpaired = self._numbers(side)
        drawn: list[Drawn] = []
        for place in rng.choice(len(self._pairs), together, p=self._chances):
            clean, cloaked = self._pairs[place][rng.integers(len(self._pairs[place]))]
            onto = self._draw_clean(rng) if rng.random() < TRANSPLANTED else None
            drawn.append(Drawn(int(rng.integers(2**62)), clean, cloaked, onto))
        drawn += [Drawn(int(rng.integers(2**62)), self._draw_clean(rng)) for _ in range(unpaired)]
        return side, float(np.interp(done, (0, RISING), ODD_SHARES)), drawn

    def _prepare(self, step: int) -> Windows:
        """Cut this process's share of a step's windows, float32 [B, 3, side, side], 0 to 255."""
        side, odd, drawn = self._draw_step(step)
        windows: list[Window] = []
        own = self._processes.share(drawn)
        for each in own:
            rng = np.random.default_rng(each.seed)
            if each.cloaked is None:
                windows.append(draw_unpaired(each.clean, side, rng, odd=odd))
            else:
                windows += draw_pair(each.clean, each.cloaked, side, rng, onto=each.onto, odd=odd)
        shown = torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2)
        return shown, *self._labels(own), Counts.of(*self._labels(drawn))

    def _labels(self, drawn: Sequence[Drawn]) -> tuple[list[int], list[int]]:
        """Return the attack of each window, -1 for clean ones, and the place of its cloaked twin, -1 without one."""
        attacks: list[int] = []
        twins: list[int] = []
        for each in drawn:
            if each.cloaked is None:
                attacks.append(-1)
                twins.append(-1)
            else:
                attacks += [-1, self._attacks[each.cloaked.cloak]]
                twins += [len(attacks) - 1] * 2
        return attacks, twins

    def _draw_clean(self, rng: np.random.Generator) -> Example:
        """Draw a clean face: sources by the root of their size, so that a few photos of one are seen as well."""
        each = self._clean[int(rng.choice(len(self._clean), p=self._clean_chances))]
        return each[int(rng.integers(len(each)))]

    def _step(self, windows: Tensor, attacks: list[int], twins: list[int], counts: Counts) -> float:
        shown = (windows.to(self._device) / 255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            logits = self._wrapped(shown)
        loss = loss_of(logits.float(), attacks, twins, counts=counts)
        self._loop.step(loss * self._processes.world)  # gradients are averaged, and the step's is their sum
        return float(loss.detach())

    def measure(self, unseen: Sequence[Example], attacks: Sequence[str]) -> dict[str, Any]:
        """Measure the averaged network on held-out faces without augmentation."""
        logits = score(self.averaged, unseen)
        figures = measure(logits, [example.cloak for example in unseen], attacks, self._attacks)
        return {**figures, "epoch": self.epoch, "held_out_faces": len(unseen)}

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write all that the next epoch depends on."""
        self._loop.save(path, self._parts(), {"schema": CHECKPOINT, "history": self.history, **about})

    def load(self, path: Path, about: Mapping[str, Any]) -> None:
        """Resume from a checkpoint; its next epochs are those that an uninterrupted run would train.

        Raises
        ------
        UsageError
            It was made with other arguments or inputs.
        """
        self.history = self._loop.load(path, self._parts(), {"schema": CHECKPOINT, **about})["history"]

    def _parts(self) -> dict[str, torch.nn.Module]:
        return {"network": self._network}
