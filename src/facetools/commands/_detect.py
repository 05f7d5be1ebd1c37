"""Sum up a run of ``facetools detect``, and read what its thresholds may be chosen on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from _toolio.cli.messages import note
from _toolio.errors import ToolError, UsageError
from _toolio.streams.inputs import STDIN
from _toolio.words import many


class CleanScores:
    """A file of scores of clean faces, by which thresholds are set.

    Attributes
    ----------
    reference
        The scores.
    """

    def __init__(self, path: Path) -> None:
        from facetools.detector.reference import Reference
        from facetools.reporting.detector_scores import read_clean_scores

        self._named = f"--clean-scores {path}"
        if str(path) == STDIN:
            raise UsageError(f"{self._named}: name a file of records")
        if path.is_dir():
            raise UsageError(
                f"{self._named}: is a folder; score its photos first, by facetools detect with the options that are "
                "given here, into a file of records"
            )
        self._scores = read_clean_scores(path)
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

    def say(self, wanted: float | None) -> None:
        """Say which rate labels are for, if it is above the one ``wanted``, and what was left out of the scores."""
        from facetools.detector.reference import upward

        rate = self.reference.least_rate
        if wanted is not None and rate > wanted:
            note(
                "facetools",
                f"{self._named}: {len(self.reference)} faces: labels are for {upward(rate):.2%} false alarms, "
                f"and not for {wanted:.2%}",
            )
        # That some photos show no face is usual.
        counts = {name: self._scores.left_out[name] for name in ("failed", "repeated")}
        if left := [f"{count:,} {name}" for name, count in counts.items() if count]:
            note("facetools", f"{self._named}: records left out: {', '.join(left)}")


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
