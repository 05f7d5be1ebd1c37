"""The command ``facetools perturb``."""

from __future__ import annotations

from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.errors import UsageError, param
from _toolio.files.overwriting import refuse_existing, refuse_nested
from _toolio.streams.inputs import count, open_items
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import parse_shard
from facetools.attacks import registry as attacks
from facetools.commands import _perturb as own
from facetools.commands._fields import FACE, PROBLEM
from facetools.commands._options import AllowDownload, Crops, Ensemble, LpipsWeights, MinFace
from facetools.extractors.factory import DEFAULT_ENSEMBLE
from facetools.intake_records import hand_on
from facetools.photos.formats import Format

SCHEMA = "facetools.perturb/1"
COLUMNS = ("path", "source", "face", "ssim", "psnr", "reason")


def perturb(
    out: options.OutFolder,
    attack: Annotated[str, typer.Option(metavar="NAME", help=f"How to cloak: {', '.join(attacks.names())}.")],
    inputs: options.Inputs = None,
    null: options.Null = False,
    mode: own.Mode = None,
    settings: own.Setting = None,
    extractor: Ensemble = list(DEFAULT_ENSEMBLE),  # noqa: B006 - typer copies it
    measure: own.Measure = None,
    targets: own.TargetFiles = None,
    views: own.Views = "",
    mask: own.Mask = None,
    save_mask: own.SaveMask = None,
    lpips_weights: LpipsWeights = None,
    allow_download: AllowDownload = False,
    faces: own.WhichFaces = None,
    crops: Crops = False,
    min_face: MinFace = None,
    file_format: own.FormatOption = Format.keep,
    quality: own.Quality = None,
    suffix: own.Suffix = "",
    strip_gps: own.StripGps = False,
    copy_faceless: own.CopyFaceless = False,
    seed: options.Seed = 0,
    batch: options.Batch = 8,
    resume: options.Resume = False,
    force: options.Force = False,
    device: options.Device = "auto",
    shard: options.Shard = None,
) -> int:
    """Cloak the faces of photos.

    Writes one photo for each that has a face, and one record a face, which ranks by moved: the cosine distance
    between the clean and the cloaked face's embedding, mean over the ensemble, measured on the saved file. Attack
    none changes nothing: a control copy that goes through the same saving.
    """
    method = attacks.find(attack)
    knobs = attacks.parse_knobs(method, mode, settings or [])
    given = {"--mode": mode, "--set": settings, "--seed": seed, "--views": views}
    own.check(method, targets=targets, mask=mask, save_mask=save_mask, given=[key for key in given if given[key]])
    if quality is not None and file_format is Format.png:
        raise UsageError("--quality is for jpeg, webp and heif; leave it out with --format png")
    if save_mask is not None and not (resume and save_mask.exists()):
        refuse_existing(save_mask, force=force, named=param("save_mask"))
    part = parse_shard(shard)
    if save_mask is not None and part != (1, 1):
        raise UsageError("--save-mask: a mask is made from all photos; make it without --shard, then use --mask")
    refuse_nested(out, inputs)
    items = open_items(inputs, null=null, shard=part)
    if save_mask is not None:
        items = list(items)  # photos are read twice
    with RecordWriter(SCHEMA, "moved", COLUMNS, makes_files=True) as writer:
        from facetools.cloaking import cloaker as cloaking
        from facetools.cloaking import session
        from facetools.outputs import PhotoFolder

        which = "crop" if crops else (faces or own.usual_faces(method)).value
        kitchen = session.Kitchen(device, faces=which, min_face_px=min_face, batch=batch)
        recipe = kitchen.recipe(
            method,
            mode,
            knobs,
            extractor,
            views,
            targets,
            seed,
            lpips_weights=lpips_weights,
            allow_download=allow_download,
        )
        if method.per_person:
            recipe = kitchen.with_masks(recipe, items, mask, save_mask, resume=resume)
        saving = cloaking.saving(file_format, quality, strip_gps, suffix, copy_faceless)
        cloaker = kitchen.cloaker(recipe, saving, measure or [])
        arguments = {"schema": SCHEMA, **cloaker.arguments, "faces": kitchen.faces, "min_face": min_face}
        with PhotoFolder(out, "facetools-perturb", arguments, resume=resume, force=force) as folder:
            results = kitchen.cloak(cloaker, items, folder.finished)
            for intake, output in track(results, "cloaking", count(items)):
                if output is None:
                    hand_on(writer, intake, makes_files=True)
                else:
                    folder.deliver(writer, intake, [output])
        return writer.exit_code


PAGE = Page(
    fields={
        "moved": "Cosine distance between the clean and the cloaked face's embedding, 0 to 2, on the saved file.",
        "path": "The cloaked photo; null where none was written.",
        "relative": "Where it lies below the output folder.",
        "source": "The photo that it was made from.",
        **FACE,
        "distances": "moved, for each extractor.",
        "ssim": "Structural similarity of the face's region, 1 for equal.",
        "psnr": "Peak signal-to-noise ratio of the region in dB; null for equal.",
        "linf": "Largest change of a channel in the region, 0 to 255.",
        "perceptual": "The perceptual distance that the attack weighs: lpips-alex, or multiscale-dssim without it.",
        "perceptual_distance": "That distance between clean and cloaked region.",
        "unseen": "Cosine distance for each extractor of --measure, which were not attacked.",
        "steps": "Of the attack; null where it takes none.",
        "seconds": "That the attack took for this face.",
        "attack": "What cloaked it.",
        "mode": "Of the attack; null where it has none.",
        "extractors": "The ensemble that it was made against.",
        "views": "The random views that it was optimised through.",
        "targets": "The people that it was pulled to.",
        "knobs": "The attack's settings.",
        "seed": "Of the run.",
        "source_sha256": "Of the source's bytes.",
        "notes": "What of the photo could not be kept.",
        **PROBLEM,
    },
    examples=(
        (
            "facetools perturb --attack lowkey --in photos/ --out cloaked/ > cloaked.jsonl",
            "Cloak every face below a folder.",
        ),
        (
            "facetools perturb --attack none --in photos/ --out control/ > control.jsonl",
            "Clean copies that went through the same saves.",
        ),
        (
            "facetools perturb --attack lowkey --set steps=20 --in me.jpg --out cloaked/ > me.jsonl",
            "A weaker, faster cloak.",
        ),
        (
            "facetools perturb --attack fawkes-v1.0 --mode low --views jpeg,resize --strip-gps \\\n"
            "  --in me.jpg --out upload/ > upload.jsonl",
            "A cloak that is meant to survive an upload, without the place.",
        ),
        (
            "facetools embed --faces largest --in people/ --out targets.safetensors > targets.jsonl\n"
            "facetools perturb --attack fawkes-v0.3 --mode min --targets targets.safetensors \\\n"
            "  --in me.jpg --out cloaked/ > me.jsonl",
            "Pull a face to one of the people that are farthest from it.",
        ),
        (
            "facetools perturb --attack opom --save-mask me.safetensors --in photos/ --out cloaked/ > first.jsonl\n"
            "facetools perturb --attack opom --mask me.safetensors --in new/ --out later/ > new.jsonl",
            "Make a mask for each person once, and lay it over new photos at once.",
        ),
    ),
)
