"""The command ``facetools perturb``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from _toolio.cli import engines, options
from _toolio.cli.manual import Page
from _toolio.cli.messages import note
from _toolio.cli.progress import track
from _toolio.errors import param
from _toolio.files.claims import claimed, claimed_part
from _toolio.files.overwriting import refuse_link, refuse_nested
from _toolio.lazy import uncollected
from _toolio.streams.inputs import STDIN, count
from _toolio.streams.records import RecordWriter
from _toolio.streams.shards import file_of_shard, parse_shard
from facetools.attacks import registry as attacks
from facetools.cloaking.config import CloakingConfig
from facetools.cloaking.session import SCHEMA, CloakingSession
from facetools.commands import _complete
from facetools.commands._fields import FACE, PROBLEM
from facetools.commands._options import AllowDownload, Crops, Ensemble, LpipsWeights, MinConfidence, MinFace, Rotations
from facetools.commands._perturb import (
    CopyFaceless,
    FacesFile,
    FormatOption,
    Knobs,
    Mask,
    Measure,
    Mode,
    OtherPeople,
    Preview,
    Quality,
    SaveMask,
    StripGps,
    Suffix,
    Summary,
    TargetFiles,
    UntilHidden,
    UntilMoved,
    Views,
    WhichFaces,
    check_mask_file,
    note_other_attack,
    refuse_no_targets,
)
from facetools.commands._photos import open_photos, part_of
from facetools.extractors.factory import DEFAULT_ENSEMBLE
from facetools.intake_records import hand_on
from facetools.photos.formats import Format
from facetools.photos.saving import Saving
from facetools.pictures.contact_sheet import ContactSheet, refuse_sheet
from facetools.transforms.differentiable import parse_views

COLUMNS = ("path", "source", "face", "ssim", "psnr", "reason")


def perturb(
    out: options.OutFolder,
    attack: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            autocompletion=options.completion(_complete.attacks),
            help=f"The attack: {', '.join(attacks.names())}.",
        ),
    ],
    paths: options.Paths = None,
    inputs: options.Inputs = None,
    all_files: options.AllFiles = False,
    null: options.Null = False,
    urls: options.Urls = False,
    mode: Mode = None,
    knobs: Knobs = None,
    extractor: Ensemble = list(DEFAULT_ENSEMBLE),  # noqa: B006 - typer copies it
    measure: Measure = None,
    targets: TargetFiles = None,
    views: Views = "",
    mask: Mask = None,
    save_mask: SaveMask = None,
    until_moved: UntilMoved = None,
    until_hidden: UntilHidden = False,
    others: OtherPeople = None,
    lpips_weights: LpipsWeights = None,
    allow_download: AllowDownload = False,
    faces: WhichFaces = None,
    crops: Crops = False,
    min_face: MinFace = None,
    min_confidence: MinConfidence = None,
    rotations: Rotations = False,
    faces_file: FacesFile = None,
    file_format: FormatOption = Format.keep,
    quality: Quality = None,
    suffix: Suffix = "",
    strip_gps: StripGps = False,
    copy_faceless: CopyFaceless = False,
    preview: Preview = None,
    seed: options.Seed = 0,
    batch: options.Batch = 8,
    resume: options.Resume = False,
    force: options.Force = False,
    device: options.Device = "auto",
    shard: options.Shard = None,
    engine: engines.Choice = engines.Kind.local,
    actors: engines.Actors = None,
    gpus_per_actor: engines.GpusPerActor = None,
) -> int:
    """Cloak the faces of photos.

    Writes one photo for each that has a face, and one record a face, which ranks by moved: the cosine distance
    between the clean and the cloaked face's embedding, mean over the ensemble, measured on the saved file. Attack
    none is the control: an unchanged copy that is saved in the same way.
    """
    chosen = engines.choose("facetools", engine, device, actors, gpus_per_actor)
    inputs = options.named(inputs, paths)
    method = attacks.find(attack)
    attacks.fill_knobs(method, mode, {})
    refuse_no_targets(method, targets)
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
        until_moved=until_moved,
        until_hidden=until_hidden,
        others=others or [],
        all_files=all_files,
        lpips_weights=lpips_weights,
        allow_download=allow_download,
        faces="crop" if crops else faces and faces.value,
        min_face=min_face,
        min_confidence=min_confidence,
        rotations=rotations,
        faces_file=faces_file,
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
    if preview is not None:
        preview = file_of_shard(preview, part)
        if part != (1, 1):
            refuse_link(preview)
        photos = [str(out), *(name for name in inputs if name != STDIN)]
        refuse_sheet(preview, photos, force=force or resume, named=param("preview"))
    note_other_attack(out, attack)
    items = open_photos(inputs, all_files=all_files, null=null, urls=urls, shard=part)
    if save_mask is not None:
        items = list(items)  # photos are read twice
    with (
        claimed_part(out, "facetools-perturb", part_of(inputs, part, suffix, file_format.value)),
        claimed(save_mask, replace=force or resume, named=param("save_mask")),
        claimed(preview, replace=force or resume, named=param("preview")),
        RecordWriter(SCHEMA, "moved", COLUMNS, makes_files=True) as writer,
        chosen,
    ):
        with uncollected():
            from facetools.commands._preview import pixels_of
            from facetools.outputs import PhotoFolder
            from facetools.workers.photos import Processed

        summary, sheet = Summary(), ContactSheet(preview) if preview else None
        session = CloakingSession(config, device=chosen.here, batch=batch, warn=partial(note, "facetools"))
        if method.per_person:
            session.prepare_masks(items, resume=resume)
        with PhotoFolder(out, "facetools-perturb", session.arguments, resume=resume, force=force) as folder:
            cloaked = session.cloak(items, folder.finished, whole=part == (1, 1), engine=chosen)
            for each in track(cloaked, "cloaking", count(items), resumes=True):
                if isinstance(each, Processed):
                    records = folder.deliver(writer, each)
                else:
                    records = hand_on(writer, each, makes_files=True)
                summary.add(records)
                if sheet:
                    sheet.add(records, partial(pixels_of, each, records))
        if sheet:
            sheet.close()
        writer.sum_up(summary.line())
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
        "steps": "Optimisation steps taken: all of the attack's, or those until it stopped; null where it takes none.",
        "reached": "Whether the saved face is where --until-moved and --until-hidden should bring it.",
        "hidden_margin": "By how much the nearest of --others is nearer than the own clean face: difference of cosine "
        "distances, the least of the ensemble; negative where the own is nearer.",
        "seconds": "Duration of the attack on this face.",
        "attack": "Name of the attack.",
        "mode": "Mode of the attack; null without one.",
        "extractors": "The ensemble that was attacked.",
        "views": "The random views that the attack optimised through.",
        "targets": "The people that the face was pulled to.",
        "knobs": "The attack's settings. Two have their older names here: epsilon of fawkes-v1.0 is bound, alpha of "
        "opom is step_size.",
        "seed": "Seed of the run.",
        "source_sha256": "SHA-256 of the source.",
        "others": "Number and box of each face that was found and is not cloaked, as another was chosen.",
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
            "facetools perturb --attack lowkey --until-moved 0.2 --in me.jpg --out mild/ > mild.jsonl\n"
            "facetools perturb --attack lowkey --until-hidden --others people/ \\\n"
            "  --in me.jpg --out hidden/ > hidden.jsonl",
            "The mildest cloak that moves a face by 0.2, and one that brings somebody else's nearer.",
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
            """echo '{"path": "photos/0.jpg", "box": [78, 66, 172, 190]}' > missed.jsonl\n"""
            "facetools perturb --attack lowkey --set steps=20 --faces-file missed.jsonl --preview faces.png \\\n"
            "  --in photos/0.jpg --out cloaked/ > cloaked.jsonl",
            "Cloak a face too that was missed, and draw all photos with their faces, cloaked or not.",
        ),
        (
            "facetools perturb --attack opom --save-mask me.safetensors --in photos/ --out cloaked/ > first.jsonl\n"
            "facetools perturb --attack opom --mask me.safetensors --in new/ --out later/ > new.jsonl",
            "Make a mask for each person once, and apply it to new photos without optimisation.",
        ),
    ),
)
