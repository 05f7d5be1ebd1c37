"""What an evaluation is asked to measure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facetools.transforms.preprocess import Preprocess, parse_preprocess

TWO_MODELS = ("top2", "threshold")
END_TO_END = "e2e"
NEIGHBOURS = ("nn", *TWO_MODELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for: the options, under their names."""

    gallery: str
    cloaked: Sequence[str]
    classifiers: Sequence[str]
    extractors: Sequence[str] | None
    robust: str | None
    preprocess: Sequence[str] | None
    protected: Sequence[str]
    fraction: float
    drop_missing: bool
    split: float
    folds: int
    suffix: str
    labels: Path | None
    distance: str | None
    faces: str | None
    crops: bool
    min_face: float | None
    epochs: int
    learning_rate: float
    seed: int
    device: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The gallery, then the cloaked photos."""
        return (self.gallery, *self.cloaked)

    @property
    def photos(self) -> bool:
        """Whether inputs hold photos, and not embeddings."""
        from facetools.evaluation.gallery_sources import holds_photos

        return holds_photos(self.gallery)

    @property
    def steps(self) -> list[Preprocess]:
        """What is done to photos first, each once."""
        parsed = (parse_preprocess(name) for name in self.preprocess or ["none"])
        return list({step.name: step for step in parsed}.values())

    @property
    def everybody(self) -> bool:
        """Whether all who have cloaks are protected."""
        return "all" in self.protected

    def command(
        self, *, classifier: str, extractor: str, preprocess: str, cloaked: Sequence[str], person: str | None
    ) -> str:
        """Give the command line that makes one record again (of all people, if ``person`` is None).

        What came from stdin is ``-`` in it: whoever runs it must give the same records there.
        """
        words = ["facetools", "evaluate", "--gallery", self.gallery]
        words += [word for name in cloaked for word in ("--cloaked", name)]
        words += ["--classifier", classifier]
        if self.photos:
            words += ["--extractor", extractor, "--preprocess", preprocess]
        if self.robust is not None and classifier in TWO_MODELS:
            words += ["--robust", self.robust]
        if person is not None or not self.everybody:
            words += [
                word for name in (self.protected if person is None else [person]) for word in ("--protected", name)
            ]
        for option, value, usual in (
            ("--fraction", self.fraction, 1.0), ("--split", self.split, 0.7), ("--folds", self.folds, 1),
            ("--suffix", self.suffix, ""), ("--labels", self.labels, None), ("--distance", self.distance, None),
            ("--faces", self.faces, None), ("--min-face", self.min_face, None), ("--device", self.device, "auto"),
            ("--epochs", self.epochs, 5), ("--learning-rate", self.learning_rate, 1e-4),
        ):  # fmt: skip
            words += [option, str(value)] if value != usual else []
        flags = (("--drop-missing", self.drop_missing), ("--crops", self.crops))
        words += [flag for flag, given in flags if given]
        return shlex.join([*words, "--seed", str(self.seed)])
