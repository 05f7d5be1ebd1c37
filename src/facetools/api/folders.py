"""Cloak and evaluate folders of photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.streams.inputs import open_items
from facetools.photos.formats import photo_files

if TYPE_CHECKING:
    from _toolio.streams.records import Record
    from facetools.evaluation.study import Protection

Photos = Path | str | Sequence[Path | str]


def perturb(
    photos: Photos,
    out: Path | str,
    *,
    attack: str,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    batch: int = 8,
    **settings: Any,
) -> list[Record]:
    """Cloak photos into a folder, as ``facetools perturb`` does: either can resume what the other began.

    Parameters
    ----------
    photos
        Files, folders or tars of photos; of folders and tars, the files that are photos by name.
    out
        The folder to write to.
    attack
        Name of the attack.
    resume, force
        Keep what an earlier run has written; replace files that exist.
    device, batch
        Where to compute, and how many faces at a time on an accelerator.
    **settings
        Of `facetools.cloaking.config.CloakingConfig`: ``mode``, ``knobs``, ``extractor``, ``seed``, ``saving``...

    Returns
    -------
    list of dict
        One record a face, as the command prints them; ``moved`` is null where there is no face, and there is
        ``error`` where a photo could not be used, or what would be written is there already.

    Raises
    ------
    UsageError
        Settings contradict each other.
    ToolError
        An input does not exist, or the folder cannot be written to.
    TypeError
        There is no such setting.
    """
    from facetools.cloaking.config import CloakingConfig
    from facetools.cloaking.session import CloakingSession

    session = CloakingSession(CloakingConfig(attack=attack, **settings), device=device, batch=batch)
    named = [photos] if isinstance(photos, Path | str) else photos
    items = open_items([str(each) for each in named], only=photo_files(), collections=True)
    written = session.write(items, Path(out), resume=resume, force=force)
    return [record for records in written for record in records]


def evaluate(gallery: Path | str, cloaked: Photos, **settings: Any) -> list[Protection]:
    """Measure how well cloaks protect each person, and all of them.

    Parameters
    ----------
    gallery
        Clean photos of people, in folders named after them, or embeddings of them.
    cloaked
        The same photos, cloaked; several for someone who changed their cloak, oldest first.
    **settings
        Of `facetools.evaluation.config.EvaluationConfig`: ``classifier``, ``protected``, ``protocol``,
        ``embedding``...

    Returns
    -------
    list of Protection
        One a protected person, ``person`` None for the mean over people, of each combination of settings. Photos
        that no result uses are left out: iterate over `facetools.evaluation.study.EvaluationStudy` to see them.

    Raises
    ------
    UsageError
        Settings contradict each other.
    ToolError
        Inputs cannot be evaluated; or, an InputError, one of the photos cannot be read or has no clean copy.
    TypeError
        There is no such setting.
    """
    return list(_results(str(gallery), cloaked, settings))


def _results(gallery: str, cloaked: Photos, settings: dict[str, Any]) -> Iterator[Protection]:
    from facetools.evaluation.config import EvaluationConfig
    from facetools.evaluation.study import EvaluationStudy, Protection, UnusedPhoto
    from facetools.intake import Refusal

    copies = [cloaked] if isinstance(cloaked, Path | str) else cloaked
    config = EvaluationConfig(gallery=gallery, cloaked=[str(each) for each in copies], **settings)
    for found in EvaluationStudy(config).run():
        if isinstance(found, Protection):
            yield found
        elif isinstance(found, Refusal | UnusedPhoto) and found.error is not None:
            raise found.error
