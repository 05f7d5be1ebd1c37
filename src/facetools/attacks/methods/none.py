"""No attack: the control condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from facetools.attacks.base import View


def none(view: View, photos: torch.Tensor, *, seeds: Sequence[int]) -> torch.Tensor:
    """Return the photos unchanged: a control copy that goes through the same decoding and saving as a cloak.

    A detector or recogniser that is compared on cloaked and clean photos sees the file format too; clean
    photos saved by this control differ from cloaked ones in the cloak alone.
    """
    del view, seeds
    return photos.clone()
