"""Find faces of the same person in files of embeddings."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _toolio.streams.records import Record


def match(
    embeddings: Path | str,
    other: Path | str | None = None,
    *,
    far: float = 1e-4,
    threshold: float | None = None,
    calibrate: Path | str | None = None,
    extractor: Path | str | None = None,
    most: int | None = None,
    cluster: bool = False,
    device: str = "auto",
) -> list[Record]:
    """Find pairs of faces of the same person, or who is in which photo, as ``facetools match`` does.

    Parameters
    ----------
    embeddings
        A file of ``facetools embed``, or a file of its records.
    other
        Another: pairs are then of one face of each.
    far
        False accept rate of the threshold: share of pairs of different people that are called the same. 0.0001 or 0.001
        where these were measured, any up to 0.5 with ``calibrate``.
    threshold
        The largest distance of one person, in place of a rate.
    calibrate
        Measure the threshold on these people: photos in a folder a person, or their embeddings.
    extractor
        What embeds photos of ``calibrate``; None: the default.
    most
        The nearest so many pairs, the same person's or not. None: all within the threshold, up to a million.
    cluster
        Return people instead of pairs.
    device
        Where photos of ``calibrate`` are embedded: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    list of dict
        As the command prints them. One a pair, nearest first: ``distance``, ``same``, ``path`` and ``face``, ``path_b``
        and ``face_b``. With ``cluster`` one a face: ``person``, numbered from 0, the one with most faces first,
        ``faces`` of that person, and ``distance``, the mean to these; None for a face alone. All have ``threshold``,
        its ``far`` and ``threshold_source``.

    Raises
    ------
    UsageError
        Parameters contradict each other, or no threshold was measured for the extractor at this rate.
    ToolError
        A file is missing or damaged, or holds embeddings of several extractors.
    """
    from facetools.embeddings.match_records import MatchConfig, find_matches
    from facetools.extractors.factory import DEFAULT

    config = MatchConfig(
        far=far,
        threshold=threshold,
        calibrate=None if calibrate is None else str(calibrate),
        extractor=DEFAULT if extractor is None else str(extractor),
        most=most,
        cluster=cluster,
    )
    names = [str(embeddings), *([] if other is None else [str(other)])]
    found = find_matches(names, config, device=device)
    if found.note:
        warnings.warn(found.note, stacklevel=2)
    return list(found.records)
