"""The command ``facetools evaluate``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.messages import warn
from _toolio.cli.progress import track
from _toolio.lazy import uncollected
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import refuse_processes
from facetools.commands._evaluate import (
    CloakedOption,
    DropMissing,
    Epochs,
    Extractors,
    Faces,
    Folds,
    Fraction,
    GalleryOption,
    Labels,
    LearningRate,
    Preprocesses,
    Protected,
    Robust,
    Split,
    named_cloaks,
    summary_of,
    white_box_warning,
    write_outcome,
)
from facetools.commands._fields import PROBLEM
from facetools.commands._options import CloakSuffix, Crops, MinConfidence, MinFace, Rotations
from facetools.evaluation.checks import check_config
from facetools.evaluation.config import EmbeddingConfig, EvaluationConfig, FineTuningConfig, ProtocolConfig

SCHEMA = "facetools.evaluate/1"
COLUMNS = ("person", "people", "interval", "floor", "others_accuracy", "classifier", "extractor", "preprocess", "cloak")


class Classify(StrEnum):
    """Classifiers that a trainer of a recogniser may use."""

    nn = "nn"
    linear = "linear"
    e2e = "e2e"
    top2 = "top2"
    threshold = "threshold"


class Distance(StrEnum):
    """Distances between embeddings."""

    cosine = "cosine"
    euclidean = "euclidean"


def evaluate(
    gallery: GalleryOption,
    cloaked: CloakedOption,
    classifier: Annotated[list[Classify], typer.Option(help="The classifier to train; repeatable.")] = [Classify.nn],  # noqa: B006
    extractor: Extractors = None,
    robust: Robust = None,
    preprocess: Preprocesses = None,
    protected: Protected = ["all"],  # noqa: B006
    fraction: Fraction = 1.0,
    drop_missing: DropMissing = False,
    split: Split = 0.7,
    folds: Folds = 1,
    suffix: CloakSuffix = "",
    labels: Labels = None,
    distance: Annotated[Distance | None, typer.Option(help="Between neighbours. Default: the extractor's own.")] = None,
    faces: Faces = None,
    crops: Crops = False,
    min_face: MinFace = None,
    min_confidence: MinConfidence = None,
    rotations: Rotations = False,
    epochs: Epochs = 5,
    learning_rate: LearningRate = 1e-4,
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> int:
    """Measure whether cloaks protect people from recognition.

    One person at a time posts cloaked photos; a recogniser is trained on these and on everybody else's clean ones, and
    tested on the person's other photos, which are clean. Protection is its error rate on them; the floor is the error
    rate with nothing cloaked. One record a person, then a summary with its 95% interval over people.

    Several --cloaked are evaluated each, and then together: someone posted the first part of their photos, in the order
    of their paths, with the first cloak, the next part with the next.

    nn is 1-nearest neighbour; linear is logistic regression; e2e fine-tunes the whole extractor with a softmax head,
    from the start for each person, which takes minutes each. top2 uses --extractor and --robust, and is right if one
    of them is; threshold uses --robust where the nearest neighbour of --extractor is too far away.
    """
    refuse_processes("evaluate")
    names, inputs = named_cloaks(cloaked)
    config = EvaluationConfig(
        gallery=gallery, cloaked=inputs, cloaks=names, protected=protected,
        classifier=[each.value for each in classifier],
        protocol=ProtocolConfig(split=split, folds=folds, fraction=fraction, drop_missing=drop_missing, seed=seed),
        embedding=EmbeddingConfig(
            extractor=extractor, robust=robust, preprocess=preprocess, faces=faces and faces.value, crops=crops,
            min_face=min_face, min_confidence=min_confidence, rotations=rotations, device=device,
        ),
        fine_tuning=FineTuningConfig(epochs=epochs, learning_rate=learning_rate),
        suffix=suffix, labels=labels, distance=distance and distance.value,
    )  # fmt: skip
    check_config(config)
    with RecordWriter(SCHEMA, "protection", COLUMNS) as writer:
        with uncollected():
            from facetools.evaluation.study import EvaluationStudy

        warned, summaries = set[str](), list[str]()
        for outcome in EvaluationStudy(config, progress=track).run():
            write_outcome(writer, config, outcome)
            summaries += summary_of(outcome)
            if (warning := white_box_warning(outcome)) and warning not in warned:
                warned.add(warning)
                warn("facetools", warning)
        if summaries:
            more = f"; {len(summaries) - 1:,} results more" if summaries[1:] else ""
            writer.sum_up(summaries[0] + more)
        return writer.exit_code


PAGE = Page(
    fields={
        "protection": "Error rate on clean test photos, 0 to 1; in the summary the mean over people.",
        "person": "The protected person; null in the summary.",
        "classifier": "The classifier that was trained.",
        "extractor": "The extractor of the embeddings.",
        "robust": "The robust extractor of top2 and threshold.",
        "preprocess": "Preprocessing of all photos, after faces were found in them.",
        "cloak": "The cloaked photos' input, or its NAME; several, joined by +, for someone who changed their cloak.",
        "cloaks": "The same as a list.",
        "floor": "Error rate with nothing cloaked, on the same split and photos.",
        "rank1": "Rank-1 identification rate: share of test photos whose nearest person is right; of top2, one of two "
        "names.",
        "rank5": "Rank-5 identification rate: the right person is among the five nearest; null for top2.",
        "others_accuracy": "Accuracy on everybody else's test photos.",
        "train_photos": "The person's training photos, summed over folds: with four, each counts three times. In the "
        "summary the sum over people, as of the next three.",
        "cloaked_photos": "Number of them that were cloaked.",
        "photos_of_cloaks": "Number by each cloak, where there are several.",
        "test_photos": "Clean test photos: of n photos floor((1 - split) n), one at least and all but one at most; "
        "with folds, each once.",
        "limit": "Distance to the nearest neighbour beyond which threshold uses the robust extractor: 95% of the "
        "training photos, the person's as posted, have one of the same person nearer; mean over folds.",
        "tar": "True accept rate (TAR) of cloaked training photos against clean test photos at each false accept rate "
        "(FAR), whose distance limits are set on the clean photos of all folds; null with too few pairs (nn).",
        "tar_clean": "The same with nothing cloaked (nn).",
        "made_against": "Extractors that the cloaks were made against, each with the sha256 of its weights, as the "
        "journal of perturb in their folder has it; null where that is not known. {} of copies that are not cloaked.",
        "white_box": "Whether the extractor, or robust, is one of them: then protection says nothing about another; "
        "null where that is not known.",
        "interval": "95% bootstrap interval of protection over people; null with fewer than three people or ten tests.",
        "caution": "Why there is no interval.",
        "floor_interval": "The same for floor.",
        "people": "Number of people, protected one at a time.",
        "extractor_sha256": "Of its weights.",
        "robust_sha256": "Of the robust extractor's.",
        "distance": "Distance between embeddings, cosine or euclidean; null for linear and e2e.",
        "robust_distance": "The robust extractor's.",
        "split": "Training share of each person's photos; null where there are folds.",
        "folds": "Number of splits.",
        "fraction": "Share of the person's training photos that was cloaked, rounded, one at least.",
        "drop_missing": "Whether training photos without a cloaked copy were left out.",
        "epochs": "Of e2e.",
        "learning_rate": "Of e2e.",
        "seed": "Of the split, the choice of cloaked photos, and e2e.",
        "command": "The command line that makes this record again, perhaps among others. What came from stdin is - in "
        "it, and must be given there again.",
        "input": "The input with the photo.",
        "path": "A photo that could not be used.",
        "relative": "Its path below the input.",
        **PROBLEM,
    },
    examples=(
        (
            "facetools embed --in people/ --out clean.safetensors > clean.jsonl\n"
            "facetools embed --in cloaked/ --out cloaked.safetensors > cloaked.jsonl\n"
            "facetools evaluate --gallery clean.jsonl --cloaked cloaked.jsonl --classifier nn | sort",
            "How well a cloak protects each person, least protected first.",
        ),
        (
            "facetools evaluate --gallery people/ --cloaked cloaked/ --classifier nn --classifier linear \\\n"
            "  --preprocess none --preprocess jpeg:75 > protection.jsonl",
            "Straight from photos; two classifiers, with and without the cheapest countermeasure.",
        ),
    ),
)
