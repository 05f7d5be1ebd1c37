"""Tell whether the rows of two models' embeddings are of the same tokens, by the files of their tokenizers."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from _toolio.json_text import parse_json

SAME, UNCHECKED, OTHER = "same", "unchecked", "other"

Tokens = Mapping[int, str]
"""By row."""


class Verdict(NamedTuple):
    """What is known of the tokens of two models: `SAME`, `UNCHECKED`, or `OTHER` and why rows are not comparable."""

    vocabulary: str
    reason: str | None = None


class Vocabularies:
    """The tokenizers of two models, read when they are first needed.

    Parameters
    ----------
    base, ft
        The models' folders; what is no folder has no tokenizer.
    """

    def __init__(self, base: Path, ft: Path) -> None:
        self._folders = base, ft

    def compare(self, rows: int, *, resized: bool) -> Verdict:
        """Compare the tokens of the first rows of two tensors that have a row for each.

        Parameters
        ----------
        rows
            How many both have.
        resized
            One has more. Then every token must be the same. Where both have as many, a row may have been given to a
            new token, as is done with unused ones; but none may have moved, and no more than half be new.
        """
        if self._identical:
            return Verdict(SAME)
        base, ft = self._tokens
        if not resized and max(len(base), len(ft)) > rows:  # not of tokens, or not of these
            return Verdict(UNCHECKED)
        named = [row for row in base.keys() & ft.keys() if row < rows]
        if 2 * len(named) < rows:
            return Verdict(UNCHECKED)
        different = sorted(row for row in named if base[row] != ft[row])
        if not different:
            return Verdict(SAME)
        if not resized and 2 * len(different) <= len(named) and not _moved(base, ft, different):
            return Verdict(UNCHECKED)
        row = different[0]
        return Verdict(
            OTHER,
            f"{len(different)} of {rows} rows are of other tokens, such as row {row}: {base[row][:40]!r} in base,"
            f" {ft[row][:40]!r} in ft; to compare them as they are, name the weight files instead of the folders",
        )

    @cached_property
    def _identical(self) -> bool:
        """Whether both have the same file of tokens, to the byte."""
        files = [_file_of(folder) for folder in self._folders]
        try:
            return bool(files[0] and files[1] and files[0].name == files[1].name) and all(
                _same_bytes(*(folder / name for folder in self._folders))
                for name in (files[0].name if files[0] else "", "added_tokens.json")
            )
        except OSError:
            return False

    @cached_property
    def _tokens(self) -> tuple[Tokens, Tokens]:
        base, ft = (_read(folder) for folder in self._folders)
        return base, ft


def _same_bytes(one: Path, other: Path) -> bool:
    if not one.is_file() or not other.is_file():
        return one.is_file() == other.is_file()
    return filecmp.cmp(one, other, shallow=False)


def _moved(base: Tokens, ft: Tokens, different: list[int]) -> bool:
    """Test whether a token of one of these rows has another row in the other model."""
    there = set(ft.values())
    return any(base[row] in there for row in different)


def _file_of(folder: Path) -> Path | None:
    names = ("tokenizer.json", "vocab.json", "vocab.txt")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read(folder: Path) -> Tokens:
    """Return the tokens of a folder; none where no file says them, or not in a form that is known."""
    path = _file_of(folder)
    if path is None:
        return {}
    try:
        if path.name == "tokenizer.json":
            return _of_tokenizer(parse_json(path.read_bytes()))
        if path.name == "vocab.json":
            found = _of_table(parse_json(path.read_bytes()))
        else:
            found = dict(enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n")))
        added = folder / "added_tokens.json"
        return found | (_of_table(parse_json(added.read_bytes())) if added.is_file() else {})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return {}


def _of_tokenizer(tokenizer: Any) -> dict[int, str]:
    """Return the tokens of a file of the tokenizers library: a table, or a list of Unigram's tokens with scores."""
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, dict):
        found = _of_table(vocabulary)
    else:
        found = {row: str(token) for row, (token, _) in enumerate(vocabulary)}
    return found | {int(each["id"]): str(each["content"]) for each in tokenizer.get("added_tokens") or ()}


def _of_table(table: Mapping[str, int]) -> dict[int, str]:
    return {int(row): token for token, row in table.items()}
