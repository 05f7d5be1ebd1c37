"""The command ``facetools import-extractor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.errors import ToolError, UsageError
from _toolio.files.claims import claimed
from _toolio.files.overwriting import refuse_existing
from _toolio.lazy import uncollected
from _toolio.streams.records import RecordWriter
from _toolio.version import tool_version
from facetools.commands._import_extractor import parse_settings, say_unverified
from facetools.extractors.registry import architectures

SCHEMA = "facetools.import-extractor/1"
COLUMNS = ("architecture", "file", "tensors", "bytes", "problem", "key", "shape", "wanted")

_USUAL = "Default: the file's or the architecture's."


def import_extractor(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Weights: .pth, .pt, .ckpt, .bin or .tar (torch), .safetensors, .onnx, .dat (dlib), or the Hugging "
            "Face folder of a CLIP.",
        ),
    ],
    out: options.OutFile,
    architecture: Annotated[
        str | None, typer.Option(metavar="NAME", help="The network's architecture. Default: the one that fits.")
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help=f"Pixels of a chip, as 112 or 112x96 (height first). {_USUAL}")
    ] = None,
    alignment: Annotated[str | None, typer.Option(metavar="NAME", help=f"How chips are cut. {_USUAL}")] = None,
    channel_order: Annotated[str | None, typer.Option(metavar="ORDER", help=f"rgb or bgr. {_USUAL}")] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help=f"One, or three with commas, of 0 to 255. {_USUAL}")
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help=f"The divisor of channels after that. {_USUAL}")
    ] = None,
    normalisation: Annotated[str | None, typer.Option(metavar="NAME", help=f"l2 or none. {_USUAL}")] = None,
    distance: Annotated[str | None, typer.Option(metavar="NAME", help=f"cosine or euclidean. {_USUAL}")] = None,
    mirrored: Annotated[
        bool | None, typer.Option("--mirrored/--no-mirrored", help=f"Add the mirrored chip's embedding. {_USUAL}")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16, half the size.")] = False,
    force: options.Force = False,
) -> int:
    """Convert weights into an extractor file.

    Recognises tensor names and wrappers of common projects, tests the network, and writes one safetensors file with
    the settings of its chips. If tensors do not match the architecture, each gets a record, nothing is written, and
    the run fails. No code in a file is run, and nothing is downloaded.
    """
    words = {"input_size": input_size, "alignment": alignment, "channel_order": channel_order, "mean": mean}
    words |= {"std": std, "normalisation": normalisation, "distance": distance}
    given = parse_settings({**words, "mirrored": mirrored})
    if architecture is not None and architecture not in architectures():
        raise UsageError(f"--architecture {architecture}: not known; choose from {', '.join(architectures())}")
    refuse_existing(out, force=force)
    failed: ToolError | None = None
    with claimed(out, replace=force), RecordWriter(SCHEMA, "dimensions", COLUMNS, makes_files=True) as writer:
        with uncollected():
            from facetools.extractors.convert import convert as importing
            from facetools.extractors.convert import match

        try:
            record = importing.import_extractor(file, out, architecture, given, half=half, version=tool_version())
            writer.emit(record)
            say_unverified(record)
        except match.MismatchError as error:
            failed = error
            for problem in error.fit.problems:
                writer.emit({"source": str(file), "architecture": error.fit.architecture, **problem._asdict()})
    if failed:  # behind the table of problems, which an error would keep from being drawn
        raise failed
    return writer.exit_code


PAGE = Page(
    fields={
        "dimensions": "Length of an embedding; null where a tensor does not match.",
        "file": "The extractor file that was written.",
        "architecture": "The network's architecture; where tensors do not match, the one that came nearest.",
        "source": "The weights that were converted.",
        "source_sha256": "Of the source's bytes; of a folder, or of weights in several files, of all that were read.",
        "sha256": "Of the file that was written.",
        "settings": "How chips are prepared, and the distance between embeddings.",
        "tensors": "Number of tensors in the file.",
        "left_out": "Number of tensors of the source that no embedding needs, such as a classifier's.",
        "bytes": "Size of the file.",
        "assumed": "Of ONNX: settings that were not given and that the graph does not hold; nothing verifies them.",
        "verified_by": "Of ONNX: what computed the same embedding of a chip, onnx.reference; null if nothing did.",
        "not_verified": "Why nothing did.",
        "problem": "missing, unknown (the architecture has no such tensor) or shape (it is of another shape).",
        "key": "The architecture's name of the tensor that does not match.",
        "shape": "Its shape in the source; null where it is missing.",
        "wanted": "The expected shape; null where it is unknown.",
    },
    examples=(
        (
            "facetools import-extractor backbone.pth --architecture mobilefacenet --out mine.safetensors",
            "Make an extractor file from a PyTorch checkpoint.",
        ),
        (
            "facetools import-extractor backbone.pth --input-size 112 --mean 127.5 --std 128 \\\n"
            "  --out mine.safetensors > mine.jsonl &&\n"
            "  facetools embed --extractor mine.safetensors --in photos/ --out x.safetensors > x.jsonl",
            "Recognise the architecture by its tensors, set how chips are prepared, and embed with the result.",
        ),
    ),
)
