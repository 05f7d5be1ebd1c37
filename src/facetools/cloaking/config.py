"""What cloaked photos depend on besides the photos.

Importing this module imports neither torch nor Pillow, so that commands can check what they were given first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _toolio.choices import list_fields
from _toolio.errors import UsageError, param
from facetools.attacks import registry as attacks
from facetools.attacks.base import Method
from facetools.extractors.factory import DEFAULT_ENSEMBLE
from facetools.faces.search import FaceSearch
from facetools.photos.saving import Saving


@dataclass(frozen=True, slots=True, kw_only=True)
class CloakingConfig:
    """What cloaked photos depend on besides the photos.

    Attributes
    ----------
    attack, mode
        Names of an attack and of one of its modes; None is the attack's own.
    knobs
        The attack's settings that differ from the mode's, by name.
    extractor
        Names or files of the extractors that are attacked; several are an ensemble.
    measure
        Names or files of extractors that are not attacked: how far they move is measured too.
    views
        Random views that the attack optimises through, of ``facetools.transforms.differentiable.NAMES``.
    targets
        Files of embeddings, one for each extractor, for attacks that pull to other people.
    mask, save_mask
        For attacks that make one mask a person: the file of masks to apply, or where to write those that are made.
    until_moved
        Stop where a face's embedding has moved this far: cosine distance, mean over the ensemble, 0 to 2, on what is
        saved.
    until_hidden, others
        Stop where in every extractor somebody else's face is nearer than the person's own clean one. ``others`` are
        files of embeddings, one for each extractor, or folders of photos, of those who may be nearer.
    all_files
        Of the folders of ``others``, try every file, and not only those that are photos by name.
    lpips_weights, allow_download
        Where AlexNet's weights for LPIPS are; see ``facetools.perceptual.lpips.open_lpips``.
    faces
        Which faces of a photo are cloaked, see ``facetools.faces.search.FaceSearch``. None: all, or the largest for
        attacks that make one mask a person.
    min_face
        Side of the smallest face searched for, pixels; None lets the finder choose by the photo's size.
    min_confidence, rotations
        As ``FaceSearch`` takes them.
    faces_file
        A file of faces that are cloaked beside those that are found; see ``facetools.added_faces``.
    seed
        Of all that is drawn at random, face by face.
    saving
        How photos are written.
    """

    attack: str
    mode: str | None = None
    knobs: Mapping[str, Any] = field(default_factory=dict)
    extractor: Sequence[str] = DEFAULT_ENSEMBLE
    measure: Sequence[str] = ()
    views: Sequence[str] = ()
    targets: Sequence[Path] = ()
    mask: Path | None = None
    save_mask: Path | None = None
    until_moved: float | None = None
    until_hidden: bool = False
    others: Sequence[Path | str] = ()
    all_files: bool = False
    lpips_weights: Path | None = None
    allow_download: bool = False
    faces: str | None = None
    min_face: float | None = None
    min_confidence: float | None = None
    rotations: bool = False
    faces_file: Path | None = None
    seed: int = 0
    saving: Saving = field(default_factory=Saving)

    def __post_init__(self) -> None:
        """Convert one name to a list of it."""
        list_fields(self, "extractor", "measure", "views", "targets", "others")

    @property
    def method(self) -> Method:
        """The attack; UsageError if there is none of this name."""
        return attacks.find(self.attack)

    @property
    def search(self) -> FaceSearch:
        """How faces are searched for, and which are cloaked."""
        # A person's mask is for that person, and not for who stands beside.
        faces = self.faces or ("largest" if self.method.per_person else "all")
        return FaceSearch(faces, self.min_face, self.min_confidence, self.rotations)

    @property
    def all_knobs(self) -> dict[str, Any]:
        """The attack's settings: its defaults, over them the mode's, over them ``knobs``."""
        return attacks.fill_knobs(self.method, self.mode, self.knobs)

    def check(self) -> None:
        """Refuse what the attack has no use for, or lacks; reads no file.

        Raises
        ------
        UsageError
            The message names the parameter.
        """
        method, targets, mask, save_mask = self.method, param("targets"), param("mask"), param("save_mask")
        attack = f"{param('attack')} {method.name}"
        _ = self.all_knobs
        if method.targets and not self.targets:
            raise UsageError(f"{attack} needs {targets}: embeddings of other people; `facetools embed` makes them")
        if self.targets and not method.targets:
            raise UsageError(f"{targets}: {method.name} pulls to nobody; leave it out")
        if self.mask and self.save_mask:
            raise UsageError(f"{mask} and {save_mask}: the one applies masks, the other makes them; leave one out")
        if method.per_person and not (self.mask or self.save_mask):
            raise UsageError(f"{attack} needs {save_mask} FILE to make masks, or {mask} FILE to apply them")
        if not method.per_person and (self.mask or self.save_mask):
            raise UsageError(f"{mask} and {save_mask}: {method.name} makes no masks; leave them out")
        self._check_goal()
        made_with = {
            "mode": self.mode,
            "knobs": self.knobs,
            "seed": self.seed,
            "views": self.views,
            "until_moved": self.until_moved,
            "until_hidden": self.until_hidden,
        }
        if self.mask and (given := [name for name, value in made_with.items() if value]):
            raise UsageError(f"{param(given[0])}: the masks are made already; leave it out with {mask}")
        if self.faces_file and not self.search.is_needed:
            raise UsageError(f"{param('faces_file')}: an aligned crop is all face; leave it out with {param('crops')}")
        if self.saving.quality is not None and self.saving.file_format == "PNG":
            quality, kind = param("quality"), param("file_format")
            raise UsageError(f"{quality} is for jpeg, webp and heif; leave it out with {kind} png")

    def _check_goal(self) -> None:
        """Refuse a goal that cannot be reached, or is half said."""
        until_moved, until_hidden, others = param("until_moved"), param("until_hidden"), param("others")
        if self.until_moved is not None and not 0 < self.until_moved <= 2:
            raise UsageError(f"{until_moved} {self.until_moved:g}: a cosine distance above 0, 2 at most")
        if self.until_hidden and not self.others:
            raise UsageError(f"{until_hidden} needs {others}: a folder of photos of other people, or their embeddings")
        if self.others and not self.until_hidden:
            raise UsageError(f"{others}: nobody is hidden among them; add {until_hidden}")
        if (self.until_moved is not None or self.until_hidden) and "steps" not in self.method.knobs:
            given = until_hidden if self.until_moved is None else until_moved
            raise UsageError(f"{given}: {self.method.name} takes no steps; leave it out")
