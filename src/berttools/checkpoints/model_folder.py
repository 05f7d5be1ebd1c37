"""Model folders: check one, write one, and keep code that comes with one from being run."""

from __future__ import annotations

import codecs
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import ToolError, UsageError, in_one_line, param
from _toolio.files.atomic import atomic_folder
from _toolio.files.overwriting import refuse_file
from _toolio.json_text import parse_json
from _toolio.lazy import quiet_torch
from _toolio.tensors.foreign import pointer_advice
from _toolio.tensors.reader import read_metadata
from _toolio.tensors.writer import write_safetensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

DELTA = "berttools.delta/1"
"""Schema of a delta."""

MADE = "berttools.json"
"""The file in a model's folder that says how it was made; a folder without it is never replaced."""

CARD = "README.md"

CHOSEN_WEIGHTS = "transformers_weights"
"""The key of config.json that names a folder's weights, where they have none of the usual names."""

MODULES = "modules.json"
"""The file of sentence-transformers that lists what a model is made of."""

# What a tokenizer may be made of; without one of the vocabularies transformers invents an empty one.
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "spm.model", "sentencepiece.bpe.model")
_TOKENIZER_FILES = (
    *_VOCABULARIES, "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "merges.txt", "bpe.codes", "chat_template.jinja",
)  # fmt: skip


def inner_folder(folder: Path) -> Path:
    """Return the folder of the transformer in a folder of sentence-transformers; any other folder as it is.

    Such a folder lists its modules in ``modules.json``. Newer ones have the transformer at their top; older ones have
    it in ``0_Transformer`` or the like.
    """
    if (folder / "config.json").exists() or not folder.is_dir():
        return folder
    try:
        modules = parse_json((folder / MODULES).read_bytes())
    except (OSError, ValueError):
        modules = None
    named = [
        each["path"]
        for each in (modules if isinstance(modules, list) else ())
        if isinstance(each, dict)
        and isinstance(each.get("path"), str)
        and str(each.get("type")).endswith("Transformer")
    ]
    # A list may come from anybody: it names a folder in this one and no other.
    names = [name for name in named if Path(name).name == name != ".."] or [path.name for path in folder.glob("0_*")]
    # Unlike Path.is_file, this is False for a name that no file can have.
    inside = [folder / name for name in names if os.path.isfile(folder / name / "config.json")]  # noqa: PTH113
    return inside[0] if len(inside) == 1 else folder


def check_folder(folder: Path) -> None:
    """Refuse what is no model's folder, without importing a library.

    Raises
    ------
    ToolError
        Kind ``"not-found"``, ``"no-config"``, ``"no-tokenizer"`` or ``"lfs-pointer"``; the message says what to try.
    """
    folder = inner_folder(folder)
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "no such folder"
        raise ToolError(f"{folder}: {what}; name a local model's folder, nothing is downloaded", kind="not-found")
    if not (folder / "config.json").is_file():
        raise ToolError(f"{folder}: no config.json in it; give a model's folder", kind="no-config")
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise ToolError(
            f"{folder}: no tokenizer in it (none of {', '.join(_VOCABULARIES)}); copy it there", kind="no-tokenizer"
        )
    for path in (folder / "config.json", *tokenizer_files(folder)):
        if advice := pointer_advice(path):
            raise ToolError(f"{path}: {advice}", kind="lfs-pointer")


def json_fault(folder: Path) -> str | None:
    """Return which JSON file of a model's folder cannot be read, and what to try; None if all can."""
    for path in (folder / "config.json", *tokenizer_files(folder)):
        if path.suffix != ".json":
            continue
        try:
            data = path.read_bytes()
            if data.startswith(codecs.BOM_UTF8):
                return f"{path}: begins with a byte order mark; save it as UTF-8 without one"
            parse_json(data)
        except (OSError, ValueError) as error:
            return f"{path}: is no JSON ({in_one_line(error)}); copy it again"
    return None


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of a folder's tokenizer."""
    folder = inner_folder(folder)
    return [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()]


def has_head(folder: Path) -> bool:
    """Test whether a folder's model classifies sequences, so that its head's labels are binding."""
    try:
        config = parse_json((inner_folder(folder) / "config.json").read_bytes())
        return any("ForSequenceClassification" in name for name in config.get("architectures") or ())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def made_of(out: Path) -> dict[str, Any]:
    """Read the provenance of a model's folder, a delta or a mask: how it was made, with its figures.

    Raises
    ------
    ToolError
        It is none of these.
    """
    try:
        found = parse_json((out / MADE).read_bytes()) if out.is_dir() else read_metadata(out).get("made")
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("figures"), dict):
        raise ToolError(f"{out}: was not made by this command; name another {param('out')}", kind="not-ours")
    return found


_ATTENTION = ("eager", "sdpa", "flex_attention")
"""What comes with transformers and torch; any other may be a kernel that would be downloaded and run."""


def without_kernels(config: Any) -> None:
    """Reset attention or experts of a configuration that name other code than what ships with transformers."""
    chosen, experts = (getattr(config, f"_{kind}_implementation", None) for kind in ("attn", "experts"))
    if chosen is not None and chosen not in _ATTENTION:
        config._attn_implementation = None
    if experts is not None and not str(experts).isidentifier():
        config._experts_implementation = None
    for name in getattr(config, "sub_configs", None) or ():
        if hasattr(part := getattr(config, name, None), "to_dict"):
            without_kernels(part)


@contextmanager
def silent_transformers() -> Iterator[None]:
    """Keep transformers, and what it imports, from logging and from drawing progress bars inside the block."""
    quiet_torch()
    from transformers import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def write_model(
    out: Path, tensors: Mapping[str, NDArray[Any]], config: str, base: Path, made: Mapping[str, Any]
) -> None:
    """Write a folder that ``from_pretrained`` opens, whole or not at all.

    Parameters
    ----------
    out
        The folder.
    tensors
        By the names of the model's state dict.
    config
        The text of config.json.
    base
        Where the tokenizer's files come from.
    made
        How the model was made, for ``berttools.json``.

    Raises
    ------
    ToolError
        It cannot be written.
    """
    with atomic_folder(out) as folder:
        write_safetensors(folder / "model.safetensors", tensors, {"schema": "berttools.model/1"}, format="pt")
        write_beside(folder, config, base, made)


def write_beside(folder: Path, config: str, base: Path, made: Mapping[str, Any]) -> None:
    """Write what lies beside a model's weights, as of ``write_model``: configuration, tokenizer, how it was made."""
    fields = parse_json(config)
    if fields.pop(CHOSEN_WEIGHTS, None) is not None:  # the base's weights had another name
        config = json.dumps(fields, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(config, encoding="utf-8")
    for path in tokenizer_files(base):
        shutil.copyfile(path, folder / path.name)
    text = json.dumps(made, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / MADE).write_text(text + "\n", encoding="utf-8")


def refuse_model_folder(out: Path, *, force: bool, base: Path, card: bool = False) -> None:
    """Refuse a folder that is ``base``, cannot be written, or holds anything but an older model of ours.

    With ``card`` a model card counts as part of that.

    Raises
    ------
    UsageError
        The message says what to try.
    """
    ours = {*_TOKENIZER_FILES, "config.json", "model.safetensors", MADE, *([CARD] if card else [])}
    try:
        refuse_file(out)
        if out.exists() and base.exists() and out.samefile(base):
            raise UsageError(f"{param('out')} {out}: is the base; name another folder")
        held = sorted(path.name for path in out.iterdir()) if out.exists() else []
        if held and not force:
            raise UsageError(f"{param('out')} {out}: is not empty; use {param('force')} to replace the model in it")
        if foreign := [name for name in held if name not in ours] or (held and MADE not in held and [held[0]]):
            raise UsageError(
                f"{param('out')} {out}: {foreign[0]} in it is not of a model that berttools wrote, and"
                f" {param('force')} replaces nothing else; name another folder"
            )
    except OSError as error:
        raise UsageError(f"{param('out')} {out}: {error.strerror}; name another folder") from None
