"""Options of ``facetools train-robust``, and what goes together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from _toolio.cli.options import completion, finite
from _toolio.errors import UsageError, param
from _toolio.files.claims import claimed_part
from _toolio.streams.inputs import STDIN
from _toolio.streams.records import has_failed
from facetools.attacks import registry as attacks
from facetools.cloaking.config import CloakingConfig
from facetools.cloaking.session import CloakingSession, complete
from facetools.commands import _complete
from facetools.faces.search import FaceSearch
from facetools.photos.saving import Saving

if TYPE_CHECKING:
    from _toolio.streams.inputs import Item
    from _toolio.streams.records import Record

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
        autocompletion=completion(_complete.attacks),
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
    float, typer.Option(min=0.0, callback=finite, help="Weight of the classification of people, the paper's loss.")
]
Consistency = Annotated[
    float,
    typer.Option(
        min=0.0,
        callback=finite,
        help="Weight of the distance between a photo's embedding and that of its clean original.",
    ),
]
Adversarial = Annotated[
    int,
    typer.Option(
        min=0,
        max=100,
        help="Cloak every second clean face by so many steps of PGD against the untouched extractor; 0: none.",
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
    if mode:
        attacks.check_mode(method, mode, f"{param('attack')} {name}")
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


def make_cloaks(
    name: str,
    items: Iterable[Item],
    out: Path,
    *,
    extractor: str,
    device: str,
    search: FaceSearch,
    seed: int,
    resume: bool,
    force: bool,
) -> Iterator[list[Record]]:
    """Cloak photos losslessly into a folder, to train on; ``name`` is that of an attack, or ``attack:mode``.

    Yields for each photo, in order, the records of what went wrong with it. Photos that cannot be read have none: who
    reads the folder beside them meets them again.
    """
    from facetools.outputs import PhotoFolder
    from facetools.workers.photos import Processed

    attack, _, mode = name.partition(":")
    config = CloakingConfig(
        attack=attack,
        mode=mode or None,
        extractor=[extractor],
        faces=search.faces,
        min_face=search.min_face_px,
        min_confidence=search.min_confidence,
        rotations=search.rotations,
        seed=seed,
        saving=Saving("PNG"),
    )
    session = CloakingSession(config, device=device)
    arguments = {name: value for name, value in session.arguments.items() if name != "schema"}  # it prints no records
    claim = claimed_part(out, "facetools-train-robust", "all")
    with claim, PhotoFolder(out, "facetools-train-robust", arguments, resume=resume, force=force) as folder:
        for each in session.cloak(items, folder.finished):
            records = folder.keep(each, complete) if isinstance(each, Processed) else []
            yield [record for record in records if has_failed(record)]
