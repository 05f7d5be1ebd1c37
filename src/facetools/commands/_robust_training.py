"""What ``facetools train-robust`` alone needs: its options, and the way from folders to faces to train on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from _toolio.cli.options import finite
from _toolio.cli.progress import track
from _toolio.errors import InputError, ToolError, UsageError, of_the_whole_run
from _toolio.streams.inputs import STDIN, Item, open_items
from _toolio.streams.records import RecordWriter, parse_record
from facetools import attacks
from facetools.commands import _perturbing
from facetools.commands._shared import Format, needing_work
from facetools.matching import match_photos, without_suffix
from facetools.people import folded, person_in, person_of

if TYPE_CHECKING:
    import torch

    from _toolio.compute.distributed import Processes
    from facetools.faces.finder import Face
    from facetools.robust_training import Faces, RobustTrainer
    from facetools.training_faces import Sample
    from facetools.watching import Stopping

Copies = Mapping[str, Sequence[Item]]
"""The cloaked photos of each input."""

CleanOption = Annotated[
    str, typer.Option("--clean", metavar="PATH", help="Clean photos of people, in folders named after them; or a .tar.")
]
CloakedOption = Annotated[
    list[str] | None,
    typer.Option("--cloaked", metavar="PATH", help="Cloaked copies of these photos, by any tool; repeatable."),
]
AttackOption = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        metavar="NAME[:MODE]",
        callback=lambda names: names and [_check_attack(name) for name in names],
        help="Cloak the clean photos with this first, into FILE.cloaks/; repeatable.",
    ),
]
HoldOut = Annotated[
    list[str] | None,
    typer.Option(
        "--hold-out",
        metavar="NAME|PATH",
        help="Never train on this person, or on those that a folder of photos, or a file with a name or a record with "
        "person a line, names; repeatable.",
    ),
]
Freeze = Annotated[
    list[str] | None,
    typer.Option(
        metavar="REGEX",
        callback=lambda patterns: patterns and [_check_pattern(pattern) for pattern in patterns],
        help="Leave tensors whose names match as they are; repeatable.",
    ),
]
LearningRate = Annotated[
    float,
    typer.Option("--learning-rate", "--lr", min=1e-8, max=1.0, callback=finite, help="Peak of the one-cycle schedule."),
]
Identity = Annotated[
    float, typer.Option(min=0.0, callback=finite, help="Weight of telling the people apart, the paper's objective.")
]
Consistency = Annotated[
    float,
    typer.Option(min=0.0, callback=finite, help="Weight of pulling a photo's embedding to that of its clean original."),
]
Adversarial = Annotated[
    int,
    typer.Option(
        min=0,
        max=100,
        help="Cloak every second clean face anew each time, in so many steps against the untouched extractor; 0: none.",
    ),
]
MaxCleanLoss = Annotated[
    float,
    typer.Option(
        min=0.0, max=100.0, callback=finite, help="Percentage points of accuracy on clean photos that may be lost."
    ),
]


def _check_attack(name: str) -> str:
    method, mode = attacks.find(name.partition(":")[0]), name.partition(":")[2]
    attacks.parse_knobs(method, mode or None, [])
    if method.targets or method.per_person:
        raise typer.BadParameter(
            f"{name} needs more than photos; run `facetools perturb`, and give --cloaked its folder"
        )
    return name


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise typer.BadParameter(f"{pattern!r} is no regular expression: {error}") from None
    return pattern


def check(clean: str, cloaked: Sequence[str], attack: Sequence[str], identity: float, consistency: float) -> None:
    """Refuse what does not go together, before anything heavy is imported."""
    if not cloaked and not attack:
        raise UsageError("nothing to see through: give --cloaked with folders of cloaked photos, or --attack")
    if identity == consistency == 0:
        raise UsageError("--identity and --consistency are both 0: nothing is left to learn")
    for name in (clean, *cloaked):
        if name == STDIN:
            raise UsageError("--clean and --cloaked take folders and archives, not stdin: photos are matched first")
    seen = {Path(clean).resolve()}
    for name in cloaked:
        if Path(name).resolve() in seen:
            raise UsageError(f"--cloaked {name}: given twice, or the same as --clean")
        seen.add(Path(name).resolve())


@dataclass(frozen=True, slots=True)
class Names:
    """Whom ``--hold-out`` names.

    Attributes
    ----------
    all
        In the form that ``people.folded`` gives names.
    words
        Those that were given one by one: a slip of the keys there would train on somebody.
    """

    all: frozenset[str]
    words: tuple[str, ...]


def read_names(given: Iterable[str]) -> Names:
    """Read whom ``--hold-out`` names: people, or folders, archives and files that name them."""
    names, words = set(), []
    for name in given:
        path = Path(name)
        if path.is_dir() or path.suffix == ".tar":
            names |= {folded(person_in(item.path, item.relative)) for item in open_items([name])}
        elif path.is_file():
            names |= {folded(each) for each in _names_in(path)}
        elif "/" in name or path.suffix in (".txt", ".jsonl"):
            raise UsageError(f"--hold-out {name}: no such file or folder")
        else:
            names.add(folded(name))
            words.append(name)
    return Names(frozenset(names), tuple(words))


def _names_in(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"--hold-out {path}: cannot be read as text: {error}", kind="unreadable") from None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            with of_the_whole_run():
                person = parse_record(line, where=f"{path}, line {number}").get("person")
            if isinstance(person, str):
                yield person
        elif line.strip():
            yield line.strip()


@dataclass(slots=True)
class Pantry:
    """Where photos become faces to train on.

    Attributes
    ----------
    writer
        Gets a record for each photo that cannot be used.
    device, faces, min_face_px
        How faces are found.
    held
        Whom nothing is learned of, as ``read_names`` gives them.
    left_out
        How many photos of each of them were met.
    """

    writer: RecordWriter
    device: torch.device
    faces: str
    min_face_px: float | None
    held: Names
    left_out: dict[str, int] = field(default_factory=dict)

    def wanted(self, name: str, suffix: str = "") -> list[Item]:
        """List an input's photos, without those of people that are held out."""
        kept = []
        for item in open_items([name]):
            person = person_of(without_suffix(item.relative, suffix) or item.relative)
            if folded(person) in self.held.all:
                self.left_out[person] = self.left_out.get(person, 0) + 1
            else:
                kept.append(item)
        if not kept:
            raise ToolError(f"{name}: all its photos are of people that are held out; give other people", kind="empty")
        return kept

    def check_names(self) -> None:
        """Refuse a name that was given and that nobody in the photos has."""
        met = {folded(person) for person in self.left_out}
        for word in self.held.words:
            if folded(word) not in met:
                raise ToolError(f"--hold-out {word}: no photo is of this person; check the name, or leave it out")

    def copies(self, cloaked: Sequence[str], made: Sequence[Path], photos: Sequence[Item], suffix: str) -> Copies:
        """List the cloaked photos of each input, and of each folder that was made here of ``photos``."""
        copies = {name: self.wanted(name, suffix) for name in cloaked}
        for folder in made:
            # Of an earlier run with other photos more may be there.
            pairs = match_photos(photos, self.wanted(str(folder)))
            copies[str(folder)] = [pair.cloaked for pair in pairs if pair.clean and pair.cloaked]
        return copies

    def cut(self, items: Sequence[Item], what: str, settings: Any, *, quiet: bool = False) -> dict[str, Cut]:
        """Cut the faces of photos, by path; those without one become records, unless ``quiet``."""
        from facetools.intake import take_in
        from facetools.training_faces import make_sample

        found = {}
        tracked = track(items, what, len(items))
        taken = take_in(tracked, self.device, faces=self.faces, min_face_px=self.min_face_px)
        for intake in needing_work(self.writer, taken):
            if sample := make_sample(intake, settings):
                found[intake.item.path] = Cut(sample, intake.faces[0], intake.photo.pixels.shape)
            elif not quiet:
                self.writer.emit({"path": intake.item.path, "reason": "no face found: not used"})
        return found

    def gather(self, clean: Sequence[Item], cloaked: Copies, suffix: str, settings: Any) -> Faces:
        """Read all photos and match cloaked ones to clean ones."""
        import numpy as np

        from facetools.robust_training import Faces

        originals = self.cut(clean, "reading clean faces", settings)
        if not originals:
            raise ToolError("no face in any clean photo", kind="empty")
        place = {path: number for number, path in enumerate(originals)}
        samples = [each.sample for each in originals.values()]
        original, cloak = list(range(len(samples))), [-1] * len(samples)
        for number, (name, items) in enumerate(cloaked.items()):
            partners = self._match(clean, items, suffix)
            matched = [item for item in items if partners.get(item.path) in place]
            for path, cut in self._cut_copies(matched, name, partners, originals, settings).items():
                samples.append(cut.sample)
                original.append(place[partners[path]])
                cloak.append(number)
        return Faces(tuple(samples), np.array(original), np.array(cloak), tuple(cloaked))

    def _match(self, clean: Sequence[Item], cloaked: Sequence[Item], suffix: str) -> dict[str, str]:
        """Give the path of each cloaked photo's clean one; those without one become records."""
        partners = {}
        for pair in match_photos(clean, cloaked, suffix=suffix):
            if pair.clean and pair.cloaked:
                partners[pair.cloaked.path] = pair.clean.path
            elif pair.cloaked:
                message = f"{pair.cloaked.path}: no clean photo of this name; add it, or give --suffix"
                self.writer.fail(InputError(message, kind="no-match"), {"path": pair.cloaked.path})
        return partners

    def _cut_copies(
        self, items: Sequence[Item], name: str, partners: Mapping[str, str], originals: Mapping[str, Cut], settings: Any
    ) -> dict[str, Cut]:
        """Cut cloaked faces where they are in the clean photos; those in photos of another size are searched for."""
        from facetools.intake import describe_face

        if self.faces == "crop":
            return self.cut(items, f"reading {name}", settings)
        placed = [
            replace(item, record={"path": item.path, **describe_face(originals[partners[item.path]].face, 0)})
            for item in items
        ]
        found = self.cut(placed, f"reading {name}", settings, quiet=True)
        as_large = {path for path, cut in found.items() if cut.shape == originals[partners[path]].shape}
        other = [item for item in items if item.path not in as_large]
        again = self.cut(other, f"finding faces in {name}", settings) if other else {}
        return {path: cut for path, cut in found.items() if path in as_large} | again


@dataclass(frozen=True, slots=True)
class Cut:
    """A photo's face.

    Attributes
    ----------
    sample, face
        What was cut, and where it is in its photo.
    shape
        Of the photo.
    """

    sample: Sample
    face: Face
    shape: tuple[int, ...]


class _Unprinted(RecordWriter):
    """Hands on what went wrong, and prints nothing else: cloaks made on the way are no output."""

    def __init__(self, behind: RecordWriter) -> None:
        super().__init__("facetools.perturb/1", "moved", ())
        self._behind = behind

    def emit(self, fields: Mapping[str, Any], *, through: Mapping[str, Any] | None = None) -> None:
        if "error" in self.complete(fields, through=through):
            self._behind.emit(fields)

    def pass_on(self, record: Mapping[str, Any]) -> None:
        self.emit(record)


def make_cloaks(
    name: str, items: Sequence[Item], folder: Path, writer: RecordWriter, *, extractor: str, device: str,
    faces: str, min_face_px: float | None, seed: int, resume: bool, force: bool,
) -> None:  # fmt: skip
    """Cloak photos into a folder with an attack against an extractor, losslessly, as ``facetools perturb`` does."""
    from facetools.outputs import PhotoFolder

    method, mode = attacks.find(name.partition(":")[0]), name.partition(":")[2] or None
    knobs = attacks.parse_knobs(method, mode, [])
    kitchen = _perturbing.Kitchen(device, faces=faces, min_face_px=min_face_px, batch=8)
    recipe = kitchen.recipe(method, mode, knobs, [extractor], "", None, seed, lpips_weights=None, allow_download=False)
    cloaker = kitchen.cloaker(recipe, _perturbing.saving(Format.png, None, False, "", False), [])
    arguments = {**cloaker.arguments, "faces": kitchen.faces, "min_face": min_face_px}
    unprinted = _Unprinted(writer)
    with PhotoFolder(folder, "facetools-train-robust", arguments, resume=resume, force=force) as outputs:
        cloaked = kitchen.cloak(cloaker, items, outputs.finished)
        for intake, output in track(cloaked, f"cloaking: {name}", len(items)):
            if output is not None:
                outputs.deliver(unprinted, intake, [output])


def lead(
    trainer: RobustTrainer, processes: Processes, stopping: Stopping, writer: RecordWriter, save: Callable[[], None]
) -> None:
    """Train, and after each epoch measure, print, save, and tell the other processes whether to go on."""
    if not trainer.history:
        stopping.before()
    for fields in trainer.history:
        writer.emit(fields)
    if processes.agree(stopping.is_over):
        return
    for losses in track(trainer.rounds(), "training", trainer.epochs - trainer.epoch):
        writer.emit(stopping.look(losses))
        save()
        if processes.agree(stopping.is_over):
            return


def follow(trainer: RobustTrainer, processes: Processes) -> None:
    """Train until the leading process says that it is enough."""
    if processes.agree(None):
        return
    for _ in trainer.rounds():
        if processes.agree(None):
            return
