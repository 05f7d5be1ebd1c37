"""The command ``facetools perturb``."""

from __future__ import annotations

from typing import Annotated

import typer

from _toolio import options
from _toolio.errors import UsageError
from _toolio.paths import count, open_items, parse_shard, refuse_nested
from _toolio.progress import track
from _toolio.records import RecordWriter
from facetools import attacks
from facetools.commands._shared import ExtractorOption, Faces, FacesOption, Format, MinFace, needing_work
from facetools.extractors import DEFAULT

SCHEMA = "facetools.perturb/1"
COLUMNS = ("path", "source", "face", "ssim", "psnr", "reason")


def perturb(
    out: options.OutFolder,
    attack: Annotated[str, typer.Option(metavar="NAME", help=f"How to cloak: {', '.join(attacks.names())}.")],
    inputs: options.Inputs = None,
    null: options.Null = False,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KNOB=VALUE", help=f"A knob of the attack; may be repeated. {attacks.list_knobs()}"
        ),
    ] = None,
    extractor: ExtractorOption = DEFAULT,
    faces: FacesOption = Faces.all,
    min_face: MinFace = None,
    file_format: Annotated[
        Format, typer.Option("--format", help="keep the photo's own format, or write png or jpeg.")
    ] = Format.keep,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="JPEG or WebP quality. Default: the photo's own.")
    ] = None,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    force: options.Force = False,
    device: options.Device = "auto",
    shard: options.Shard = None,
) -> int:
    """Cloak the faces of photos.

    Writes one photo for each that has a face, and one record a face, which ranks by moved: the cosine distance
    between the clean and the cloaked face's embedding, measured on the saved file. Attack none changes nothing:
    a control copy that goes through the same saving.
    """
    function = attacks.find(attack)
    knobs = attacks.parse_knobs(function, attack, setting or [])
    if quality is not None and file_format is Format.png:
        raise UsageError("--quality is for jpeg and webp; leave it out with --format png")
    refuse_nested(out, inputs)
    items = open_items(inputs, null=null, shard=parse_shard(shard))
    with RecordWriter(SCHEMA, "moved", COLUMNS) as writer:
        from _toolio.device import pick_device
        from facetools.cloaking import Cloaker
        from facetools.extractors import open_extractor
        from facetools.intake import take_in
        from facetools.outputs import PhotoFolder

        place = pick_device(device)
        network = open_extractor(extractor, place)
        file_kind = None if file_format is Format.keep else file_format.value.upper()
        cloaker = Cloaker(attack, function, knobs, [network], seed=seed, file_format=file_kind, quality=quality)
        arguments = {"schema": SCHEMA, **cloaker.arguments, "faces": faces.value, "min_face": min_face}
        with PhotoFolder(out, "facetools-perturb", arguments, resume=resume, force=force) as folder:
            tracked = track(items, "cloaking", count(items))
            intakes = take_in(tracked, place, faces=faces.value, min_face_px=min_face, finished=folder.finished)
            for intake in needing_work(writer, intakes, makes_files=True):
                folder.deliver(writer, intake, [cloaker.cloak(intake)])
        return writer.exit_code
