"""Sum up a run of ``facetools detect``, and read what its thresholds may be chosen on."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from _toolio.cli.messages import note, warn
from _toolio.errors import ToolError, UsageError
from _toolio.sharding.folder import markers_in
from _toolio.streams.inputs import STDIN
from _toolio.words import many
from facetools.detector.decision import Thresholds

MOST_CLOAKED = 0.05
"""Share of faces labelled cloaked, ten times the usual rate, from which on they may not be clean."""


class CleanScores:
    """Files of scores of clean faces, by which thresholds are set.

    Attributes
    ----------
    reference
        The scores.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        from facetools.detector.reference import Reference
        from facetools.reporting.detector_scores import read_clean_scores

        for path in paths:
            _refuse_other(path)
        self._named = f"--clean-scores {' '.join(map(str, paths))}"
        self._scores = read_clean_scores(paths)
        self.reference = Reference(self._scores.values.tolist(), self._named)

    def check_model(self, name: str) -> None:
        """Raise ToolError if the scores are not of the detector that is called so."""
        model = self._scores.model
        if model != name:
            by = f"its scores are of {model}" if model else "does not say by which detector it was scored"
            raise ToolError(
                f"{self._named}: {by}, and this is {name}; score the clean photos again, with this detector",
                kind="two-detectors",
            )

    def say(self, usual: Thresholds, *, asked: bool) -> None:
        """Say what makes labels other than they may be taken for.

        Parameters
        ----------
        usual
            The detector's own at its default rate.
        asked
            Whether another rate was asked for.
        """
        from facetools.detector.reference import upward

        count, rate = len(self.reference), self.reference.least_rate
        if not asked and rate > usual.false_alarms:
            note(
                "facetools",
                f"{self._named}: {count} faces: labels are for {upward(rate):.2%} false alarms, and not for "
                f"{usual.false_alarms:.2%}",
            )
        # That some photos show no face is usual.
        counts = {name: self._scores.left_out[name] for name in ("failed", "repeated")}
        if left := [f"{number:,} {name}" for name, number in counts.items() if number]:
            note("facetools", f"{self._named}: records left out: {', '.join(left)}")
        cloaked = int((self._scores.values >= usual.cloaked_from).sum())
        if cloaked > max(1, MOST_CLOAKED * count):
            warn(
                "facetools",
                f"{self._named}: {cloaked:,} of {count:,} faces are labelled cloaked by the detector's own threshold; "
                "if they are, cloaks like them are missed: leave them out",
            )


def _refuse_other(path: Path) -> None:
    """Raise UsageError for what holds no records as JSON lines."""
    if str(path) == STDIN:
        raise UsageError("--clean-scores -: name a file of records")
    if path.suffix.lower() in (".csv", ".tsv"):
        raise UsageError(f"--clean-scores {path}: give records as JSON lines; run facetools detect without --csv")
    if path.is_dir() and markers_in(path):
        raise UsageError(
            f"--clean-scores {path}: is a folder of shards; gather them, `facetools gather {shlex.quote(str(path))} > "
            "clean.jsonl`, and name clean.jsonl"
        )
    if path.is_dir():
        raise UsageError(
            f"--clean-scores {path}: is a folder; score its photos first, by facetools detect with the options that "
            "are given here, into a file of records"
        )


class Summary:
    """Numbers of photos and of faces by label."""

    def __init__(self) -> None:
        self._photos = self._faceless = 0
        self._labels: Counter[str | None] = Counter()

    def add(self, labels: Iterable[str | None]) -> None:
        """Count a photo by the labels of its faces, None for one that has no score."""
        before = self._labels.total()
        self._labels.update(labels)
        self._photos += 1
        self._faceless += self._labels.total() == before

    def line(self, failed: int) -> str:
        """Return one line: photos, faces by label, photos without a face, failed inputs.

        Parameters
        ----------
        failed
            Number of inputs that failed; they are not among the photos.
        """
        labels = self._labels
        faces = ", ".join(f"{labels[label]:,} {label}" for label in ("cloaked", "unclear", "clean"))
        # Clean is no promise: a reader who stops at this line is told what the label means.
        seen = " (no cloak seen)" if labels["clean"] else ""
        parts = [f"{many(self._photos, 'photo')}, {many(labels.total(), 'face')}: {faces}{seen}"]
        if labels[None]:
            parts[0] += f", {labels[None]:,} without a score"
        if self._faceless:
            parts.append(f"{many(self._faceless, 'photo')} without a face")
        if failed:
            parts.append(f"{failed:,} failed")
        return "; ".join(parts)
