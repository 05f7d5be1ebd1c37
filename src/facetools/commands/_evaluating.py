"""What ``facetools evaluate`` alone needs: its options, and the way from inputs to evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from _toolio.errors import InputError, ToolError, UsageError
from _toolio.options import finite
from _toolio.paths import STDIN, count, open_items
from _toolio.progress import track
from _toolio.records import RecordWriter
from facetools.commands._shared import check_names, needing_work
from facetools.extractors import DEFAULT
from facetools.preprocessing import Preprocess, parse_preprocess

if TYPE_CHECKING:
    from facetools.classifiers import Classifier, Task
    from facetools.end_to_end import Schedule
    from facetools.evaluation import Cloaks, Evaluation, Plan
    from facetools.extractors import Extractor
    from facetools.galleries import Gallery

TWO_MODELS = ("top2", "threshold")
END_TO_END = "e2e"

GalleryOption = Annotated[
    str, typer.Option(metavar="PATH", help="Clean photos of people, a folder or .tar, or their embeddings.")
]
CloakedOption = Annotated[
    list[str],
    typer.Option(
        metavar="PATH", help="The same photos, cloaked, or their embeddings. Several, oldest first: see above."
    ),
]
Extractors = Annotated[
    list[str] | None,
    typer.Option(
        "--extractor",
        metavar="NAME|FILE",
        callback=check_names,
        help="What embeds photos; repeatable. Default: dlib-resnet.",
    ),
]
Robust = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        callback=lambda name: name and check_names([name]) and name,
        help="The robust extractor of top2 and threshold.",
    ),
]
Preprocesses = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="What the trainer does to all photos first: none, jpeg:75, resize:0.5, blur:1; repeatable. Default: none.",
    ),
]
Protected = Annotated[
    list[str],
    typer.Option(metavar="NAME", help="Whom to protect, one at a time; repeatable. all: everybody who has cloaks."),
]
Fraction = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, callback=finite, help="Share of a person's training photos that is cloaked, one at least."
    ),
]
Split = Annotated[
    float, typer.Option(min=0.05, max=0.95, callback=finite, help="Share of each person's photos that is trained on.")
]
Folds = Annotated[int, typer.Option(min=1, max=100, help="More than 1: ask each photo in one of so many splits.")]
Suffix = Annotated[str, typer.Option(metavar="TEXT", help="What the names of cloaked photos add.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="JSONL with relative and person. Default: folders name people.",
    ),
]
Epochs = Annotated[int, typer.Option(min=1, help="e2e: passes over the training photos.")]
LearningRate = Annotated[
    float,
    typer.Option(
        "--learning-rate", "--lr", min=1e-8, max=1.0, callback=finite, help="e2e: peak of the one-cycle schedule."
    ),
]
DropMissing = Annotated[
    bool, typer.Option("--drop-missing", help="Leave training photos out that have no cloaked copy.")
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for.

    Attributes
    ----------
    gallery, cloaked
        Inputs.
    photos
        They hold photos, and not embeddings.
    suffix, labels
        How photos are matched and people named.
    extractors, robust, steps
        What embeds photos, and what is done to them first.
    """

    gallery: str
    cloaked: Sequence[str]
    photos: bool
    suffix: str
    labels: Path | None
    extractors: Sequence[str]
    robust: str | None
    steps: Sequence[Preprocess]


def ask(
    gallery: str, cloaked: Sequence[str], suffix: str, labels: Path | None,
    extractors: Sequence[str] | None, robust: str | None, preprocess: Sequence[str] | None, classifiers: Sequence[str],
) -> Asked:  # fmt: skip
    """Check what was asked for, before anything heavy is imported.

    Raises
    ------
    UsageError
        Options do not go together.
    ToolError
        An input does not exist.
    """
    from facetools.galleries import holds_photos

    names, photos = (gallery, *cloaked), [holds_photos(name) for name in (gallery, *cloaked)]
    if names.count(STDIN) > 1:
        raise UsageError("--gallery and --cloaked: - can be given once")
    if len(set(cloaked)) < len(cloaked) or (gallery in cloaked and not suffix):
        raise UsageError(f"--cloaked {cloaked[-1]}: given twice; photos beside their cloaked copies need --suffix")
    for name in names:
        if name != STDIN and not Path(name).exists():
            raise ToolError(f"{name}: no such file or folder", kind="missing")
    if any(photos) and not all(photos):
        raise UsageError(
            f"{names[photos.index(False)]}: no photos, but {names[photos.index(True)]} has them; "
            "give folders or .tar files alone, or embeddings alone"
        )
    needy = [name for name in classifiers if name in TWO_MODELS]
    if needy and not robust:
        raise UsageError(f"--classifier {needy[0]}: needs a robust extractor; name its file with --robust")
    if not photos[0]:
        if END_TO_END in classifiers:
            raise UsageError("--classifier e2e: learns from photos, not from embeddings; give folders of photos")
        for option, given in (("--extractor", extractors), ("--robust", robust), ("--preprocess", preprocess)):
            if given:
                raise UsageError(f"{option}: embeddings cannot be made anew; give folders of photos")
    if robust in (extractors or [DEFAULT]):
        raise UsageError(f"--robust {robust}: is the --extractor too; name two different ones")
    steps = [parse_preprocess(name) for name in dict.fromkeys(preprocess or ["none"])]
    return Asked(gallery, cloaked, photos[0], suffix, labels, extractors or [DEFAULT], robust, steps)


Key = tuple[str, str]
"""Names of an extractor and of what was done to the photos first."""


@dataclass(frozen=True, slots=True)
class Case:
    """One combination of what was asked for: what its records say of it, and how to run it."""

    about: dict[str, Any]
    classifier: str
    evaluation: Evaluation
    train: Callable[[Sequence[Task]], Classifier] | None = None


class Kitchen:
    """Brings inputs to evaluations; photos that cannot be used become records.

    Parameters
    ----------
    asked
        What to evaluate.
    writer
        Gets these records.
    """

    def __init__(self, asked: Asked, writer: RecordWriter) -> None:
        self._asked, self._writer = asked, writer
        self._inputs: list[dict[Key, Gallery]] = []
        self._extractors: dict[str, Extractor] = {}

    def read(self) -> None:
        """Read embeddings, which must all be of one extractor."""
        from facetools.galleries import read_gallery

        for name in (self._asked.gallery, *self._asked.cloaked):
            gallery = read_gallery(name)
            first = next(iter(self._inputs[0].values())) if self._inputs else gallery
            if gallery.digest != first.digest:
                raise ToolError(
                    f"{name}: embedded by {gallery.extractor} ({gallery.digest[:12]}), but {self._asked.gallery} by "
                    f"{first.extractor} ({first.digest[:12]}); embed both with one extractor",
                    kind="extractors-differ",
                )
            self._inputs.append({(first.extractor, "none"): gallery})

    def embed(self, device: str, *, faces: str, min_face_px: float | None, chips: bool) -> None:
        """Find faces in photos and embed them with every extractor; ``chips`` keeps the faces too."""
        from _toolio.device import pick_device
        from facetools.extractors import open_extractors
        from facetools.galleries import PhotoEmbedder
        from facetools.intake import take_in

        place, asked = pick_device(device), self._asked
        extractors = open_extractors([*asked.extractors, *filter(None, [asked.robust])], place)
        self._extractors = {extractor.name: extractor for extractor in extractors}
        for name in (asked.gallery, *asked.cloaked):
            items = open_items([name])
            embedder = PhotoEmbedder(extractors, asked.steps, chips=chips)
            tracked = track(items, f"embedding {name}", count(items))
            for intake in needing_work(self._writer, take_in(tracked, place, faces=faces, min_face_px=min_face_px)):
                if intake.faces:
                    embedder.add(intake)
                else:
                    about = {"path": intake.item.path, "relative": intake.item.relative}
                    self._writer.emit({**about, "reason": "no face found: not used"})
            self._inputs.append(embedder.galleries(name))

    def match(self) -> tuple[list[str], list[Cloaks]]:
        """Name the people, and match cloaked photos to clean ones; those without one become records."""
        from facetools.evaluation import match_cloaks
        from facetools.galleries import name_people, read_labels, refuse_known

        asked = self._asked
        self._inputs = [
            {key: gallery.part(suffix=asked.suffix, cloaked=number > 0) for key, gallery in galleries.items()}
            for number, galleries in enumerate(self._inputs)
        ]
        clean = next(iter(self._inputs[0].values()))
        people = name_people(clean, read_labels(asked.labels) if asked.labels else None)
        for gallery in self._inputs[0].values():
            refuse_known(gallery, people)
        cloaks = []
        for name, galleries in zip(asked.cloaked, self._inputs[1:], strict=True):
            cloaks.append(match_cloaks(name, clean, next(iter(galleries.values())), suffix=asked.suffix))
            for path in cloaks[-1].unmatched:
                message = f"{path}: no clean photo of this name in {asked.gallery}; add it, or give --suffix"
                self._writer.fail(InputError(message, kind="no-match"), {"path": path})
        return people, cloaks

    def cases(
        self, people: Sequence[str], cloaks: Sequence[Cloaks], plan: Plan, classifiers: Sequence[str],
        distance: str | None, schedule: Schedule,
    ) -> Iterator[Case]:  # fmt: skip
        """Give every combination of extractor, preprocess, cloak (each, then all in turn) and classifier."""
        from facetools.evaluation import Evaluation

        clean, copies = self._inputs[0], self._inputs[1:]
        robust = (
            next(iter(clean))[0] if self._asked.robust is None else list(dict.fromkeys(key[0] for key in clean))[-1]
        )
        groups = [[number] for number in range(len(cloaks))] + ([list(range(len(cloaks)))] if len(cloaks) > 1 else [])
        for name, step in clean:
            if self._asked.robust is not None and name == robust:
                continue
            for group in groups:
                about = {"extractor": name, "preprocess": step, "cloak": "+".join(cloaks[n].name for n in group)}
                for classifier in classifiers:
                    two = classifier in TWO_MODELS
                    keys = [(name, step), *([(robust, step)] if two else [])]
                    models, chosen = [clean[key] for key in keys], [[copies[n][key] for key in keys] for n in group]
                    train = None
                    if classifier == END_TO_END:
                        models, chosen = [models[0].of_chips()], [[each[0].of_chips()] for each in chosen]
                        train = partial(_end_to_end, self._extractors[name], schedule)
                    evaluation = Evaluation(models, chosen, [cloaks[n] for n in group], people, plan, distance)
                    yield Case(
                        {"classifier": classifier, **about, **({"robust": robust} if two else {})},
                        classifier,
                        evaluation,
                        train,
                    )


def _end_to_end(extractor: Extractor, schedule: Schedule, tasks: Sequence[Task]) -> Classifier:
    from facetools.end_to_end import EndToEnd

    return EndToEnd(tasks[0], extractor, schedule)


def choose(evaluation: Evaluation, wanted: Sequence[str]) -> list[str]:
    """Give the people to protect.

    Raises
    ------
    ToolError
        Somebody has no cloaked photo.
    """
    able = evaluation.protected
    if list(wanted) == ["all"]:
        return able
    for name in wanted:
        if name not in able:
            raise ToolError(
                f"--protected {name}: has no cloaked photo; {len(able)} people have, {able[0]} for one", kind="labels"
            )
    return list(dict.fromkeys(wanted))
