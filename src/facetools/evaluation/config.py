"""Configuration of an evaluation. Imports neither numpy nor torch: a command builds and checks it first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from _toolio.choices import list_fields
from _toolio.streams.inputs import STDIN
from facetools.embeddings.parts.manifest import is_folder_of_parts
from facetools.faces.search import FaceSearch
from facetools.transforms.preprocess import Preprocess, parse_preprocess

TWO_MODELS = ("top2", "threshold")
"""Classifiers of an accurate and a robust extractor."""

END_TO_END = "e2e"
"""The classifier that fine-tunes the whole extractor, on photos."""

NEIGHBOURS = ("nn", *TWO_MODELS)
"""Classifiers that compare embeddings by a distance."""

CLASSIFIERS = ("nn", "linear", END_TO_END, *TWO_MODELS)
"""All there are."""

EVERYBODY = "all"
"""Stands in ``EvaluationConfig.protected`` for everybody who has cloaked photos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolConfig:
    """The evaluation protocol: training and test photos, and which training photos are cloaked.

    Attributes
    ----------
    split
        Training share of each person's n photos: floor((1 - split) n) are tested, one at least and all but one at
        most.
    folds
        1: one random split. More: k-fold, each photo is tested in exactly one fold, and ``split`` has no meaning.
    fraction
        Share of the protected person's training photos that is cloaked, rounded, one at least.
    drop_missing
        Leave training photos without a cloaked copy out, of the floor too; otherwise their person is an error.
    seed
        Of the splits, and of which photos are cloaked.
    """

    split: float = 0.7
    folds: int = 1
    fraction: float = 1.0
    drop_missing: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingConfig:
    """How photos are embedded. Inputs that hold embeddings leave everything here as it is.

    Attributes
    ----------
    extractor
        Built-in names or files, each evaluated; None: the default extractor.
    robust
        The robust extractor of the classifiers in ``TWO_MODELS``.
    preprocess
        Steps as ``parse_preprocess`` reads them, each evaluated, applied to all photos after faces are found in them;
        None: ``none``.
    faces
        Which face of a photo is the person's: ``largest`` or ``central``; None: ``largest``.
    crops
        Photos are aligned crops, and faces are not searched for.
    min_face
        Smallest face to search for, pixels; None: the finder's own.
    min_confidence
        Least confidence of a face; None: the finder's own.
    rotations
        Search every photo rotated by quarter turns too.
    device
        Where extractors compute, as ``pick_device`` reads it.
    """

    extractor: Sequence[str] | None = None
    robust: str | None = None
    preprocess: Sequence[str] | None = None
    faces: str | None = None
    crops: bool = False
    min_face: float | None = None
    min_confidence: float | None = None
    rotations: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        """Convert one name to a list of it."""
        list_fields(self, "extractor", "preprocess")

    @property
    def search(self) -> FaceSearch:
        """How faces are searched for, and which is the person's."""
        faces = "crop" if self.crops else self.faces or "largest"
        return FaceSearch(faces, self.min_face, self.min_confidence, self.rotations)

    @property
    def steps(self) -> list[Preprocess]:
        """The preprocessing steps, each once."""
        parsed = (parse_preprocess(name) for name in self.preprocess or ["none"])
        return list({step.name: step for step in parsed}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuningConfig:
    """How the end-to-end classifier is trained.

    Attributes
    ----------
    epochs
        Passes over the training photos.
    learning_rate
        Peak of AdamW's one-cycle schedule.
    """

    epochs: int = 5
    learning_rate: float = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """Inputs and settings of an ``EvaluationStudy``.

    Attributes
    ----------
    gallery
        Clean photos of people (a folder or ``.tar``), or their embeddings: a ``.safetensors`` file of
        ``facetools embed``, its records in a file, or ``-`` for records on stdin.
    cloaked
        The same photos, cloaked, or their embeddings; oldest cloak first. One at least.
    cloaks
        What results call each of ``cloaked``; empty: as the input is called.
    classifier
        Names: ``nn``, ``linear``, ``top2``, ``threshold`` or ``e2e``.
    protected
        Names of people to protect, one at a time; ``all``: everybody who has cloaked photos.
    protocol, embedding, fine_tuning
        Settings of these parts.
    suffix
        What the file names of cloaked photos add.
    labels
        JSONL with ``relative`` and ``person``; None: folders name people.
    distance
        ``cosine`` or ``euclidean``, for neighbours; None: the extractor's own.
    """

    gallery: str
    cloaked: Sequence[str]
    cloaks: Sequence[str] = ()
    classifier: Sequence[str] = ("nn",)
    protected: Sequence[str] = (EVERYBODY,)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    fine_tuning: FineTuningConfig = field(default_factory=FineTuningConfig)
    suffix: str = ""
    labels: Path | None = None
    distance: str | None = None

    def __post_init__(self) -> None:
        """Convert one name to a list of it."""
        list_fields(self, "cloaked", "classifier", "protected")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The gallery, then the cloaked photos."""
        return (self.gallery, *self.cloaked)

    @property
    def cloak_names(self) -> tuple[str, ...]:
        """What results call each of the inputs of cloaked photos."""
        return tuple(self.cloaks or self.cloaked)

    @property
    def has_photos(self) -> bool:
        """Whether inputs hold photos rather than embeddings."""
        return holds_photos(self.gallery)

    @property
    def protects_everybody(self) -> bool:
        """Whether everybody who has cloaked photos is protected."""
        return EVERYBODY in self.protected


def holds_photos(name: str) -> bool:
    """Test whether an input is a folder or archive of photos rather than a file of embeddings or records."""
    is_folder = name != STDIN and Path(name).is_dir() and not is_folder_of_parts(name)
    return is_folder or (name != STDIN and Path(name).suffix == ".tar")
