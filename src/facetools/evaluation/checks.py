"""Check a configuration before anything heavy is imported or read."""

from __future__ import annotations

import os
from pathlib import Path

from _toolio.errors import ToolError, UsageError, param
from _toolio.sharding.folder import markers_in
from _toolio.streams.inputs import STDIN
from facetools.evaluation.config import (
    CLASSIFIERS,
    END_TO_END,
    TWO_MODELS,
    EmbeddingConfig,
    EvaluationConfig,
    holds_photos,
)
from facetools.extractors.factory import DEFAULT

_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def check_config(config: EvaluationConfig) -> None:
    """Check that inputs exist and that settings go together.

    Raises
    ------
    UsageError
        Settings contradict each other; the message names the parameter.
    ToolError
        An input does not exist, or is a folder of shards.
    """
    for parameter, names in (("gallery", [config.gallery]), ("cloaked", config.cloaked)):
        for name in names:
            if not name or "\0" in name:
                raise UsageError(f"{param(parameter)}: is empty; name a folder, a .tar or embeddings")
            if name.endswith(_PACKED):
                raise UsageError(
                    f"{param(parameter)} {name}: of archives .tar is read, and no packed one; unpack it first"
                )
    for name in config.inputs:
        _check_exists(name)
    _check_inputs_differ(config)
    _check_names(config)
    photos = [holds_photos(name) for name in config.inputs]
    if any(photos) and not all(photos):
        raise UsageError(
            f"{config.inputs[photos.index(False)]}: no photos, but {config.inputs[photos.index(True)]} has them; "
            "give folders or .tar files alone, or embeddings alone"
        )
    _check_models(config, photos=photos[0])


def _check_models(config: EvaluationConfig, *, photos: bool) -> None:
    """Check classifiers and extractors against each other and against the kind of inputs."""
    robust, embedding = config.embedding.robust, config.embedding
    if unknown := [name for name in config.classifier if name not in CLASSIFIERS]:
        raise UsageError(f"{param('classifier')} {unknown[0]}: there is none; take one of {', '.join(CLASSIFIERS)}")
    needy = [name for name in config.classifier if name in TWO_MODELS]
    if needy and robust is None:
        raise UsageError(
            f"{param('classifier')} {needy[0]}: needs a robust extractor; name its file with {param('robust')}"
        )
    if not photos:
        if END_TO_END in config.classifier:
            raise UsageError(
                f"{param('classifier')} {END_TO_END}: learns from photos, not from embeddings; give folders of photos"
            )
        _check_unset(embedding)
    if robust is not None and not needy:
        raise UsageError(
            f"{param('robust')} {robust}: only {' and '.join(TWO_MODELS)} ask it; give {param('classifier')} top2"
        )
    if robust in (embedding.extractor or [DEFAULT]):
        raise UsageError(f"{param('robust')} {robust}: is the {param('extractor')} too; name two different ones")
    _ = embedding.steps


def _check_unset(embedding: EmbeddingConfig) -> None:
    """Refuse settings that only photos need, of inputs that are embeddings."""
    for name, given in (
        ("extractor", embedding.extractor), ("robust", embedding.robust), ("preprocess", embedding.preprocess),
    ):  # fmt: skip
        if given:
            raise UsageError(f"{param(name)}: embeddings cannot be made again; give folders of photos")
    for name, value in (
        ("faces", embedding.faces), ("crops", embedding.crops or None), ("min_face", embedding.min_face),
        ("min_confidence", embedding.min_confidence), ("rotations", embedding.rotations or None),
    ):  # fmt: skip
        if value is not None:
            raise UsageError(
                f"{param(name)}: faces are found in photos, not in embeddings; give it to `facetools embed`"
            )


def _check_names(config: EvaluationConfig) -> None:
    """Refuse names of cloaks that do not tell them apart."""
    names = config.cloak_names
    if len(names) != len(config.cloaked):
        raise UsageError(f"{param('cloaks')}: {len(names)} names for {len(config.cloaked)} inputs; give one each")
    for name, path in zip(config.cloaks, config.cloaked, strict=False):
        if names.count(name) > 1:
            raise UsageError(
                f"{param('cloaked')} {name}={path}: another cloak has that name; give NAME=PATH with another"
            )
        if "+" in name and name != path:
            raise UsageError(f"{param('cloaked')} {name}={path}: + joins the names of several cloaks; leave it out")


def _check_inputs_differ(config: EvaluationConfig) -> None:
    """Refuse one input in two places, under whatever name, and cloaked photos among the clean ones."""
    if config.inputs.count(STDIN) > 1:
        raise UsageError(f"{param('gallery')} and {param('cloaked')}: - can be given once")
    gallery, seen = os.path.realpath(config.gallery), dict[str, str]()
    for name in config.cloaked:
        if name == STDIN:
            continue
        place, where = os.path.realpath(name), f"{param('cloaked')} {name}"
        if (first := seen.setdefault(place, name)) is not name or list(config.cloaked).count(name) > 1:
            raise UsageError(f"{where}: given twice{f', also as {first}' if first != name else ''}")
        if config.suffix or config.gallery == STDIN:
            continue
        if place == gallery:
            raise UsageError(
                f"{where}: is the {param('gallery')}; name the cloaked copies (photos beside their cloaked copies need "
                f"{param('suffix')})"
            )
        _check_apart(config.gallery, name)


def _check_apart(gallery: str, cloaked: str) -> None:
    """Refuse a folder in the other: its photos would be on both sides, under two names."""
    outer, inner = (Path(os.path.realpath(name)) for name in (gallery, cloaked))
    hint = f"name two folders that lie apart, or tell cloaked photos by {param('suffix')}"
    if outer.is_dir() and inner.is_dir():
        if inner.is_relative_to(outer):
            raise UsageError(f"{param('cloaked')} {cloaked}: lies in {param('gallery')} {gallery}; {hint}")
        if outer.is_relative_to(inner):
            raise UsageError(f"{param('gallery')} {gallery}: lies in {param('cloaked')} {cloaked}; {hint}")


def _check_exists(name: str) -> None:
    try:
        if name != STDIN:
            Path(name).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ToolError(f"{name}: no such file or folder", kind="missing") from None
    except OSError as error:
        raise ToolError(f"{name}: {error.strerror}; name another file or folder", kind="unreadable") from None
    if name != STDIN and Path(name).is_dir() and markers_in(Path(name)):
        raise ToolError(
            f"{name}: is a folder of shards; name the records that `facetools gather` makes of it", kind="embeddings"
        )
