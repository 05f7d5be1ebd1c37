"""Match photos with their cloaked copies by their paths below their inputs."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import PurePosixPath

from _toolio.errors import ToolError, param
from _toolio.streams.current import noted, whole_of
from _toolio.streams.inputs import Item

_Key = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Pair:
    """A photo and its cloaked copy.

    Attributes
    ----------
    clean, cloaked
        One of them is None where there is no counterpart.
    reason
        Why there is none.
    """

    clean: Item | None
    cloaked: Item | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Copies:
    """A photo and its copies in each of some folders.

    Attributes
    ----------
    clean
        The photo; None where no folder has a copy, or it is a copy that has no photo.
    pairs
        By the folders' names, in their order.
    """

    clean: Item | None
    pairs: Mapping[str, Pair]


def match_folders(
    clean: Sequence[Item],
    folders: Mapping[str, Sequence[Item]],
    *,
    suffix: str = "",
    shard: tuple[int, int] = (1, 1),
) -> list[Copies]:
    """Match each photo with its copies in several folders, each as `match_photos` does.

    Parameters
    ----------
    clean, suffix
        As `match_photos` takes them.
    folders
        What lies in each folder, by its name.
    shard
        (K, N): the K-th of N parts of the photos, K from 1.

    Returns
    -------
    list of Copies
        Photos with a copy first, in the order of ``clean``, then those without any, then copies without a photo, folder
        by folder.

    Raises
    ------
    ToolError
        In one of the folders nothing belongs together.
    """
    found: dict[str, dict[str, Pair]] = {item.path: {} for item in clean}
    strays = []
    for name, items in folders.items():
        try:
            pairs = match_photos(clean, items, suffix=suffix)
        except ToolError as error:
            raise ToolError(f"{name}: {error.message}" if name else error.message, kind=error.kind) from None
        for pair in pairs:
            if pair.clean is None:
                strays.append(Copies(None, {name: pair}))
            else:
                found[pair.clean.path][name] = pair
    matched, alone = list[Copies](), list[Copies]()
    for item in clean:
        if any(pair.cloaked for pair in found[item.path].values()):
            matched.append(Copies(item, found[item.path]))
        elif found[item.path]:
            alone.append(Copies(None, found[item.path]))
    number, total = shard
    everything = matched + alone + strays
    part = everything[len(everything) * (number - 1) // total : len(everything) * number // total]
    noted(_items_of(part), of=lambda: whole_of(item.path for item in _items_of(everything)))
    return part


def _items_of(photos: Iterable[Copies]) -> list[Item]:
    """Return the files of photos and their copies."""
    pairs = [pair for copies in photos for pair in copies.pairs.values()]
    return [item for pair in pairs for item in (pair.clean, pair.cloaked) if item is not None]


def match_photos(clean: Sequence[Item], cloaked: Sequence[Item], *, suffix: str = "") -> list[Pair]:
    """Match each photo with its cloaked copy by its path below the folder.

    Two photos belong together if their paths are the same, or the same but for an ending that was added
    (``a.gif`` and ``a.gif.png``), or the same without their endings (``a.jpg`` and ``a.png``). The first of these
    rules that gives a photo a partner holds; one that gives it several gives it none. What is alone then is matched by
    the same rules whatever the Unicode forms of the paths are. One file on either side belongs together whatever it is
    called.

    Parameters
    ----------
    clean, cloaked
        What lies on both sides. A path that is on both is a clean photo, or, if there is a ``suffix`` and its
        stem ends in it, a cloaked one.
    suffix
        What the stems of cloaked photos have and those of clean ones have not, such as ``_cloaked``.

    Returns
    -------
    list of Pair
        Whole pairs first, in the order of ``clean``.

    Raises
    ------
    ToolError
        Nothing belongs together.
    """
    if len(clean) == len(cloaked) == 1:
        return [Pair(clean[0], cloaked[0])]
    originals = {item.path: without_suffix(item.relative, suffix) for item in cloaked}
    if cloaked and not any(originals.values()):
        raise ToolError(
            f"{param('suffix')} {suffix}: none of {len(cloaked)} cloaked photos has a name that ends in it, such as "
            f"{cloaked[0].relative}; give what their names add, or leave it out",
            kind="no-match",
        )
    if suffix:
        both = {item.path for item in clean} & originals.keys()
        clean = [item for item in clean if item.path not in both or originals[item.path] is None]
        cloaked = [item for item in cloaked if item.path not in both or originals[item.path] is not None]
    partners = _marry(clean, [item for item in cloaked if originals[item.path] is not None], originals)
    if not partners:
        names = Counter(_without_ending(name) for name in originals.values() if name is not None)
        for name in (_without_ending(item.relative) for item in clean):
            if names[name] > 1:
                raise ToolError(f"{name}: several cloaked photos are called so; keep one of them", kind="no-match")
        raise ToolError(
            f"none of {len(clean)} photos has its copy among {len(cloaked)} cloaked ones; both are known by their "
            f"paths below the two folders, without endings ({param('suffix')} names what cloaked ones add)",
            kind="no-match",
        )
    pairs = [Pair(item, partners[item.path]) for item in clean if item.path in partners]
    married = {item.path for item in partners.values()}
    alone = [Pair(item, None, "no cloaked photo of this name") for item in clean if item.path not in partners]
    alone += [Pair(None, item, "no clean photo of this name") for item in cloaked if item.path not in married]
    return pairs + alone


def without_suffix(relative: str, suffix: str) -> str | None:
    """Remove the suffix from a stem, in ``a_cloaked.jpg`` or ``a_cloaked.gif.png``; None if it is not there."""
    path = PurePosixPath(relative)
    stem, endings, suffix = path.name, "", _as_in(path.name, suffix)
    for _ in range(2):
        shorter = PurePosixPath(stem)
        stem, endings = shorter.stem, shorter.suffix + endings
        if suffix and stem.endswith(suffix) and stem != suffix:
            return str(path.with_name(stem.removesuffix(suffix) + endings))
    return None if suffix else relative


def _as_in(name: str, suffix: str) -> str:
    """Return a suffix in the Unicode form that a name has it in."""
    forms = (suffix, *(unicodedata.normalize(form, suffix) for form in ("NFC", "NFD")))
    return next((form for form in forms if form in name), suffix)


def _marry(clean: Sequence[Item], cloaked: Sequence[Item], originals: Mapping[str, str | None]) -> dict[str, Item]:
    """Return the cloaked photo for each clean one's path, rule by rule; each is used once."""
    partners: dict[str, Item] = {}
    rules: tuple[tuple[_Key, _Key], ...] = (str, str), (str, _without_ending), (_without_ending, _without_ending)
    # Disks and archives of a Mac write accents apart from their letters.
    forms: tuple[_Key, ...] = str, partial(unicodedata.normalize, "NFC")
    for form, (clean_key, cloaked_key) in product(forms, rules):
        taken = {item.path for item in partners.values()}
        here, there = defaultdict(list), defaultdict(list)
        for item in clean:
            if item.path not in partners:
                here[clean_key(form(item.relative))].append(item)
        for item in cloaked:
            if item.path not in taken:
                there[cloaked_key(form(originals[item.path] or ""))].append(item)
        for key in here.keys() & there.keys():
            if len(here[key]) == len(there[key]) == 1:
                partners[here[key][0].path] = there[key][0]
    return partners


def _without_ending(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
