"""How faces are searched for in a photo, and which of those that are found are taken.

Importing this module imports neither torch nor Pillow: commands and configurations make a `FaceSearch` first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from facetools.faces.face import Face
    from facetools.faces.finder import Finder


@dataclass(frozen=True, slots=True)
class FaceSearch:
    """How faces are searched for in a photo, and which are taken.

    Attributes
    ----------
    faces
        ``all``, or one of the faces that are found: ``largest``, that with the largest box, or ``central``, that whose
        box is nearest the photo's middle, both of those that are at most ``facetools.faces.face.LESS_SURE`` less
        confident than the photo's most confident; ``crop`` takes each photo for an aligned crop, which is all face;
        ``whole-photo`` takes it as it is, whatever it shows.
    min_face_px
        Smallest side of a face that is searched for, pixels; None lets the finder choose by the photo's size.
    min_confidence
        Least confidence of a face that counts, 0 to 1; None lets the finder choose.
    rotations
        Search every photo rotated by 90, 180 and 270 degrees too, and not only one without a confident face.
    """

    faces: str = "all"
    min_face_px: float | None = None
    min_confidence: float | None = None
    rotations: bool = False

    @classmethod
    def of(cls, faces: FaceSearch | str) -> FaceSearch:
        """Return a search; a name alone stands for one with the finder's own settings."""
        return cls(faces) if isinstance(faces, str) else faces

    @property
    def is_needed(self) -> bool:
        """Whether photos are searched: an aligned crop, or a whole photo, is taken for one face as it is."""
        return self.faces not in ("crop", "whole-photo")

    @property
    def arguments(self) -> dict[str, Any]:
        """What those who resume compare, as JSON: which faces, the smallest one, and what else is not the default."""
        arguments: dict[str, Any] = {"faces": self.faces, "min_face": self.min_face_px}
        if self.min_confidence is not None:
            arguments["min_confidence"] = self.min_confidence
        if self.rotations:
            arguments["rotations"] = True
        return arguments

    def open_finder(self, device: torch.device) -> Finder:
        """Load the finder; ToolError if its weights are missing or are not the known ones."""
        from facetools.faces.finder import THRESHOLDS, Finder

        least = THRESHOLDS[2] if self.min_confidence is None else self.min_confidence
        return Finder(device, thresholds=(*THRESHOLDS[:2], least), rotations=self.rotations)

    def least_px(self, shape: Sequence[int]) -> float:
        """Return the side of the smallest face that is searched for in a photo of ``shape`` (height, width, ...)."""
        from facetools.faces.finder import default_min_face_px

        return self.min_face_px or default_min_face_px(shape[0], shape[1])

    def choose(self, found: Sequence[Face], shape: Sequence[int]) -> tuple[int, ...]:
        """Return the indices of the faces that are taken of those ``found``, largest first, in a photo of ``shape``."""
        from facetools.faces.face import chosen_faces

        return chosen_faces(found, shape, self.faces)
