"""People that nothing may be learned from, as names, or as files and folders that name them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from _toolio.errors import ToolError, UsageError, of_the_whole_run, param
from _toolio.streams.inputs import list_whole
from _toolio.streams.reading import read_file
from _toolio.streams.records import parse_record
from facetools.people import folded, person_in


@dataclass(frozen=True, slots=True)
class ExcludedPeople:
    """People that nothing may be learned from.

    Attributes
    ----------
    names
        All of them, normalised by `facetools.people.folded`.
    words
        Names that were given one by one: a typing error there would train on somebody.
    """

    names: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()


def read_excluded(hold_out: Iterable[str]) -> ExcludedPeople:
    """Read who is excluded.

    Parameters
    ----------
    hold_out
        Names; folders and archives of photos, in folders named after people; files with a name, or a record with the
        field ``person``, a line.

    Raises
    ------
    UsageError
        There is no such file or folder.
    ToolError
        A file cannot be read, or a record in it is damaged.
    """
    names, words = set(), []
    for name in hold_out:
        path = Path(name)
        if path.is_dir() or path.suffix == ".tar":
            names |= {folded(person_in(item.path, item.relative)) for item in list_whole([name])}
        elif path.is_file():
            names |= {folded(each) for each in _names_in(path)}
        elif "/" in name or path.suffix in (".txt", ".jsonl"):
            raise UsageError(f"{param('hold_out')} {name}: no such file or folder")
        else:
            names.add(folded(name))
            words.append(name)
    return ExcludedPeople(frozenset(names), tuple(words))


def _names_in(path: Path) -> Iterator[str]:
    try:
        with of_the_whole_run():
            lines = read_file(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"{param('hold_out')} {path}: cannot be read as text: {error}", kind="unreadable") from None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            with of_the_whole_run():
                person = parse_record(line, where=f"{path}, line {number}").get("person")
            if isinstance(person, str):
                yield person
        elif line.strip():
            yield line.strip()
