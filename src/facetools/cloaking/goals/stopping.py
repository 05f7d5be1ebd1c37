"""Stop an attack where every face of its batch has reached the goal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from facetools.cloaking.goals.goal import Goal

Embed = Callable[[Tensor], Sequence[Tensor]]


@dataclass(slots=True)
class FaceGoal:
    """The goal of one face.

    Attributes
    ----------
    goal
        What it must reach.
    clean
        Its embeddings in the photo, float [D] for each extractor.
    saved
        Returns its embeddings as they would be once saved, from float32 [1, 3, H, W], the attack's region of it.
    others
        What ``Others.besides`` returns for its person.
    bar
        What the slack at the attack's scale must exceed before the photo is saved and measured.
    """

    goal: Goal
    clean: Sequence[Tensor]
    saved: Embed
    others: Sequence[Tensor] = ()
    bar: float = 0.0

    def reached(self, own: Sequence[Tensor], seen: Sequence[Tensor], cloaked: Tensor) -> bool:
        """Test whether the goal is reached, first by what the attack sees and only then by what would be saved.

        Parameters
        ----------
        own, seen
            The face's embeddings at the attack's scale, clean and cloaked.
        cloaked
            float32 [1, 3, H, W].
        """
        here = self.goal.measure(own, seen, self.others)
        if not here.reached or here.slack < self.bar:
            return False
        there = self.goal.measure(self.clean, self.saved(cloaked), self.others)
        # What saving takes away it will take away again: an encoder is not asked at every step.
        self.bar = here.slack + max(0.0, -there.slack) / 2
        return there.reached


class Stopping:
    """Where the faces of a batch stop.

    Parameters
    ----------
    embed
        Embeds float32 [B, 3, H, W] as the attack sees it: for each extractor [B, D].
    clean
        The regions, float32 [B, 3, H, W].
    faces
        The goal of each.

    Attributes
    ----------
    steps
        For each face the steps after which it had reached its goal; None: it has not.
    results
        float32 [1, 3, H, W], what it then was; None: it has not.
    taken
        Steps that the attack has taken.
    """

    def __init__(self, embed: Embed, clean: Tensor, faces: Sequence[FaceGoal]) -> None:
        self._embed, self._faces = embed, faces
        with torch.no_grad():
            self._own = embed(clean)
        self.steps: list[int | None] = [None] * len(faces)
        self.results: list[Tensor | None] = [None] * len(faces)
        self.taken = 0

    @torch.no_grad()
    def enough(self, cloaked: Tensor) -> bool:
        """Count a step and keep the faces that have just reached their goal; True when all have.

        A face is kept as it was when it first reached the goal, whatever its batch does after that.
        """
        self.taken += 1
        for number in self._now(cloaked, [n for n, steps in enumerate(self.steps) if steps is None]):
            self.steps[number], self.results[number] = self.taken, cloaked[number : number + 1].clone()
        return all(steps is not None for steps in self.steps)

    @torch.no_grad()
    def all_reached(self, cloaked: Tensor) -> bool:
        """Count a step and test whether all faces have reached their goal at once, for what they share is changed."""
        self.taken += 1
        return len(self._now(cloaked, range(len(self.steps)))) == len(self.steps)

    def _now(self, cloaked: Tensor, numbers: Sequence[int]) -> list[int]:
        """Return which of some faces have reached their goal."""
        if not numbers:
            return []
        seen = self._embed(cloaked)
        return [
            n
            for n in numbers
            if self._faces[n].reached([each[n] for each in self._own], [each[n] for each in seen], cloaked[n : n + 1])
        ]
