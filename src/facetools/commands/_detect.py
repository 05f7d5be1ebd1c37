"""Sum up a run of ``facetools detect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from _toolio.words import many


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
