"""The command ``facetools evaluate``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import refuse_processes
from facetools.commands import _evaluate as own
from facetools.commands._options import CloakSuffix, Crops, MinFace
from facetools.evaluation import request

SCHEMA = "facetools.evaluate/1"
COLUMNS = ("person", "people", "interval", "floor", "others_accuracy", "classifier", "extractor", "preprocess", "cloak")


class Classify(StrEnum):
    """How the trainer tells people apart."""

    nn = "nn"
    linear = "linear"
    e2e = "e2e"
    top2 = "top2"
    threshold = "threshold"


class Distance(StrEnum):
    """What embeddings are compared with."""

    cosine = "cosine"
    euclidean = "euclidean"


def evaluate(
    gallery: own.GalleryOption,
    cloaked: own.CloakedOption,
    classifier: Annotated[list[Classify], typer.Option(help="What the trainer trains; repeatable.")] = [Classify.nn],  # noqa: B006
    extractor: own.Extractors = None,
    robust: own.Robust = None,
    preprocess: own.Preprocesses = None,
    protected: own.Protected = ["all"],  # noqa: B006
    fraction: own.Fraction = 1.0,
    drop_missing: own.DropMissing = False,
    split: own.Split = 0.7,
    folds: own.Folds = 1,
    suffix: CloakSuffix = "",
    labels: own.Labels = None,
    distance: Annotated[Distance | None, typer.Option(help="Of neighbours. Default: the extractor's own.")] = None,
    faces: own.Faces = None,
    crops: Crops = False,
    min_face: MinFace = None,
    epochs: own.Epochs = 5,
    learning_rate: own.LearningRate = 1e-4,
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> int:
    """Measure whether a cloak protects anybody.

    One person at a time posts cloaked photos; a recogniser is trained on these and on everybody else's clean ones, and
    asked about the person's other photos, which are clean. Protection is the share that it names wrongly; the floor is
    that share with nothing cloaked. One record a person, then one of all with its 95% interval over people.

    Several --cloaked are evaluated each, and then together: someone posted the first part of their photos, in the order
    of their paths, with the first cloak, the next part with the next.

    nn looks for the nearest photo; linear fits a logistic regression; e2e tunes the whole extractor with a softmax
    head, anew for each person, which takes minutes each. top2 asks --extractor and --robust, and is right if one of
    them is; threshold asks --robust where the nearest neighbour of --extractor is too far away.
    """
    refuse_processes("evaluate")
    asked = request.Asked(
        gallery=gallery, cloaked=cloaked, classifiers=list(dict.fromkeys(each.value for each in classifier)),
        extractors=extractor, robust=robust, preprocess=preprocess, protected=protected, fraction=fraction,
        drop_missing=drop_missing, split=split, folds=folds, suffix=suffix, labels=labels,
        distance=distance and distance.value, faces=faces and faces.value, crops=crops, min_face=min_face,
        epochs=epochs, learning_rate=learning_rate, seed=seed, device=device,
    )  # fmt: skip
    own.check(asked)
    with RecordWriter(SCHEMA, "protection", COLUMNS) as writer:
        from facetools.evaluation.study import Kitchen

        kitchen = Kitchen(asked, writer)
        if asked.photos:
            kitchen.embed()
        else:
            kitchen.read()
        for case in kitchen.cases():
            case.run(writer)
        return writer.exit_code
