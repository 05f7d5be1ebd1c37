"""The command ``facetools perturb``."""

from __future__ import annotations

from typing import Annotated

import typer

from _toolio.cli import options
from _toolio.cli.manual import Page
from _toolio.cli.progress import track
from _toolio.files.overwriting import refuse_nested
from _toolio.streams.inputs import count, open_items
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import parse_shard
from facetools.attacks import registry as attacks
from facetools.cloaking.session import SCHEMA, Cloaked, CloakingConfig, CloakingSession
from facetools.commands._fields import FACE, PROBLEM
from facetools.commands._options import AllowDownload, Crops, Ensemble, LpipsWeights, MinConfidence, MinFace, Rotations
from facetools.commands._perturb import (
    CopyFaceless,
    FormatOption,
    Knobs,
    Mask,
    Measure,
    Mode,
    Quality,
    SaveMask,
    StripGps,
    Suffix,
    TargetFiles,
    Views,
    WhichFaces,
    check_mask_file,
)
from facetools.extractors.factory import DEFAULT_ENSEMBLE
from facetools.intake_records import hand_on
from facetools.photos.formats import Format
from facetools.photos.saving import Saving
from facetools.transforms.differentiable import parse_views

COLUMNS = ("path", "source", "face", "ssim", "psnr", "reason")


def perturb(
    out: options.OutFolder,
    attack: Annotated[str, typer.Option(metavar="NAME", help=f"The attack: {', '.join(attacks.names())}.")],
    inputs: options.Inputs = None,
    null: options.Null = False,
    mode: Mode = None,
    knobs: Knobs = None,
    extractor: Ensemble = list(DEFAULT_ENSEMBLE),  # noqa: B006 - typer copies it
    measure: Measure = None,
    targets: TargetFiles = None,
    views: Views = "",
    mask: Mask = None,
    save_mask: SaveMask = None,
    lpips_weights: LpipsWeights = None,
    allow_download: AllowDownload = False,
    faces: WhichFaces = None,
    crops: Crops = False,
    min_face: MinFace = None,
    min_confidence: MinConfidence = None,
    rotations: Rotations = False,
    file_format: FormatOption = Format.keep,
    quality: Quality = None,
    suffix: Suffix = "",
    strip_gps: StripGps = False,
    copy_faceless: CopyFaceless = False,
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
    none is the control: an unchanged copy that is saved in the same way.
    """
    method = attacks.find(attack)
    attacks.fill_knobs(method, mode, {})
    config = CloakingConfig(
        attack=attack,
        mode=mode,
        knobs=attacks.parse_settings(method, knobs or []),
        extractor=extractor,
        measure=measure or [],
        views=parse_views(views),
        targets=targets or [],
        mask=mask,
        save_mask=save_mask,
        lpips_weights=lpips_weights,
        allow_download=allow_download,
        faces="crop" if crops else faces and faces.value,
        min_face=min_face,
        min_confidence=min_confidence,
        rotations=rotations,
        seed=seed,
        saving=Saving.to_format(
            file_format, quality=quality, strip_gps=strip_gps, suffix=suffix, copy_faceless=copy_faceless
        ),
    )
    config.check()
    part = parse_shard(shard)
    if save_mask is not None:
        check_mask_file(save_mask, part, resume=resume, force=force)
    refuse_nested(out, inputs)
    items = open_items(inputs, null=null, shard=part)
    if save_mask is not None:
        items = list(items)  # photos are read twice
    with RecordWriter(SCHEMA, "moved", COLUMNS, makes_files=True) as writer:
        from facetools.outputs import PhotoFolder

        session = CloakingSession(config, device=device, batch=batch)
        if method.per_person:
            session.prepare_masks(items, resume=resume)
        with PhotoFolder(out, "facetools-perturb", session.arguments, resume=resume, force=force) as folder:
            for each in track(session.cloak(items, folder.finished), "cloaking", count(items)):
                if isinstance(each, Cloaked):
                    folder.deliver(writer, each.intake, [each.output])
                else:
                    hand_on(writer, each, makes_files=True)
        return writer.exit_code


PAGE = Page(
    fields={
        "moved": "Cosine distance between the clean and the cloaked face's embedding, 0 to 2, on the saved file.",
        "path": "The cloaked photo; null where none was written.",
        "relative": "Its path below the output folder.",
        "source": "The photo that it was made from.",
        **FACE,
        "distances": "moved, for each extractor.",
        "ssim": "SSIM of the face's region, 1 for equal.",
        "psnr": "PSNR of the region in dB; null for equal.",
        "linf": "l-infinity norm of the change in the region, 0 to 255.",
        "perceptual": "The perceptual distance in the attack's objective: lpips-alex, or multiscale-dssim without it.",
        "perceptual_distance": "That distance between clean and cloaked region.",
        "unseen": "Cosine distance for each extractor of --measure, which are not attacked.",
        "steps": "Optimisation steps of the attack; null where it takes none.",
        "seconds": "Duration of the attack on this face.",
        "attack": "Name of the attack.",
        "mode": "Mode of the attack; null where it has none.",
        "extractors": "The ensemble that was attacked.",
        "views": "The random views that the attack optimised through.",
        "targets": "The people that the face was pulled to.",
        "knobs": "The attack's settings. Two have their older names here: epsilon of fawkes-v1.0 is bound, alpha of "
        "opom is step_size.",
        "seed": "Seed of the run.",
        "source_sha256": "SHA-256 of the source.",
        "notes": "What of the photo was lost.",
        **PROBLEM,
    },
    examples=(
        (
            "facetools perturb --attack lowkey --in photos/ --out cloaked/ > cloaked.jsonl",
            "Cloak every face below a folder.",
        ),
        (
            "facetools perturb --attack none --in photos/ --out control/ > control.jsonl",
            "Clean copies saved in the same way: a control.",
        ),
        (
            "facetools perturb --attack lowkey --set steps=20 --in me.jpg --out cloaked/ > me.jsonl",
            "A weaker, faster cloak.",
        ),
        (
            "facetools perturb --attack fawkes-v1.0 --mode low --views jpeg,resize --strip-gps \\\n"
            "  --in me.jpg --out upload/ > upload.jsonl",
            "A cloak optimised to survive an upload, without GPS tags.",
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
            "Make a mask for each person once, and apply it to new photos without optimisation.",
        ),
    ),
)
