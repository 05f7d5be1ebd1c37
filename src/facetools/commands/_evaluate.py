"""Options of ``facetools evaluate``, its records, and the command line that makes one again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from _toolio.cli.options import completion, finite
from _toolio.streams.records import RecordWriter
from facetools.commands import _complete
from facetools.commands._options import OneFace, check_name, check_names
from facetools.evaluation.config import TWO_MODELS, EvaluationConfig
from facetools.intake_records import hand_on
from facetools.names import parse_cloaked

if TYPE_CHECKING:
    from facetools.evaluation.study import Combination, Protection, UnusedPhoto
    from facetools.intake import Finished, Refusal

GalleryOption = Annotated[
    str, typer.Option(metavar="PATH", help="Clean photos of people, a folder or .tar, or their embeddings.")
]
CloakedOption = Annotated[
    list[str],
    typer.Option(
        metavar="[NAME=]PATH",
        help="The same photos, cloaked, or their embeddings, and what results call them. Several, oldest first: see "
        "above.",
    ),
]
Extractors = Annotated[
    list[str] | None,
    typer.Option(
        "--extractor",
        metavar="NAME|FILE",
        callback=check_names,
        autocompletion=completion(_complete.extractors),
        help="The extractor that embeds photos; repeatable. Default: dlib-resnet.",
    ),
]
Robust = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        callback=check_name,
        autocompletion=completion(_complete.extractors),
        help="The robust extractor of top2 and threshold.",
    ),
]
Preprocesses = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        autocompletion=completion(_complete.preprocesses),
        help="Preprocessing of all photos once faces are found: none, jpeg:75, resize:0.5, blur:1; repeatable. "
        "Default: none.",
    ),
]
Protected = Annotated[
    list[str],
    typer.Option(metavar="NAME", help="A person to protect; repeatable, one at a time. all: everybody with cloaks."),
]
Fraction = Annotated[
    float,
    typer.Option(
        min=0.001,
        max=1.0,
        callback=finite,
        help="Share of a person's training photos that is cloaked, rounded, one at least, chosen at random.",
    ),
]
Split = Annotated[
    float,
    typer.Option(
        min=0.05,
        max=0.95,
        callback=finite,
        help="Training share of each person's photos; the rest, rounded down but one at least, is tested.",
    ),
]
Folds = Annotated[int, typer.Option(min=1, max=100, help="k-fold if above 1: each photo is tested in one fold.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="JSONL with relative and person. Default: the nearest folder above a photo that is not called face "
        "names the person.",
    ),
]
Epochs = Annotated[int, typer.Option(min=1, help="e2e: passes over the training photos.")]
LearningRate = Annotated[
    float,
    typer.Option(
        "--learning-rate", "--lr", min=1e-8, max=1.0, callback=finite, help="e2e: peak of the one-cycle schedule."
    ),
]
Faces = Annotated[
    OneFace | None,
    typer.Option(
        help="The person's face in a photo: the one with the largest box, or nearest the middle. Default: largest."
    ),
]
DropMissing = Annotated[
    bool, typer.Option("--drop-missing", help="Leave out training photos without a cloaked copy, of the floor too.")
]


def named_cloaks(cloaked: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of cloaks and their inputs; an input without a name is called as it is typed."""
    pairs = [(text, text) if parse_cloaked(text)[1] == text else parse_cloaked(text) for text in cloaked]
    return [name for name, _ in pairs], [path for _, path in pairs]


def command_line(config: EvaluationConfig, combination: Combination, person: str | None) -> str:
    """Return the command line that makes one record again, or that of all people where ``person`` is None.

    What came from stdin is ``-`` in it: the same records must be there again.
    """
    protocol, embedding, tuning = config.protocol, config.embedding, config.fine_tuning
    words = ["facetools", "evaluate", "--gallery", config.gallery]
    names = dict(zip(config.cloaked, config.cloak_names, strict=True))
    given = [name if names[name] == name else f"{names[name]}={name}" for name in combination.cloaked]
    words += [word for name in given for word in ("--cloaked", name)]
    words += ["--classifier", combination.classifier]
    if config.has_photos:
        words += ["--extractor", combination.extractor, "--preprocess", combination.preprocess]
    if embedding.robust is not None and combination.classifier in TWO_MODELS:
        words += ["--robust", embedding.robust]
    if person is not None or not config.protects_everybody:
        words += [word for name in (config.protected if person is None else [person]) for word in ("--protected", name)]
    for option, value, usual in (
        ("--fraction", protocol.fraction, 1.0), ("--split", protocol.split, 0.7), ("--folds", protocol.folds, 1),
        ("--suffix", config.suffix, ""), ("--labels", config.labels, None), ("--distance", config.distance, None),
        ("--faces", embedding.faces, None), ("--min-face", embedding.min_face, None),
        ("--min-confidence", embedding.min_confidence, None),
        ("--device", embedding.device, "auto"), ("--epochs", tuning.epochs, 5),
        ("--learning-rate", tuning.learning_rate, 1e-4),
    ):  # fmt: skip
        words += [option, str(value)] if value != usual else []
    flags = (
        ("--drop-missing", protocol.drop_missing),
        ("--crops", embedding.crops),
        ("--rotations", embedding.rotations),
    )
    words += [flag for flag, given in flags if given]
    return shlex.join([*words, "--seed", str(protocol.seed)])


def white_box_warning(outcome: object) -> str | None:
    """Return a warning about a result whose cloaks were made against the network that measures them."""
    from facetools.evaluation.study import Protection

    # Several cloaks together are warned of one by one.
    if not isinstance(outcome, Protection) or not outcome.fields.get("white_box") or outcome.combination.cloaked[1:]:
        return None
    extractors = [outcome.fields[key] for key in ("extractor", "robust") if outcome.fields.get(key)]
    return (
        f"{outcome.fields['cloaks'][0]}: made against {' or '.join(extractors)}, which measures the protection "
        "here: another recogniser may see through it; give --extractor with another one too"
    )


def write_outcome(
    writer: RecordWriter, config: EvaluationConfig, outcome: Protection | UnusedPhoto | Refusal | Finished
) -> None:
    """Write the record of what an ``EvaluationStudy`` yields."""
    from facetools.evaluation.study import Protection, UnusedPhoto

    if not isinstance(outcome, Protection | UnusedPhoto):
        hand_on(writer, outcome)
        return
    fields = outcome.fields
    if isinstance(outcome, Protection):
        fields = {**fields, "command": command_line(config, outcome.combination, outcome.person)}
    if outcome.error:
        writer.fail(outcome.error, fields)
    else:
        writer.emit(fields, sums_up=isinstance(outcome, Protection) and outcome.person is None)


def summary_of(outcome: object) -> list[str]:
    """Return a result over all people as a line; nothing of any other outcome."""
    from facetools.evaluation.study import Protection

    if not isinstance(outcome, Protection) or outcome.person is not None or outcome.fields.get("protection") is None:
        return []
    fields = outcome.fields
    interval = f" ({fields['interval'][0]:.3f} to {fields['interval'][1]:.3f})" if fields.get("interval") else ""
    return [
        f"protection {fields['protection']:.3f}{interval} of {fields['people']:,} people, {fields['floor']:.3f} with "
        f"nothing cloaked: {fields['classifier']}, {fields['extractor']}, {fields['cloak']}"
    ]
