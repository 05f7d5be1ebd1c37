"""Sum up a run of ``facetools detect``, and read what its thresholds may be chosen on."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from _toolio.cli.messages import note
from _toolio.errors import ToolError, UsageError
from _toolio.streams.inputs import STDIN
from _toolio.words import many
from facetools.detector.decision import FALSE_ALARMS
from facetools.names import CLEAN


class OwnScores:
    """A file of records of clean photos, which thresholds are chosen on.

    Parameters
    ----------
    path
        The file.
    false_alarms
        The rate that is asked for; None for that of detectors, or what the faces can tell, which is said.
    """

    def __init__(self, path: Path, false_alarms: float | None) -> None:
        from facetools.detector.own_clean import OwnClean
        from facetools.reporting.detector_scores import Truth, read_scores

        if str(path) == STDIN:
            raise UsageError("--clean -: name a file of records")
        if path.is_dir():
            made = f"facetools detect --in {shlex.quote(str(path))} > clean.jsonl"
            raise UsageError(f"--clean {path}: is a folder; score its photos first: `{made}`, and name clean.jsonl")
        scores = read_scores(Truth([(str(path), CLEAN)], (), None, told=True))
        self._path, self._model = path, scores.model
        self.faces = OwnClean(scores.values.tolist(), str(path))
        if false_alarms is None and (rate := self.faces.least_rate) > FALSE_ALARMS:
            note("facetools", f"--clean {path}: {len(self.faces)} faces: labels are for {rate:.2%} false alarms")

    def check_model(self, name: str) -> None:
        """Raise ToolError if the scores are not of the detector that is called so."""
        if self._model != name:
            by = f"scored by {self._model}" if self._model else "does not say by which detector"
            raise ToolError(
                f"--clean {self._path}: {by}, and this is {name}; run facetools detect on the clean photos again",
                kind="two-detectors",
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
