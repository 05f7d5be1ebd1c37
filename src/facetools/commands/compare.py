"""The command ``facetools compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.errors import UsageError, param
from _toolio.files.claims import claimed
from _toolio.files.overwriting import refuse_link
from _toolio.lazy import uncollected
from _toolio.streams.inputs import STDIN, list_whole
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import file_of_shard, parse_shard
from facetools.commands import _complete
from facetools.commands._compare import MovedTally, name_folders
from facetools.commands._fields import FACE, PROBLEM
from facetools.commands._options import (
    AllowDownload,
    CloakSuffix,
    Crops,
    Faces,
    FacesOption,
    LpipsWeights,
    MinConfidence,
    MinFace,
    Rotations,
    check_names,
    face_search,
)
from facetools.extractors.factory import DEFAULT
from facetools.names import short_names
from facetools.pictures.columns import Columns
from facetools.pictures.grid import Grid, refuse_picture
from facetools.transforms.preprocess import parse_preprocess

SCHEMA = "facetools.compare/1"
COLUMNS = ("cloak", "path", "face", "preprocess", "ssim", "psnr", "linf", "outside_linf", "reason")

Extractors = Annotated[
    list[str],
    typer.Option(
        metavar="NAME|FILE",
        callback=check_names,
        autocompletion=options.completion(_complete.extractors),
        help="An extractor to embed with; may be repeated.",
    ),
]
Preprocesses = Annotated[
    list[str],
    typer.Option(
        metavar="NAME",
        autocompletion=options.completion(_complete.preprocesses),
        help="Applied to both before measuring: none, jpeg:75, resize:0.5, blur:1; repeatable.",
    ),
]
Amplify = Annotated[
    float, typer.Option(min=1, max=255, callback=options.finite, help="Factor of the difference that is drawn.")
]


def compare(
    clean: Annotated[str, typer.Argument(metavar="CLEAN", help="The photos as they were: a file, folder or .tar.")],
    cloaked: Annotated[
        list[str],
        typer.Argument(
            metavar="CLOAKED...",
            help="The same photos, cloaked by any tool; several, each as PATH or NAME=PATH, are set side by side.",
        ),
    ],
    suffix: CloakSuffix = "",
    extractor: Extractors = [DEFAULT],  # noqa: B006 - typer copies it
    preprocess: Preprocesses = ["none"],  # noqa: B006
    lpips_weights: LpipsWeights = None,
    allow_download: AllowDownload = False,
    faces: FacesOption = Faces.all,
    crops: Crops = False,
    min_face: MinFace = None,
    min_confidence: MinConfidence = None,
    rotations: Rotations = False,
    grid: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw both and the difference, as PNG; of several, the clean photo and all copies."
        ),
    ] = None,
    grid_rows: Annotated[int, typer.Option(min=1, max=200, help="Photos to draw, at most.")] = 20,
    amplify: Amplify = 10,
    force: options.Force = False,
    device: options.Device = "auto",
    shard: options.Shard = None,
) -> int:
    """Compare photos with their cloaked copies.

    One record a face, with the measures of perturb, for photos that any tool has cloaked. They are matched by their
    paths below the two folders, without extensions. Faces are found in the clean photos; a copy of another size
    is scaled to the clean one's. A photo without a counterpart gives a record with a reason.

    With several CLOAKED, strengths of a cloak say, each record names its own: cloak.
    """
    folders = name_folders(cloaked)
    if STDIN in (clean, *folders.values()):
        raise UsageError("CLEAN and CLOAKED cannot be -: name a file, a folder or a .tar each")
    part, steps = parse_shard(shard), [parse_preprocess(name) for name in preprocess]
    if grid is not None:
        grid = file_of_shard(grid, part)
        if part != (1, 1):
            refuse_link(grid)
        refuse_picture(grid, (clean, *folders.values()), force=force)
    before, after = list_whole([clean]), {name: list_whole([path]) for name, path in folders.items()}
    csv_fields = [name for name in PAGE.fields if name != "moved" and (name != "cloak" or "" not in folders)]
    drawn = claimed(grid, replace=force, named=param("grid"))
    records = RecordWriter(SCHEMA, "moved", COLUMNS, csv_fields=csv_fields, grouped_by="cloak", makes_files=bool(grid))
    with drawn, records as writer:
        with uncollected():
            from _toolio.compute.device import pick_device
            from facetools.cloaking.compare import Comparer
            from facetools.extractors.factory import open_extractors
            from facetools.pairs import match_folders
            from facetools.perceptual.distance import open_distance

        photos = match_folders(before, after, suffix=suffix, shard=part)
        on_device = pick_device(device)
        distance = open_distance(lpips_weights, allow_download=allow_download, device=on_device)
        headings = short_names(folders)
        sheet: Grid | Columns | None = None
        if grid:
            several = len(folders) > 1
            sheet = Columns(headings, rows=grid_rows) if several else Grid(rows=grid_rows, amplify=amplify)
        comparer = Comparer(open_extractors(extractor, on_device), distance, steps, sheet)
        search = face_search(faces, min_face, min_confidence, rotations=rotations, crops=crops)
        compared = comparer.compare_all(track(photos, "comparing", len(photos)), on_device, faces=search)
        sums = {name: MovedTally(several=bool(name)) for name in folders}
        for fields in compared:
            writer.emit(fields)
            sums[fields.get("cloak", "")].add(fields)
        if grid and sheet:
            sheet.save(grid)
        writer.sum_up(
            "; ".join(f"{headings[name]}: {each.line()}" if name else each.line() for name, each in sums.items())
        )
        return writer.exit_code


PAGE = Page(
    fields={
        "moved": "Cosine distance between the clean and the cloaked face's embedding, 0 to 2, mean over extractors.",
        "cloak": "With several CLOAKED, or a NAME: the one with the cloaked photo, or without it.",
        "path": "The cloaked photo; null where there is none.",
        "relative": "Where it lies below its folder.",
        "source": "The clean photo; null where there is none.",
        "clean_size": "Width and height of the clean photo, pixels.",
        "cloaked_size": "Width and height of the cloaked photo, pixels.",
        "scaled": "The cloaked photo was scaled to the clean one's size before anything was measured.",
        "outside_linf": "l-infinity norm of the change outside the faces' regions, 0 to 255; not for crops.",
        "preprocess": "Applied to both photos before the face was measured.",
        **FACE,
        "distances": "moved, for each extractor.",
        "ssim": "SSIM of the face's region, 1 for equal.",
        "psnr": "PSNR of the region in dB; null for equal.",
        "linf": "l-infinity norm of the change in the region, 0 to 255.",
        "perceptual": "Name of the perceptual distance.",
        "perceptual_distance": "That distance between clean and cloaked region.",
        "grid_row": "Row of the photo in the picture, from 0.",
        "amplify": "Factor by which the picture amplifies the difference; not with several CLOAKED.",
        **PROBLEM,
    },
    examples=(
        ("facetools compare photos/ cloaked/ > changes.jsonl", "Measure the cloaks of any tool."),
        (
            "facetools compare photos/ cloaked/ --preprocess none --preprocess jpeg:75 > uploads.jsonl",
            "Measure them again after JPEG of quality 75.",
        ),
        (
            "facetools compare photos/ cloaked/ --grid grid.png | sort -r | head",
            "Draw them, and list the ten that moved most.",
        ),
        (
            "facetools compare photos/ saved=control/ lowkey=cloaked/ --grid both.png > both.jsonl",
            "Set two folders side by side, strengths of a cloak say: a row a photo, a column a folder.",
        ),
    ),
)
