"""Define what an attack is, and the differentiable view of face regions that is passed to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class View(Protocol):
    """Differentiable view of a batch of B face regions.

    Where a method takes ``photos``, they are [m * B, 3, H, W]: m versions of all regions one after the other, as
    ``torch.cat`` stacks them. What is returned keeps that order. Changes fade out towards a region's edges: every
    method sees what would be saved.
    """

    @property
    def targets(self) -> Sequence[torch.Tensor]:
        """For each extractor float32 [B, K, D]: embeddings of K other people for each region; K of ``TARGETS``."""

    @property
    def reduced(self) -> Sequence[bool]:
        """For each region whether it was reduced, as the face is larger than its chip, and its change is enlarged.

        There people see what they cannot in a small photo: a tint of a few pixels becomes a stain.
        """

    def embed(self, photos: torch.Tensor) -> list[torch.Tensor]:
        """Align and embed: float32 [m * B, 3, H, W] in [0, 1] -> for each extractor float32 [m * B, D]."""

    def features(self, photos: torch.Tensor) -> list[torch.Tensor]:
        """Embed as ``embed`` does, through a random view of each photo if views are configured.

        A random view is what an upload may do to a photo. Each call draws again, for each photo from its own seed.
        """

    def smooth(self, photos: torch.Tensor, size: int, sigma: float) -> torch.Tensor:
        """Blur [m * B, 3, H, W] with a Gaussian, kernel side and deviation in pixels; a region's own edges reflect."""

    def perceptual(self, photos: torch.Tensor) -> torch.Tensor:
        """Return the perceptual distance to the clean regions, float32 [m * B]."""

    def dssim(self, photos: torch.Tensor) -> torch.Tensor:
        """Return (1 - SSIM) / 2 to the clean regions, 0 to 1, float32 [m * B]."""

    def enough(self, cloaked: torch.Tensor) -> bool:
        """Test whether what the attack would return if it ended now, [B, 3, H, W], is enough for every face.

        An attack that takes steps calls this after each, and ends when it is true. Of a face for which it was enough
        earlier that earlier result is saved; without a goal nothing is.
        """


class MaskView(View, Protocol):
    """View of one region, B = 1, for an attack that makes one mask a person."""

    def lay(self, mask: torch.Tensor) -> torch.Tensor:
        """Add a mask, float32 [3, S, S] on any device, to the clean region: [1, 3, H, W] in [0, 1], differentiable.

        A mask of zeros returns the clean region. On a grey region the mean of the mask's channels counts, so that it
        stays grey.
        """

    def enough(self, cloaked: torch.Tensor) -> bool:
        """Test whether the region is changed enough as it is now: a mask must be enough for all photos at once."""


Attack = Callable[..., "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Method:
    """An attack, and what its file defines.

    Attributes
    ----------
    name
        As commands and records name it.
    function
        The attack.
    modes, default_mode
        Knobs that each mode sets, and the mode used by default; empty and None where the attack has no modes.
    targets
        How many other people it pulls a face to.
    per_person
        One mask a person.
    older
        Older names of knobs to today's. Settings may use either; records keep the older one, see ``recorded``.
    unrecorded
        Knobs that came after the first version, each with the value that changes nothing: records leave it out.
    """

    name: str
    function: Attack
    modes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    default_mode: str | None = None
    targets: int = 0
    per_person: bool = False
    older: Mapping[str, str] = field(default_factory=dict)
    unrecorded: Mapping[str, Any] = field(default_factory=dict)

    @property
    def knobs(self) -> dict[str, Any]:
        """Keyword-only arguments with their defaults; those without one (the seeds) are not for users."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}

    def recorded(self, knobs: Mapping[str, Any]) -> dict[str, Any]:
        """Return knobs under the names that records, journals and files of masks have had from the first version on.

        So a folder that was begun under an older name of a knob is resumed, and readers of records need know one name.
        """
        today = {new: old for old, new in self.older.items()}
        return {
            today.get(name, name): value
            for name, value in knobs.items()
            if name not in self.unrecorded or value != self.unrecorded[name]
        }
