"""The command ``facetools evaluate``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import refuse_processes
from facetools.commands import _evaluate as own
from facetools.commands._fields import PROBLEM
from facetools.commands._options import CloakSuffix, Crops, MinFace
from facetools.evaluation.checks import check_config
from facetools.evaluation.config import EmbeddingConfig, EvaluationConfig, FineTuningConfig, ProtocolConfig

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
    config = EvaluationConfig(
        gallery=gallery, cloaked=cloaked, classifier=[each.value for each in classifier], protected=protected,
        protocol=ProtocolConfig(split=split, folds=folds, fraction=fraction, drop_missing=drop_missing, seed=seed),
        embedding=EmbeddingConfig(
            extractor=extractor, robust=robust, preprocess=preprocess, faces=faces and faces.value, crops=crops,
            min_face=min_face, device=device,
        ),
        fine_tuning=FineTuningConfig(epochs=epochs, learning_rate=learning_rate),
        suffix=suffix, labels=labels, distance=distance and distance.value,
    )  # fmt: skip
    check_config(config)
    with RecordWriter(SCHEMA, "protection", COLUMNS) as writer:
        from facetools.evaluation.study import EvaluationStudy

        for outcome in EvaluationStudy(config, progress=track).run():
            own.write_outcome(writer, config, outcome)
        return writer.exit_code


PAGE = Page(
    fields={
        "protection": "Share of clean test photos that the recogniser names wrongly, 0 to 1; of all: the mean.",
        "person": "Who was protected; null in the record of all people.",
        "classifier": "What the trainer trained.",
        "extractor": "What embedded the photos.",
        "robust": "The robust extractor of top2 and threshold.",
        "preprocess": "What the trainer did to all photos, after their faces were found in them as they were.",
        "cloak": "The cloaked photos' input; several, joined by +, for someone who changed their cloak.",
        "cloaks": "The same as a list.",
        "floor": "protection with nothing cloaked, on the same split and of the same photos.",
        "rank1": "Share of test photos whose nearest person is the right one; of top2 those of which one of two "
        "names is right.",
        "rank5": "Share whose five nearest people include the right one; null for top2, which names two.",
        "others_accuracy": "Share of everybody else's test photos that are named rightly.",
        "train_photos": "Photos of the person that were trained on, summed over folds: with four, each counts "
        "thrice. Of all: the sum over people, as of the next three.",
        "cloaked_photos": "How many of them were cloaked.",
        "photos_of_cloaks": "How many each cloak has cloaked, where there are several.",
        "test_photos": "Clean photos that were asked: of n photos floor((1 - split) n), but one at least and all "
        "but one at most; with folds, each once.",
        "limit": "Distance from the nearest neighbour beyond which threshold asks the robust extractor: 95% of the "
        "trainer's photos, the person's as posted, have one of the same person nearer; mean over folds.",
        "tar": "True accept rate of cloaked training photos against clean test photos, at each false accept rate, "
        "for which limits are set on the clean photos of all folds; null where there are too few pairs (nn).",
        "tar_clean": "The same with nothing cloaked (nn).",
        "interval": "95% bootstrap interval of the mean over people; null of one person.",
        "floor_interval": "The same for floor.",
        "people": "How many people were protected, one at a time.",
        "extractor_sha256": "Of its weights.",
        "robust_sha256": "Of the robust extractor's.",
        "distance": "What embeddings were compared with, cosine or euclidean; null for linear and e2e.",
        "robust_distance": "The robust extractor's.",
        "split": "Share of each person's photos that was trained on; null where there are folds.",
        "folds": "In how many splits photos were asked.",
        "fraction": "Share of the person's training photos that was cloaked, rounded, one at least.",
        "drop_missing": "Whether photos without a cloaked copy were left out.",
        "epochs": "Of e2e.",
        "learning_rate": "Of e2e.",
        "seed": "Of the split, of which photos are cloaked, and of e2e.",
        "command": "The command line that makes this record again; it may make others besides. What came from "
        "stdin is - in it, and must be given there again.",
        "input": "The input that a photo came from.",
        "path": "A photo that could not be used.",
        "relative": "Where it lies below its input.",
        **PROBLEM,
    },
    examples=(
        (
            "facetools embed --in people/ --out clean.safetensors > clean.jsonl\n"
            "facetools embed --in cloaked/ --out cloaked.safetensors > cloaked.jsonl\n"
            "facetools evaluate --gallery clean.jsonl --cloaked cloaked.jsonl --classifier nn | sort",
            "Whom a cloak protects, and whom not, least protected first.",
        ),
        (
            "facetools evaluate --gallery people/ --cloaked cloaked/ --classifier nn --classifier linear \\\n"
            "  --preprocess none --preprocess jpeg:75 > protection.jsonl",
            "Straight from photos; two kinds of trainer, with and without the cheapest countermeasure.",
        ),
    ),
)
